"""Settings of the smoke test, checked without a heavy package."""

import math
from collections.abc import Sequence

from sft_components.errors import UserError
from sft_components.vertex.names import check_endpoint_name

MAX_CONCURRENCY = 128
MAX_REQUESTS = 10_000


def check_smoke_test(
    prompts_uri: str = "",
    max_latency_s: float = 0.0,
    requests: int = 0,
    concurrency: int = 8,
    base_endpoint: str = "",
    prompts: Sequence[str] = (),
) -> None:
    """
    Raises:
        UserError: A setting of the smoke test cannot be.
    """
    if base_endpoint:
        check_endpoint_name("smoke_test_base_endpoint", base_endpoint)
    for number, prompt in enumerate(prompts, 1):
        if not isinstance(prompt, str) or not prompt.strip():
            raise UserError(
                f"smoke_test_prompts has {prompt!r} in place {number}: give texts, and what has "
                "expectations in the file of smoke_test_prompts_uri."
            )
    if not 0 <= max_latency_s < math.inf:
        raise UserError(f"max_latency_s is {max_latency_s:g}: give seconds, or 0 for no limit.")
    if not 0 <= requests <= MAX_REQUESTS:
        raise UserError(
            f"smoke_test_requests is {requests}: give 1 to {MAX_REQUESTS:,}, or 0 for none."
        )
    if not 1 <= concurrency <= MAX_CONCURRENCY:
        raise UserError(
            f"smoke_test_concurrency is {concurrency}: it is from 1 to {MAX_CONCURRENCY}."
        )
    if prompts_uri and not prompts_uri.endswith((".jsonl", ".yaml", ".yml", ".json")):
        raise UserError(
            f"smoke_test_prompts_uri is {prompts_uri!r}: name a .jsonl or .yaml file of prompts."
        )
