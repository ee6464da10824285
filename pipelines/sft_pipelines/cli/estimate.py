"""`vertex-sft estimate`: what tuning and serving cost, before anything is launched."""

from typing import Annotated

import typer
from rich.text import Text

from sft_components.catalog import ModelSpec, load_catalog
from sft_components.catalog.cost import (
    CostEstimate,
    check_budget,
    estimate_tuning_cost,
    serving_cost_per_hour,
)
from sft_components.errors import UserError
from sft_pipelines.cli.models import console, print_json, wrong_use


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("estimate")(estimate)


def estimate(
    model: Annotated[str, typer.Option("--model", "-m", help="Model, as `models` lists it.")],
    tokens: Annotated[int, typer.Option("--tokens", help="Tokens of the training set.")],
    mode: Annotated[
        str, typer.Option("--mode", help="PEFT_ADAPTER or FULL; empty: the model's first.")
    ] = "",
    epochs: Annotated[
        float, typer.Option("--epochs", help="Passes over the set; 0: the model's default.")
    ] = 0,
    rough: Annotated[
        bool, typer.Option("--rough", help="The tokens are an estimate: print a range.")
    ] = False,
    machine: Annotated[
        str, typer.Option("--machine", help="Machine to serve on; empty: the model's.")
    ] = "",
    max_cost_usd: Annotated[
        float, typer.Option("--max-cost-usd", help="Fail above this cost of tuning; 0: no limit.")
    ] = 0,
    allow_unlisted: Annotated[
        bool, typer.Option("--allow-unlisted", help="Accept a model newer than the catalogue.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Estimate what tuning costs, and what serving the tuned model costs an hour."""
    with wrong_use():
        spec = load_catalog().find(model, allow_unlisted)
        chosen = mode or next(iter(spec.modes))
        spec.mode(chosen)
        cost = estimate_tuning_cost(spec, tokens, _epochs(spec, epochs), rough)
        hourly = serving_cost_per_hour(machine or spec)
    served_on = machine or (spec.serving.machine_type if spec.serving else "")
    if as_json:
        serving = {"machine_type": served_on, "usd_per_hour": hourly}
        print_json(
            {
                "model": spec.name,
                "mode": chosen,
                "tuning": cost.as_dict(),
                "serving": serving,
                "notes": spec.notes,
            }
        )
    else:
        _print(spec, chosen, cost, served_on, hourly)
    check_budget(cost, max_cost_usd)


def _epochs(spec: ModelSpec, epochs: float) -> float:
    if epochs or spec.default_epochs:
        return epochs or float(spec.default_epochs or 0)
    raise UserError(f"{spec.name} has no default number of epochs: give --epochs.")


def _print(
    spec: ModelSpec, mode: str, cost: CostEstimate, served_on: str, hourly: float | None
) -> None:
    out = console()
    out.print(Text(f"{spec.title} ({spec.name}), {mode}"))
    out.print(Text(f"Tuning   {cost}"))
    if served_on and hourly is not None:
        day = f"${hourly * 24:,.2f} a day"
        out.print(
            Text(f"Serving  ${hourly:,.2f} an hour on {served_on}, {day}, until it is deleted")
        )
    elif spec.family == "gemini":
        out.print(Text("Serving  on the service's own endpoint, billed by the tokens of its use"))
    else:
        out.print(Text("Serving  no machine is named for this model; give --machine"))
    if cost.source:
        out.print(Text(f"Price    {cost.source}", style="dim"))
    if spec.unlisted or spec.status == "retired":
        successor = f"; its successor is {spec.successor}" if spec.successor else ""
        warning = spec.notes[0] if spec.unlisted else f"{spec.name} is retired{successor}."
        typer.echo(f"Warning: {warning}", err=True)
