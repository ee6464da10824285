"""The labels that say which run an endpoint belongs to, and that the run has taken it."""

from typing import Any

from google.cloud.aiplatform_v1beta1 import types
from google.protobuf import field_mask_pb2

from sft_components.vertex.keys import RUN_LABEL, SERVES_LABEL, label_value
from sft_components.vertex.retrying import CALL_TIMEOUT_S, reading


def label_endpoint(endpoints: Any, endpoint: types.Endpoint, run_name: str) -> None:
    """Put the run's labels on `endpoint`. `endpoints`: an `EndpointServiceClient`."""
    wanted = dict.fromkeys((RUN_LABEL, SERVES_LABEL), label_value(run_name))
    if wanted.items() <= dict(endpoint.labels).items():
        return
    endpoints.update_endpoint(
        endpoint=types.Endpoint(name=endpoint.name, labels={**endpoint.labels, **wanted}),
        update_mask=field_mask_pb2.FieldMask(paths=["labels"]),
        retry=reading(),
        timeout=CALL_TIMEOUT_S,
    )
