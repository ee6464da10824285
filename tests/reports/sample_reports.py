"""One report of each kind, with texts and figures that are hard to show."""

import json
import math
from collections.abc import Callable
from pathlib import Path

from sft_components.errors import UserError
from sft_components.evaluation.report import build_empty_report, build_report
from sft_components.evaluation.rows import EvaluationRow
from sft_components.evaluation.scores import Scorer
from sft_components.evaluation.verdict import measure
from sft_components.launch_sft.metrics import Point
from sft_components.launch_sft.records import Records
from sft_components.prompting.asking import Answer
from sft_components.smoke_test_endpoint.cases import Case
from sft_components.smoke_test_endpoint.load import Load
from sft_components.smoke_test_endpoint.outcome import Given, SmokeTestResult
from sft_components.smoke_test_endpoint.report import build_report as build_smoke_report
from sft_components.validate_dataset.work import validate_dataset

EVIL = "<script>window.evil = 1</script><img src=x onerror='window.evil = 1'>"
LABELS = ["billing", "delivery delayed", "a label with a verylongwordthatdoesnotbreakanywhere"]
ROWS = 60
"""Of the evaluation."""
MODEL = "meta/llama3_1@llama-3.1-8b-instruct"
ENDPOINT = "projects/my-project/locations/us-central1/endpoints/sft-0123456789abcdef0123"


def evaluation(path: Path) -> None:
    """An evaluation by labels, with rows that got worse and answers that are long."""
    rows = [
        EvaluationRow(
            n + 1, (), f"number {n} " + ("x" * 400 if n % 9 == 0 else EVIL), LABELS[n % 3]
        )
        for n in range(ROWS)
    ]
    texts = {
        "base": [LABELS[n % 2] for n in range(ROWS)],
        "tuned": [LABELS[n % 3] if n % 10 else EVIL for n in range(ROWS)],
    }
    scorer = Scorer("classification", [row.reference for row in rows])
    path.write_text(
        build_report(
            passed=False,
            reason="Not good enough.",
            task="classification",
            measured=measure(rows, texts, scorer),
            curve={"training": [(n, 1 / n) for n in range(1, 30)]},
            models={"base": "gs://bucket/" + "folder/" * 30, "tuned": "gs://bucket/tuned"},
            notes=["A note."],
        )
    )


def no_rows(path: Path) -> None:
    """An evaluation without rows."""
    path.write_text(build_empty_report(passed=True, reason="No held-out rows were given."))


def tuning(path: Path) -> None:
    """A job of 400 steps with both curves."""
    points = [
        Point(f"/{prefix}_{name}", step, value)
        for step in range(1, 401)
        for prefix, every, above in (("train", 1, 0.0), ("eval", 50, 0.1))
        if step % every == 0
        for name, value in (
            ("total_loss", 0.4 + above + 3 * math.exp(-step / 60) + 0.1 * math.sin(step)),
            ("fraction_of_correct_next_step_preds", 0.9 - above - math.exp(-step / 60) / 2),
        )
    ]
    facts: dict[str, str | float | None] = {
        "model": MODEL,
        "mode": "PEFT_ADAPTER",
        "job": "projects/my-project/locations/us-central1/tuningJobs/1234567890123456789",
        "console": "https://console.cloud.google.com/vertex-ai/generative/language/locations/"
        "us-central1/tuning/tuningJob/1234567890123456789?project=my-project",
        "estimated cost": "about 1,234,567 tokens x 3 epochs x $0.67 per million = $2.48 "
        "(between $2.11 and $2.85)",
        "eval_fraction_of_correct_next_step_preds": 0.789,
        "train_total_loss": 0.41,
        "tuning_rows": 12_345,
    }
    sentence = f"Tuning job {facts['job']} ended as JOB_STATE_SUCCEEDED."
    Records(html=path).write_page("Tuning of " + "my-llama-" * 12, True, sentence, facts, points)


def data_set(path: Path) -> None:
    """A data set with errors and warnings, of which some rows are long."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is {n}? " + "word " * (7 * n % 97)},
                {"role": "assistant", "content": f"{n} " * (1 + n % 13)},
            ]
        }
        for n in range(200)
    ]
    rows[20]["messages"][0]["content"] = EVIL + "x" * 300
    rows[40]["messages"] = rows[40]["messages"][:1]
    rows[50]["messages"][1]["role"] = "assistent"
    rows[60] = rows[61]
    rows[70]["messages"][1]["content"] = ""
    file = path.with_name("a-file-with-a-rather-long-name-of-training-rows.jsonl")
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    others = {f"{name}_path": path.with_name(name) for name in ("training", "validation")}
    try:
        validate_dataset(
            project="p",
            base_model=MODEL,
            tuning_mode="",
            dataset_uri=str(file),
            evaluation_path=path.with_name("evaluation"),
            report_path=path,
            log=lambda _: None,
            **others,
        )
    except UserError:
        return
    raise AssertionError("The rows were to be refused.")


def smoke_test(path: Path) -> None:
    """A test that failed, with long answers, under load."""
    cases = [
        Case("What is a car? " * 20, contains=("wheels",)),
        Case(EVIL, name="evil"),
        Case("Extract number and total as JSON: Invoice 17, 120 EUR", name="invoice"),
    ]
    faults = (("lacks 'wheels'",), (), ("is not what its json_schema asks for",))
    given = [
        Given(case, way, EVIL + "y" * 200, 0.4 + n / 7, 0.12 if "stream" in way else None, fault)
        for n, (case, fault) in enumerate(zip(cases, faults, strict=True))
        for way in ("predict", "chat/completions", "chat/completions, streamed")
    ]
    load = Load(wall_s=9.3, retried=2, failures=["503 Model server is busy."])
    load.answers = [
        Answer("chat", "number 3", 0.3 + (n * 37 % 100) / 90, 0.1, 12) for n in range(200)
    ]
    failures = [f"The answer to {g.case.title!r} {f}." for g in given for f in g.failures]
    result = SmokeTestResult(
        ENDPOINT, "1234.us-central1-5678.prediction.vertexai.goog", given, 41.7, load
    )
    result.failures = [*dict.fromkeys(failures), "1 of 200 requests failed, the first: 503."]
    result.proof = "3 of 3 answers differ from the base model's: other weights are served."
    result.absent = {"predict, raw_response": "400 Request contains an invalid argument. " * 5}
    path.write_text(build_smoke_report(result))


KINDS: dict[str, Callable[[Path], None]] = {
    "evaluation": evaluation,
    "evaluation without rows": no_rows,
    "tuning": tuning,
    "data set": data_set,
    "smoke test": smoke_test,
}
