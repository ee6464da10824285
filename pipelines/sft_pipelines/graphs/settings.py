"""Settings that many tasks of the pipelines share."""

from typing import Any


def uncached(task: Any) -> Any:
    """Never take `task` from the cache.

    Vertex AI's cache goes by the address of what a step reads, not by what is stored there: cached,
    a scheduled run would never see new rows, and an endpoint that is gone would be handed on.
    """
    return task.set_caching_options(False)


def repeated(task: Any) -> Any:
    """Start `task` again when its machine fails. Each of our steps adopts what it had begun.

    Faults of the service that pass are waited for inside the steps; this is for what ends a step
    from outside. More than once would only delay the sentence that says what is wrong.
    """
    return task.set_retry(
        num_retries=1, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="300s"
    )


def sized(task: Any, cpu: str, memory: str) -> Any:
    """Ask for `cpu` cores and `memory` (`4G`) for `task`."""
    return task.set_cpu_limit(cpu).set_memory_limit(memory)
