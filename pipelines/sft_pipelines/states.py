"""States as every command tells them, in tables, as filters and in JSON."""

import re

_PREFIX = re.compile(r"(?:job|pipeline)-state-")


def state_word(name: str) -> str:
    """The word for a state of the API: `succeeded` for `PIPELINE_STATE_SUCCEEDED`.

    Args:
        name: As the API spells it, or the word itself; empty stays empty.
    """
    return _PREFIX.sub("", name.lower().replace("_", "-"))
