"""vLLM's arguments: the catalogue's for a model, or a person's own in their place, checked."""

import math
import re
from collections.abc import Callable, Sequence

from sft_components.catalog.schema import ModelSpec
from sft_components.errors import UserError

CATALOG = "catalog"
"""Instead of an image: the catalogue's image, with its arguments."""
_IMAGE = re.compile(r"[\w.-]+(:\d+)?(/[\w.:-]+)+(@sha256:[0-9a-f]{64})?", re.ASCII)
# After a dot comes a key of a JSON argument, which vLLM takes as it is written.
_FORM = re.compile(r"--([a-z][a-z0-9_-]*)(\.[^=]+)?(=.*)?", re.DOTALL)
_LENGTH = re.compile(r"(\d+)([KMGT]?)|(\d+(?:\.\d+)?)([kmgt])", re.ASCII)
_SUFFIXES = " kmgt"
_OURS = ("model", "host", "port")
"""Without these as they are no endpoint can reach the model."""
_PARALLEL = ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size")
"""The product of these is the number of accelerators that vLLM takes."""


def _whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) >= 1


def max_model_len(text: str) -> int:
    """The tokens that a value of `--max-model-len` says: `16384`, `16k` (16,000), `16K` (16,384).

    Returns:
        0 for `auto` and `-1`: as many as the model takes and the memory has room for.

    Raises:
        ValueError: vLLM would not start with it.
    """
    text = text.strip()
    if text in ("auto", "-1"):
        return 0
    match = _LENGTH.fullmatch(text)
    if match is None:
        raise ValueError(text)
    whole, binary, number, decimal = match.groups()
    if whole:
        length = int(whole) << 10 * _SUFFIXES.index(binary.lower() or " ")
    else:
        length = int(float(number) * 1000.0 ** _SUFFIXES.index(decimal))
    if length < 1:
        raise ValueError(text)
    return length


def _length(text: str) -> bool:
    try:
        max_model_len(text)
    except ValueError:
        return False
    return True


def _share(text: str) -> bool:
    try:
        return 0 < float(text) <= 1
    except ValueError:
        return False


_CHECKED: dict[str, tuple[Callable[[str], bool], str]] = {
    "max-model-len": (_length, "a whole number of tokens, 1 or more, such as 16384 or 16k"),
    "max-num-seqs": (_whole, "a whole number, 1 or more"),
    "gpu-memory-utilization": (_share, "a share above 0 and up to 1"),
    **dict.fromkeys(_PARALLEL, (_whole, "a whole number, 1 or more")),
}


def check_image(image: str, prefix: str = "") -> None:
    """
    Raises:
        UserError: `image` is neither `catalog`, nor empty, nor an image's address; the setting is
            named with `prefix` before it.
    """
    if image not in ("", CATALOG) and not _IMAGE.fullmatch(image):
        raise UserError(
            f"{prefix}container_image_uri is {image!r}: write {CATALOG}, or an image such as "
            "us-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE:TAG."
        )


def vllm_arguments(
    model: ModelSpec | None, accelerators: int, given: Sequence[str] = (), prefix: str = ""
) -> list[str]:
    """The arguments to serve `model` with: the catalogue's, and `given` in their place.

    Args:
        model: What was tuned; None: unknown, so that the catalogue has none.
        accelerators: Of the machine; the model is spread over them all unless `given` says else.
        given: Such as `--max-model-len=16384`.
        prefix: What stands before the settings' names where they were given.

    Raises:
        UserError: One of `given` is no argument, cannot be chosen, or does not fit the machine.
    """
    found = {"tensor-parallel-size": str(accelerators)}
    serving = model.serving if model is not None else None
    if serving is not None:
        known = {
            "max-model-len": serving.max_model_len,
            "gpu-memory-utilization": serving.gpu_memory_utilization,
            "max-num-seqs": serving.max_num_seqs,
        }
        found |= {name: str(value) for name, value in known.items() if value is not None}
    arguments: dict[str, str | None] = dict(found)
    for argument in given:
        name, value = _parted(argument, f"{prefix}container_args")
        arguments[name] = value
    parallel = {name: arguments[name] or "" for name in _PARALLEL if name in arguments}
    if math.prod(map(int, parallel.values())) > accelerators:
        product = " × ".join(f"--{name}={size}" for name, size in parallel.items())
        raise UserError(
            f"{prefix}container_args has {product}, but the machine has {accelerators} "
            f"accelerator(s): give at most that, or a larger {prefix}machine_type."
        )
    return [f"--{n}" if value is None else f"--{n}={value}" for n, value in arguments.items()]


def _parted(argument: str, setting: str) -> tuple[str, str | None]:
    match = _FORM.fullmatch(argument) if isinstance(argument, str) else None
    if match is None:
        raise UserError(
            f"{setting} has {argument!r}: write each argument with its value, in its long "
            "form, such as --max-model-len=16384."
        )
    # vLLM takes both spellings.
    name = match[1].replace("_", "-") + (match[2] or "")
    value = None if match[3] is None else match[3][1:]
    if name in _OURS:
        raise UserError(f"{setting} has --{name}, which is set by itself: leave it out.")
    good, form = _CHECKED.get(name, (lambda text: True, ""))
    if name in _CHECKED and (value is None or not good(value)):
        raise UserError(f"{setting} has {argument!r}: --{name} is {form}.")
    return name, value
