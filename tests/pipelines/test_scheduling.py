"""When a schedule runs: what a person writes becomes what the service takes, or a sentence."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sft_components.errors import UserError
from sft_pipelines.cron import with_zone
from sft_pipelines.parameters import make_template, read_template
from sft_pipelines.scheduling import leaves_endpoints, make_when, remember_under


@pytest.mark.parametrize(
    ("cron", "zone", "full"),
    [
        ("0 3 * * 1", "", "0 3 * * 1"),
        ("0  3 * * MON-FRI", "Europe/Paris", "TZ=Europe/Paris 0 3 * * MON-FRI"),
        ("CRON_TZ=America/New_York */15 0-6,22 1 JAN 7", "", None),
    ],
)
def test_a_cron_gets_its_time_zone(cron: str, zone: str, full: str | None):
    assert with_zone(cron, zone) == (full or cron.removeprefix("CRON_"))


@pytest.mark.parametrize(
    ("cron", "zone", "says"),
    [
        ("0 3 * *", "", "has 4 of 5 fields"),
        ("60 3 * * 1", "", "the minute is '60'"),
        ("0 24 * * 1", "", "the hour is '24'"),
        ("0 3 0 * 1", "", "the day of the month is '0'"),
        ("0 3 * JANUARY 1", "", "the month is 'JANUARY'"),
        ("0 3 * * 5-1", "", "the day of the week is '5-1'"),
        ("*/0 3 * * *", "", "the minute is '[*]/0'"),
        ("0 3 * * 1", "Europe/Pariss", "Did you mean Europe/Paris[?]"),
        ("TZ=UTC 0 3 * * 1", "Europe/Paris", "give one"),
    ],
)
def test_a_wrong_cron_is_refused_by_its_field(cron: str, zone: str, says: str):
    with pytest.raises(UserError, match=says):
        with_zone(cron, zone)


def test_times_without_an_offset_are_in_the_schedules_zone():
    when = make_when("0 3 * * *", time_zone="Asia/Tokyo", start="2099-01-01T09:00")
    assert when.start_time == datetime(2099, 1, 1, 0, 0, tzinfo=UTC)
    with pytest.raises(UserError, match="before it starts"):
        make_when("0 3 * * *", start="2099-01-02", end="2099-01-01")
    with pytest.raises(UserError, match="--end is 'soon'"):
        make_when("0 3 * * *", end="soon")
    with pytest.raises(UserError, match="--max-runs and --max-active are 0"):
        make_when("0 3 * * *", max_active=-1)


def test_what_is_remembered_depends_on_every_other_setting():
    inputs = {"epochs": {"parameterType": "NUMBER_INTEGER"}}
    spec = {
        "pipelineInfo": {"name": "demo"},
        "root": {"dag": {"tasks": {}}, "inputDefinitions": {"parameters": inputs}},
    }
    with pytest.raises(UserError, match="has no parameter when_changed"):
        remember_under("nightly", make_template(Path("demo.yaml"), spec), {}, "gs://b/r")
    inputs["when_changed"] = {"parameterType": "STRING"}
    template = make_template(Path("demo.yaml"), spec)
    one, same, other = (
        remember_under("Nightly run", template, {"epochs": n}, "gs://b/r") for n in (1, 1, 2)
    )
    assert one == same
    assert one["when_changed"] != other["when_changed"]
    assert one["when_changed"].startswith("nightly-run")
    inputs["output_uri"] = {"parameterType": "STRING"}
    template = make_template(Path("demo.yaml"), spec)
    assert remember_under("n", template, {"when_changed": "mine"}, "gs://b/r") == {
        "when_changed": "mine",
        "output_uri": "gs://b/r/tuned",
    }


@pytest.mark.parametrize(
    ("name", "values", "leaves"),
    [
        ("tune-llama-model", {}, True),
        ("tune-llama-model", {"endpoint_ttl_hours": 30}, False),
        ("tune-llama-model", {"promote_to_endpoint": "projects/p/locations/l/endpoints/1"}, False),
        # Its tuning deploys on the service's own machines, which cost nothing while nobody asks.
        ("tune-gemini-model", {}, False),
    ],
)
def test_a_schedule_that_leaves_an_endpoint_each_night_is_known(
    name: str, values: dict[str, Any], leaves: bool
):
    template = read_template(Path(__file__).parents[2] / "compiled" / "pipelines" / f"{name}.yaml")
    assert leaves_endpoints(values, template) is leaves
