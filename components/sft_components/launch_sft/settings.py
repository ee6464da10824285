"""What the tuning step is asked for."""

from dataclasses import dataclass

from sft_components.catalog.tuning import TuningSettings


@dataclass(frozen=True, kw_only=True)
class LaunchSettings(TuningSettings):
    """A tuning, its data, and how to treat its job."""

    run_name: str
    """Name of the pipeline run; with the request it makes the job's key."""
    training_uri: str
    """`gs://` JSON Lines file."""
    validation_uri: str = ""
    training_tokens: int
    """Tokens of one pass over the training set, for the estimate of the cost."""
    tokens_are_estimated: bool
    training_rows: int = 0
    """Rows of the training set, to convert epochs and steps; 0: not known."""
    settings_checked: bool = False
    """Whether `validate_pipeline` has checked them in this run; its warnings are not said again."""
    max_cost_usd: float = 0.0
    """Refuse to launch above this estimate, US dollars; 0: no limit."""
    cancel_on_abort: bool = True
    """Cancel the job when this step is told to stop."""
    relaunch_failed: bool = False
    """Launch anew when the job of an earlier attempt failed, or somebody cancelled it."""
    when_changed: str = ""
    """Name under which successful runs are remembered; with one, the same tuning that an earlier
    run with such a name has paid is used again. Empty: every run tunes."""
    fingerprint: str = ""
    """Of the rows; empty: no tuning is used again, as the addresses need not tell them apart."""
