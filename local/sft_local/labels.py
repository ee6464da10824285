"""The labels of resources."""

import re
from typing import Any

from sft_local.wire import ApiError


def check_labels(labels: Any) -> None:
    """Checks a resource's labels as the service does.

    Raises:
        ApiError: There are too many, or one has a character or a length that is not allowed.
    """
    if len(labels) > 64:
        raise ApiError("INVALID_ARGUMENT", "A resource may have at most 64 labels.")
    for key, value in labels.items():
        for text, least in ((key, 1), (value, 0)):
            if not least <= len(text) <= 63 or re.search(r"[^\w-]", text) or text != text.lower():
                raise ApiError(
                    "INVALID_ARGUMENT",
                    f"Invalid label {key!r}={value!r}: at most 63 lower-case letters, digits, "
                    "underscores and dashes.",
                )
