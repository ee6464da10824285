"""KFP interface of the step that remembers what a successful run was trained on."""

from sft_components.embedding import step


@step(packages=["google-cloud-storage"])
def record_success(
    project: str,
    location: str,
    run_name: str,
    marker_uri: str,
    fingerprint: str,
):
    """Remember that a run has succeeded with these data, for check_changed of the next one.

    Args:
        project: Google Cloud project.
        location: Region, for the advice given when the bucket does not exist.
        run_name: Name of the pipeline run.
        marker_uri: Where to write, from check_changed; empty: nothing is written.
        fingerprint: Fingerprint of the data set, from validate-dataset.
    """
    from sft_components.steps import log, user_errors
    from sft_components.vertex.markers import write_marker

    if not marker_uri:
        log("The run is not remembered: when_changed is empty.")
        return
    with user_errors():
        write_marker(marker_uri, project, location, fingerprint, run_name)
        log(f"Remembered in {marker_uri}")
