"""The label that says which run an endpoint belongs to."""

from typing import Any

from google.cloud.aiplatform_v1beta1 import types
from google.protobuf import field_mask_pb2

from sft_components.vertex.keys import RUN_LABEL, label_value
from sft_components.vertex.retrying import CALL_TIMEOUT_S, reading


def label_endpoint(endpoints: Any, endpoint: types.Endpoint, run_name: str) -> None:
    """Put the run's label on `endpoint`. `endpoints`: an `EndpointServiceClient`."""
    value = label_value(run_name)
    if endpoint.labels.get(RUN_LABEL) == value:
        return
    endpoints.update_endpoint(
        endpoint=types.Endpoint(name=endpoint.name, labels={**endpoint.labels, RUN_LABEL: value}),
        update_mask=field_mask_pb2.FieldMask(paths=["labels"]),
        retry=reading(),
        timeout=CALL_TIMEOUT_S,
    )
