"""google-cloud-aiplatform and vertexai: pipelines, schedules, tuning, models, endpoints."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import requests
import vertexai
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
from google.cloud.aiplatform import pipeline_jobs
from kfp import compiler
from tests.clients.support import BUCKET, EXPERIMENTAL, LOCATION, PROJECT, Here, until
from tests.local import small_pipeline
from tests.local.far_side import rows
from vertexai.generative_models import GenerativeModel
from vertexai.preview import model_garden
from vertexai.preview.language_models import TextGenerationModel
from vertexai.tuning import SourceModel, sft

from sft_local.sdk import LocalSession

pytestmark = pytest.mark.filterwarnings(
    EXPERIMENTAL, "ignore:This feature is deprecated", "ignore:The 'warn' method is deprecated"
)
IMAGE = "us-docker.pkg.dev/vertex-ai/vertex-vision-model-garden-dockers/pytorch-vllm-serve"
QUESTION = {"prompt": "number 3", "max_tokens": 5, "temperature": 0, "raw_response": True}


@pytest.fixture(autouse=True)
def sdk(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    # Seconds between two looks at a pipeline job: five for a job of hours.
    monkeypatch.setattr(pipeline_jobs, "_JOB_WAIT_TIME", 0.2)
    vertexai.init(
        project=PROJECT,
        location=LOCATION,
        api_transport="rest",
        api_endpoint=here.local.api_url,
        credentials=AnonymousCredentials(),
    )


@pytest.fixture
def template(tmp_path: Path) -> str:
    path = str(tmp_path / "apart.yaml")
    compiler.Compiler().compile(small_pipeline.apart, path)
    return path


@pytest.fixture
def endpoint(here: Here) -> Iterator[aiplatform.Endpoint]:
    """An endpoint, which takes its models with it."""
    made = aiplatform.Endpoint.create(display_name="for the SDK")
    yield made
    made.delete(force=True)


def test_pipeline_job_is_submitted_and_waited_for(template: str) -> None:
    job = aiplatform.PipelineJob(
        display_name="from the SDK",
        template_path=template,
        # The SDK asks Google who owns a bucket that is there, and without an account too.
        pipeline_root="gs://sdk-makes-this/root",
        parameter_values={"word": "x"},
    )
    job.submit(service_account="steps@clients.iam.gserviceaccount.com")
    job.wait()
    assert job.state.name == "PIPELINE_STATE_SUCCEEDED"
    again = aiplatform.PipelineJob.get(job.resource_name)
    assert {d.task_name for d in again.task_details} >= {"quiet", "quiet-2"}
    assert again.to_dict()["serviceAccount"].startswith("steps@")
    (listed,) = aiplatform.PipelineJob.list(filter='display_name="from the SDK"')
    assert listed.resource_name == job.resource_name
    job.delete()
    assert not aiplatform.PipelineJob.list(filter='display_name="from the SDK"')


def test_schedule_is_made_paused_and_fires(here: Here, template: str) -> None:
    job = aiplatform.PipelineJob(
        display_name="scheduled",
        template_path=template,
        pipeline_root=f"gs://{BUCKET}/scheduled",
        parameter_values={"word": "x"},
    )
    schedule = aiplatform.PipelineJobSchedule(pipeline_job=job, display_name="nightly")
    schedule.create(cron="TZ=Asia/Tokyo 0 9 * * *", max_concurrent_run_count=1, max_run_count=1)
    assert schedule.state.name == "ACTIVE"
    schedule.pause()
    assert schedule.state.name == "PAUSED"
    schedule.update(cron="TZ=Asia/Tokyo 30 9 * * *")
    schedule.resume(catch_up=False)
    coming = aiplatform.PipelineJobSchedule.get(schedule.resource_name).gca_resource.next_run_time
    assert (coming.hour, coming.minute) == (0, 30)
    requests.post(f"{here.local.api_url}/clock", json={"seconds": 86400}, timeout=5)
    until(lambda: bool(schedule.list_jobs()))
    (run,) = schedule.list_jobs(enable_simple_view=False)
    assert run.gca_resource.schedule_name == schedule.resource_name
    (listed,) = aiplatform.PipelineJobSchedule.list(filter='display_name="nightly"')
    assert listed.resource_name == schedule.resource_name
    run.wait()
    schedule.delete()
    assert not aiplatform.PipelineJobSchedule.list(filter='display_name="nightly"')


def test_open_model_is_tuned_and_deployed_as_the_documentation_has_it(here: Here) -> None:
    job = sft.train(
        source_model=SourceModel(
            base_model="meta/llama3_1@llama-3.1-8b", custom_base_model=here.put_weights("start")
        ),
        tuning_mode="FULL",
        epochs=1,
        train_dataset=here.put("sft/train.jsonl", rows(8)),
        validation_dataset=here.put("sft/validation.jsonl", rows(2)),
        output_uri=f"gs://{BUCKET}/sft/out",
    )
    until(lambda: bool(job.refresh().has_ended))
    assert job.has_succeeded, job.error
    assert job.resource_name in {j.resource_name for j in sft.SupervisedTuningJob.list()}
    registered = aiplatform.Model(job.tuned_model_name)
    weights = f"gs://{BUCKET}/sft/out/postprocess/node-0/checkpoints/final"
    assert registered.uri == weights

    model = model_garden.CustomModel(gcs_uri=weights)
    endpoint = model.deploy(
        machine_type="g2-standard-12", accelerator_type="NVIDIA_L4", accelerator_count=1
    )
    try:
        _ask_a_dedicated_endpoint(aiplatform.Endpoint(endpoint.resource_name))
    finally:
        (deployed,) = endpoint.list_models()
        endpoint.delete(force=True)
        aiplatform.Model(deployed.model).delete()
    registered.delete()


def _ask_a_dedicated_endpoint(endpoint: aiplatform.Endpoint) -> None:
    with pytest.raises(requests.exceptions.SSLError):
        endpoint.predict(instances=[QUESTION])
    endpoint.authorized_session = LocalSession()
    prediction = endpoint.predict(instances=[QUESTION])
    assert prediction.deployed_model_id == endpoint.list_models()[0].id
    (text,) = prediction.predictions
    body = json.dumps({"instances": [QUESTION]}).encode()
    raw = endpoint.raw_predict(body=body, headers={"Content-Type": "application/json"})
    assert raw.json() == {"predictions": [text]}

    asked: dict[str, Any] = {
        "model": "",
        "messages": [{"role": "user", "content": "number 3"}],
        "max_tokens": 5,
        "temperature": 0,
    }
    lines = endpoint.stream_raw_predict(
        body=json.dumps({**asked, "stream": True}).encode(),
        headers={"Content-Type": "application/json"},
    )
    assert [line for line in lines if line][-1] == b"data: [DONE]"
    client = openai.OpenAI(
        api_key="none",
        base_url=f"http://{endpoint.dedicated_endpoint_dns}/v1/{endpoint.resource_name}",
        http_client=httpx.Client(trust_env=False),
    )
    whole = client.chat.completions.create(**asked)
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    streamed = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert (whole.choices[0].message.content or "").startswith(streamed.rstrip("\ufffd"))
    assert chunks[-1].usage == whole.usage


def test_private_endpoint_is_made_asked_and_taken_down(here: Here) -> None:
    weights = here.put_weights("private")
    model = aiplatform.Model.upload(
        display_name="private", artifact_uri=weights, serving_container_image_uri=IMAGE
    )
    endpoint = aiplatform.PrivateEndpoint.create(
        display_name="private", network="projects/1/global/networks/n"
    )
    endpoint.deploy(model, machine_type="n1-standard-4")
    (text,) = endpoint.predict(instances=[QUESTION]).predictions
    assert isinstance(text, str)
    assert endpoint.health_check()
    endpoint.delete(force=True)
    model.delete()


def test_model_of_the_registry_is_deployed_and_asked(
    here: Here, endpoint: aiplatform.Endpoint
) -> None:
    weights = here.put_weights("registry")
    given: dict[str, Any] = {"artifact_uri": weights, "serving_container_image_uri": IMAGE}
    model = aiplatform.Model.upload(display_name="by the SDK", **given)
    second = aiplatform.Model.upload(
        display_name="by the SDK",
        parent_model=model.resource_name,
        is_default_version=False,
        **given,
    )
    assert second.version_id == "2"
    assert [v.version_id for v in model.versioning_registry.list_versions()] == ["1", "2"]
    model.update(labels={"made": "here"})
    (listed,) = aiplatform.Model.list(filter='labels.made="here"')
    assert listed.resource_name == model.resource_name

    # A machine without an accelerator is a machine.
    model.deploy(endpoint=endpoint, machine_type="n1-standard-4")
    (text,) = endpoint.predict(instances=[QUESTION]).predictions
    endpoint.authorized_session = LocalSession()
    raw = endpoint.raw_predict(
        body=json.dumps(QUESTION).encode(), headers={"Content-Type": "application/json"}
    )
    assert raw.json() == {"predictions": [text]}
    endpoint.update(display_name="renamed")
    (found,) = aiplatform.Endpoint.list(filter='display_name="renamed"')
    assert found.resource_name == endpoint.resource_name
    endpoint.undeploy_all()
    assert not endpoint.list_models()
    model.delete()
    assert not aiplatform.Model.list(filter='labels.made="here"')


def test_generative_model_of_a_tuning_job_answers(tuned: Any) -> None:
    job = sft.SupervisedTuningJob(tuned.name)
    model = GenerativeModel(job.tuned_model_endpoint_name)
    config: Any = {"max_output_tokens": 4, "temperature": 0}
    answer = model.generate_content("number 3", generation_config=config)
    assert answer.usage_metadata.candidates_token_count == 4
    pieces = list(model.generate_content("number 3", generation_config=config, stream=True))
    assert pieces[-1].candidates[0].finish_reason.name == "MAX_TOKENS"


def test_retired_model_is_found_and_answers() -> None:
    model = TextGenerationModel.from_pretrained("text-bison@002")
    answer = model.predict("number 3", max_output_tokens=4, temperature=0)
    assert answer.text
    assert model.list_tuned_model_names() == []
