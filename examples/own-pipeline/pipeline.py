"""A pipeline of one's own from the compiled components: check the rows, upload them, tune.

    python examples/own-pipeline/pipeline.py own-pipeline.yaml
    vertex-sft run own-pipeline.yaml --local -p dataset_uri=rows.jsonl

compiles it and rehearses it on this machine. It needs kfp and the YAML files, nothing else of ours.
"""

import sys
from pathlib import Path

from kfp import compiler, components, dsl

FOLDER = Path(__file__).parents[2] / "compiled" / "components"
MODEL = "meta/llama3_1@llama-3.1-8b-instruct"
MODE = "PEFT_ADAPTER"


def load(name: str) -> components.YamlComponent:
    """The component called `name`."""
    return components.load_component_from_file(str(FOLDER / f"{name}.yaml"))


@dsl.pipeline(name="own-pipeline")
def own_pipeline(
    project: str, location: str, model_display_name: str, output_uri: str, dataset_uri: str
) -> None:
    """Tune Llama 3.1 8B once a run; a run that is stopped stops its tuning job."""
    # What a run makes is found by its name: give it to every step that takes one.
    run_name = dsl.PIPELINE_JOB_NAME_PLACEHOLDER
    place = {"project": project, "location": location}
    tuned_in = {**place, "tuning_location": location, "run_name": run_name}
    with dsl.ExitHandler(load("release-endpoint")(**tuned_in)):
        checked = load("validate-dataset")(
            project=project, base_model=MODEL, tuning_mode=MODE, dataset_uri=dataset_uri
        )
        rows = checked.outputs
        uploaded = load("upload-to-gcs")(
            **place,
            output_uri=output_uri,
            training_dataset=rows["training_dataset"],
            validation_dataset=rows["validation_dataset"],
            evaluation_dataset=rows["evaluation_dataset"],
        )
        launched = load("launch-sft")(
            **tuned_in,
            base_model=MODEL,
            tuning_mode=MODE,
            model_display_name=model_display_name,
            output_uri=output_uri,
            training_uri=uploaded.outputs["training_uri"],
            validation_uri=uploaded.outputs["validation_uri"],
            training_rows=rows["training_rows"],
            training_tokens=rows["training_tokens"],
            tokens_are_estimated=rows["tokens_are_estimated"],
            epochs=1,
            max_cost_usd=20.0,
        )
        # A retry goes on with the job that it finds.
        launched.set_caching_options(False).set_retry(2)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Name the file to write, as in: python pipeline.py own-pipeline.yaml")
    compiler.Compiler().compile(own_pipeline, sys.argv[1])
