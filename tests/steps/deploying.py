"""Deployments of one checkpoint, and what they leave."""

from typing import Any

from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.endpoint_service import EndpointServiceClient

from sft_components.deploy_model.work import deploy_model
from sft_components.release_endpoint.work import release_endpoint
from sft_components.vertex.connection import Connection
from sft_components.vertex.endpoints import get_endpoint
from sft_components.vertex.keys import endpoint_id

PROJECT = "p"
LOCATION = "us-central1"
MODEL = "meta/llama3_1@llama-3.1-8b-instruct"
CONNECTION = Connection(PROJECT, LOCATION)


def deploy(run_name: str, checkpoint_uri: str, lines: list[str], **more: Any) -> Any:
    arguments: dict[str, Any] = {
        "machine_type": "",
        "accelerator_type": "",
        "accelerator_count": 0,
        **more,
    }
    return deploy_model(
        project=PROJECT,
        location=LOCATION,
        run_name=run_name,
        base_model=MODEL,
        checkpoint_uri=checkpoint_uri,
        model_display_name=run_name,
        log=lines.append,
        **arguments,
    )


def release(run_name: str, lines: list[str], when_changed: str = "") -> None:
    released = release_endpoint(
        project=PROJECT,
        location=LOCATION,
        tuning_location=LOCATION,
        run_name=run_name,
        succeeded=False,
        when_changed=when_changed,
        log=lines.append,
    )
    assert released.endpoint == ""


def endpoint(run_name: str) -> types.Endpoint | None:
    name = f"{CONNECTION.parent}/endpoints/{endpoint_id(run_name)}"
    return get_endpoint(CONNECTION.client(EndpointServiceClient), name)


def make_endpoint(run_name: str) -> str:
    """The run's endpoint, which serves nothing yet; its name."""
    made: types.Endpoint = (
        CONNECTION.client(EndpointServiceClient)
        .create_endpoint(
            parent=CONNECTION.parent,
            endpoint=types.Endpoint(display_name=run_name),
            endpoint_id=endpoint_id(run_name),
        )
        .result(60)
    )
    return made.name
