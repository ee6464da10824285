"""What a run made, read from its steps' outputs: also those of a pipeline that is not ours."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

HTML = "system.HTML"
# No character that a shell reads: commands with these names are printed to be pasted.
_ID = r"[\w.:@-]+"
_PLACE = f"projects/{_ID}/locations/{_ID}"


class _Kind(NamedTuple):
    """How a resource is found."""

    form: str
    keys: tuple[str, ...]
    """Output parameters that name it, the first of them counting."""
    schema: str = ""
    """Type of the artifacts that stand for it."""


_KINDS = {
    "tuning_job": _Kind(rf"{_PLACE}/(?:tuningJobs|pipelineJobs)/{_ID}", ("tuning_job",)),
    "checkpoint_uri": _Kind("gs://.+", ("checkpoint_uri",)),
    "model_resource_name": _Kind(
        rf"{_PLACE}/models/{_ID}", ("model_resource_name", "tuned_model"), "google.VertexModel"
    ),
    "endpoint_resource_name": _Kind(
        rf"{_PLACE}/endpoints/{_ID}",
        ("endpoint_resource_name", "endpoint"),
        "google.VertexEndpoint",
    ),
}


@dataclass(frozen=True)
class Artifact:
    """An output that is not a value."""

    schema: str
    """Its type, without a version: `system.HTML`, `google.VertexModel`."""
    uri: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def resource(self) -> str:
        """The resource that it stands for, by Google's convention for its own types."""
        return str(self.metadata.get("resourceName") or self.uri.partition("/v1/")[2])


@dataclass(frozen=True)
class StepOutputs:
    """What one step gave."""

    step: str
    values: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """What a run made."""

    found: Mapping[str, str]
    """By our components' names: `tuning_job`, `checkpoint_uri`, `model_resource_name`,
    `endpoint_resource_name`; of several the last. What the run has not made is left out."""
    evaluation: Mapping[str, Any]
    """Outputs of the step that evaluated; empty if there was none."""
    reports: list[tuple[str, str]]
    """Step and address of each page."""
    unchanged: bool
    """Whether nothing was trained, since the rows are those of an earlier run."""
    own_endpoint: bool
    """Whether the run has put a model on the endpoint, or taken the one that its tuning made.

    Not so one that served before the run and whose model it has replaced.
    """
    own_machine: bool
    """Whether that takes a machine; not so one that a tuning made, as Gemini's does."""


def read_results(steps: Iterable[StepOutputs], outputs: Mapping[str, Any]) -> Results:
    """What the steps of a run say that it made.

    Args:
        steps: In the order in which they run.
        outputs: Values that the pipeline itself gives; they count most.
    """
    told = [*steps, StepOutputs("", outputs)]
    found: dict[str, str] = {}
    for step in told:
        for name, kind in _KINDS.items():
            if value := _named(step, kind):
                found[name] = value
        # An exit handler says so when it has taken the endpoint down.
        if step.values.get("endpoint_resource_name") == "":
            found.pop("endpoint_resource_name", None)
    endpoint = found.get("endpoint_resource_name", "")
    own = bool(endpoint) and any(_deploys(step, endpoint) for step in told)
    evaluations = [step.values for step in told if {"passed", "reason"} <= step.values.keys()]
    return Results(
        found={name: found[name] for name in _KINDS if name in found},
        evaluation=evaluations[-1] if evaluations else {},
        reports=[
            (step.step, artifact.uri)
            for step in told
            for artifact in step.artifacts.values()
            if artifact.schema == HTML
        ],
        unchanged=any(_is_unchanged(step) for step in told),
        own_endpoint=own,
        own_machine=own and not any(step.values.get("endpoint") for step in told),
    )


def _named(step: StepOutputs, kind: _Kind) -> str:
    values = [step.values.get(key) for key in kind.keys]
    resources = [a.resource for a in step.artifacts.values() if a.schema == kind.schema]
    named = (str(value) for value in (*values, *resources))
    return next((value for value in named if re.fullmatch(kind.form, value)), "")


def _is_unchanged(step: StepOutputs) -> bool:
    """Whether `step` is a check_changed that found nothing new."""
    return "marker_uri" in step.values and step.values.get("changed") is False


def _deploys(step: StepOutputs, endpoint: str) -> bool:
    """Whether `step` says on what machine it has put `endpoint`, as deploy-model does."""
    # By its id: the project before it is a number in one place and a name in another.
    number = endpoint.rpartition("/")[2]
    return any(
        "machine" in artifact.metadata and artifact.resource.rpartition("/")[2] == number
        for artifact in step.artifacts.values()
    )
