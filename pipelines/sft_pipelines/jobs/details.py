"""What `jobs show` says of a job: what was asked for, on what data, with what result and cost."""

from collections.abc import Mapping
from typing import Any

from sft_components.catalog import load_catalog
from sft_components.catalog.cost import CostEstimate, estimate_tuning_cost
from sft_components.errors import UserError
from sft_components.vertex.storage import join_uri
from sft_pipelines.jobs.records import Job
from sft_pipelines.states import state_word

WEIGHTS = "postprocess/node-0/checkpoints/final"
"""Where the service writes the tuned weights of an open model, below its output folder."""
_REQUEST = {
    "trainingDatasetUri": "training set",
    "validationDatasetUri": "validation set",
    "tuningMode": "tuning mode",
    "exportLastCheckpointOnly": "last checkpoint only",
}
_HYPER = {
    "epochCount": "epochs",
    "adapterSize": "adapter size",
    "learningRateMultiplier": "learning-rate multiplier",
    "learningRate": "learning rate",
    "batchSize": "batch size",
}
_OUTER = {
    "customBaseModel": "custom base model",
    "outputUri": "output",
    "serviceAccount": "service account",
}
_DATA = {
    "tuningDatasetExampleCount": "rows",
    "totalBillableTokenCount": "billable tokens",
    "totalBillableCharacterCount": "billable characters",
    "totalTuningCharacterCount": "characters",
    "tuningStepCount": "steps",
    "totalTruncatedExampleCount": "rows truncated or dropped",
}


def request(job: Job) -> dict[str, Any]:
    """The settings that the job was created with, by their name for people."""
    resource = job.resource
    if job.kind == "pipeline-job":
        config = resource.get("runtimeConfig", {})
        found = {
            key: value
            for key, value in config.get("parameterValues", {}).items()
            if value not in ("", None)
        }
        found["output"] = config.get("gcsOutputDirectory", "")
        found["template"] = resource.get("templateUri", "")
        found["service account"] = resource.get("serviceAccount", "")
    else:
        spec = resource.get("supervisedTuningSpec", {})
        found = {title: spec.get(key) for key, title in _REQUEST.items()}
        hyper = spec.get("hyperParameters", {})
        found |= {title: hyper.get(key) for key, title in _HYPER.items()}
        found |= {title: resource.get(key) for key, title in _OUTER.items()}
        found["continues"] = resource.get("preTunedModel", {}).get("tunedModelName")
    found["encryption key"] = resource.get("encryptionSpec", {}).get("kmsKeyName", "")
    return {title: _plain(value) for title, value in found.items() if value not in (None, "")}


def statistics(job: Job) -> dict[str, Any]:
    """What the service counted in the training set; empty before it did."""
    found = job.resource.get("tuningDataStats", {}).get("supervisedTuningDataStats", {})
    figures: dict[str, Any] = {
        title: int(found[key]) for key, title in _DATA.items() if found.get(key) not in (None, "")
    }
    if reasons := found.get("droppedExampleReasons"):
        figures["reasons"] = list(dict.fromkeys(reasons))
    return figures


def checkpoints(job: Job) -> list[dict[str, Any]]:
    """Id, epoch, step and endpoint of each checkpoint that the service names."""
    named = job.resource.get("tunedModel", {}).get("checkpoints", [])
    return [
        {
            "id": one.get("checkpointId", ""),
            "epoch": int(one.get("epoch", 0)),
            "step": int(one.get("step", 0)),
            "endpoint": one.get("endpoint", ""),
        }
        for one in named
    ]


def result(job: Job) -> dict[str, str]:
    """Where the tuned model is."""
    found = {"tuned model": job.tuned_model, "endpoint": job.endpoint}
    output = job.resource.get("outputUri", "")
    if output and job.state == "succeeded":
        found["weights"] = join_uri(output, WEIGHTS)
    return {title: value for title, value in found.items() if value}


def tasks(job: Job) -> list[dict[str, str]]:
    """The steps of a legacy job with their states, in the order they were made."""
    details = job.resource.get("jobDetail", {}).get("taskDetails", [])
    return [
        {
            "task": str(one.get("taskName", "")),
            "state": state_word(one.get("state", "")),
            "error": str(one.get("error", {}).get("message", "")),
        }
        for one in sorted(details, key=lambda one: int(one.get("taskId", 0)))
    ]


def cost(job: Job) -> CostEstimate | None:
    """What the job's tuning costs by the service's own count; None before it has counted, or where
    the catalogue does not hold the model."""
    counted = statistics(job)
    tokens = counted.get("billable tokens", 0)
    hyper: Mapping[str, Any] = job.resource.get("supervisedTuningSpec", {}).get(
        "hyperParameters", {}
    )
    try:
        model = load_catalog().find(job.model)
        epochs = float(hyper.get("epochCount") or model.default_epochs or 0)
        return estimate_tuning_cost(model, tokens, epochs, estimated=False)
    except UserError:
        return None


def _plain(value: Any) -> Any:
    """A value for people: enum names without their type, numbers that came as text as numbers."""
    if isinstance(value, str):
        for prefix in ("TUNING_MODE_", "ADAPTER_SIZE_"):
            value = value.removeprefix(prefix)
        return int(value) if value.isdecimal() and len(value) < 16 else value
    return int(value) if isinstance(value, float) and value.is_integer() else value
