"""KFP interface of the smoke test."""

from kfp import dsl

from sft_components.embedding import step


@step(
    packages=[
        "google-api-core",
        "google-auth",
        "google-cloud-storage",
        "jinja2",
        "jsonschema",
        "msgspec",
        "pyyaml",
        "requests",
    ]
)
def smoke_test_endpoint(
    endpoint_resource_name: str,
    latency: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    base_model: str = "",
    prompts: list = [],  # noqa: B006 - kfp writes the default into the YAML
    prompts_uri: str = "",
    max_latency_s: float = 0.0,
    requests: int = 0,
    concurrency: int = 8,
    base_endpoint_resource_name: str = "",
):
    """Ask a new endpoint real prompts, after its warm-up, and measure its answers.

    Args:
        endpoint_resource_name: projects/PROJECT/locations/LOCATION/endpoints/ID.
        latency: Seconds of warm-up and of answers, tokens a second, failures.
        report: Every answer, what was expected, the load.
        base_model: What was tuned, as the catalogue names it; empty: every surface is tried.
        prompts: Texts to ask; empty, and no prompts_uri: built-in ones.
        prompts_uri: gs:// address of JSON Lines or YAML of prompts with expectations.
        max_latency_s: Fail when an answer after the warm-up takes longer, seconds; 0: no limit.
        requests: Ask so many more at the end, several at a time; 0: none.
        concurrency: How many of those at a time.
        base_endpoint_resource_name: Endpoint of the base model, to prove that the tuned weights
            are the ones that are served; a Gemini model is asked by its name without.
    """
    from pathlib import Path

    from sft_components.smoke_test_endpoint.work import examine_endpoint
    from sft_components.steps import log, user_errors

    with user_errors():
        result = examine_endpoint(
            endpoint=endpoint_resource_name,
            base_model=base_model,
            prompts=prompts,
            prompts_uri=prompts_uri,
            max_latency_s=max_latency_s,
            requests=requests,
            concurrency=concurrency,
            base_endpoint=base_endpoint_resource_name,
            report_path=Path(report.path),
            log=log,
        )
        for name, value in result.metrics.items():
            latency.log_metric(name, value)
        result.passed()
