"""Say whether a data set has changed since the last successful run."""

from collections.abc import Callable
from dataclasses import dataclass

from sft_components.vertex.markers import marker_uri, read_marker


@dataclass(frozen=True)
class ChangedResult:
    """Whether to go on, and where success is to be recorded."""

    changed: bool
    marker_uri: str
    """Empty: the run is not remembered."""


def check_changed(
    *,
    project: str,
    location: str,
    output_uri: str,
    fingerprint: str,
    when_changed: str,
    log: Callable[[str], None] = print,
) -> ChangedResult:
    """Compare a data set's fingerprint with that of the last successful run.

    Args:
        project: Project that the requests are made in.
        location: Region named in the advice when the bucket does not exist.
        output_uri: `gs://` folder of the run; the markers are in its fingerprints/ folder.
        fingerprint: Of the data set, as `validate_dataset` gives it.
        when_changed: Name under which runs are remembered; empty: always go on.
        log: Called with lines of progress.

    Raises:
        UserError: The name cannot be used, or the bucket cannot be read.
    """
    if not when_changed:
        return ChangedResult(True, "")
    uri = marker_uri(output_uri, when_changed)
    before = read_marker(uri, project, location)
    if before is None:
        log(f"No run called {when_changed!r} has succeeded yet: going on.")
        return ChangedResult(True, uri)
    if before.fingerprint != fingerprint:
        log(f"The data set has changed since run {before.run_name} of {before.time}: going on.")
        return ChangedResult(True, uri)
    log(
        f"The data set is the one of run {before.run_name} of {before.time}: nothing to do. "
        f"Delete {uri} to go through it again, with the tuning that there is if its weights are; "
        "with when_changed empty everything is done anew."
    )
    return ChangedResult(False, uri)
