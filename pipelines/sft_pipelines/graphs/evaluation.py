"""The part of every pipeline that evaluates, on the checkpoint or through an endpoint."""

import functools
from typing import Any, NamedTuple

from kfp import dsl

from sft_components.catalog.machines import EVALUATED_ON
from sft_components.evaluate_endpoint.component import evaluate_endpoint
from sft_components.evaluate_model.component import evaluate_model
from sft_pipelines.graphs.settings import repeated, small, uncached

MACHINES = {1: ("12", "48G"), 2: ("24", "96G"), 4: ("48", "192G"), 8: ("96", "384G")}
"""CPUs and memory of the G2 machine with so many accelerators."""


@functools.cache
def evaluation_graph(accelerators: int) -> Any:
    """The graph for models that take up to so many accelerators.

    Those that fit one are evaluated on one, the others on `accelerators`. Both numbers are fixed
    when the template is compiled: kfp does not hand the parameters of a resource into an exit
    handler's graph. Each number has a copy of the step's code in the template, so there are two.

    Args:
        accelerators: 1: larger models are refused by `validate_pipeline`.
    """

    @dsl.pipeline(name="evaluation-graph")
    def graph(
        project: str,
        evaluation: str,
        base_model: str,
        checkpoint_uri: str,
        base_model_uri: str,
        endpoint: str,
        evaluation_dataset: dsl.Input[dsl.Dataset],
        training_curve: dsl.Input[dsl.Dataset],
        tuning_description: str,
        task: str,
        gate: str,
        json_schema: str,
        judge_endpoint: str,
        judge_prompt: str,
        judge_mode: str,
        judge_max_rows: int,
        baseline_endpoint: str,
        work_uri: str,
        min_exact_match: float,
        min_improvement: float,
        max_new_tokens: int,
        max_rows: int,
    ) -> NamedTuple("EvaluationGraphOutputs", [("passed", bool), ("reason", str)]):
        """Compare the tuned model with its base, or with the one in production, on held-out rows.

        Weights that we hold are evaluated on accelerators before they get an endpoint. A model
        that its service deploys by itself is asked through that endpoint, without an accelerator.
        """
        from collections import namedtuple

        common = {
            "project": project,
            "evaluation_dataset": evaluation_dataset,
            "training_curve": training_curve,
            "tuning_description": tuning_description,
            "task": task,
            "gate": gate,
            "json_schema": json_schema,
            "judge_endpoint": judge_endpoint,
            "judge_prompt": judge_prompt,
            "judge_mode": judge_mode,
            "judge_max_rows": judge_max_rows,
            "work_uri": work_uri,
            "min_exact_match": min_exact_match,
            "min_improvement": min_improvement,
            "max_new_tokens": max_new_tokens,
            "max_rows": max_rows,
        }

        def on_weights(count: int) -> Any:
            task = evaluate_model(
                checkpoint_uri=checkpoint_uri,
                base_model_uri=base_model_uri,
                baseline_endpoint=baseline_endpoint,
                **common,
            )
            cpus, memory = MACHINES[count]
            task.set_accelerator_type(EVALUATED_ON).set_accelerator_limit(count)
            return uncached(repeated(task)).set_cpu_limit(cpus).set_memory_limit(memory)

        evaluated = []
        with dsl.If(evaluation == "checkpoint", name="on-the-checkpoint"):
            evaluated.append(on_weights(1))
        if accelerators > 1:
            with dsl.Elif(evaluation == "large-checkpoint", name="on-the-large-checkpoint"):
                evaluated.append(on_weights(accelerators))
        with dsl.Else(name="through-an-endpoint"):
            asked = evaluate_endpoint(
                endpoint_resource_name=endpoint,
                base_model=base_model,
                base_endpoint_resource_name=baseline_endpoint,
                **common,
            )
            evaluated.append(small(uncached(repeated(asked))))
        outputs = namedtuple("EvaluationGraphOutputs", ["passed", "reason"])
        return outputs(
            dsl.OneOf(*(task.outputs["passed"] for task in evaluated)),
            dsl.OneOf(*(task.outputs["reason"] for task in evaluated)),
        )

    return graph
