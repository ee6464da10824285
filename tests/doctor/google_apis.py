"""A stand-in for Google's management APIs, of which there is none to run here.

It answers what their documentation says of a project in which nothing is wrong; a test breaks what
it is about.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

PROJECT, NUMBER = "acme", "123456"
BUCKET = "acme-rows"
STEPS = f"{NUMBER}-compute@developer.gserviceaccount.com"
KEY = f"projects/{PROJECT}/locations/us-central1/keyRings/ring/cryptoKeys/key"
AIPLATFORM_AGENT = f"service-{NUMBER}@gcp-sa-aiplatform.iam.gserviceaccount.com"
OSS_AGENT = f"service-{NUMBER}@gcp-sa-vertex-moss-ft.iam.gserviceaccount.com"
KMS, RESOURCES = "cloudkms.googleapis.com", "cloudresourcemanager.googleapis.com"
SERVICES, STORAGE = "serviceusage.googleapis.com", "storage.googleapis.com"
ALL = object()
"""Every permission that is asked about."""


def binding(role: str, *emails: str) -> dict[str, Any]:
    return {"role": role, "members": [f"serviceAccount:{email}" for email in emails]}


def quota(metric: str, title: str, *buckets: dict[str, Any]) -> dict[str, Any]:
    return {
        "metric": f"aiplatform.googleapis.com/{metric}",
        "displayName": title,
        "consumerQuotaLimits": [{"quotaBuckets": list(buckets)}],
    }


def healthy() -> dict[str, Any]:
    """Answers by host and path; a tuple is a status and a body."""
    bucket = f"{STORAGE}/storage/v1/b/{BUCKET}"
    return {
        f"{RESOURCES}/v3/projects/{PROJECT}": {"name": f"projects/{NUMBER}", "state": "ACTIVE"},
        f"{RESOURCES}/v3/projects/{PROJECT}:getIamPolicy": {
            "bindings": [
                binding("roles/aiplatform.serviceAgent", AIPLATFORM_AGENT),
                binding("roles/aiplatform.tuningServiceAgent", OSS_AGENT),
                binding("roles/aiplatform.user", STEPS),
            ]
        },
        f"{RESOURCES}/v3/projects/{PROJECT}:testIamPermissions": ALL,
        f"{SERVICES}/v1/projects/{PROJECT}/services:batchGet": {
            "services": [
                {"name": f"projects/{NUMBER}/services/{name}.googleapis.com", "state": "ENABLED"}
                for name in ("aiplatform", "storage", "compute", "cloudkms")
            ]
        },
        f"{SERVICES}/v1beta1/projects/{PROJECT}/services/aiplatform.googleapis.com"
        "/consumerQuotaMetrics": {
            "metrics": [
                quota(
                    "global_oss",
                    "Global concurrent managed OSS model fine-tuning jobs per project",
                    {"effectiveLimit": "1"},
                ),
                quota(
                    "custom_model_serving_nvidia_l4_gpus",
                    "Custom model serving Nvidia L4 GPUs per region",
                    {"effectiveLimit": "0"},
                    {"effectiveLimit": "4", "dimensions": {"region": "us-central1"}},
                ),
                quota(
                    "custom_model_training_nvidia_l4_gpus",
                    "Custom model training Nvidia L4 GPUs per region",
                    {"effectiveLimit": "1"},
                ),
            ]
        },
        f"iam.googleapis.com/v1/projects/-/serviceAccounts/{STEPS}:testIamPermissions": ALL,
        bucket: {"location": "US-CENTRAL1"},
        f"{bucket}/iam/testPermissions": ALL,
        f"{bucket}/iam": {
            "bindings": [binding("roles/storage.objectUser", AIPLATFORM_AGENT, OSS_AGENT)]
        },
        f"{KMS}/v1/{KEY}": {"purpose": "ENCRYPT_DECRYPT", "primary": {"state": "ENABLED"}},
        f"{KMS}/v1/{KEY}:getIamPolicy": {
            "bindings": [binding("roles/cloudkms.cryptoKeyEncrypterDecrypter", AIPLATFORM_AGENT)]
        },
    }


@contextmanager
def serving(answers: dict[str, Any]) -> Iterator[str]:
    """The address of a server of `answers`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(parse_qs(urlsplit(self.path).query).get("permissions", []))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(body.get("permissions", []))

        def _answer(self, permissions: list[str]) -> None:
            missing = (404, {"error": {"message": "not found"}})
            found = answers.get(urlsplit(self.path).path.lstrip("/"), missing)
            found = {"permissions": permissions} if found is ALL else found
            status, body = found if isinstance(found, tuple) else (200, found)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
