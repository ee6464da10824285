"""Deterministic keys: what makes a retried step find what it had created."""

import hashlib
import json
import re
from typing import Any

RUN_LABEL = "vertex-sft-run"
KEY_LABEL = "vertex-sft-key"
SERVES_LABEL = "vertex-sft-serves"
"""The run that has taken an endpoint for its own. Endpoints inherit the labels of the tuning job
that deployed them, so that the run's label alone does not say so."""

PROMOTES_LABEL = "vertex-sft-promotes"
"""The run that is about to put its model in the place of the one that the endpoint serves."""

TRIAL = "sft-trial-"
"""How the ids of endpoints begin that are there for a promotion's test only."""
TUNING_LABEL = "vertex-sft-tuning"
"""What a tuning job was asked for, whichever run asked: a later one may use its weights again."""


def digest(*parts: Any) -> str:
    """20 hexadecimal characters (80 bits) that depend on `parts` alone."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def label_value(text: str) -> str:
    """`text` as a label value: at most 63 of lower-case letters, digits, `_` and `-`.

    What had to be changed or cut is told apart by a digest at the end.
    """
    clean = re.sub(r"[^a-z0-9_-]", "-", text.lower())
    if clean == text and len(clean) <= 63:
        return clean
    return f"{clean[:52]}-{digest(text)[:10]}"


def endpoint_id(run_name: str) -> str:
    """The endpoint of a run: known before it exists, so it is found again after a crash."""
    return f"sft-{digest('endpoint', run_name)}"


def is_endpoint_id(id: str) -> bool:
    """Whether `id` is one that `endpoint_id` makes."""
    return re.fullmatch(r"sft-[0-9a-f]{20}", id) is not None


def model_id(run_name: str) -> str:
    """The model registry entry of a run."""
    return f"sft-{digest('model', run_name)}"


def trial_endpoint_id(run_name: str) -> str:
    """The endpoint on which a run's model is tested before it is promoted."""
    return f"{TRIAL}{digest('trial', run_name)}"


def deployed_id(run_name: str, endpoint: str) -> str:
    """A run's deployed model at `endpoint`: ten digits, which is what the service takes."""
    return str(10**9 + int(digest("deployed", run_name, endpoint), 16) % (9 * 10**9))
