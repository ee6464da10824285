"""`vertex-sft run --local` on the compiled Llama pipeline, with a tiny random model."""

import json
import re
from pathlib import Path

import pytest
from kfp.compiler import Compiler
from tests.end_to_end.sandbox import Sandbox, Server, wait_until_gone

from sft_pipelines.tune_llama_model import tune_llama_model

pytestmark = pytest.mark.slow


def test_the_whole_way(sandbox: Sandbox):
    done = sandbox.run(sandbox.run_command())
    assert done.returncode == 0, done.stdout + done.stderr
    match = re.search(r"exact match [\d.]+ -> [\d.]+ on 6 held-out rows", done.stdout)
    assert match, done.stdout
    assert "smoke-test-endpoint succeeded" in done.stdout
    # What has passed everything is called so in the registry.
    assert re.search(r"release-endpoint \| projects/\S+/models/\S+@1 is champion", done.stdout)
    for step in ("evaluate-model", "launch-sft"):
        report = re.search(rf"report of {step}: (\S+/{step}\.html)", done.stdout)
        assert report
        page = Path(report[1]).read_text()
        assert "loss over step: training ends at" in page
        assert "stands in for meta/llama3_1@llama-3.1-8b-instruct on this machine" in page
    facts = json.loads((Path(report[1]).parent / "run.json").read_text())
    assert (Path(report[1]).parent / "steps" / facts["run_name"]).is_dir()
    named = f"iles of the run: {Path(report[1]).parent}\n"
    assert f"\nf{named}" in done.stdout
    assert done.stdout.index(f"\nF{named}") < done.stdout.index(" started\n")
    assert re.search(r"\nin all +[\d.]+ s\n", done.stdout)
    assert "Its endpoint was taken down; --keep leaves it up." in done.stdout
    assert "google.com" not in done.stdout
    # It would be dead by now.
    assert "See http://127.0.0.1" not in done.stdout
    assert wait_until_gone(sandbox, 5) == []


def test_a_gemini_the_whole_way(server: Server):
    rows = ("dataset_uri=training.jsonl", "evaluation_data_uri=held-out.jsonl")
    values = (*rows, "epochs=1", "min_improvement=-1")
    chosen = [part for value in values for part in ("-p", value)]
    done = server.run(server.command("run", "tune-gemini-model", "--local", *chosen))
    assert done.returncode == 0, done.stdout + done.stderr
    first = done.stdout.splitlines()[0]
    assert first.startswith("Runs already: local Vertex AI at http://127.0.0.1:")
    assert first.endswith(": tiny stands in, not smollm2: for that, vertex-sft local down first")
    # Evaluated through its endpoint, which shows no less than an evaluation of weights.
    assert re.search(r"exact match [\d.]+ -> [\d.]+ on 6 held-out rows", done.stdout), done.stdout
    assert "gate passed: " in done.stdout
    assert "deploy-model | Adopted endpoint" in done.stdout
    assert server.left() == []


def test_a_model_that_fails_the_gate_gets_no_endpoint(server: Server):
    done = server.run(server.run_command(min_exact_match=1.0))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "deploy-model" not in done.stdout
    assert "The run serves nothing" in done.stdout
    assert "gate not passed: The tuned model's exact match" in done.stdout
    assert server.left() == []


def test_an_endpoint_in_a_network_that_fails_its_smoke_test_is_taken_down(server: Server):
    template = server.folder / "template.yaml"
    Compiler().compile(tune_llama_model, str(template))
    (server.folder / "prompts.yaml").write_text("- prompt: Which city?\n  contains: Paris\n")
    done = server.run(
        server.run_command(
            template,
            evaluation_data_uri="",
            smoke_test_prompts_uri="prompts.yaml",
            serving_network="projects/123/global/networks/shared",
        )
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "whether this run is in projects/123/global/networks/shared" in done.stdout
    assert "smoke-test-endpoint | chat through predict" in done.stdout
    assert "deploy-model succeeded" in done.stdout
    assert "The answer to 'Which city?' lacks 'Paris'" in done.stderr
    assert re.search(r"release-endpoint \| Deleted projects/\S+/endpoints/", done.stdout)
    assert server.left() == []


def test_a_bad_row_is_named_before_anything_is_launched(sandbox: Sandbox):
    with (sandbox.folder / "training.jsonl").open("a") as file:
        file.write('{"messages": [{"role": "user", "content": "no answer"}]}\n')
    done = sandbox.run(sandbox.run_command())
    assert done.returncode == 1
    assert "validate-dataset failed" in done.stderr
    assert "training.jsonl:41" in done.stderr
    assert "Traceback" not in done.stderr
    assert "launch-sft started" not in done.stdout
    assert wait_until_gone(sandbox, 5) == []
