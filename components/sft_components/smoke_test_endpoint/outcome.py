"""What a smoke test has seen."""

from dataclasses import dataclass, field

from sft_components.errors import UserError
from sft_components.smoke_test_endpoint.cases import Case
from sft_components.smoke_test_endpoint.load import Load, percentiles


@dataclass(frozen=True)
class Given:
    """One answer."""

    case: Case
    way: str
    text: str
    seconds: float | None
    """None: nothing came that is an answer."""
    first_s: float | None = None
    failures: tuple[str, ...] = ()


@dataclass
class SmokeTestResult:
    """What the endpoint did."""

    endpoint: str
    address: str = ""
    given: list[Given] = field(default_factory=list)
    warm_up_s: float = 0.0
    load: Load | None = None
    served: bool | None = None
    """Whether the answers prove that other weights than the base model's are served; None: that
    could not be asked."""
    proof: str = ""
    """Why, as a sentence."""
    absent: dict[str, str] = field(default_factory=dict)
    """Ways to ask that the endpoint refused, with its words."""
    failures: list[str] = field(default_factory=list)
    """Sentences; empty: the endpoint has passed."""

    @property
    def answers(self) -> list[str]:
        """The one that counts for each prompt, in order."""
        last: dict[str, str] = {}
        for answer in self.given:
            if answer.text or answer.case.prompt not in last:
                last[answer.case.prompt] = answer.text
        return list(last.values())

    @property
    def metrics(self) -> dict[str, float]:
        """For KFP: seconds, counts, tokens a second."""
        found = {
            "requests": float(len(self.given)),
            "warm_up_s": self.warm_up_s,
            "failures": float(len(self.failures)),
            **percentiles("latency", [a.seconds for a in self.given if a.seconds is not None]),
        }
        streamed = [answer.first_s for answer in self.given if answer.first_s is not None]
        if streamed:
            found["first_token_p50_s"] = percentiles("t", streamed)["t_p50_s"]
        if self.load is not None:
            found.update(self.load.metrics())
        if self.served is not None:
            found["tuned_weights_proven"] = float(self.served)
        return found

    def passed(self) -> "SmokeTestResult":
        """The same, of an endpoint that has passed.

        Raises:
            UserError: It has not.
        """
        if self.failures:
            raise UserError(f"{self.endpoint} failed its smoke test: {' '.join(self.failures)}")
        return self
