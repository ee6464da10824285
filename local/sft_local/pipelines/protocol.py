"""What the server and the process that runs a pipeline say to each other.

The server writes a `Work` file; the process answers with events, one JSON line each, on its
standard output.
"""

from typing import Any

import msgspec

Path = tuple[str, ...]
"""A task's name below those of the graphs that hold it; empty for the whole pipeline."""


class Work(msgspec.Struct):
    """A pipeline to run."""

    job_name: str
    """The job's resource name."""
    spec: str
    """File with the specification, its placeholders of the job resolved."""
    parameters: dict[str, Any]
    artifacts: dict[str, "Artifact"]
    """Input artifacts of the pipeline, on this machine."""
    root: str
    """Folder for what the steps write."""
    logs: str
    """Folder for what the steps print."""
    fail_fast: bool
    cancelled: bool = False
    """Whether it was cancelled before it begins: only exit tasks run."""
    interrupted: str = ""
    """Why an earlier process did not come to the end; if it did not, only exit tasks run."""
    entered: list[Path] = []
    """The graphs in which the earlier process was."""

    @property
    def job_id(self) -> str:
        """The last part of the job's resource name."""
        return self.job_name.rpartition("/")[2]


class Artifact(msgspec.Struct):
    """An artifact as a step left it."""

    name: str
    uri: str
    """A path on this machine, or what the step wrote in its place."""
    schema_title: str
    schema_version: str
    metadata: dict[str, Any]


class Started(msgspec.Struct, tag=True):
    """A task runs."""

    path: Path
    inputs: dict[str, Any]


class Ended(msgspec.Struct, tag=True):
    """A task has ended, or will not run."""

    path: Path
    state: str
    """A name of `PipelineTaskDetail.State`."""
    message: str = ""
    outputs: dict[str, Any] = msgspec.field(default_factory=dict)
    artifacts: dict[str, Artifact] = msgspec.field(default_factory=dict)


class Broken(msgspec.Struct, tag=True):
    """The runner could not do what the pipeline says; the run must not count as a success."""

    message: str


Event = Started | Ended | Broken
