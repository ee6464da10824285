"""The gate's expressions: what they mean, what is refused, and that nothing in them is run."""

import ast
import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_components.errors import UserError
from sft_components.evaluation.gate import (
    check_gate_expression,
    decide,
    judge_gate,
    needs_base,
)

METRICS = {
    "exact_match": 0.45,
    "rouge_l": 0.6,
    "chrf": 0.2,
    "base_exact_match": 0.3,
    "base_rouge_l": 0.6,
    "improvement": 0.15,
    "regressions": 3.0,
}

NUMBERS = st.one_of(
    st.sampled_from(["exact_match", "tuned.chrf", "base.rouge_l", "regressions"]),
    st.integers(0, 9).map(str),
    st.floats(0, 2, allow_nan=False).map(lambda value: f"{value:.3f}"),
)
ARITHMETIC = st.recursive(
    NUMBERS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        inner.map(lambda text: f"-{text}"),
    ),
    max_leaves=6,
)
COMPARISONS = st.tuples(
    ARITHMETIC, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), ARITHMETIC
).map(" ".join)
CONDITIONS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(
            lambda p: f"({p[0]}) {p[1]} ({p[2]})"
        ),
        inner.map(lambda text: f"not ({text})"),
    ),
    max_leaves=6,
)


class _Model:
    def __init__(self, prefix: str) -> None:
        for name, value in METRICS.items():
            if name.startswith(prefix):
                setattr(self, name.removeprefix(prefix), value)


@given(CONDITIONS)
def test_an_expression_means_what_it_means_in_python(gate: str) -> None:
    check_gate_expression(gate, "qa")
    try:
        wanted = eval(gate, {}, {**METRICS, "base": _Model("base_"), "tuned": _Model("")})
    except ZeroDivisionError:
        # Python stops at the first zero; so do we, and nothing passes.
        assert judge_gate(gate, METRICS)[0] is False
        return
    good, reason = judge_gate(gate, METRICS)
    # A difference within rounding is none to the gate; Python sees it.
    assert good is wanted or _close_call(gate)
    assert ("holds" if good else "does not hold") in reason


def _close_call(gate: str) -> bool:
    """Whether a comparison in `gate` is between values that differ by rounding alone."""
    names = {**METRICS, "base": _Model("base_"), "tuned": _Model("")}
    for node in ast.walk(ast.parse(gate, mode="eval")):
        if isinstance(node, ast.Compare):
            left, right = (eval(ast.unparse(n), {}, names) for n in (node.left, *node.comparators))
            if 0 < abs(left - right) <= 2e-9:
                return True
    return False


@settings(max_examples=60)
@given(st.text(max_size=60) | st.text("()[]{}.,:+-*/<>=! exact_match0", max_size=200))
def test_any_text_is_taken_or_refused_with_a_sentence(text: str) -> None:
    try:
        check_gate_expression(text)
    except UserError:
        return
    if text.strip():
        judge_gate(text, METRICS)


@pytest.mark.parametrize(
    "gate",
    [
        "__import__('os').system('true') == 0",
        "exact_match.__class__ == 1",
        "base.rouge_l.real > 0",
        "other.rouge_l > 0",
        "(lambda: 1)() > 0",
        "[exact_match][0] > 0",
        "exact_match > 'a'",
        "exact_match > True",
        "exact_match > 2 ** 9",
        "exact_match if 1 > 0 else 0 > 0",
        "(exact_match := 1) > 0",
        "exact_match in (1, 2)",
        "exact_match is 1",
        "exact_match",
        "exact_match and rouge_l > 0.2",
        "1 + (rouge_l > 0.2) > 1",
        "rouge_l > 0.2; rouge_l",
        "rouge_l > 0.2) or (1 > 0",
        "rouge_l > 0 # or\nexact_match > 2",
        "rouge_l >",
        "rouge_l > 1e999",
        "rouge_l > " + "9" * 900,
        "-" * 900 + "rouge_l > 0",
        "not " * 200 + "rouge_l > 0",
        "(" * 300 + "rouge_l > 0" + ")" * 300,
        "rouge_l" + ".a" * 400 + " > 0",
        "rouge_l > 0 " * 200,
    ],
)
def test_what_is_no_comparison_of_metrics_is_refused(gate: str) -> None:
    with pytest.raises(UserError, match="gate"):
        check_gate_expression(gate)


@pytest.mark.parametrize(
    ("gate", "task", "said"),
    [
        ("rogue_l > 0.5", "text", "did you mean rouge_l"),
        ("base_rouge_l > 0.5", "text", r"did you mean base\.rouge_l"),
        ("acuracy > 0.5", "classification", "did you mean accuracy"),
        ("accuracy > 0.5", "qa", "of the task classification; the task here is qa"),
        ("base.improvement > 0", "qa", "write improvement"),
        ("exact_match > 0.5", "clasification", "Did you mean classification"),
    ],
)
def test_a_wrong_name_gets_the_nearest(gate: str, task: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        check_gate_expression(gate, task)


def test_what_is_not_measured_here_is_refused() -> None:
    check_gate_expression("latency_p95_s < 2 and judge_score >= 3 and loss < base.loss")
    for gate in ("loss < 1", "loss_p < 0.05", "judge_score > 3"):
        with pytest.raises(UserError, match="not measured here"):
            check_gate_expression(gate, "qa", extra=("latency_p50_s",))
    for gate in ("rouge_l > base.rouge_l", "improvement_low > 0", "exact_match_p < 0.05"):
        assert needs_base(gate)
        with pytest.raises(UserError, match="no base model"):
            check_gate_expression(gate, "qa", compared=False)
    assert not needs_base("tuned.rouge_l > 0.5")


def test_the_reason_names_the_values() -> None:
    good, reason = judge_gate("exact_match >= 0.4\nand rouge_l > base.rouge_l", METRICS)
    assert not good
    assert reason == (
        "The gate exact_match >= 0.4 and rouge_l > base.rouge_l does not hold: "
        "exact_match is 0.45, rouge_l is 0.6, base.rouge_l is 0.6."
    )
    assert judge_gate("0.3 - 0.1 >= 0.2", {})[0]
    assert judge_gate("loss < 2", {"loss": math.nan}) == (
        False,
        "The gate loss < 2 cannot be decided: loss is not measured.",
    )


@pytest.mark.parametrize(
    ("found", "least", "gain", "gate", "passed"),
    [
        ({"exact_match": 0.4, "base_exact_match": 0.1, "improvement": 0.3}, 0.4, 0.3, "", True),
        ({"exact_match": 0.4, "base_exact_match": 0.1, "improvement": 0.3}, 0.41, 0.0, "", False),
        ({"exact_match": 0.4, "base_exact_match": 0.1, "improvement": 0.3}, 0.0, 0.31, "", False),
        ({"exact_match": 0.4, "base_exact_match": 0.5, "improvement": -0.1}, 0.0, 0.0, "", False),
        ({"exact_match": 0.4, "base_exact_match": 0.5, "improvement": -0.1}, 0.0, -0.2, "", True),
        ({"exact_match": 0.4}, 0.4, 0.0, "", True),
        ({"exact_match": 0.3, "base_exact_match": 0.1, "improvement": 0.3 - 0.1}, 0, 0.2, "", True),
        ({"exact_match": 0.4}, 0.4, 0.0, "exact_match < 0.5", True),
        ({"exact_match": 0.4}, 0.5, 0.0, "exact_match < 0.5", False),
        ({"exact_match": 0.4}, 0.4, 0.0, "exact_match > 0.5", False),
    ],
)
def test_thresholds_and_gate_must_all_hold(
    found: dict[str, float], least: float, gain: float, gate: str, passed: bool
) -> None:
    verdict, reason = decide({"rows": 10.0, "empty": 5.0, **found}, "qa", least, gain, gate)
    assert verdict is passed
    assert reason.endswith(".")
    assert f"{found['exact_match']:.3f}" in reason
    assert gate in reason


def test_a_model_with_nothing_right_passes_only_where_any_may() -> None:
    nothing = {"rows": 10.0, "empty": 0.0, "exact_match": 0.0, "base_exact_match": 0.0}
    for found in (nothing, {**nothing, "improvement": 0.0}):
        for gate in ("", "rows == 10"):
            passed, reason = decide(found, "qa", 0.0, -0.5, gate)
            assert not passed
            assert reason.startswith("Not one of 10 rows scored: look at the answers, ")
            passed, reason = decide(found, "qa", 0.0, -1.0, gate)
            assert passed
            assert reason.startswith(
                "Not one of 10 rows scored: it passes because min_improvement is -1. "
            )
    # Of free text exact match says nothing.
    free = {**nothing, "rouge_l": 0.1, "base_rouge_l": 0.1, "improvement": 0.0}
    assert decide(free, "text", 0.0, 0.0)[0]
    # Nor of answers that have a full stop too many.
    stopped = {**nothing, "normalized_exact_match": 1.0, "token_f1": 1.0, "improvement": 0.0}
    assert decide(stopped, "qa", 0.0, 0.0, "token_f1 >= 0.9")[0]
    assert "Not one" not in decide({**nothing, "improvement": 0.0}, "qa", 0.1, 0.0)[1]
    assert "Not one" not in decide({**nothing, "empty": 9.0, "improvement": 0.0}, "qa", 0, 0)[1]
    gate = "exact_match > 0.5"
    assert "Not one" not in decide({**nothing, "improvement": 0.0}, "qa", 0, 0, gate)[1]
    assert (
        "Not one" not in decide({**nothing, "exact_match": 0.1, "improvement": 0.1}, "qa", 0, 0)[1]
    )


def test_the_check_needs_no_package() -> None:
    code = (
        "import sys; from sft_components.evaluation.gate import check_gate_expression as check; "
        "check('exact_match > 0'); heavy = {'numpy', 'sacrebleu', 'msgspec', 'kfp', 'jinja2'}; "
        "sys.exit(bool(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
