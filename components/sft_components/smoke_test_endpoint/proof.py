"""Whether the tuned weights are the ones that are served: asked of the base model too."""

from collections.abc import Callable, Sequence

from google.api_core import exceptions as api

from sft_components.catalog import load_catalog
from sft_components.errors import UnlikeError, UserError
from sft_components.prompting.asking import published
from sft_components.smoke_test_endpoint.outcome import Given, SmokeTestResult
from sft_components.smoke_test_endpoint.ways import Way
from sft_components.vertex.prediction import EndpointSession, endpoint_connection

MOST_COMPARED = 5


def prove(
    result: SmokeTestResult,
    way: Way,
    given: Sequence[Given],
    *,
    base_model: str,
    base_endpoint: str,
    log: Callable[[str], None],
) -> None:
    """Compare greedy answers of the endpoint with those of its base model.

    One that differs proves that the weights are others. Where all are the same nothing is proven:
    a tuning may leave some answers as they were. Neither fails the test.

    Args:
        result: Gets the outcome.
        way: How the endpoint is asked.
        given: Its answers.
        base_model: What was tuned; a Gemini model is asked by its name.
        base_endpoint: An endpoint of the base model; may be empty.
        log: Takes a line.
    """
    try:
        session = _base(result.endpoint, base_model, base_endpoint)
    except UserError as error:
        result.proof = str(error)
    else:
        result.served, result.proof = _compare(session, way, given)
    log(result.proof)


def _compare(
    session: EndpointSession | None, way: Way, given: Sequence[Given]
) -> tuple[bool | None, str]:
    if session is None:
        return None, (
            "Not proven that the tuned weights are served: no endpoint of the base model was "
            "given to compare with."
        )
    compared = 0
    for answer in given[:MOST_COMPARED]:
        try:
            base = way.ask(session, answer.case).text
        except (api.GoogleAPICallError, UnlikeError, UserError, OSError) as error:
            return None, (
                f"Not proven that the tuned weights are served: the base model does not answer: "
                f"{error}"
            )
        compared += 1
        if base != answer.text:
            return True, (
                f"The tuned weights are served: to {answer.case.title!r} the endpoint says "
                f"{answer.text[:60]!r}, the base model {base[:60]!r}."
            )
    return False, (
        f"Not proven that the tuned weights are served: the base model gives the same "
        f"{compared} answers."
    )


def _base(endpoint: str, base_model: str, base_endpoint: str) -> EndpointSession | None:
    if base_endpoint:
        return EndpointSession(endpoint_connection(base_endpoint), base_endpoint)
    if not base_model:
        return None
    if load_catalog().find(base_model, allow_unlisted=True).family != "gemini":
        return None
    parts = endpoint.split("/")
    return published(parts[1], parts[3], base_model)
