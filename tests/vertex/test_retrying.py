import pytest
from google.api_core import exceptions as api
from google.auth import exceptions as auth

from sft_components.vertex import retrying
from sft_components.vertex.retrying import find_or_create, reading


class Service:
    """A service that makes the resource but loses its first answers."""

    def __init__(self, lost_answers: int, creates: bool = True) -> None:
        self.lost_answers = lost_answers
        self.creates = creates
        self.made: list[str] = []

    def find(self) -> str | None:
        return self.made[0] if self.made else None

    def create(self) -> str:
        if self.creates:
            self.made.append("resource")
        if self.lost_answers:
            self.lost_answers -= 1
            raise api.ServiceUnavailable("try later")
        return "resource"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retrying.time, "sleep", lambda _: None)


def test_a_create_whose_answer_was_lost_is_not_repeated():
    service = Service(lost_answers=1)
    assert find_or_create(service.find, service.create, print) == ("resource", False)
    assert service.made == ["resource"]


def test_a_refused_create_is_tried_again_and_given_up_after_the_attempts():
    service = Service(lost_answers=2, creates=False)
    assert find_or_create(service.find, service.create, print) == ("resource", True)
    service = Service(lost_answers=9, creates=False)
    with pytest.raises(api.ServiceUnavailable):
        find_or_create(service.find, service.create, print, attempts=3)


def test_credentials_that_cannot_be_had_just_now_are_asked_for_again():
    waiting = [auth.TransportError("The metadata server does not answer.")]

    def call() -> str:
        if waiting:
            # As `google.auth.compute_engine` tells it.
            raise auth.RefreshError("No token.") from waiting.pop()
        return "answer"

    assert reading()(call)() == "answer"

    def refused() -> str:
        raise auth.RefreshError("invalid_grant: Token has been expired or revoked.")

    with pytest.raises(auth.RefreshError, match="invalid_grant"):
        reading()(refused)()
