"""An endpoint of its own for a model that is to be tested before any user is answered by it."""

from dataclasses import replace

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1 import types

from sft_components.promote_model.challenger import Challenger
from sft_components.vertex.endpoints import OPERATION_TIMEOUT_S, delete_endpoint
from sft_components.vertex.expiry import expiry_label
from sft_components.vertex.keys import RUN_LABEL, deployed_id, label_value, trial_endpoint_id
from sft_components.vertex.retrying import CALL_TIMEOUT_S

TTL_HOURS = 24
"""Should nothing else take it down, `vertex-sft endpoints reap` does."""


class Trial:
    """One test endpoint, which bears the run's label."""

    def __init__(self, challenger: Challenger, parent: str, run_name: str, key: str = "") -> None:
        """
        Args:
            challenger: What is to be tested.
            parent: `projects/…/locations/…`.
            run_name: It makes the endpoint's id.
            key: Customer-managed key of the endpoint; may be empty.
        """
        self._parent = parent
        self._run = run_name
        self._key = key
        self.endpoint = f"{parent}/endpoints/{trial_endpoint_id(run_name)}"
        self._challenger = replace(
            challenger, endpoint=self.endpoint, id=deployed_id(run_name, self.endpoint)
        )

    def begin(self) -> str:
        """Create the endpoint, or adopt it, and deploy to it; its name."""
        endpoints = self._challenger.endpoints
        wanted = types.Endpoint(
            display_name=f"Test of {self._challenger.display_name}"[:128],
            labels={RUN_LABEL: label_value(self._run), **expiry_label(TTL_HOURS)},
            dedicated_endpoint_enabled=True,
        )
        if self._key:
            wanted.encryption_spec = types.EncryptionSpec(kms_key_name=self._key)
        try:
            endpoints.create_endpoint(
                parent=self._parent,
                endpoint=wanted,
                endpoint_id=self.endpoint.rpartition("/")[2],
                retry=None,
                timeout=CALL_TIMEOUT_S,
            ).result(timeout=OPERATION_TIMEOUT_S)
        except api.Conflict:
            self._challenger.log(f"Adopted test endpoint {self.endpoint}")
        else:
            self._challenger.log(
                f"Made {self.endpoint}: the model is tested there, where no user asks it, and it "
                "is deleted after the test"
            )
        self._challenger.deploy(first=True)
        return self.endpoint

    def end(self) -> None:
        """Take it down, also while something is being deployed to it."""
        if self._challenger.operation:
            self._challenger.undeploy()
        delete_endpoint(self._challenger.endpoints, self.endpoint, self._challenger.log)
