"""Scores against cases worked out by hand."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from sft_components.errors import UserError
from sft_components.evaluation.json_answers import field_f1, read_schema, same
from sft_components.evaluation.scores import OTHER, Scorer, common_scores, rouge_l
from sft_components.evaluation.tasks import TASKS, detect_task

CODE = "def f(x):\n    return x"


@pytest.mark.parametrize(
    ("answer", "reference", "exact", "normalized", "f1", "rouge", "chrf"),
    [
        (" Paris\n", "Paris", 1, 1, 1, 1, 1),
        ("paris.", "Paris", 0, 1, 1, 1, None),
        # Common: the, cat, sat; 4 words given, 3 wanted: F1 6/7. In that order: the same.
        ("the cat sat down", "the cat sat", 0, 0, 6 / 7, 6 / 7, None),
        # The bag is the same, the longest common subsequence is one of two words.
        ("sat cat", "cat sat", 0, 0, 1, 0.5, None),
        # A word counts as often as it occurs in both: 1 of 3 and 1 of 1.
        ("a a a", "a", 0, 0, 0.5, 0.5, None),
        ("", "word", 0, 0, 0, 0, 0),
        ("привет мир", "Привет, мир!", 0, 1, 1, 1, None),
        ("?!", "...", 0, 1, 1, 1, 0),
        # n-grams: a, b, ab of a, b, c, ab, bc, abc. Precisions 1, 1; recalls 2/3, 1/2, of the
        # orders both have. F2 of the means 1 and 7/12: 5 · 7/12 / (4 + 7/12).
        ("ab", "abc", 0, 0, 0, 0, 5 * (7 / 12) / (4 + 7 / 12)),
    ],
)
def test_common_scores(
    answer: str,
    reference: str,
    exact: float,
    normalized: float,
    f1: float,
    rouge: float,
    chrf: float | None,
) -> None:
    got = common_scores(answer.strip(), reference)
    assert got["exact_match"] == exact
    assert got["normalized_exact_match"] == normalized
    assert got["token_f1"] == pytest.approx(f1)
    assert got["rouge_l"] == pytest.approx(rouge)
    assert chrf is None or got["chrf"] == pytest.approx(chrf)


WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=90).map(" ".join)


@given(WORDS, WORDS)
def test_rouge_l_is_that_of_rouge_score(answer: str, reference: str) -> None:
    wanted = RougeScorer(["rougeL"]).score(reference, answer)["rougeL"].fmeasure
    assert rouge_l(answer, reference) == wanted


def test_rouge_l_of_long_texts_takes_little_memory() -> None:
    reference = "one two " * 1_500
    tracemalloc.start()
    try:
        # Every third word is missing: 2 * 2000 / (2000 + 3000).
        words = [word for i, word in enumerate(reference.split()) if i % 3]
        assert common_scores(" ".join(words), reference)["rouge_l"] == pytest.approx(0.8)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


@given(st.sampled_from(sorted(TASKS)), st.text(max_size=40), st.text(min_size=1, max_size=40))
def test_scores_are_shares_and_a_repeated_reference_is_right(
    task: str, answer: str, reference: str
) -> None:
    references = [json.dumps({"a": reference})] if task == "json" else [reference]
    scorer = Scorer(task, references)
    for text in (answer, references[0]):
        scores = scorer.score(text, references[0])
        assert all(0 <= value <= 1 for value in scores.values())
        assert set(TASKS[task]) - {"macro_f1"} <= set(scores)
    assert scorer.right(scores) is not False


def test_labels_that_only_punctuation_tells_apart_stay_apart() -> None:
    scorer = Scorer("classification", ["C", "C#", "c", "Go"])
    assert scorer.labels == ["C", "C#", "Go"]
    assert scorer.label("c#") == "C#"
    assert scorer.score("C", "C#")["accuracy"] == 0
    plain = Scorer("classification", ["Positive", "negative"])
    assert plain.label(" positive.") == "Positive"
    assert plain.label("The mood is positive") == OTHER


def test_json_answers() -> None:
    reference = '{"name": "Ada", "age": 36, "tags": ["a", "b"]}'
    scorer = Scorer("json", [reference, '{"name": "Bo", "age": 1}'])
    swapped = scorer.score('{"age": 36.0, "name": "Ada", "tags": ["b", "a"]}', reference)
    assert (swapped["json_valid"], swapped["schema_valid"], swapped["field_f1"]) == (1, 1, 1)
    assert swapped["json_match"] == 0
    # 2 of 3 fields given and of 4 wanted; `age` has another type than every reference.
    other = scorer.score('{"name": "Ada", "age": "36", "tags": ["a"]}', reference)
    assert other["field_f1"] == pytest.approx(2 * 2 / (3 + 4))
    assert other["schema_valid"] == 0
    assert scorer.score('{"name": "Ada", "age": true}', reference)["schema_valid"] == 0
    # Fences are allowed where the references have them, and nowhere else.
    fenced = f"```json\n{reference}\n```"
    assert scorer.score(fenced, reference)["json_valid"] == 0
    assert Scorer("json", [fenced]).score(reference, fenced)["json_match"] == 1
    for broken in ("{'name': 1}", '{"name": NaN}', '{"a": 1} thanks', "[" * 5_000):
        assert scorer.score(broken, reference)["json_valid"] == 0
    given_schema = read_schema('{"properties": {"age": {"maximum": 30}}}')
    assert Scorer("json", [reference], given_schema).score(reference, reference) == {
        **scorer.score(reference, reference),
        "schema_valid": 0,
    }
    assert not same({"a": True}, {"a": 1})
    assert field_f1({}, []) == 0
    with pytest.raises(UserError, match="no reference in the file is JSON"):
        Scorer("json", ["Paris"])


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "must be a JSON object"),
        ('{"type": "strin"}', "no JSON Schema"),
        ('{"$ref": "http://127.0.0.1:9/x"}', "refers to what it does not hold"),
    ],
)
def test_schemas_that_are_none(schema: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Scorer("json", ['{"a": 1}'], read_schema(schema)).score('{"a": 1}', '{"a": 1}')


def test_code_answers() -> None:
    scorer = Scorer("code", [CODE])
    same_code = scorer.score("```python\ndef f(x):  # twice\n  return (x)\n```", CODE)
    assert (same_code["parses"], same_code["syntax_match"], same_code["exact_match"]) == (1, 1, 0)
    assert scorer.score("def f(x): return y", CODE)["syntax_match"] == 0
    assert scorer.score("def f(x) return x", CODE)["parses"] == 0
    # What is not Python is compared as text.
    assert scorer.score("int x;", "int x;")["syntax_match"] == 1


@pytest.mark.parametrize(
    ("task", "references", "prompts"),
    [
        ("classification", ["good", "bad", "Good", "mixed"] * 5, ["How is it?"] * 20),
        ("extraction", [f"A-{n}" for n in range(20)], [f"Order A-{n}, paid" for n in range(20)]),
        ("qa", [f"City {n}" for n in range(20)], ["Where?"] * 20),
        ("summarization", ["word " * 30] * 20, ["word " * 300] * 20),
        ("text", ["word " * 30] * 20, ["Write it."] * 20),
        ("json", ['{"a": 1}', "[]", '```json\n{"b": 2}\n```'], [""] * 3),
        ("code", ["import os\nos.getcwd()", "def f(): pass", "```c\nint x;\n```"], [""] * 3),
        # Too few rows to tell labels from answers.
        ("qa", ["yes", "no", "no"], ["Is it?"] * 3),
    ],
)
def test_the_task_that_references_look_like(
    task: str, references: list[str], prompts: list[str]
) -> None:
    assert detect_task(references, prompts) == task
