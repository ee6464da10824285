"""What a tuning starts from instead of its base model's own weights."""

import json
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.gen_ai_tuning_service import (
    GenAiTuningServiceClient,
)

from sft_components.catalog import ModelSpec
from sft_components.errors import UserError
from sft_components.launch_sft.route import Log
from sft_components.vertex.connection import Connection, is_loopback
from sft_components.vertex.retrying import CALL_TIMEOUT_S, reading
from sft_components.vertex.storage import join_uri, split_uri, storage_client, storage_fault

TUNED = "postprocess/node-0/checkpoints/final"
"""Where an earlier tuning job of an open model left its weights, below its output folder."""
SHAPE = ("hidden_size", "num_hidden_layers", "vocab_size")
"""What of `config.json` must agree besides the model's type."""


@dataclass(frozen=True)
class StartingWeights:
    """Where the weights are; both empty: the base model's own."""

    uri: str = ""
    """`gs://` folder of a checkpoint (open models)."""
    tuned_model: str = ""
    """`projects/…/models/…` of an earlier tuning (Gemini)."""


def find_starting_weights(
    custom_base_model: str, model: ModelSpec, connection: Connection, log: Log
) -> StartingWeights:
    """Look `custom_base_model` up: it must be there, and of the architecture of `model`.

    Args:
        custom_base_model: A checkpoint's folder, an earlier output folder, or the resource name of
            an earlier tuning job or tuned model; empty: nothing of the kind.
        model: The base model.
        connection: Vertex AI where the tuning will run.
        log: Called with what was found.

    Raises:
        UserError: It is not there or does not fit; the message names the cure.
    """
    if not custom_base_model:
        return StartingWeights()
    if "/tuningJobs/" in custom_base_model:
        job = _earlier_job(custom_base_model, model, connection)
        if model.family == "gemini":
            log(f"Tuning on from {job.tuned_model.model}")
            return StartingWeights(tuned_model=job.tuned_model.model)
        custom_base_model = job.output_uri
    elif model.family == "gemini":
        return StartingWeights(tuned_model=custom_base_model)
    client = storage_client(connection.project)
    uri, config = _checkpoint(client, custom_base_model)
    _check_architecture(client, config, uri, model, connection, log)
    log(f"Tuning on from {uri}")
    return StartingWeights(uri=uri)


def _earlier_job(name: str, model: ModelSpec, connection: Connection) -> types.TuningJob:
    parts = name.split("/")
    if len(parts) != 6 or parts[::2] != ["projects", "locations", "tuningJobs"]:
        raise UserError(
            f"custom_base_model is {name!r}: write projects/P/locations/L/tuningJobs/J."
        )
    client: Any = Connection(parts[1], parts[3]).client(GenAiTuningServiceClient)
    try:
        job: types.TuningJob = client.get_tuning_job(
            name=name, retry=reading(), timeout=CALL_TIMEOUT_S
        )
    except api.NotFound:
        raise UserError(f"custom_base_model: there is no tuning job {name}.") from None
    if job.state != types.JobState.JOB_STATE_SUCCEEDED:
        raise UserError(
            f"custom_base_model: {name} is {types.JobState(job.state).name}: name a tuning job "
            "that succeeded."
        )
    base = job.base_model or job.pre_tuned_model.base_model
    if base and base.rpartition("/")[2] != model.name.rpartition("/")[2]:
        raise UserError(
            f"custom_base_model: {name} tuned {base}, not {model.name}: set base_model to {base}."
        )
    return job


def _checkpoint(client: Any, uri: str) -> tuple[str, dict[str, Any]]:
    """The folder at or below `uri` that holds weights, and its `config.json`."""
    bucket, prefix = split_uri(uri)
    prefix = prefix.strip("/")
    candidates = [prefix, *(join_uri(prefix, part).strip("/") for part in (TUNED, "final"))]
    try:
        for folder in candidates:
            names = {
                blob.name.removeprefix(f"{folder}/")
                for blob in client.list_blobs(
                    bucket, prefix=f"{folder}/" if folder else "", delimiter="/", retry=reading()
                )
            }
            weights = any(name.endswith(".safetensors") for name in names)
            if weights and "config.json" in names:
                path = f"{folder}/config.json".lstrip("/")
                text = client.bucket(bucket).blob(path).download_as_bytes(retry=reading())
                return f"gs://{bucket}/{folder}".rstrip("/"), _parsed(text, uri)
            if "adapter_config.json" in names:
                raise UserError(
                    f"custom_base_model: gs://{bucket}/{folder} holds an adapter only: merge it "
                    "into its base model's weights first."
                )
    except api.ClientError as error:
        raise storage_fault(error, bucket, "us-central1") from None
    raise UserError(
        f"custom_base_model: {uri} holds no checkpoint: *.safetensors beside config.json are "
        f"needed, there or in {TUNED} below it."
    )


def _parsed(text: bytes, uri: str) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads(text)
    except ValueError:
        raise UserError(f"custom_base_model: the config.json in {uri} is not JSON.") from None
    return config


def _check_architecture(
    client: Any,
    config: dict[str, Any],
    uri: str,
    model: ModelSpec,
    connection: Connection,
    log: Log,
) -> None:
    """Compare with the base model's own `config.json`, or with what the catalogue knows of it."""
    own = _base_config(client, model)
    if own is not None:
        expected = {"model_type": own.get("model_type"), **_shape(own)}
    elif is_loopback(connection.base_url):
        # It tunes one small model in the place of every other: the catalogue's facts do not apply.
        log("The local Vertex AI holds no weights of the base model to compare the checkpoint with")
        return
    elif model.architecture is not None:
        expected = {
            "model_type": model.architecture.model_type,
            "hidden_size": model.architecture.hidden_size,
            "num_hidden_layers": model.architecture.num_hidden_layers,
        }
    else:
        log(f"WARNING: the architecture of {model.name} is not known: {uri} is taken as it is.")
        return
    found = {"model_type": config.get("model_type"), **_shape(config)}
    for name, value in expected.items():
        # The text part alone of a model that sees images has its own type, such as gemma3_text.
        same = (value, f"{value}_text") if name == "model_type" else (value,)
        if value is not None and found.get(name) not in same:
            raise UserError(
                f"custom_base_model: {uri} is of another architecture than {model.name}: its "
                f"config.json says {name} {found.get(name)}, not {value}. Set base_model to the "
                "model that the checkpoint was made from."
            )


def _shape(config: dict[str, Any]) -> dict[str, Any]:
    """The sizes; models that see images keep those of their text part one level below."""
    inner = config.get("text_config")
    inner = inner if isinstance(inner, dict) else {}
    return {name: config.get(name, inner.get(name)) for name in SHAPE}


def _base_config(client: Any, model: ModelSpec) -> dict[str, Any] | None:
    if not model.weights_uri:
        return None
    bucket, folder = split_uri(model.weights_uri)
    try:
        text = (
            client.bucket(bucket)
            .blob(f"{folder}/config.json")
            .download_as_bytes(retry=reading(60.0))
        )
    except api.ClientError:
        return None
    return _parsed(text, model.weights_uri)
