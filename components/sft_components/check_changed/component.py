"""KFP interface of the step that ends a run early when the data are the old ones."""

from typing import NamedTuple

from sft_components.embedding import step


@step(packages=["google-cloud-storage"])
def check_changed(
    project: str,
    location: str,
    output_uri: str,
    fingerprint: str,
    when_changed: str = "",
) -> NamedTuple("ChangedOutputs", [("changed", bool), ("marker_uri", str)]):
    """Say whether a data set has changed since the last successful run.

    Args:
        project: Google Cloud project.
        location: Region, for the advice given when the bucket does not exist.
        output_uri: gs:// folder of the run; what succeeded is remembered in its fingerprints/.
        fingerprint: Fingerprint of the data set, from validate-dataset.
        when_changed: Name under which successful runs are remembered; empty: always changed.

    Returns:
        Whether to go on, and where record_success writes; empty for an empty when_changed.
    """
    from collections import namedtuple

    from sft_components.check_changed.work import check_changed as work
    from sft_components.steps import log, user_errors

    with user_errors():
        result = work(
            project=project,
            location=location,
            output_uri=output_uri,
            fingerprint=fingerprint,
            when_changed=when_changed,
            log=log,
        )
    outputs = namedtuple("ChangedOutputs", ["changed", "marker_uri"])
    return outputs(result.changed, result.marker_uri)
