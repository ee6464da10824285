"""The base model that answers for every other one on this machine, and what says so."""

import logging
import threading

from sft_local.base_model import BaseModel, fingerprint
from sft_local.gcs import Storage, StorageError, split_uri

log = logging.getLogger(__name__)

LABEL = "vertex-sft-stand-in"
NOTICE = "STAND_IN.txt"


class StandIn:
    """Publishes the base model where the catalogue's public weights would be."""

    def __init__(self, model: BaseModel, storage: Storage, storage_url: str) -> None:
        """`storage_url`: the storage server's address, for the trainers."""
        self.model = model
        self._storage = storage
        self._storage_url = storage_url
        self._lock = threading.Lock()
        self._notice = f"{model.title} ({model.label}, {fingerprint(model.folder)})"

    def trainer_environment(self) -> dict[str, str]:
        """What a trainer needs beside this process's environment."""
        return {
            "STORAGE_EMULATOR_HOST": self._storage_url,
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            # OpenMP's threads spin at every barrier; with more of them than free cores (a model
            # server beside the trainer, say) that makes a step many times slower.
            "OMP_WAIT_POLICY": "PASSIVE",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        }

    def publish(self, weights_uri: str) -> None:
        """Puts the base model's files at `weights_uri` unless they are there.

        An evaluation finds the "base" weights where the catalogue says they are.
        """
        if not weights_uri:
            return
        text = f"{self._notice} stands in for the weights of {weights_uri} on this machine.\n"
        uri = weights_uri.rstrip("/")
        with self._lock:
            try:
                # The notice is written last, so it also says that all the files are there.
                if self._storage.read_text(f"{uri}/{NOTICE}") == text:
                    return
                self._storage.create_bucket(split_uri(uri)[0])
                self._storage.delete_folder(uri)
                self._storage.upload_folder(self.model.folder, uri)
                self._storage.write_text(f"{uri}/{NOTICE}", text)
            except (OSError, StorageError):
                log.exception("The stand-in for %s could not be written", weights_uri)
