"""The labels that say which run an endpoint and its model belong to, and that it has taken them."""

from collections.abc import Mapping
from typing import Any

from google.cloud.aiplatform_v1beta1 import types
from google.protobuf import field_mask_pb2

from sft_components.vertex.expiry import EXPIRES_LABEL, expiry_label
from sft_components.vertex.keys import RUN_LABEL, SERVES_LABEL, label_value
from sft_components.vertex.retrying import CALL_TIMEOUT_S, reading


def label_endpoint(
    endpoints: Any,
    endpoint: types.Endpoint,
    run_name: str,
    ttl_hours: int = 0,
    labels: Mapping[str, str] | None = None,
    serves: bool = True,
) -> None:
    """Put the run's labels on `endpoint`, with the moment at which it may be taken down.

    A retry of the step does not put that moment off.

    Args:
        endpoints: An `EndpointServiceClient`.
        endpoint: As it is now.
        run_name: Name of the pipeline run.
        ttl_hours: How long it may serve, from now; 0: until it is deleted.
        labels: Others to put on it.
        serves: Whether it is the one that the run has taken to serve.
    """
    ours = (RUN_LABEL, SERVES_LABEL) if serves else (RUN_LABEL,)
    wanted = {**(labels or {}), **dict.fromkeys(ours, label_value(run_name))}
    if EXPIRES_LABEL not in endpoint.labels:
        wanted |= expiry_label(ttl_hours)
    if wanted.items() <= dict(endpoint.labels).items():
        return
    endpoints.update_endpoint(
        endpoint=types.Endpoint(name=endpoint.name, labels={**endpoint.labels, **wanted}),
        update_mask=field_mask_pb2.FieldMask(paths=["labels"]),
        retry=reading(),
        timeout=CALL_TIMEOUT_S,
    )


def label_model(models: Any, model: str, run_name: str) -> None:
    """Put the run's label on a model: Model Garden's deployment takes none for what it registers.

    Args:
        models: A `ModelServiceClient`.
        model: `projects/…/models/…`, perhaps with its version.
        run_name: Name of the pipeline run.
    """
    found = models.get_model(name=model, retry=reading(), timeout=CALL_TIMEOUT_S)
    wanted = {RUN_LABEL: label_value(run_name)}
    if wanted.items() <= dict(found.labels).items():
        return
    models.update_model(
        model=types.Model(name=model, labels={**found.labels, **wanted}),
        update_mask=field_mask_pb2.FieldMask(paths=["labels"]),
        retry=reading(),
        timeout=CALL_TIMEOUT_S,
    )
