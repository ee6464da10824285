"""What a promotion is refused for before it begins, and how it divides the traffic."""

import re
from typing import Any

import pytest
from tests.serving.conftest import CONNECTION, Command, Serve

from sft_components.errors import UserError
from sft_components.promote_model.settings import Promotion
from sft_components.promote_model.shares import (
    check_promoted_endpoint,
    check_promotion,
    with_share,
)
from sft_components.promote_model.work import promote_model


def test_shares_are_whole_and_keep_their_proportions() -> None:
    for before in ({"1": 100}, {"1": 34, "2": 33, "3": 33}, {"1": 99, "2": 1}):
        for share in range(101):
            split = with_share(before, "9", share)
            assert sum(split.values()) == 100
            assert split["9"] == share
            assert all(abs(split[k] - v * (100 - share) / 100) < 1 for k, v in before.items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"traffic_share": 101}, "traffic_share is 101"),
        ({"test_share": 100}, "test_share is 100"),
        ({"settle_s": -1}, "settle_s is -1"),
        ({"aliases": ["Champion"]}, "version_aliases has 'Champion'"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_promotion(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "Nothing to promote"),
        ({"model": "m", "traffic_share": 101}, "traffic_share is 101"),
        ({"model": "m", "machine_type": "g9-standard-12"}, "give accelerator_type"),
    ],
)
def test_a_promotion_that_cannot_be_asks_nobody(settings: dict[str, Any], message: str) -> None:
    endpoint = "projects/p/locations/us-central1/endpoints/1"
    with pytest.raises(UserError, match=message):
        promote_model(Promotion(endpoint=endpoint, run_name="r", **settings))


def test_the_endpoint_to_promote_on_is_checked_before_the_run() -> None:
    name = "projects/p/locations/us-central1/endpoints/1"
    check_promoted_endpoint("", "us-central1")
    check_promoted_endpoint(name, "us-central1")
    with pytest.raises(UserError, match="location is europe-west4"):
        check_promoted_endpoint(name, "europe-west4")
    with pytest.raises(UserError, match="write projects/"):
        check_promoted_endpoint("1", "us-central1")
    check_promoted_endpoint(name, "us-central1", "p")
    check_promoted_endpoint(name, "us-central1", "1234567890")
    with pytest.raises(UserError, match="the run in q"):
        check_promoted_endpoint(name, "us-central1", "q")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("assistant", "locations/us-central1/models/assistant@VERSION, or the gs://"),
        ("models/none@2", f"write {CONNECTION.parent}/models/none@2, or the gs://"),
        (f"{CONNECTION.parent}/models/", f"write {CONNECTION.parent}/models/ID@VERSION"),
        ("projects/p/locations/europe-west4/models/m", "MODEL is in europe-west4"),
    ],
)
def test_what_names_no_model_is_refused_before_anything_is_asked(
    serve: Serve, command: Command, model: str, says: str
) -> None:
    serve("unnamed", "")
    refused = command("endpoints", "promote", "unnamed", model)
    assert refused.exit_code == 2, refused.output
    assert says in refused.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--settle", "-1"), "Error: --settle is -1: give seconds"),
        (("--share", "30"), "Error: --share is 30, but .*serves nothing yet"),
        (("--alias", "V 1"), "Error: --alias has 'V 1'"),
        (("--parent-model", "foo"), "Error: --parent-model is 'foo'"),
        (("--machine-type", "g9"), "--machine-type g9 .* give --accelerator-type and --accel"),
        (("--max-replicas", "0"), "Error: --max-replicas is 0: .* as --min-replicas is 1"),
    ],
)
def test_what_is_refused_has_the_name_that_was_typed(
    serve: Serve, command: Command, options: tuple[str, ...], says: str
) -> None:
    serve("typed", "")
    model = f"{CONNECTION.parent}/models/none@2"
    refused = command("endpoints", "promote", "typed", model, *options)
    assert refused.exit_code == 2, refused.output
    assert re.search(says, refused.stderr), refused.stderr
