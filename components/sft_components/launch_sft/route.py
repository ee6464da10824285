"""What the two ways of tuning have in common, so that one step can follow either."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Log = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """A tuning or pipeline job as it was last seen."""

    name: str
    state: str
    """The service's own word."""
    outcome: Literal["", "succeeded", "failed", "cancelled"]
    """Empty while it has not ended."""
    message: str = ""
    """The service's error."""
    description: str = ""
    experiment: str = ""
    """Metadata context of the job's metrics; empty where there is none."""
    raw: Any = None


@dataclass(frozen=True)
class Checkpoint:
    """One set of weights that a tuning kept."""

    id: str
    epoch: int
    step: int
    uri: str = ""
    """`gs://` folder; empty where the service keeps the weights to itself."""
    endpoint: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a tuning that succeeded left."""

    tuned_model: str
    endpoint: str
    """Endpoint that the service deployed; empty if none."""
    checkpoint_uri: str
    """`gs://` folder of the tuned weights; empty where the service keeps them to itself."""
    description: str = ""
    """What the service says of the tuning, such as what stood in for the model."""
    checkpoints: list[Checkpoint] = field(default_factory=list)
    statistics: dict[str, float] = field(default_factory=dict)


class Route(Protocol):
    """One way of tuning: by a tuning job, or by a pipeline job of the public template."""

    def find(self) -> Job | None:
        """The run's job, if an attempt before has made it and it can still be of use."""

    def find_in_doubt(self) -> Job | None:
        """The same where a request may be under way: looks until it had time to be seen."""

    def find_earlier(self) -> Job | None:
        """A job of another run that has tuned the same already and left weights, if it may be used
        again; tells the log."""

    def create(self) -> Job:
        """Make the job. Never called again without `find` in between."""

    def get(self, name: str, log: Log) -> Job:
        """The job as it is now; tells `log` of each failure that it passed over."""

    def cancel(self, name: str) -> None:
        """Ask the job to stop, for this step's own sake: the next attempt launches anew.

        One that somebody else is cancelling already stays theirs: `find` finds it.
        """

    def give_up(self, job: Job) -> None:
        """From now on `find` looks for another than `job`, which has ended."""

    def outcome(self, job: Job, log: Log) -> Outcome:
        """What the job left; it has succeeded."""

    def steps(self, job: Job) -> int:
        """Steps of the whole training; 0 as long as they are not known."""

    def console(self, name: str) -> str:
        """Address of the job's page, as `Connection.page`."""
