"""The container that serves tuned weights: vLLM's image and its arguments."""

from collections.abc import Sequence

from google.cloud.aiplatform_v1beta1 import types

from sft_components.catalog import load_catalog
from sft_components.catalog.vllm import vllm_arguments

PORT = 8080
SHARED_MEMORY_MB = 16 * 1024
START_TIMEOUT_S = 7200
WEIGHTS = "$(AIP_STORAGE_URI)"
"""Where the service puts the model's artifacts: all that a container without a service account of
its own may read."""


def container(
    base_model: str, accelerators: int, args: Sequence[str] = (), image: str = ""
) -> types.ModelContainerSpec:
    """Model Garden's vLLM image on the model's own artifacts.

    Entry point, routes and port are those of Google's notebooks for that image.

    Args:
        base_model: As the catalogue names it: it knows vLLM's arguments; may be empty.
        accelerators: Of the machine that it is served on; 0: as the catalogue says.
        args: Arguments in the place of the catalogue's.
        image: Another image; empty: the catalogue's.

    Raises:
        UserError: Unknown model, or an argument is wrong.
    """
    catalog = load_catalog()
    model = catalog.find(base_model, allow_unlisted=True) if base_model else None
    if not accelerators:
        accelerators = model.serving.accelerator_count if model and model.serving else 1
    return types.ModelContainerSpec(
        image_uri=image or catalog.vllm.image,
        args=[
            *("python", "-m", "vllm.entrypoints.api_server"),
            "--host=0.0.0.0",
            f"--port={PORT}",
            f"--model={WEIGHTS}",
            *vllm_arguments(model, accelerators, args),
            "--disable-log-stats",
        ],
        env=[types.EnvVar(name="MODEL_ID", value=base_model or "tuned")],
        ports=[types.Port(container_port=PORT)],
        predict_route="/generate",
        health_route="/ping",
        shared_memory_size_mb=SHARED_MEMORY_MB,
        deployment_timeout={"seconds": START_TIMEOUT_S},
    )
