"""`vertex-sft estimate`: what tuning and serving cost, before anything is launched."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sft_components.errors import UserError
from sft_pipelines.cli.completing import model_names

if TYPE_CHECKING:
    from sft_components.catalog import ModelSpec
    from sft_components.catalog.cost import CostEstimate
    from sft_pipelines.estimating import Length, TrainingSet


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("estimate")(estimate)


def estimate(
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="Model, as `models` lists it.", autocompletion=model_names
        ),
    ],
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DATA]...",
            help="Training set: JSON Lines files, gs:// addresses, wildcards. Or give --tokens.",
        ),
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", help="Tokens of the training set.")] = 0,
    rows: Annotated[int, typer.Option("--rows", help="Rows of the training set.")] = 0,
    tokens_per_row: Annotated[
        float, typer.Option("--tokens-per-row", help="Mean length of a row, with --rows.")
    ] = 0,
    mode: Annotated[
        str, typer.Option("--mode", help="PEFT_ADAPTER or FULL; empty: the model's first.")
    ] = "",
    epochs: Annotated[
        float, typer.Option("--epochs", help="Passes over the set; 0: the model's default.")
    ] = 0,
    steps: Annotated[int, typer.Option("--steps", help="Training steps, instead of epochs.")] = 0,
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Rows a step, to turn steps into epochs.")
    ] = 0,
    accelerator_type: Annotated[
        str, typer.Option("--accelerator-type", help="GPU or TPU, of a legacy model.")
    ] = "",
    rough: Annotated[
        bool, typer.Option("--rough", help="The tokens are an estimate: print a range.")
    ] = False,
    machine: Annotated[
        str, typer.Option("--machine", help="Machine to serve on; empty: the model's.")
    ] = "",
    replicas: Annotated[
        int, typer.Option("--replicas", min=1, help="Machines that serve at the same time.")
    ] = 1,
    hours: Annotated[
        float, typer.Option("--hours", min=0, help="Hours of serving, to add to the cost.")
    ] = 0,
    max_cost_usd: Annotated[
        float, typer.Option("--max-cost-usd", help="Fail above this cost of tuning; 0: no limit.")
    ] = 0,
    dataset_format: Annotated[
        str, typer.Option("--format", help="Format of DATA; auto: from its rows.")
    ] = "auto",
    project: Annotated[str, typer.Option("--project", help="Project of gs:// DATA.")] = "",
    allow_unlisted: Annotated[
        bool, typer.Option("--allow-unlisted", help="Accept a model newer than the catalogue.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Estimate what tuning costs, and what serving the tuned model costs an hour.

    Exit status: 0, 1 above --max-cost-usd, 2 wrong use.
    """
    from sft_components.catalog import load_catalog
    from sft_components.catalog.cost import (
        check_budget,
        estimate_tuning_cost,
        serving_cost_per_hour,
    )
    from sft_pipelines import estimating
    from sft_pipelines.cli.output import print_json, wrong_use
    from sft_pipelines.cli.places import reach_storage

    with wrong_use():
        spec = load_catalog().find(model, allow_unlisted)
        chosen = mode or next(iter(spec.modes))
        spec.mode(chosen)
        if data and (tokens or rows or tokens_per_row):
            raise UserError("Give DATA, or its numbers, not both.")
        if data:
            reach_storage(*data)
            given = estimating.read_training_set(
                data, spec, chosen, dataset_format=dataset_format, project=project
            )
        else:
            given = estimating.given_training_set(tokens, rows, tokens_per_row, rough)
        long = estimating.length(
            spec,
            given.rows,
            epochs=epochs,
            steps=steps,
            batch=batch_size,
            accelerator_type=accelerator_type,
        )
        cost = estimate_tuning_cost(spec, given.tokens, long.epochs, given.estimated)
        hourly = serving_cost_per_hour(machine or spec, replicas)
    evaluation = _evaluation(spec)
    served_on = machine or (spec.serving.machine_type if spec.serving else "")
    serving = {
        "machine_type": served_on,
        "usd_per_hour": hourly,
        "replicas": replicas,
        "hours": hours,
        "usd": hourly * hours if hourly is not None else None,
    }
    for warning in _warnings(spec, given, long, served_on):
        typer.echo(f"Warning: {warning}", err=True)
    if as_json:
        print_json(
            {
                "model": spec.name,
                "family": spec.family,
                "mode": chosen,
                "training_set": asdict(given),
                "length": asdict(long),
                "tuning": cost.as_dict(),
                "evaluation": evaluation,
                "serving": serving,
                "total": _total(cost, serving["usd"]),
                "notes": spec.notes,
            }
        )
    else:
        _print(spec, chosen, given, long, cost, evaluation, serving)
    check_budget(cost, max_cost_usd)


def _evaluation(spec: "ModelSpec") -> dict[str, Any] | None:
    """The machine of the evaluation on weights; None: there is none of its own."""
    from sft_components.catalog.cost import serving_cost_per_hour
    from sft_components.catalog.machines import EVALUATION_MACHINES, evaluation_accelerators

    machine = EVALUATION_MACHINES.get(evaluation_accelerators(spec))
    if machine is None:
        return None
    return {"machine_type": machine, "usd_per_hour": serving_cost_per_hour(machine)}


def _total(cost: "CostEstimate", serving_usd: Any) -> dict[str, float | None]:
    """Tuning and serving together; None where one of the two is unknown."""
    named = {"low": cost.low, "usd": cost.usd, "high": cost.high}
    return {
        name: None if usd is None or serving_usd is None else usd + serving_usd
        for name, usd in named.items()
    }


def _warnings(
    spec: "ModelSpec", given: "TrainingSet", long: "Length", machine_type: str
) -> list[str]:
    from sft_components.catalog.machines import too_small

    found = list(long.warnings)
    if given.errors:
        found.append(
            f"The data break rules of {spec.name} {given.errors:,} times, so that tuning would "
            "fail: see them with `vertex-sft validate`."
        )
    if spec.unlisted:
        found.append(spec.notes[0])
    elif spec.status == "retired":
        successor = f"; its successor is {spec.successor}" if spec.successor else ""
        found.append(f"{spec.name} is retired{successor}.")
    if spec.warning:
        found.append(f"{spec.name}: {spec.warning}")
    if unfit := too_small(spec, machine_type):
        found.append(unfit)
    return found


def _print(
    spec: "ModelSpec",
    mode: str,
    given: "TrainingSet",
    long: "Length",
    cost: "CostEstimate",
    evaluation: dict[str, Any] | None,
    serving: dict[str, Any],
) -> None:
    from rich.text import Text

    from sft_pipelines.cli.output import console

    out = console()
    out.print(Text(f"{spec.title} ({spec.name}), {mode}"))
    if given.rows:
        about = "about " if given.estimated else ""
        out.print(Text(f"Data     {given.rows:,} rows, {about}{given.tokens:,} tokens an epoch"))
    if long.steps:
        where = f", in {long.region} on {long.hardware}" if long.region else ""
        out.print(
            Text(
                f"Length   {long.steps:,} steps of {long.batch} rows: "
                f"{long.epochs:.3g} epochs{where}"
            )
        )
    out.print(Text(f"Tuning   {cost}"))
    if evaluation:
        out.print(
            Text(
                f"Evaluate ${evaluation['usd_per_hour']:,.2f} an hour on "
                f"{evaluation['machine_type']}, while held-out rows are answered"
            )
        )
    hourly, served_on, hours = serving["usd_per_hour"], serving["machine_type"], serving["hours"]
    if served_on and hourly is not None:
        machines = f"{serving['replicas']} x {served_on}" if serving["replicas"] > 1 else served_on
        day = f"${hourly * 24:,.2f} a day"
        out.print(
            Text(f"Serving  ${hourly:,.2f} an hour on {machines}, {day}, until it is deleted")
        )
    elif spec.family == "gemini":
        out.print(Text("Serving  on the service's own endpoint, billed by the tokens of its use"))
    elif spec.route == "pipeline-job":
        out.print(Text("Serving  on an endpoint that the service makes, at no price known here"))
    else:
        out.print(Text("Serving  no machine is named for this model; give --machine"))
    if hours and serving["usd"] is not None:
        out.print(Text(f"Total    {_total_text(cost, serving['usd'])}, serving {hours:g} hours"))
    if cost.source:
        out.print(Text(f"Price    {cost.source}", style="dim"))


def _total_text(cost: "CostEstimate", serving_usd: float) -> str:
    if cost.usd is None or cost.low is None or cost.high is None:
        return f"${serving_usd:,.2f} and what tuning costs"
    if not cost.estimated:
        return f"${cost.usd + serving_usd:,.2f}"
    return f"between ${cost.low + serving_usd:,.2f} and ${cost.high + serving_usd:,.2f}"
