"""What a run will cost, said and held against its limit before it is submitted."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sft_pipelines.cli.job_options import err

if TYPE_CHECKING:
    from sft_pipelines.parameters import Template


def say_cost(
    template: "Template", values: Mapping[str, Any], project: str, *, only_limited: bool = False
) -> None:
    """Say what the tuning is estimated at; of a template that does not tune nothing.

    What the machines cost an hour is said by the template's first step, which has been run here.

    Args:
        template: What is to run.
        values: Checked parameters.
        project: Project that Cloud Storage requests are made in.
        only_limited: Say nothing where no limit needs the rows, which may be where this machine
            reads nothing.

    Raises:
        UserError: It is above `max_cost_usd`: the run would fail when it is to launch.
    """
    from sft_pipelines.estimating import describe_run_cost

    if not {"large_model_reference", "dataset_uri"} <= template.parameters.keys():
        return
    inputs = {name: declared.default for name, declared in template.parameters.items()}
    inputs.update(values)
    if only_limited and not inputs.get("max_cost_usd"):
        return
    err(f"Cost of the tuning: {describe_run_cost(inputs, project)}")
