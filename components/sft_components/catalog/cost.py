"""What a tuning job costs before it is launched, and what an endpoint costs for an hour."""

import math
from typing import Any

import msgspec

from sft_components.catalog.lookup import load_catalog
from sft_components.catalog.machines import known_machine
from sft_components.catalog.schema import ModelSpec
from sft_components.errors import UserError


def dollars(usd: float, digits: int = 2) -> str:
    """US dollars for people; what is less than one of the last digit is not called nothing."""
    least = 10.0**-digits
    return f"less than ${least:.{digits}f}" if 0 < usd < least else f"${usd:,.{digits}f}"


class CostEstimate(msgspec.Struct, frozen=True):
    """Price of a tuning job: tokens in the training set x epochs x price per token.

    `low`, `usd` and `high` are US dollars, equal where the tokens were counted exactly, and None
    where the model's price is unknown.
    """

    model: str
    tokens_per_epoch: int
    epochs: float
    estimated: bool
    """Whether the number of tokens is itself an estimate."""
    usd_per_million_tokens: float | None
    low: float | None
    usd: float | None
    high: float | None
    source: str
    """Where the price comes from, with its date; empty where it is unknown."""

    @property
    def billed_tokens(self) -> float:
        """Tokens over all epochs."""
        return self.tokens_per_epoch * self.epochs

    def __str__(self) -> str:
        """One line for a log."""
        return self.line()

    def line(self, digits: int = 2) -> str:
        """One line for a log, the amounts with so many digits after the point."""
        times = f"{self.epochs:g} epoch{'' if self.epochs == 1 else 's'}"
        billed = f"{self.tokens_per_epoch:,} tokens x {times}"
        if self.usd is None or self.low is None or self.high is None:
            return f"{billed}: no price is known for {self.model}"
        usd = dollars(self.usd, digits)
        is_ = "is" if usd.startswith("less") else "="
        total = f"{billed} x ${self.usd_per_million_tokens:g} per million {is_} {usd}"
        if not self.estimated:
            return total
        return f"about {total}{self._between(self.low, self.high, digits)}"

    @staticmethod
    def _between(low: float, high: float, digits: int) -> str:
        least = 10.0**-digits
        if high < least:
            return ""
        if low < least:
            return f" (at most {dollars(high, digits)})"
        return f" (between {dollars(low, digits)} and {dollars(high, digits)})"

    def as_dict(self) -> dict[str, Any]:
        """The fields for JSON, with the billed tokens."""
        return {**msgspec.structs.asdict(self), "billed_tokens": self.billed_tokens}


def estimate_tuning_cost(
    model: ModelSpec, tokens_per_epoch: int, epochs: float, estimated: bool
) -> CostEstimate:
    """What tuning `model` costs.

    Args:
        model: The base model.
        tokens_per_epoch: Tokens of the whole training set, as the model's tokenizer counts them.
        epochs: Passes over the training set; a fraction is possible with a legacy model.
        estimated: Whether the tokens are an estimate; then the cost is a range.

    Raises:
        UserError: No tokens or no epochs.
    """
    if tokens_per_epoch <= 0:
        raise UserError(f"The training set has {tokens_per_epoch} tokens: give one with rows.")
    if epochs <= 0:
        raise UserError(f"epochs is {epochs:g}: give a number above 0 to estimate the cost.")
    price = model.usd_per_million_tokens
    low = usd = high = None
    source = ""
    if price is not None:
        catalog = load_catalog()
        spread = catalog.token_estimate
        usd = tokens_per_epoch * epochs * price / 1e6
        low, high = (usd * spread.low, usd * spread.high) if estimated else (usd, usd)
        origin = catalog.sources[model.sources["price"]]
        source = f"{origin.title} ({origin.date})"
    return CostEstimate(
        model=model.name,
        tokens_per_epoch=tokens_per_epoch,
        epochs=epochs,
        estimated=estimated,
        usd_per_million_tokens=price,
        low=low,
        usd=usd,
        high=high,
        source=source,
    )


def check_limit(max_cost_usd: float) -> None:
    """
    Raises:
        UserError: It is no limit of costs.
    """
    if not (0 <= max_cost_usd < math.inf):
        raise UserError(f"max_cost_usd is {max_cost_usd:g}: give a limit, or 0 for none.")


def check_can_be_kept(model: ModelSpec, max_cost_usd: float, *, epochs_known: bool) -> None:
    """Refuse a limit of costs that nothing could be held against, whatever the rows; 0 is none.

    Args:
        model: The base model.
        max_cost_usd: The limit.
        epochs_known: Whether the number of passes is known, or will be once the rows are counted.

    Raises:
        UserError: It is no limit, no price is known, or the service chooses the epochs.
    """
    check_limit(max_cost_usd)
    if max_cost_usd == 0:
        return
    if model.usd_per_million_tokens is None:
        raise _no_price(model.name, max_cost_usd)
    if not epochs_known:
        raise UserError(
            f"How often {model.name} passes over the rows is not known beforehand, so "
            f"max_cost_usd {max_cost_usd:g} cannot be kept: give epochs, or set max_cost_usd to 0."
        )


def _no_price(model: str, max_cost_usd: float) -> UserError:
    return UserError(
        f"No price is known for {model}, so max_cost_usd {max_cost_usd:g} cannot be kept: set "
        "max_cost_usd to 0 to tune it without a limit."
    )


def check_budget(estimate: CostEstimate, max_cost_usd: float) -> None:
    """Refuse what may cost more than `max_cost_usd`; 0 means that there is no limit.

    Raises:
        UserError: The high end of the estimate is above the limit, or the price is unknown.
    """
    check_limit(max_cost_usd)
    if max_cost_usd == 0:
        return
    if estimate.high is None:
        raise _no_price(estimate.model, max_cost_usd)
    if estimate.high > max_cost_usd:
        may = "may cost" if estimate.estimated else "costs"
        # So many that the amount is seen to be above the limit.
        digits = 2
        while estimate.high < 10.0**-digits or round(estimate.high, digits) <= max_cost_usd:
            digits += 1
        raise UserError(
            f"Tuning {estimate.model} {may} {dollars(estimate.high, digits)} "
            f"({estimate.line(digits)}), which is above max_cost_usd {max_cost_usd:g}: use fewer "
            "epochs or rows, or raise the limit."
        )


def serving_cost_per_hour(model_or_machine: ModelSpec | str, replicas: int = 1) -> float | None:
    """US dollars an hour (on demand, us-central1) for a model's machine, or a machine by name.

    None for a model that the catalogue names no machine for, such as Gemini, which is billed by
    the tokens of its answers.

    Raises:
        UserError: Unknown machine.
    """
    if isinstance(model_or_machine, str):
        return known_machine(model_or_machine).usd_per_hour * replicas
    if model_or_machine.serving is None:
        return None
    return known_machine(model_or_machine.serving.machine_type).usd_per_hour * replicas
