"""What the tests of promotions share: the end of a run, the registry's aliases."""

from collections.abc import Sequence

from google.cloud.aiplatform_v1beta1.services.model_service import ModelServiceClient
from tests.serving.conftest import CONNECTION

from sft_components.release_endpoint.work import ReleaseResult, release_endpoint


def release(run_name: str, succeeded: bool, version_aliases: Sequence[str] = ()) -> ReleaseResult:
    return release_endpoint(
        project=CONNECTION.project,
        location=CONNECTION.location,
        tuning_location=CONNECTION.location,
        run_name=run_name,
        succeeded=succeeded,
        version_aliases=version_aliases,
    )


def aliases(model: str) -> dict[str, set[str]]:
    found = CONNECTION.client(ModelServiceClient).list_model_versions(name=model)
    return {version.version_id: set(version.version_aliases) for version in found}
