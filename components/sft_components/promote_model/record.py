"""What an endpoint's traffic was before a promotion: kept as labels of the endpoint itself.

So it outlives the step: a retry goes on, the exit handler and `vertex-sft endpoints rollback`
restore it, whatever had ended the promotion.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from google.cloud.aiplatform_v1beta1 import types
from google.protobuf import field_mask_pb2

from sft_components.vertex.keys import PROMOTES_LABEL
from sft_components.vertex.retrying import CALL_TIMEOUT_S, reading

STATE_LABEL = "vertex-sft-promotion"
BEFORE_LABEL = "vertex-sft-before-"
"""With a deployed model's id behind it; the value is its share."""
NOTHING_LABEL = "vertex-sft-before"
"""On an endpoint that served nothing before, so that it is told from one whose labels are gone."""
CHALLENGER_LABEL = "vertex-sft-challenger"

State = Literal["testing", "shared", "ending"]
"""testing: any failure restores the traffic. shared: both models serve, by choice. ending: the new
model serves all, and the old ones are being undeployed: there is no way back."""
_STATES: dict[str, State] = {"testing": "testing", "shared": "shared", "ending": "ending"}


@dataclass(frozen=True)
class Record:
    """A promotion that has not ended."""

    run: str
    """Label value of the run that promotes."""
    challenger: str
    """Id of its deployed model."""
    state: State
    before: Mapping[str, int]
    """Shares by deployed model; empty: nothing was served, there is no champion."""
    lost: bool = False
    """The labels that say what was served are gone."""

    def labels(self) -> dict[str, str]:
        """As the endpoint carries it."""
        before = {f"{BEFORE_LABEL}{key}": str(share) for key, share in self.before.items()}
        return {
            PROMOTES_LABEL: self.run,
            CHALLENGER_LABEL: self.challenger,
            STATE_LABEL: self.state,
            **(before or {NOTHING_LABEL: "nothing"}),
        }


def read_record(endpoint: types.Endpoint) -> Record | None:
    """The promotion that `endpoint` is in the middle of, if any."""
    labels = dict(endpoint.labels)
    state = _STATES.get(labels.get(STATE_LABEL, ""))
    if state is None or PROMOTES_LABEL not in labels:
        return None
    before = {
        key.removeprefix(BEFORE_LABEL): int(value)
        for key, value in labels.items()
        if key.startswith(BEFORE_LABEL) and value.isdecimal()
    }
    lost = not before and NOTHING_LABEL not in labels
    return Record(labels[PROMOTES_LABEL], labels.get(CHALLENGER_LABEL, ""), state, before, lost)


def without_record(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that are not of a promotion."""
    ours = (PROMOTES_LABEL, CHALLENGER_LABEL, STATE_LABEL, NOTHING_LABEL)
    return {k: v for k, v in labels.items() if k not in ours and not k.startswith(BEFORE_LABEL)}


def write(
    endpoints: Any,
    endpoint: str,
    *,
    labels: Mapping[str, str] | None = None,
    split: Mapping[str, int] | None = None,
    etag: str = "",
) -> None:
    """Change an endpoint's labels, its traffic, or both in one call.

    Args:
        endpoints: An `EndpointServiceClient`.
        endpoint: Its name.
        labels: All its labels; None: they stay.
        split: All its shares, empty: nobody gets requests; None: they stay.
        etag: Of the endpoint as it was read: it is refused where it was changed since. Empty: it is
            changed whatever it is now.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: The service refuses.
    """
    change = types.Endpoint(name=endpoint, etag=etag)
    paths = []
    if labels is not None:
        change.labels = dict(labels)
        paths.append("labels")
    if split is not None:
        change.traffic_split = dict(split)
        paths.append("traffic_split")
    endpoints.update_endpoint(
        endpoint=change,
        update_mask=field_mask_pb2.FieldMask(paths=paths),
        retry=reading(),
        timeout=CALL_TIMEOUT_S,
    )


def spoken(split: Mapping[str, int], names: Mapping[str, str] | None = None) -> str:
    """`ID 80 %, ID 20 %`, of what gets requests; `names` are told in the place of their ids."""
    told = {key: (names or {}).get(key, key) for key in split}
    # The service keeps no order.
    shares = sorted(split.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{told[key]} {share} %" for key, share in shares if share)
