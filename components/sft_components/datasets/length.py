"""Whether a row fits the model: a bound that is certain, else a count or a marked estimate."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_components.catalog import ModelSpec, load_catalog
from sft_components.datasets.rows import PAIRS, Conversation, Turn
from sft_components.errors import UserError

TOKENS_PER_CHAR = 0.25
"""Used where the catalogue has no ratio: the documentation's rule of four characters a token."""

Count = Callable[[str], int]


def load_tokenizer(path: str) -> Count:
    """A function that counts the tokens of a text with the tokenizer stored at `path`.

    Args:
        path: A `tokenizer.json`, or the folder that holds it.

    Raises:
        UserError: There is none, or the `tokenizers` package is not installed.
    """
    file = Path(path)
    file = file / "tokenizer.json" if file.is_dir() else file
    try:
        import tokenizers
    except ImportError as error:
        raise UserError("Counting tokens needs the package tokenizers: pip install it.") from error
    try:
        tokenizer: Any = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception
        raise UserError(f"{file} is no tokenizer: {error}.") from error
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


@dataclass(frozen=True)
class TooLong:
    """A row or a part of it that is over a limit."""

    what: str
    path: str
    tokens: int
    limit: int
    estimated: bool


@dataclass(frozen=True)
class Lengths:
    """The length limits of one model and tuning mode, in tokens. None: no limit is known."""

    max_tokens: int | None = None
    """Of the whole row."""
    max_input: int | None = None
    max_output: int | None = None
    """Of one answer."""
    tokens_per_char: float = TOKENS_PER_CHAR
    tokens_per_message: int = 0
    """What is put around each message, and billed with it."""
    count: Count | None = None

    @classmethod
    def of(cls, model: ModelSpec, tuning_mode: str, count: Count | None) -> "Lengths":
        """The limits that the catalogue holds for the model."""
        mode = model.mode(tuning_mode)
        is_open = model.route == "tuning-job" and model.family != "gemini"
        return cls(
            max_tokens=mode.max_tokens,
            max_input=model.limits.max_input_tokens,
            max_output=model.limits.max_output_tokens,
            tokens_per_char=mode.tokens_per_char or TOKENS_PER_CHAR,
            tokens_per_message=load_catalog().token_estimate.message if is_open else 0,
            count=count,
        )

    @property
    def safe_bytes(self) -> int | None:
        """Lines of at most so many bytes are within every limit; None: all are.

        A byte-level tokenizer makes at most one token of a byte, and the JSON around a text has
        more bytes than a chat template has tokens around it.
        """
        limits = [n for n in (self.max_tokens, self.max_input, self.max_output) if n]
        return min(limits) if limits else None

    def tokens(self, text: str) -> int:
        """Tokens of a text: counted if there is a tokenizer, else estimated."""
        return self.count(text) if self.count else round(len(text) * self.tokens_per_char)

    def exceeded(self, row: Conversation, form: str) -> TooLong | None:
        """The first limit that the row exceeds, if any."""
        texts = [(path, text) for path, _, text in _texts(row, form)]
        if self.max_output:
            for path, role, text in _texts(row, form):
                if role == "assistant" and (over := self._over([text], self.max_output)):
                    return TooLong("the answer", path, over, self.max_output, not self.count)
        if form == "text-to-text" and self.max_input:
            path, text = texts[0]
            if over := self._over([text], self.max_input):
                return TooLong("the input", path, over, self.max_input, not self.count)
        elif self.max_tokens and (over := self._over([t for _, t in texts], self.max_tokens)):
            return TooLong("the row", "$", over, self.max_tokens, not self.count)
        return None

    def _over(self, texts: list[str], limit: int) -> int:
        """The tokens of the texts if they are over the limit, else 0."""
        if sum(map(_bytes, texts)) <= limit:
            return 0
        tokens = sum(map(self.tokens, texts))
        return tokens if tokens > limit else 0

    def truncate(self, row: Conversation, form: str) -> Conversation | None:
        """What the service would keep: the end is cut off; None when no answer is left."""
        left = self.max_tokens if form != "text-to-text" else None
        system = tuple(row.system)
        if left is not None:
            left -= sum(self.tokens(p) for p in system if isinstance(p, str))
        turns: list[Turn] = []
        for turn in row.turns:
            parts: list[Any] = []
            for part in turn.parts:
                if not isinstance(part, str):
                    parts.append(part)
                    continue
                limit = self.max_output if turn.role == "assistant" else None
                if form == "text-to-text" and turn.role == "user":
                    limit = self.max_input
                limits = [n for n in (limit, left) if n is not None]
                text = self._cut(part, min(limits)) if limits else part
                if text.strip():
                    parts.append(text)
                if left is not None:
                    left = max(0, left - self.tokens(text))
            if not parts:
                break
            turns.append(Turn(turn.role, tuple(parts)))
        while turns and turns[-1].role != "assistant":
            turns.pop()
        return Conversation(tuple(turns), system) if turns else None

    def _cut(self, text: str, limit: int) -> str:
        tokens = self.tokens(text)
        if tokens <= limit:
            return text
        kept = text[: max(0, int(len(text) * limit / tokens))]
        while kept and self.tokens(kept) > limit:
            kept = kept[: int(len(kept) * 0.95)]
        return kept


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _texts(row: Conversation, form: str) -> list[tuple[str, str, str]]:
    """Path, role and text of every text of the row."""
    found = [("$", "system", part) for part in row.system if isinstance(part, str)]
    shift = 1 if row.system and form == "messages" else 0
    for i, turn in enumerate(row.turns):
        if form in PAIRS:
            path = f"$.{PAIRS[form][i]}"
        elif form == "generate-content":
            path = f"$.contents[{i}]"
        else:
            path = f"$.messages[{i + shift}]"
        found += [(path, turn.role, part) for part in turn.parts if isinstance(part, str)]
    return found
