"""A tuned model against the one now in production, whose weights are read and not asked."""

import json
from pathlib import Path
from typing import Any

import pytest
import requests
from tests.serving.conftest import CONNECTION, PROJECT, Serve

from sft_components.catalog import load_catalog
from sft_components.errors import UserError
from sft_components.evaluate_model.baseline import served_weights
from sft_components.evaluate_model.work import evaluate_model
from sft_components.evaluation.outcome import Outputs
from sft_components.evaluation.settings import Settings
from sft_components.validate_pipeline.endpoints import (
    check_promotable,
    check_serving,
    compared_with,
)
from sft_local.control import LocalVertex


def test_the_weights_in_production_are_compared_with(
    serve: Serve, weights: str, tmp_path: Path
) -> None:
    endpoint = serve("compared", "1").name
    rows = tmp_path / "rows.jsonl"
    turns = [{"role": "user", "content": "number 3"}, {"role": "assistant", "content": "3"}]
    rows.write_text(json.dumps({"messages": turns}) + "\n")
    lines: list[str] = []
    result = evaluate_model(
        project=PROJECT,
        tuned_model_uri=weights,
        base_model_uri="gs://nowhere/base",
        baseline_endpoint=endpoint,
        evaluation_path=rows,
        training_curve_path=None,
        settings=Settings(gate="exact_match >= base.exact_match", min_improvement=-1),
        max_new_tokens=4,
        outputs=Outputs(tmp_path / "report.html", tmp_path / "predictions.jsonl"),
        log=lines.append,
    )
    assert f"Compared with {weights}, which {endpoint} serves" in lines
    assert result.passed
    assert result.metrics["loss"] == pytest.approx(result.metrics["base_loss"])


def test_an_endpoint_that_is_not_there_is_told_before_the_tuning(
    serve: Serve, vertex: LocalVertex
) -> None:
    lines: list[str] = []
    empty = serve("is-empty").name
    nowhere = f"{CONNECTION.parent}/endpoints/404"
    check_serving("evaluation_baseline_endpoint", "", lines.append)
    check_promotable("", 100, lines.append)
    with pytest.raises(UserError, match=r"baseline_endpoint is .*is-empty, but it serves no model"):
        check_serving("evaluation_baseline_endpoint", empty, lines.append)
    with pytest.raises(UserError, match="there is no such endpoint"):
        check_serving("evaluation_baseline_endpoint", nowhere, lines.append)
    with pytest.raises(UserError, match=r"promote_to_endpoint is .*there is no such endpoint"):
        check_promotable(nowhere, 100, lines.append)
    with pytest.raises(
        UserError, match=r"^promote_traffic_share is 30, but .*is-empty serves nothing yet"
    ):
        check_promotable(empty, 30, lines.append)
    assert lines == []
    check_promotable(empty, 100, lines.append)
    assert lines.pop() == f"{empty} serves nothing yet: the tuned model will be its first."
    # Who may not look must not be kept from running.
    rule = {"kind": "status", "method": "GET", "path": "endpoints/is-empty$", "status": 403}
    requests.post(f"{vertex.api_url}/faults", json=[rule], timeout=30).raise_for_status()
    try:
        check_promotable(empty, 100, lines.append)
    finally:
        requests.delete(f"{vertex.api_url}/faults", timeout=30)
    assert "promote_to_endpoint could not be looked at: This is the status 403" in lines[0]


def test_the_machine_of_the_model_in_production_must_fit_the_one_that_takes_its_place(
    serve: Serve,
) -> None:
    endpoint, catalog = serve("small-machine", "1").name, load_catalog()
    check_promotable(endpoint, 100, print, catalog.find("meta/llama3_1@llama-3.1-8b-instruct"))
    large = catalog.find("meta/llama3-3@llama-3.3-70b-instruct")
    with pytest.raises(UserError, match=r"70 billion .* do not fit g2-.*: give serving_machine"):
        check_promotable(endpoint, 100, print, large)
    check_promotable(endpoint, 100, print)


def test_the_first_model_of_an_endpoint_is_compared_with_its_base(serve: Serve) -> None:
    lines: list[str] = []
    empty, other = serve("to-be-filled").name, serve("in-use", "1").name
    assert compared_with(empty, empty, lines.append) == ""
    assert lines == [f"{empty} serves nothing yet to compare with: the base model takes its place."]
    assert compared_with(other, other, print) == other
    # One that is not to be filled is missed.
    assert compared_with(empty, other, print) == empty
    assert compared_with(empty, "", print) == empty
    assert compared_with("", empty, print) == ""


def test_an_endpoint_without_weights_to_compare_with_is_refused(
    serve: Serve, endpoints: Any
) -> None:
    with pytest.raises(UserError, match="serves no model to compare with"):
        served_weights(serve("serves-nothing").name)
    with pytest.raises(UserError, match="Nothing to compare with"):
        served_weights(f"{CONNECTION.parent}/endpoints/404")
