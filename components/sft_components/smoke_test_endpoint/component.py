"""KFP interface of the smoke test."""

from kfp import dsl

from sft_components.embedding import step


@step(packages=["google-api-core", "google-auth", "msgspec", "pyyaml", "requests"])
def smoke_test_endpoint(
    endpoint_resource_name: str,
    latency: dsl.Output[dsl.Metrics],
    base_model: str = "",
    prompts: list = [],  # noqa: B006 - kfp writes the default into the YAML
    max_latency_s: float = 0.0,
):
    """Ask a new endpoint real prompts, after its warm-up, and measure its answers.

    Args:
        endpoint_resource_name: projects/PROJECT/locations/LOCATION/endpoints/ID.
        latency: Seconds of warm-up and of answers.
        base_model: What was tuned, as the catalogue names it; empty: every surface is tried.
        prompts: Texts to ask; empty: built-in ones.
        max_latency_s: Fail when an answer after the warm-up takes longer, seconds; 0: no limit.
    """
    from sft_components.smoke_test_endpoint.work import smoke_test_endpoint as work
    from sft_components.steps import log, user_errors

    with user_errors():
        result = work(
            endpoint=endpoint_resource_name,
            base_model=base_model,
            prompts=prompts,
            max_latency_s=max_latency_s,
            log=log,
        )
    for name, value in result.metrics.items():
        latency.log_metric(name, value)
