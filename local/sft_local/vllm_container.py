"""What this machine keeps of a container for vLLM, and the context it is told to keep to."""

import re
from dataclasses import replace
from typing import Any

from sft_components.catalog import vllm
from sft_local.generation import Asked, Sampling
from sft_local.serving import ModelServer
from sft_local.wire import ApiError

_LENGTH = re.compile(r"--max[-_]model[-_]len(?:=(.*))?", re.DOTALL)
_TEMPLATE_TOKENS = 512
"""More than a chat template adds to a conversation, and to each of its messages."""


def max_model_len(spec: Any) -> int:
    """The `--max-model-len` of a ModelContainerSpec; 0: it has none, or leaves it to vLLM.

    Raises:
        ApiError: vLLM would not start with it.
    """
    found = 0
    args = list(spec.args)
    for argument, following in zip(args, [*args[1:], ""], strict=False):
        if match := _LENGTH.fullmatch(argument):
            text = following if match[1] is None else match[1]
            try:
                found = vllm.max_model_len(text)
            except ValueError:
                raise ApiError(
                    "FAILED_PRECONDITION",
                    "Model server exited unexpectedly: api_server.py: error: argument "
                    f"--max-model-len: invalid value: {text!r}",
                ) from None
    return found


def kept(spec: Any) -> str:
    """What of a container counts here, as a sentence; empty: there is none."""
    if not spec.image_uri:
        return ""
    args = [arg for arg in spec.args if arg.startswith("--")]
    honoured = [arg for arg in args if _LENGTH.fullmatch(arg)]
    ignored = [arg for arg in args if arg not in honoured]
    return (
        f"Of its container {', '.join(honoured) or 'nothing'} counts here; image "
        f"{spec.image_uri.rpartition('/')[2]} and arguments {', '.join(ignored) or 'none'} do not."
    )


def fitted(server: ModelServer, asked: Asked, sampling: Sampling, *, named: bool) -> Sampling:
    """`sampling` with what the context leaves of its `max_tokens`, as vLLM does it.

    A conversation that names a `max_tokens` must leave room for them. A plain prompt's answer ends
    where the context does.

    Args:
        server: The model server, which knows its context.
        asked: The question.
        sampling: How it is to be answered.
        named: Whether the request itself names the number of tokens.

    Raises:
        ApiError: The question does not fit.
    """
    length = server.max_model_len
    chat = "messages" in asked
    if not length:
        return sampling
    # No text has more tokens than bytes: most questions need not be counted.
    room = length - _most(asked)
    if sampling.max_tokens <= room:
        return sampling
    if chat and not named and room > 0:
        return replace(sampling, max_tokens=room)
    prompt = _count(server, asked)
    wanted = sampling.max_tokens if chat and named else 1
    if prompt + wanted > length:
        raise ApiError(
            "INVALID_ARGUMENT",
            f"This model's maximum context length is {length} tokens. However, you requested "
            f"{prompt + wanted} tokens ({prompt} in the {'messages' if chat else 'prompt'}, "
            f"{wanted} in the completion). Please reduce the length of either.",
        )
    return replace(sampling, max_tokens=min(sampling.max_tokens, length - prompt))


def _most(asked: Asked) -> int:
    if "prompt" in asked:
        return len(asked["prompt"].encode()) + 1
    messages = asked["messages"]
    return _TEMPLATE_TOKENS * (1 + len(messages)) + len(str(messages).encode())


def _count(server: ModelServer, asked: Asked) -> int:
    """The tokens of a question, as the model server counts them."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(server.folder, local_files_only=True)
    if "prompt" in asked:
        return len(tokenizer(asked["prompt"]).input_ids)
    try:
        coded = tokenizer.apply_chat_template(
            list(asked["messages"]), add_generation_prompt=True, return_dict=True
        )
    except Exception as error:
        # What the template refuses the model server refuses too, with its own words.
        raise ApiError("INVALID_ARGUMENT", f"The chat template refuses this: {error}") from error
    return len(coded["input_ids"])
