"""What an evaluation is asked for, however its answers are come by."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sft_components.errors import UserError
from sft_components.evaluation.gate import check_gate_expression, needs_base
from sft_components.evaluation.tasks import AUTO

if TYPE_CHECKING:
    from sft_components.evaluation.json_answers import Schema

PAIRWISE, SCORES = "pairwise", "scores"
JUDGE_MODES = (AUTO, PAIRWISE, SCORES)
JUDGE_LOCATION = "global"
"""Of a Gemini model that is named without one."""
MAX_JUDGED = 2_000
MAX_NEW_TOKENS = 65_536
"""Of one answer: no model of the catalogue gives more at once."""
PLACEHOLDER = re.compile(r"\{(prompt|reference|answer|answer_a|answer_b)\}")
_NEEDED = {PAIRWISE: ("answer_a", "answer_b"), SCORES: ("answer",)}
_ENDPOINT = re.compile(r"projects/[^/]+/locations/[^/]+/endpoints/[^/]+")
_MODEL = re.compile(r"(projects/[^/]+/locations/[^/]+/publishers/google/models/)?[a-z0-9.@-]+")


@dataclass(frozen=True)
class Settings:
    """Task, gate and judge."""

    task: str = AUTO
    """One of `tasks.TASKS`, or `auto`: what the references look like."""
    gate: str = ""
    """Expression over metrics that must hold; empty: none."""
    min_exact_match: float = 0.0
    """Least share of exact answers of the tuned model, 0 to 1."""
    min_improvement: float = 0.0
    """Least gain over the base model in the task's primary metric, -1 to 1; with -1 a model of
    which not one row scores may pass too."""
    json_schema: str = ""
    """JSON Schema of the answers: JSON, or its gs:// address; empty: what the references share."""
    judge_endpoint: str = ""
    """`projects/…/endpoints/…` or the name of a Gemini model; empty: no judge."""
    judge_prompt: str = ""
    """What the judge is asked, with `{prompt}`, `{reference}` and `{answer}` or `{answer_a}` and
    `{answer_b}`; empty: a question for general quality."""
    judge_mode: str = AUTO
    """`pairwise`: which of the two models' answers is better. `scores`: 1 to 5 for each."""
    judge_max_rows: int = 100
    """At most so many rows are judged, spread evenly; two questions each."""

    def check(self, base_model: str, base_input: str, extra: Collection[str]) -> None:
        """Refuse what no evaluation could do, before any row is read.

        Args:
            base_model: Where the base model is; empty: it is not evaluated.
            base_input: The name of the input that says so.
            extra: Metrics that this kind of evaluation has beside those of the answers.

        Raises:
            UserError: A setting is unusable.
        """
        check_thresholds(self.min_exact_match, self.min_improvement, base_model, base_input)
        compared = bool(base_model)
        check_gate_expression(
            self.gate, self.task, extra=(*extra, *self.judged(compared)), compared=compared
        )
        self._check_judge(compared, base_input)

    def _check_judge(self, compared: bool, base_input: str) -> None:
        judge = self.judge_endpoint
        if judge and not (_ENDPOINT.fullmatch(judge) or _MODEL.fullmatch(judge)):
            raise UserError(
                f"judge_endpoint is {judge!r}: write projects/PROJECT/locations/"
                "LOCATION/endpoints/ID, or the name of a Gemini model such as gemini-3.5-flash."
            )
        if self.judge_mode not in JUDGE_MODES:
            raise UserError(
                f"judge_mode is {self.judge_mode!r}: it is one of {', '.join(JUDGE_MODES)}."
            )
        if not judge and (self.judge_prompt or self.judge_mode != AUTO):
            name = "judge_prompt" if self.judge_prompt else "judge_mode"
            raise UserError(f"{name} needs a judge: give judge_endpoint, or leave {name} out.")
        if self.judge_mode == PAIRWISE and not compared:
            raise UserError(f"A pairwise judge compares with a base model: give {base_input}.")
        if not 1 <= self.judge_max_rows <= MAX_JUDGED:
            raise UserError(
                f"judge_max_rows is {self.judge_max_rows}: it is from 1 to {MAX_JUDGED:,}."
            )
        named = set(PLACEHOLDER.findall(self.judge_prompt))
        missing = [n for n in _NEEDED[self.mode(compared)] if n not in named]
        if self.judge_prompt and missing:
            raise UserError(
                f"judge_prompt lacks {{{missing[0]}}}: it stands where the answer is put."
            )

    def mode(self, compared: bool) -> str:
        """How the judge judges."""
        if self.judge_mode == AUTO:
            return PAIRWISE if compared else SCORES
        return self.judge_mode

    def judged(self, compared: bool) -> tuple[str, ...]:
        """The judge's metric, if there is a judge."""
        if not self.judge_endpoint:
            return ()
        return ("judge_win_rate",) if self.mode(compared) == PAIRWISE else ("judge_score",)

    @property
    def wants_base(self) -> bool:
        """Whether the verdict cannot be had without a base model."""
        return self.min_improvement > 0 or needs_base(self.gate)

    @property
    def wants_judge(self) -> bool:
        """Whether the verdict cannot be had without the judge."""
        return "judge_" in self.gate

    def unmeasured(self) -> list[str]:
        """What is asked of the metrics, for the verdict when there are none."""
        wanted = {
            "min_exact_match": self.min_exact_match,
            "min_improvement": self.min_improvement,
        }
        said = [f"{name} {value:g}" for name, value in wanted.items() if value > 0]
        return [*said, *([f"the gate {' '.join(self.gate.split())}"] if self.gate.strip() else [])]

    def published_judge(self, project: str) -> tuple[str, str, str]:
        """Project, location and name of the Gemini model that judges; all empty: it is none.

        Args:
            project: Of a model that is named without one.
        """
        if not self.judge_endpoint or "/endpoints/" in self.judge_endpoint:
            return "", "", ""
        parts = self.judge_endpoint.split("/")
        if len(parts) > 1:
            return parts[1], parts[3], parts[-1]
        return project, JUDGE_LOCATION, self.judge_endpoint

    def schema(self, project: str) -> "Schema | None":
        """The JSON Schema that is given.

        Args:
            project: Google Cloud project of the Cloud Storage request.

        Raises:
            UserError: It cannot be read, or is none.
        """
        if not self.json_schema.strip():
            return None
        from sft_components.evaluation.json_answers import read_schema

        if not self.json_schema.startswith("gs://"):
            return read_schema(self.json_schema)
        from google.api_core.exceptions import ClientError

        from sft_components.vertex.storage import split_uri, storage_client

        bucket, name = split_uri(self.json_schema)
        try:
            content = storage_client(project).bucket(bucket).blob(name).download_as_bytes()
        except ClientError as error:
            raise UserError(f"json_schema {self.json_schema} cannot be read: {error}") from error
        return read_schema(content.decode("utf-8", "replace"))


PLAIN = Settings()
"""The task as it looks, no gate beyond not getting worse, no judge."""


def check_thresholds(
    min_exact_match: float, min_improvement: float, base_model: str, base_input: str
) -> None:
    """Refuse thresholds that no evaluation could meet or measure.

    Args:
        min_exact_match: A share.
        min_improvement: A difference of metrics that are shares.
        base_model: Where the base model is; empty: it is not evaluated.
        base_input: The name of the input that says so.

    Raises:
        UserError: A threshold is out of its range, or compares with no base model.
    """
    if not 0 <= min_exact_match <= 1:
        raise UserError(f"min_exact_match is {min_exact_match}: it is a share from 0 to 1.")
    if not -1 <= min_improvement <= 1:
        raise UserError(f"min_improvement is {min_improvement}: it is a difference from -1 to 1.")
    if min_improvement > 0 and not base_model:
        raise UserError(
            f"min_improvement compares with a base model: give {base_input}, or set it to 0."
        )


def check_amounts(max_new_tokens: int, max_rows: int, prefix: str = "") -> None:
    """Refuse lengths and numbers of rows that cannot be.

    Args:
        max_new_tokens: Longest answer.
        max_rows: Rows that are evaluated; 0: all.
        prefix: What comes before their names where the person gives them.

    Raises:
        UserError: One of them is out of its range.
    """
    if not 1 <= max_new_tokens <= MAX_NEW_TOKENS:
        raise UserError(
            f"{prefix}max_new_tokens is {max_new_tokens}: it is from 1 to {MAX_NEW_TOKENS:,}."
        )
    if max_rows < 0:
        raise UserError(f"{prefix}max_rows is {max_rows}: it must not be negative; 0 means all.")
