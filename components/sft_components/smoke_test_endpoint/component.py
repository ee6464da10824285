"""KFP interface of the smoke test."""

from kfp import dsl

from sft_components.embedding import step


@step(packages=["google-auth", "google-api-core", "requests"])
def smoke_test_endpoint(
    project: str,
    location: str,
    endpoint_resource_name: str,
    latency: dsl.Output[dsl.Metrics],
    prompts: list = [],  # noqa: B006 - kfp writes the default into the YAML
    max_latency_s: float = 0.0,
):
    """Ask a new endpoint real prompts, after its warm-up, and measure its answers.

    Args:
        project: Google Cloud project.
        location: Region of the endpoint.
        endpoint_resource_name: projects/PROJECT/locations/LOCATION/endpoints/ID.
        latency: Seconds of warm-up and of answers.
        prompts: Texts to ask; empty: built-in ones.
        max_latency_s: Fail when an answer after the warm-up takes longer, seconds; 0: no limit.
    """
    from sft_components.smoke_test_endpoint.work import smoke_test_endpoint as work
    from sft_components.steps import log, user_errors

    with user_errors():
        result = work(
            project=project,
            location=location,
            endpoint=endpoint_resource_name,
            prompts=prompts,
            max_latency_s=max_latency_s,
            log=log,
        )
    for name, value in result.metrics.items():
        latency.log_metric(name, value)
