"""vLLM's arguments: the catalogue's for a model, or a person's own in their place, checked."""

import re
from collections.abc import Callable, Sequence

from sft_components.catalog.schema import ModelSpec
from sft_components.errors import UserError

CATALOG = "catalog"
"""Instead of an image: the catalogue's image, with its arguments."""
_IMAGE = re.compile(r"[\w.-]+(:\d+)?(/[\w.:-]+)+(@sha256:[0-9a-f]{64})?", re.ASCII)
_FORM = re.compile(r"--([A-Za-z][\w.-]*)(=.*)?", re.DOTALL)
_OURS = ("model", "host", "port")
"""Without these as they are no endpoint can reach the model."""


def _whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) >= 1


def _share(text: str) -> bool:
    try:
        return 0 < float(text) <= 1
    except ValueError:
        return False


_CHECKED: dict[str, tuple[Callable[[str], bool], str]] = {
    "max-model-len": (_whole, "a whole number of tokens, 1 or more"),
    "max-num-seqs": (_whole, "a whole number, 1 or more"),
    "gpu-memory-utilization": (_share, "a share above 0 and up to 1"),
    "tensor-parallel-size": (_whole, "a whole number of accelerators, 1 or more"),
}


def check_image(image: str) -> None:
    """
    Raises:
        UserError: `image` is neither `catalog`, nor empty, nor an image's address.
    """
    if image not in ("", CATALOG) and not _IMAGE.fullmatch(image):
        raise UserError(
            f"container_image_uri is {image!r}: write {CATALOG}, or an image such as "
            "us-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE:TAG."
        )


def vllm_arguments(
    model: ModelSpec | None, accelerators: int, given: Sequence[str] = ()
) -> list[str]:
    """The arguments to serve `model` with: the catalogue's, and `given` in their place.

    Args:
        model: What was tuned; None: unknown, so that the catalogue has none.
        accelerators: Of the machine; the model is spread over them all unless `given` says else.
        given: Such as `--max-model-len=16384`.

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
        name, value = _parted(argument)
        arguments[name] = value
    used = int(arguments["tensor-parallel-size"] or 0)
    if used > accelerators:
        raise UserError(
            f"container_args has --tensor-parallel-size={used}, but the machine has "
            f"{accelerators} accelerator(s): give at most that, or a larger machine_type."
        )
    return [f"--{n}" if value is None else f"--{n}={value}" for n, value in arguments.items()]


def _parted(argument: str) -> tuple[str, str | None]:
    match = _FORM.fullmatch(argument) if isinstance(argument, str) else None
    if match is None:
        raise UserError(
            f"container_args has {argument!r}: write each argument with its value, such as "
            "--max-model-len=16384."
        )
    # vLLM takes both spellings.
    name = match[1].replace("_", "-")
    value = None if match[2] is None else match[2][1:]
    if name in _OURS:
        raise UserError(f"container_args has --{name}, which is set by itself: leave it out.")
    good, form = _CHECKED.get(name, (lambda text: True, ""))
    if name in _CHECKED and (value is None or not good(value)):
        raise UserError(f"container_args has {argument!r}: --{name} is {form}.")
    return name, value
