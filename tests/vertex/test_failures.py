"""What the service's failures are told as."""

import socket
import threading

import pytest
import requests

from sft_components.vertex.failures import FAILURES, explain, find_failure, said

SEEN = [
    ("500 Internal error encountered.", "create an empty Vertex AI data set in europe-west4"),
    (
        "Permission 'aiplatform.metadataStores.get' denied on resource "
        "'//aiplatform.googleapis.com/projects/p/locations/europe-west4/metadataStores/default'",
        "roles/aiplatform.admin and roles/storage.objectAdmin",
    ),
    (
        "Vertex AI Service Agent service-1@gcp-sa-aiplatform.iam.gserviceaccount.com does not have "
        "permission to access Artifact Registry repository projects/vertex-ai-restricted/"
        "locations/us/repositories/llm.",
        "try again later",
    ),
    (
        "429 The following quota metrics exceed quota limits: aiplatform.googleapis.com/"
        "custom_model_serving_nvidia_l4_gpus",
        "The quota 'Custom model serving Nvidia L4 GPUs per region'",
    ),
    (
        "8: The following quotas are exceeded: CustomModelServingCPUsPerProjectPerRegion",
        "The quota 'CustomModelServingCPUsPerProjectPerRegion'",
    ),
    (
        "Quota exceeded for aiplatform.googleapis.com/global_concurrent_tuning_jobs",
        "The quota 'Global concurrent tuning jobs'",
    ),
    (
        "400 Invalid open source publisher model resource name 'meta/llama-3.1-8b'",
        "publisher/family@version",
    ),
    (
        "403 Permission 'aiplatform.tuningJobs.create' denied on resource 'projects/p'",
        "a role with aiplatform.tuningJobs.create",
    ),
    (
        "service-1@gcp-sa-vertex-moss-ft.iam.gserviceaccount.com does not have "
        "storage.objects.get access to the Google Cloud Storage object.",
        "roles/storage.objectUser",
    ),
    (
        "me@example.com does not have storage.objects.create access to the bucket.",
        "roles/storage.objectUser on the bucket",
    ),
    ("You do not have permission to act: iam.serviceAccounts.actAs", "serviceAccountUser"),
    ("Permission 'cloudkms.cryptoKeyVersions.useToEncrypt' denied", "EncrypterDecrypter"),
    ("Request is prohibited by organization's policy.", "perimeter"),
    ("Base model gemini-1.0-pro-002 is not supported.", "vertex-sft models"),
    ("Vertex AI API has not been used in project 1 before or it is disabled.", "enable"),
]


@pytest.mark.parametrize(("message", "cure"), SEEN, ids=[cure for _, cure in SEEN])
def test_a_known_failure_keeps_its_message_and_gains_a_cure(message: str, cure: str):
    told = explain(message)
    assert told.startswith(message)
    assert cure in told
    assert "See the documentation page" in told


def test_every_entry_is_told_by_some_message():
    assert {find_failure(message) for message, _ in SEEN} >= {
        entry for entry in FAILURES if "A quota of the project" not in entry.sentence
    }


def test_only_a_delay_passes_by_itself():
    assert [entry.sentence for entry in FAILURES if entry.passes] == [FAILURES[0].sentence]


def test_an_unknown_failure_is_left_as_it_is():
    assert explain("the rows are odd") == "the rows are odd"


@pytest.mark.parametrize(
    ("ends", "why"),
    [(True, "Remote end closed connection without response"), (False, "(read timeout=0.2)")],
)
def test_who_does_not_answer_is_told_without_names_of_objects(ends: bool, why: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)

        thread = threading.Thread(target=answer if ends else lambda: None)
        thread.start()
        with pytest.raises(requests.RequestException) as raised:
            requests.get(f"http://{host}/v1/x?y=1", timeout=30 if ends else 0.2)
        thread.join()
    told = said(raised.value)
    assert told.startswith(f"{host} does not answer: ")
    assert told.endswith(why)
    assert "'" not in told
