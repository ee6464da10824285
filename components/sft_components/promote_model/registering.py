"""The registry's entry of a model that is to be promoted: adopted, or registered as a version."""

from collections.abc import Callable, Sequence

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.model_service import ModelServiceClient

from sft_components.deploy_model.container import container
from sft_components.errors import UserError
from sft_components.vertex.aliases import merge_aliases
from sft_components.vertex.connection import Connection
from sft_components.vertex.endpoints import OPERATION_TIMEOUT_S
from sft_components.vertex.keys import RUN_LABEL, label_value
from sft_components.vertex.keys import model_id as run_model_id
from sft_components.vertex.retrying import CALL_TIMEOUT_S, reading

PREVIOUS_ALIAS = "previous-champion"


class Registry:
    """The models of one region."""

    def __init__(self, connection: Connection, run_name: str, log: Callable[[str], None]) -> None:
        self._models = connection.client(ModelServiceClient)
        self._parent = connection.parent
        self._run = run_name
        self._log = log

    def get(self, name: str) -> types.Model:
        """The version that `name` means (`…/models/ID`, `…@2` or `…@champion`).

        Raises:
            UserError: There is none.
        """
        try:
            return self._models.get_model(name=name, retry=reading(), timeout=CALL_TIMEOUT_S)
        except api.NotFound as error:
            raise UserError(f"There is no model {name}.") from error

    def register(
        self,
        *,
        source: types.Model | None,
        checkpoint_uri: str,
        base_model: str,
        parent_model: str,
        display_name: str,
        encryption_key: str = "",
        accelerators: int = 0,
        container_args: Sequence[str] = (),
        container_image: str = "",
    ) -> types.Model:
        """The run's own version, found by the run's label or else uploaded.

        Args:
            source: A model whose weights and container the version takes over, such as the one
                that Model Garden's deployment registered; None: `checkpoint_uri` is served by vLLM.
            checkpoint_uri: gs:// folder of Hugging Face weights.
            base_model: As the catalogue names it: it knows vLLM's settings.
            parent_model: `projects/…/models/ID` that gets a new version; empty: a model of its own.
            display_name: Name of the model.
            encryption_key: Customer-managed key; may be empty.
            accelerators: Of the machine that it is served on; 0: as the catalogue says.
            container_args: vLLM's arguments in the place of the catalogue's.
            container_image: vLLM's image; empty: the catalogue's.
        """
        parent_model = parent_model.partition("@")[0]
        found = self._registered(parent_model)
        if found is not None:
            self._log(f"Adopted {versioned(found)}")
            return found
        weights = source.artifact_uri if source else checkpoint_uri
        given = source.container_spec if source else None
        model = types.Model(
            display_name=(display_name or (source.display_name if source else "tuned"))[:128],
            artifact_uri=weights,
            container_spec=given
            if given and given.image_uri
            else container(base_model, accelerators, container_args, container_image),
            labels={RUN_LABEL: label_value(self._run)},
        )
        if encryption_key:
            model.encryption_spec = types.EncryptionSpec(kms_key_name=encryption_key)
        operation = self._models.upload_model(
            request=types.UploadModelRequest(
                parent=self._parent,
                parent_model=parent_model,
                model_id="" if parent_model else run_model_id(self._run),
                model=model,
            ),
            retry=None,
            timeout=CALL_TIMEOUT_S,
        )
        made = operation.result(timeout=OPERATION_TIMEOUT_S)
        self._log(f"Registered {made.model}@{made.model_version_id}")
        return self.get(f"{made.model}@{made.model_version_id}")

    def forget(self, model: types.Model) -> None:
        """Delete the version that `register` made; its weights stay in Cloud Storage."""
        try:
            if model.version_id == "1":
                done = self._models.delete_model(
                    name=model.name.partition("@")[0], retry=reading(), timeout=CALL_TIMEOUT_S
                )
            else:
                done = self._models.delete_model_version(
                    name=versioned(model), retry=reading(), timeout=CALL_TIMEOUT_S
                )
            done.result(timeout=OPERATION_TIMEOUT_S)
        except api.NotFound:
            return
        self._log(f"Deleted {versioned(model)}")

    def crown(self, champion: types.Model, former: str, aliases: list[str]) -> None:
        """Give the new champion's version its aliases, and the former one `previous-champion`.

        Args:
            champion: What serves now.
            former: `projects/…/models/ID@VERSION` of what served before; may be empty.
            aliases: Such as `champion`; one moves from version to version of the same model.
        """
        if not aliases:
            return
        former_name = former.partition("@")[0]
        if former and former != versioned(champion):
            changes = [PREVIOUS_ALIAS]
            if former_name != champion.name:
                # Within one model the alias moves by itself.
                held = self.get(former).version_aliases
                changes += [f"-{alias}" for alias in aliases if alias in held]
            merge_aliases(self._models, former, changes)
        merge_aliases(self._models, versioned(champion), aliases)
        self._log(f"{versioned(champion)} is {', '.join(aliases)}")

    def _registered(self, parent_model: str) -> types.Model | None:
        """What an attempt before has registered."""
        name = parent_model or f"{self._parent}/models/{run_model_id(self._run)}"
        try:
            for version in self._models.list_model_versions(
                name=name, retry=reading(), timeout=CALL_TIMEOUT_S
            ):
                if version.labels.get(RUN_LABEL) == label_value(self._run):
                    return version
        except api.NotFound:
            if parent_model:
                raise UserError(f"There is no model {parent_model} to add a version to.") from None
        return None


def versioned(model: types.Model) -> str:
    """`projects/…/models/ID@VERSION`."""
    return f"{model.name.partition('@')[0]}@{model.version_id}"
