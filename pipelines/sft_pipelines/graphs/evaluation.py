"""The part of every pipeline that evaluates, on the checkpoint or through an endpoint."""

from typing import NamedTuple

from kfp import dsl

from sft_components.evaluate_endpoint.component import evaluate_endpoint
from sft_components.evaluate_model.component import evaluate_model
from sft_pipelines.graphs.settings import repeated, small, uncached


@dsl.pipeline(name="evaluation-graph")
def evaluation_graph(
    project: str,
    location: str,
    evaluation: str,
    base_model: str,
    checkpoint_uri: str,
    base_model_uri: str,
    endpoint: str,
    evaluation_dataset: dsl.Input[dsl.Dataset],
    training_curve: dsl.Input[dsl.Dataset],
    task: str,
    gate: str,
    json_schema: str,
    judge_endpoint: str,
    judge_prompt: str,
    judge_mode: str,
    judge_max_rows: int,
    work_uri: str,
    min_exact_match: float,
    min_improvement: float,
    max_new_tokens: int,
    max_rows: int,
) -> NamedTuple("EvaluationGraphOutputs", [("passed", bool), ("reason", str)]):
    """Compare the tuned model with its base on held-out rows.

    Weights that we hold are evaluated on an accelerator before they get an endpoint. A model that
    its service deploys by itself is asked through that endpoint, without an accelerator.
    """
    from collections import namedtuple

    with dsl.If(evaluation == "checkpoint", name="on-the-checkpoint"):
        direct = evaluate_model(
            project=project,
            checkpoint_uri=checkpoint_uri,
            base_model_uri=base_model_uri,
            evaluation_dataset=evaluation_dataset,
            training_curve=training_curve,
            task=task,
            gate=gate,
            json_schema=json_schema,
            judge_endpoint=judge_endpoint,
            judge_prompt=judge_prompt,
            judge_mode=judge_mode,
            judge_max_rows=judge_max_rows,
            work_uri=work_uri,
            min_exact_match=min_exact_match,
            min_improvement=min_improvement,
            max_new_tokens=max_new_tokens,
            max_rows=max_rows,
        )
        # A g2-standard-12; `validate_pipeline` refuses models that do not fit its one L4. Not by
        # parameters: kfp does not hand those of a resource into an exit handler's graph.
        direct.set_accelerator_type("NVIDIA_L4").set_accelerator_limit(1)
        uncached(repeated(direct)).set_cpu_limit("12").set_memory_limit("48G")
    with dsl.Else(name="through-an-endpoint"):
        asked = evaluate_endpoint(
            project=project,
            location=location,
            endpoint_resource_name=endpoint,
            evaluation_dataset=evaluation_dataset,
            training_curve=training_curve,
            base_model=base_model,
            task=task,
            gate=gate,
            json_schema=json_schema,
            judge_endpoint=judge_endpoint,
            judge_prompt=judge_prompt,
            judge_mode=judge_mode,
            judge_max_rows=judge_max_rows,
            work_uri=work_uri,
            min_exact_match=min_exact_match,
            min_improvement=min_improvement,
            max_new_tokens=max_new_tokens,
            max_rows=max_rows,
        )
        small(uncached(repeated(asked)))
    outputs = namedtuple("EvaluationGraphOutputs", ["passed", "reason"])
    return outputs(
        dsl.OneOf(direct.outputs["passed"], asked.outputs["passed"]),
        dsl.OneOf(direct.outputs["reason"], asked.outputs["reason"]),
    )
