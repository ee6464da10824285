"""Settings that many tasks of the pipelines share."""

from typing import Any


def uncached(task: Any) -> Any:
    """Never take `task` from the cache.

    Vertex AI's cache goes by a step's inputs, not by what is outside: cached, an upload would not
    notice that its object is gone, and an endpoint that was deleted would be handed on.
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


def small(task: Any) -> Any:
    """Run `task` on a small machine: our steps wait more than they work.

    The validation is the largest, with two processes and less than 200 MB.
    """
    return task.set_cpu_limit("2").set_memory_limit("4G")
