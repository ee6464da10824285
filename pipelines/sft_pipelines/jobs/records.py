"""A tuning as the commands see it, whichever resource of the API it is."""

import functools
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from sft_components.catalog import load_catalog
from sft_components.errors import UserError
from sft_pipelines.near import did_you_mean
from sft_pipelines.states import state_word

COLLECTIONS = {"tuning-job": "tuningJobs", "pipeline-job": "pipelineJobs"}
LEGACY_TEMPLATE = re.compile(r"/large-language-model-pipelines/(tune-large(?:-chat)?-model)/")
"""In the address of the public templates that tune legacy models."""
ENDED = ("succeeded", "failed", "cancelled", "expired", "partially-succeeded")
ACTIVE = ("queued", "pending", "running", "updating", "paused", "cancelling")
STATES = (*ACTIVE, *ENDED)
GROUPS = {
    "open": ("llama", "gemma", "qwen"),
    "gemini": ("gemini",),
    "legacy": ("text", "chat", "code", "codechat"),
}
"""Families that are tuned alike."""
_AGO = re.compile(r"(\d+)\s*(m|min|h|d|w)")
_UNITS = {"m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One tuning."""

    name: str
    """Full resource name."""
    kind: Literal["tuning-job", "pipeline-job"]
    display_name: str
    model: str
    """The base model; empty where the resource does not say."""
    family: str
    """As in the catalogue; empty where the model is of none."""
    state: str
    """One of `STATES`."""
    created: str
    """RFC 3339, as the other times; empty where it has not come yet."""
    started: str
    ended: str
    labels: dict[str, str]
    tuned_model: str
    endpoint: str
    """What the service deployed the tuned model to, if it did."""
    error: str
    resource: dict[str, Any]
    """The API's own JSON."""

    @property
    def id(self) -> str:
        """The last part of the name."""
        return self.name.rpartition("/")[2]

    @property
    def project(self) -> str:
        """Id or number."""
        return self.name.split("/")[1]

    @property
    def location(self) -> str:
        """Where the job is."""
        return self.name.split("/")[3]

    @property
    def has_ended(self) -> bool:
        """Whether its state is final."""
        return self.state in ENDED

    @property
    def seconds(self) -> float | None:
        """How long it has run, to now or to its end; None where it has not started."""
        start = moment(self.started or (self.created if self.has_ended else ""))
        if start is None:
            return None
        end = moment(self.ended) if self.has_ended else datetime.now(UTC)
        return max(0.0, ((end or start) - start).total_seconds())

    @property
    def console_link(self) -> str:
        """Its page in the Google Cloud console."""
        root = "https://console.cloud.google.com/vertex-ai"
        if self.kind == "tuning-job":
            path = f"generative/language/locations/{self.location}/tuning/tuningJob/{self.id}"
        else:
            path = f"locations/{self.location}/pipelines/runs/{self.id}"
        return f"{root}/{path}?project={self.project}"

    def as_dict(self) -> dict[str, Any]:
        """The fields for JSON, without the resource."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        del fields["resource"]
        place = {"id": self.id, "project": self.project, "location": self.location}
        return {**place, **fields, "seconds": self.seconds, "console_link": self.console_link}


def from_tuning_job(resource: Mapping[str, Any]) -> Job:
    """The record of a TuningJob's JSON."""
    before = resource.get("preTunedModel", {})
    model = resource.get("baseModel") or before.get("baseModel", "")
    tuned = resource.get("tunedModel", {})
    return Job(
        kind="tuning-job",
        display_name=resource.get("tunedModelDisplayName", ""),
        model=_short(model),
        family=family_of(model),
        tuned_model=tuned.get("model", ""),
        endpoint=tuned.get("endpoint", ""),
        **_common(resource),
    )


def from_pipeline_job(resource: Mapping[str, Any]) -> Job | None:
    """The record of a PipelineJob's JSON; None where it is no job of a legacy template."""
    template = LEGACY_TEMPLATE.search(resource.get("templateUri", ""))
    if template is None:
        return None
    values = resource.get("runtimeConfig", {}).get("parameterValues", {})
    model = str(values.get("large_model_reference", ""))
    outputs = pipeline_outputs(resource)
    return Job(
        kind="pipeline-job",
        display_name=str(values.get("model_display_name") or resource.get("displayName", "")),
        model=_short(model),
        family=family_of(model) or ("chat" if "chat" in template[1] else "text"),
        tuned_model=outputs.get("model_resource_name", ""),
        endpoint=outputs.get("endpoint_resource_name", ""),
        **_common(resource) | {"error": _pipeline_error(resource)},
    )


def pipeline_outputs(resource: Mapping[str, Any]) -> dict[str, str]:
    """The output parameters of a pipeline job's finished tasks, the later ones counting."""
    found: dict[str, str] = {}
    for task in resource.get("jobDetail", {}).get("taskDetails", []):
        for key, value in task.get("execution", {}).get("metadata", {}).items():
            if key.startswith("output:") and isinstance(value, str):
                found[key.removeprefix("output:")] = value
    return found


def _pipeline_error(resource: Mapping[str, Any]) -> str:
    """The innermost task's error, which says more than the job's own, and the job's."""
    tasks = resource.get("jobDetail", {}).get("taskDetails", [])
    said = [one.get("error", {}).get("message", "") for one in tasks]
    own = resource.get("error", {}).get("message", "")
    return " ".join(dict.fromkeys([*[text for text in said if text][-1:], own])).strip()


def _common(resource: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": resource["name"],
        "state": state_word(resource.get("state", "")) or "pending",
        "created": resource.get("createTime", ""),
        "started": resource.get("startTime", ""),
        "ended": resource.get("endTime", ""),
        "labels": dict(resource.get("labels", {})),
        "error": resource.get("error", {}).get("message", ""),
        "resource": dict(resource),
    }


def _short(model: str) -> str:
    """`publishers/meta/models/x@y` as the catalogue writes it."""
    if model.startswith("publishers/"):
        model = model.removeprefix("publishers/").replace("/models/", "/", 1)
    return model.removeprefix("google/") if "gemini-" in model or "-bison" in model else model


@functools.cache
def family_of(model: str) -> str:
    """The family of a model that the catalogue may not hold; empty where it is of none."""
    try:
        return load_catalog().find(model, allow_unlisted=True).family if model else ""
    except UserError:
        return ""


def families(wanted: str) -> tuple[str, ...]:
    """The families that a filter's word means: one, or a group of them.

    Raises:
        UserError: There is no such family.
    """
    known = dict.fromkeys(family for group in GROUPS.values() for family in group)
    if wanted in GROUPS:
        return GROUPS[wanted]
    if wanted in known:
        return (wanted,)
    words = list(dict.fromkeys([*GROUPS, *known]))
    raise UserError(
        f"Unknown family {wanted!r}.{did_you_mean(wanted.lower(), words)} "
        f"Write one of {', '.join(words)}."
    )


def states(wanted: list[str]) -> tuple[str, ...]:
    """The states that a filter's words mean; `active` is all that are not final.

    Raises:
        UserError: There is no such state.
    """
    found: list[str] = []
    for word in wanted:
        plain = state_word(word)
        if plain not in (*STATES, "active"):
            raise UserError(
                f"Unknown state {word!r}.{did_you_mean(plain, ['active', *STATES])} "
                f"Write active or one of {', '.join(STATES)}."
            )
        found += ACTIVE if plain == "active" else [plain]
    return tuple(found)


def moment(text: str) -> datetime | None:
    """The moment of an RFC 3339 time; None where it is empty."""
    return datetime.fromisoformat(text) if text else None


def since(text: str) -> datetime:
    """The moment that `30m`, `12h`, `7d`, `2w` ago was, or a date or time of ISO 8601.

    Raises:
        UserError: It is none of these.
    """
    if ago := _AGO.fullmatch(text.strip()):
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UserError(f"{text!r} is no time: write for instance 12h, 7d or 2026-11-01.") from None
    # A date without a zone is a day of the person who writes it.
    return found if found.tzinfo else found.astimezone()
