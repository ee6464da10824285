"""The examples, as their own words say that they are run."""

import sys

import pytest
from tests.end_to_end.sandbox import ROOT, Server

pytestmark = pytest.mark.slow


def test_a_pipeline_of_ones_own(server: Server):
    example = ROOT / "examples" / "own-pipeline" / "pipeline.py"
    done = server.run([sys.executable, str(example), "own-pipeline.yaml"])
    assert done.returncode == 0, done.stdout + done.stderr
    rows = ("-p", "dataset_uri=training.jsonl")
    done = server.run(server.command("run", "own-pipeline.yaml", "--local", *rows))
    assert done.returncode == 0, done.stdout + done.stderr
    for step in ("validate-dataset", "upload-to-gcs", "launch-sft", "release-endpoint"):
        assert f"{step} succeeded" in done.stdout
    assert "JOB_STATE_SUCCEEDED" in done.stdout
    assert server.left() == []
