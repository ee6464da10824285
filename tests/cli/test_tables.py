"""Names and ids stay whole, however narrow the terminal is."""

import io
from collections.abc import Callable

import pytest
from rich.console import Console
from typer.testing import CliRunner

from sft_components.catalog import load_catalog
from sft_pipelines.cli import endpoints_print, jobs_print, output
from sft_pipelines.cli.app import app
from sft_pipelines.cli.job_screen import JobScreen
from sft_pipelines.cli.rehearsal.events import Event
from sft_pipelines.cli.rehearsal.screen import Screen
from sft_pipelines.endpoints.records import from_endpoint
from sft_pipelines.following import Snapshot, Task

PLACE = "projects/p/locations/us-central1"
LONG = "tune-llama-model-20261126-162200-0123456789abcdef0123456789abcdef"
Show = Callable[..., str]


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is shown on a terminal of 80 columns."""
    sink = io.StringIO()
    console = Console(file=sink, width=80, force_terminal=True, color_system=None)
    for module in (output, endpoints_print, jobs_print):
        monkeypatch.setattr(module, "console", lambda **_: console)
    return sink


def test_models_are_told_with_price_and_limit(narrow: io.StringIO) -> None:
    assert CliRunner().invoke(app, ["models"]).exit_code == 0
    shown = narrow.getvalue()
    assert "…" not in shown
    current = [m.name for m in load_catalog().models.values() if m.status == "current"]
    assert set(current) <= set(shown.splitlines())
    for fact in ("$ per 1M tokens", "Max tokens"):
        assert shown.count(f"  {fact}") == len(current)
    assert max(map(len, shown.splitlines())) <= 80


def test_endpoints_keep_name_and_machine(narrow: io.StringIO) -> None:
    machine = {"machineType": "g2-standard-12", "acceleratorType": "NVIDIA_L4"}
    resources = {"machineSpec": {**machine, "acceleratorCount": 1}}
    model = {"id": "1", "model": "m", "dedicatedResources": resources}
    endpoint = from_endpoint(
        {"name": f"{PLACE}/endpoints/{LONG}", "displayName": LONG, "deployedModels": [model] * 2}
    )
    endpoints_print.print_list([endpoint], several=True)
    shown = narrow.getvalue()
    assert shown.count(LONG) == 2
    assert shown.count("g2-standard-12, 1 × L4") == 2


def test_a_table_that_fits_is_a_table(narrow: io.StringIO) -> None:
    output.print_table(("Id", "N"), [("a", "1"), ("", "2")], right=("N",))
    assert [line.split() for line in narrow.getvalue().splitlines()[-3:-1]] == [["a", "1"], ["2"]]


def test_piped_there_is_no_limit(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("Id", "Name"), [(LONG * 2, LONG * 3)])
    assert f"{LONG * 2}   {LONG * 3}" in capsys.readouterr().out


def test_a_page_breaks_no_name(narrow: io.StringIO) -> None:
    jobs_print.print_facts("Request", {"name": f"{PLACE}/endpoints/{LONG}", "note": "word " * 40})
    jobs_print.print_rows("Models", ("model", "id"), [{"model": f"{PLACE}/models/m", "id": LONG}])
    shown = narrow.getvalue()
    assert f"  name  {PLACE}/endpoints/{LONG}\n" in shown
    assert f"\n{PLACE}/models/m\n  id  {LONG}\n" in shown
    assert max(len(line) for line in shown.splitlines() if "word" in line) <= 80


@pytest.mark.parametrize("width", [40, 80])
def test_live_tables_keep_the_names(width: int) -> None:
    names = ["evaluate-model", "evaluate-endpoint", "smoke-test-endpoint"]
    sink = io.StringIO()
    console = Console(file=sink, width=width, force_terminal=True)
    rehearsal = Screen(console, names)
    for name in names:
        rehearsal.show(Event(name, "line", "word " * 100))
    console.print(rehearsal._table())
    submitted = JobScreen(console)
    tasks = [Task(name, 2, error="word " * 100) for name in names]
    submitted.show(Snapshot("r", "running", False, "", tasks, {}))
    console.print(submitted._table())
    assert all(sink.getvalue().count(name) == 2 for name in names)
