"""Whether an endpoint answers while the model before is still there to go back to."""

import time
from collections.abc import Callable

from sft_components.promote_model.settings import Promotion
from sft_components.smoke_test_endpoint.work import examine_endpoint

WATCH_S = 10.0
"""Between two questions to the endpoint."""
ANSWER_S = 60.0
"""How long a question may go unanswered."""


def watch(wanted: Promotion, log: Callable[[str], None]) -> None:
    """Ask the endpoint for `wanted.settle_s` seconds, at least once.

    Raises:
        UserError: It does not answer.
    """
    until = time.monotonic() + wanted.settle_s
    if wanted.settle_s:
        log(
            f"Watching {wanted.endpoint} for {wanted.settle_s:g} s: should it not answer, the "
            "traffic goes back"
        )
    while True:
        examine_endpoint(
            endpoint=wanted.endpoint,
            base_model=wanted.base_model,
            prompts=wanted.prompts[:1],
            max_latency_s=wanted.max_latency_s,
            warm_up_timeout_s=ANSWER_S,
            log=lambda line: None,
        ).passed()
        left = until - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(WATCH_S, left))
