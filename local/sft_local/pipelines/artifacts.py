"""Output artifacts: from a folder of this machine to Cloud Storage and into the store."""

from pathlib import Path
from typing import Any

from sft_local import wire
from sft_local.gcs import Storage, StorageError
from sft_local.pipelines.protocol import Artifact
from sft_local.store import Store, now
from sft_local.wire import ApiError


class Artifacts:
    """The artifacts of one job."""

    def __init__(self, store: Store, storage: Storage, parent: str, root: str) -> None:
        """`parent`: `projects/P/locations/L`; `root`: the job's folder in Cloud Storage."""
        self._store = store
        self._storage = storage
        self._parent = parent
        self._root = root.rstrip("/")
        self._published: dict[str, Any] = {}

    def publish(self, task: str, key: str, artifact: Artifact) -> Any:
        """The artifact's message; what a step wrote on this machine is in Cloud Storage then.

        Args:
            task: The task's folder below the job's.
            key: The output's name.
            artifact: As the step left it.
        """
        # A graph's outputs are those of its steps.
        if artifact.uri in self._published:
            return self._published[artifact.uri]
        path, uri = Path(artifact.uri), artifact.uri
        if path.is_absolute():
            uri = f"{self._root}/{task}/{key}"
            if path.is_dir():
                self._storage.upload_folder(path, uri)
            elif path.is_file():
                self._storage.upload(path, uri)
        number = f"{task.rpartition('_')[2]}-{key.lower().replace('_', '-')}"
        name = f"{self._parent}/metadataStores/default/artifacts/{number}"
        moment = now()
        message = wire.types().Artifact(
            name=name,
            display_name=key,
            uri=uri,
            schema_title=artifact.schema_title,
            schema_version=artifact.schema_version,
            metadata=artifact.metadata,
            state="LIVE",
            create_time=moment,
            update_time=moment,
        )
        self._store.create(name, message)
        self._published[artifact.uri] = message
        return message


def fetch(store: Store, storage: Storage, name: str, folder: Path) -> Artifact:
    """The artifact `name`, its content on this machine below `folder`.

    Raises:
        ApiError: There is no such artifact, or its content is gone.
    """
    found = store.get(name)
    local = folder / name.rpartition("/")[2]
    uri = found.uri
    if uri.startswith("gs://"):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            storage.download(uri, local)
            uri = str(local)
        except StorageError:
            # No object: a folder, or one of those artifacts that are only an address.
            if storage.download_folder(uri, local):
                uri = str(local)
    values = wire.types().Artifact.to_dict(found)
    return Artifact(
        found.display_name,
        uri,
        found.schema_title,
        found.schema_version,
        values.get("metadata") or {},
    )


def check_inputs(
    declared: dict[str, Any], given: dict[str, str], store: Store, parent: str
) -> None:
    """Checks `runtimeConfig.inputArtifacts` against the pipeline's declarations.

    Args:
        declared: The pipeline's input artifacts by name.
        given: Artifact ids by name.
        store: Where artifacts are.
        parent: `projects/P/locations/L`.

    Raises:
        ApiError: One is for no input, is not there, or is missing.
    """
    for name, number in given.items():
        if name not in declared:
            raise ApiError(
                "INVALID_ARGUMENT",
                f"The pipeline has no input artifact {name!r} (runtimeConfig.inputArtifacts).",
            )
        store.get(f"{parent}/metadataStores/default/artifacts/{number}")
    missing = [n for n, d in declared.items() if n not in given and not d.get("isOptional")]
    if missing:
        raise ApiError(
            "INVALID_ARGUMENT",
            f"The pipeline needs the input artifacts {', '.join(missing)} "
            "(runtimeConfig.inputArtifacts).",
        )
