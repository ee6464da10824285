"""Scores of an answer against its reference, each from 0 to 1."""

import functools
import unicodedata
from collections import Counter
from collections.abc import Sequence

from rouge_score.scoring import fmeasure
from sacrebleu.metrics import CHRF

from sft_components.errors import UserError
from sft_components.evaluation import json_answers
from sft_components.evaluation.json_answers import INVALID, Schema
from sft_components.evaluation.tasks import RIGHT, TASKS, syntax_tree, unfenced

OTHER = "(other)"
"""What an answer counts as that is none of the labels."""


_CHRF = CHRF()


class Scorer:
    """Scores the answers of one task."""

    def __init__(self, task: str, references: Sequence[str], schema: Schema | None = None) -> None:
        """
        Args:
            task: One of `tasks.TASKS`.
            references: Those of all rows: they say which labels and which JSON keys there are.
            schema: What JSON answers must be like; None: what the references have in common.

        Raises:
            UserError: A reference does not suit the task.
        """
        self.task = task
        self.labels: list[str] = []
        self.notes: list[str] = []
        """Sentences about the references worth reading with the result."""
        self._schema = schema
        self._scored: dict[tuple[str, str], dict[str, float]] = {}
        if task == "classification":
            plain = {text.strip().casefold() for text in references}
            # C and C# are two labels, though punctuation is all that tells them apart.
            apart = len({normalized(text) for text in plain}) == len(plain)
            self._key = normalized if apart else _plain
            # As the first row that has it writes it.
            self._label_of = {self._key(text): text.strip() for text in reversed(references)}
            self.labels = sorted(self._label_of.values(), key=lambda text: (text.lower(), text))
        elif task == "json":
            parsed = [json_answers.parse_reference(text)[0] for text in references]
            values = [value for value in parsed if value is not INVALID]
            if not values:
                raise UserError("The task is json, but no reference in the file is JSON.")
            if len(values) < len(parsed):
                lost = len(parsed) - len(values)
                self.notes.append(f"{lost} references are no JSON, so their rows count as wrong.")
            if schema is None:
                self._schema = json_answers.infer_schema(values)

    def score(self, answer: str, reference: str) -> dict[str, float]:
        """The scores of `answer` by metric name; those that it has given before at no cost.

        Answers may be scored in another thread while the rest are waited for.
        """
        answer, reference = answer.strip(), reference.strip()
        if (answer, reference) not in self._scored:
            self._scored[answer, reference] = self._score(answer, reference)
        return dict(self._scored[answer, reference])

    def _score(self, answer: str, reference: str) -> dict[str, float]:
        scores = common_scores(answer, reference)
        if self.task == "classification":
            scores["accuracy"] = float(self.label(answer) == self.label(reference))
        elif self.task == "json":
            scores |= self._json(answer, reference)
        elif self.task == "code":
            tree, wanted = syntax_tree(answer), syntax_tree(reference)
            same = tree == wanted if wanted is not None else unfenced(answer) == unfenced(reference)
            scores |= {"parses": float(tree is not None), "syntax_match": float(same)}
        return scores

    def label(self, text: str) -> str:
        """The label that `text` is, or `OTHER`."""
        return self._label_of.get(self._key(text), OTHER)

    def right(self, scores: dict[str, float]) -> bool | None:
        """Whether an answer with these scores is right; None: the task has no one right wording."""
        return scores[RIGHT[self.task]] == 1 if self.task in RIGHT else None

    def _json(self, answer: str, reference: str) -> dict[str, float]:
        try:
            return self._json_scores(answer, reference)
        except RecursionError:  # nested too deep for anybody's parser
            return dict.fromkeys(TASKS["json"], 0.0)

    def _json_scores(self, answer: str, reference: str) -> dict[str, float]:
        wanted, fenced = json_answers.parse_reference(reference)
        given = json_answers.parse(unfenced(answer) if fenced else answer)
        valid = given is not INVALID
        both = valid and wanted is not INVALID
        return {
            "json_match": float(both and json_answers.same(given, wanted)),
            "json_valid": float(valid),
            "schema_valid": float(valid and (self._schema is None or self._schema.takes(given))),
            "field_f1": json_answers.field_f1(given, wanted) if both else 0.0,
        }


def _plain(text: str) -> str:
    return text.strip().casefold()


def common_scores(answer: str, reference: str) -> dict[str, float]:
    """The scores that every task has.

    exact_match: equal but for white space round them. normalized_exact_match: equal after
    `normalized`. token_f1: SQuAD's F1 over the bag of words, with articles kept: rows need not be
    English. rouge_l: F-measure of the longest common subsequence of words (rouge_score). chrf:
    F-score of character n-grams (sacrebleu's chrF2, divided by 100).
    """
    same = normalized(answer) == normalized(reference)
    return {
        "exact_match": float(answer.strip() == reference.strip()),
        "normalized_exact_match": float(same),
        "token_f1": token_f1(answer, reference),
        # Two texts without a word, such as punctuation alone, have no subsequence to measure.
        "rouge_l": rouge_l(answer, reference) or float(same),
        "chrf": float(_CHRF.sentence_score(answer, [reference]).score) / 100,
    }


# Each score of a row needs it again.
@functools.lru_cache(maxsize=64)
def normalized(text: str) -> str:
    """`text` in lower case, without punctuation, its white space single."""
    kept = (" " if unicodedata.category(c).startswith("P") else c for c in text.lower())
    return " ".join("".join(kept).split())


def rouge_l(answer: str, reference: str) -> float:
    """ROUGE-L as rouge_score computes it, but for words and for long texts.

    Its tokenizer drops every letter outside a to z, so words are those of `normalized`; its table
    takes gigabytes where a text has thousands of them.
    """
    given, wanted = normalized(answer).split(), normalized(reference).split()
    if not given or not wanted:
        return 0.0
    common = common_length(given, wanted)
    return float(fmeasure(common / len(given), common / len(wanted)))


def common_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence.

    A column of the usual table is one integer, whose bits say where its values do not grow: Hyyrö,
    "Bit-parallel LCS-length computation revisited", 2004.
    """
    short, long = sorted((first, second), key=len)
    places: dict[str, int] = {}
    for i, word in enumerate(short):
        places[word] = places.get(word, 0) | 1 << i
    every = (1 << len(short)) - 1
    column = every
    for word in long:
        if found := column & places.get(word, 0):
            column = (column + found | column - found) & every
    return len(short) - column.bit_count()


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of the shares of words that answer and reference have in common."""
    given, wanted = normalized(answer).split(), normalized(reference).split()
    if not given or not wanted:
        return float(given == wanted)
    common = sum((Counter(given) & Counter(wanted)).values())
    return 2 * common / (len(given) + len(wanted))
