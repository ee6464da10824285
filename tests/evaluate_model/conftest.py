"""Two tiny random Llamas with a byte-level tokenizer: real checkpoints that know nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _make(folder: Path, seed: int, template: str = TEMPLATE) -> Path:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*special, *alphabet])}
    code = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    code.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    code.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=code, pad_token=special[0], eos_token=special[2]
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [special[1]]})
    tokenizer.chat_template = template or None
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=256,
            initializer_range=0.5,
            bos_token_id=None,
            eos_token_id=2,
            pad_token_id=0,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_model() -> Callable[[Path, int, str], Path]:
    """Makes a model in a folder from a seed and a chat template."""
    return _make


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _make(tmp_path_factory.mktemp("models") / "base", seed=1)


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _make(tmp_path_factory.mktemp("models") / "tuned", seed=2)
