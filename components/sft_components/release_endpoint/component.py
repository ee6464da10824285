"""KFP interface of the exit handler."""

from typing import NamedTuple

from kfp import dsl

from sft_components.embedding import step


@step(packages=["google-cloud-aiplatform"])
def release_endpoint(
    project: str,
    location: str,
    tuning_location: str,
    run_name: str,
    status: dsl.PipelineTaskFinalStatus,
    cancel_jobs: bool = True,
    version_aliases: list = [],  # noqa: B006 - kfp writes the default into the YAML
    when_changed: str = "",
) -> NamedTuple("ReleaseOutputs", [("model_resource_name", str), ("endpoint_resource_name", str)]):
    """After a failure or an abort take down the run's endpoints and tuning job.

    Args:
        project: Google Cloud project.
        location: Region of the endpoint.
        tuning_location: Region of the tuning job, or global; empty: the same as location.
        run_name: Name of the pipeline run; what it created is found by it.
        cancel_jobs: Cancel the run's tuning if it has not ended.
        version_aliases: What the registry calls the version that the run's endpoint serves after a
            success; one that was promoted has its aliases already.
        when_changed: Name under which the run is remembered, if any: it may then serve what an
            earlier run has tuned.
        status: How the tasks before ended; filled in by the pipeline.

    Returns:
        Resource names of the model and the endpoint that serve it; empty when nothing does.
    """
    from collections import namedtuple

    from sft_components.release_endpoint.work import release_endpoint as work
    from sft_components.steps import log, user_errors

    with user_errors():
        result = work(
            project=project,
            location=location,
            tuning_location=tuning_location or location,
            run_name=run_name,
            cancel_jobs=cancel_jobs,
            version_aliases=version_aliases,
            when_changed=when_changed,
            succeeded=status.state == "SUCCEEDED",
            log=log,
        )
    outputs = namedtuple("ReleaseOutputs", ["model_resource_name", "endpoint_resource_name"])
    return outputs(result.model, result.endpoint)
