"""How each kind of endpoint is asked, and where its answer stands."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sft_components.catalog import load_catalog
from sft_components.errors import UnlikeError, UserError
from sft_components.evaluation.rows import EvaluationRow

Kind = Literal["gemini", "vllm", "text", "chat"]


@dataclass(frozen=True)
class Dialect:
    """One way to ask. Every model decodes greedily, so that a second evaluation says the same."""

    kind: Kind
    """gemini: generateContent. vllm: chat completions for conversations, `predict` for plain
    prompts, as Model Garden's image takes them. text, chat: `predict` of the legacy models."""
    thinking_budget: int | None = None
    """Gemini: most tokens to think with; None: nothing is said. Tuned models are advised to think
    as little as they can, and what they think would use up the answer's tokens."""

    def takes(self, row: EvaluationRow) -> bool:
        """Whether `row` can be asked: its media must be written as this dialect has them."""
        key = {"gemini": "parts", "vllm": "content"}.get(self.kind, "")
        return not row.media or key in row.media[0]

    def request(self, row: EvaluationRow, max_new_tokens: int) -> tuple[str, dict[str, Any]]:
        """What follows the model's address, and the body."""
        if self.kind == "gemini":
            return ":generateContent", self._gemini(row, max_new_tokens)
        if self.kind == "vllm" and row.messages:
            turns = [dict(turn) for turn in row.media or row.messages]
            return "/chat/completions", {
                "messages": turns,
                "max_tokens": max_new_tokens,
                "temperature": 0.0,
            }
        if self.kind == "vllm":
            instance: dict[str, Any] = {
                "prompt": row.prompt,
                "max_tokens": max_new_tokens,
                "temperature": 0.0,
                # Without it the answer repeats the prompt.
                "raw_response": True,
            }
            return ":predict", {"instances": [instance]}
        if self.kind == "text":
            # The code models call their prompt a prefix.
            instance = {"prompt": row.prompt, "prefix": row.prompt}
        else:
            instance = {"messages": _turns(row, "author", "content")}
            if system := _system(row):
                instance["context"] = system
        settings = {"temperature": 0.0, "maxOutputTokens": max_new_tokens}
        return ":predict", {"instances": [instance], "parameters": settings}

    def text(self, answer: Any) -> str:
        """The text of an answer; empty where the service withheld it.

        Raises:
            UnlikeError: The answer is not of this dialect.
        """
        try:
            if self.kind == "gemini":
                return _gemini_text(answer)
            if "choices" in answer:
                return str(answer["choices"][0]["message"]["content"] or "").strip()
            prediction = answer["predictions"][0]
            if self.kind == "vllm" and isinstance(prediction, str):
                return prediction.strip()
            if self.kind == "text" and isinstance(prediction["content"], str):
                return str(prediction["content"]).strip()
            if self.kind == "chat":
                candidates = prediction["candidates"]
                return str(candidates[0]["content"]).strip() if candidates else ""
        except (LookupError, TypeError, AttributeError):
            pass
        raise UnlikeError(f"The answer is not one of {self.kind}: {str(answer)[:200]}")

    def _gemini(self, row: EvaluationRow, max_new_tokens: int) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "temperature": 0.0,
            "maxOutputTokens": max_new_tokens + (self.thinking_budget or 0),
        }
        if self.thinking_budget is not None:
            settings["thinkingConfig"] = {"thinkingBudget": self.thinking_budget}
        turns = row.media or [
            {"role": role, "parts": [{"text": text}]} for role, text in _said(row)
        ]
        body: dict[str, Any] = {
            "contents": [
                {"role": "user" if turn["role"] == "user" else "model", "parts": turn["parts"]}
                for turn in turns
                if turn["role"] != "system"
            ],
            "generationConfig": settings,
        }
        if row.media and turns[0]["role"] == "system":
            body["systemInstruction"] = {"parts": turns[0]["parts"]}
        elif system := _system(row):
            body["systemInstruction"] = {"parts": [{"text": system}]}
        return body


def dialects(base_model: str) -> list[Dialect]:
    """Those that an endpoint of a model tuned from `base_model` may speak, the likeliest first.

    An empty name, and one that the catalogue does not hold, leave them all open.
    """
    # A model that cannot switch thinking off takes a little of it; one that does not think at all
    # refuses to be told.
    gemini = [Dialect("gemini", 0), Dialect("gemini", 128), Dialect("gemini")]
    every = [*gemini, Dialect("vllm"), Dialect("text"), Dialect("chat")]
    try:
        model = load_catalog().find(base_model, allow_unlisted=True) if base_model else None
    except UserError:
        model = None
    if model is None:
        return every
    if model.family == "gemini":
        return gemini
    if model.route == "pipeline-job":
        return [Dialect("chat" if "author-chat" in model.formats else "text")]
    return [Dialect("vllm")]


def _said(row: EvaluationRow) -> list[tuple[str, str]]:
    """Role and text of each turn but the system's."""
    if not row.messages:
        return [("user", row.prompt)]
    return [(turn["role"], turn["content"]) for turn in row.messages if turn["role"] != "system"]


def _turns(row: EvaluationRow, role_key: str, text_key: str) -> list[dict[str, str]]:
    return [{role_key: role, text_key: text} for role, text in _said(row)]


def _system(row: EvaluationRow) -> str:
    return "\n\n".join(turn["content"] for turn in row.messages if turn["role"] == "system")


def _gemini_text(answer: Mapping[str, Any]) -> str:
    if not answer.get("candidates"):
        # What is blocked before it is answered has no candidates, only the reason.
        if "promptFeedback" in answer:
            return ""
        raise KeyError("candidates")
    parts = answer["candidates"][0].get("content", {}).get("parts", [])
    return "".join(part.get("text", "") for part in parts if not part.get("thought")).strip()
