"""`vertex-sft run --local`: a rehearsal, and what is shown at its end."""

import shlex
import signal
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import typer

from sft_components.errors import UserError
from sft_pipelines.cli.outcome import how_to_delete, made, next_commands
from sft_pipelines.cli.output import (
    check_output_dir,
    console,
    print_checked,
    print_json,
    printable,
    wrong_use,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from sft_pipelines.cli.rehearsal.session import Rehearsal
    from sft_pipelines.preparing import Wanted

SHOWN_ROWS = 8


def rehearse_command(
    wanted: "Wanted",
    *,
    base_model: str | None,
    keep: bool,
    output_dir: Path,
    check_only: bool,
    as_json: bool,
) -> None:
    """Rehearse on this machine and print what came of it; exits with 1 when a step fails."""
    try:
        from sft_local import control
    except ImportError as error:
        raise UserError(
            f"A rehearsal needs the extra 'local' ({error.name} is missing): "
            "pip install 'vertex-sft[local]'"
        ) from error
    from sft_pipelines.checking import check_data, check_values
    from sft_pipelines.cli.costs import say_cost
    from sft_pipelines.cli.rehearsal.leftovers import Owned
    from sft_pipelines.cli.rehearsal.results import step_names
    from sft_pipelines.cli.rehearsal.screen import Screen
    from sft_pipelines.cli.rehearsal.session import rehearsal_defaults, rehearse
    from sft_pipelines.cli.rehearsal.turns import under_way
    from sft_pipelines.preparing import check_region, read_source, read_values
    from sft_pipelines.room import check_room

    def warn(line: str) -> None:
        typer.echo(line, err=True)

    with wrong_use():
        request, source = read_source(wanted, warn)
        if source.inline or not source.sends_spec:
            raise UserError("A rehearsal runs a template file: give its name, path or address.")
        found = source.template
        defaults = {**rehearsal_defaults(found), **_places(wanted)}
        if idle := _without_effect(wanted):
            warn(f"Without effect in a rehearsal: {', '.join(idle)}.")
        values = read_values(wanted, request, source, defaults, warn)
        check_region(wanted, found, values, str(values.get("location") or ""), warn)
        # The first step says again what is said here.
        check_values(found, values, "", warn if check_only else lambda _: None)
        # What is in Cloud Storage can be looked at only when there is one.
        check_data(found, {k: v for k, v in values.items() if "gs://" not in str(v)}, "")
        if "gs://" not in str(values.get("dataset_uri")):
            say_cost(found, values, "", only_limited=True)
        check_output_dir(output_dir)
        if check_only:
            if running := control.running():
                check_room(found, values, running.api_url, warn, alone=not under_way())
            print_checked(source.describe(), {"parameters": values}, as_json)
            return
    # Also where the shell started us with SIGINT ignored, as it does in the background.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    screen_console = console(stderr=as_json)
    # The run's name too, and such as kfp's own local runner gives.
    folder = output_dir.absolute() / f"{found.name}-{datetime.now():%Y-%m-%d-%H-%M-%S-%f}"
    try:
        with Screen(screen_console, step_names(found)) as screen:
            result = rehearse(
                found,
                values,
                folder=folder,
                base_model=base_model,
                keep=keep,
                screen=screen,
            )
    except KeyboardInterrupt:
        if (log := folder / "run.log").is_file():
            typer.echo(f"The whole log: {log}", err=True)
        left = "Nothing of this run was left running."
        if control.running() and Owned.by(values, folder / "steps").noted.exists():
            left = "What this run left is taken down by the next rehearsal."
        typer.echo(f"Interrupted. {left}", err=True)
        sys.exit(130)
    if as_json:
        print_json(_as_dict(result))
    if not result.succeeded:
        what = result.failed_step or "The run"
        for step, report in result.results.reports:
            typer.echo(f"report of {step}: {report}", err=True)
        typer.echo(f"The whole log: {result.log}", err=True)
        for line in _of_no_quality(result, base_model):
            typer.echo(line, err=True)
        typer.echo(f"Error: {what} failed: {result.error}", err=True)
        sys.exit(1)
    if as_json:
        return
    _summary(screen_console, result)
    for line in (*_end(result, keep, base_model), *_of_no_quality(result, base_model)):
        typer.echo(line)


def _end(result: "Rehearsal", keep: bool, base_model: str | None) -> "Iterator[str]":
    """What was made, what is left of it, and how to look at it."""
    from sft_local import control, paths

    results, outputs = result.results, result.outputs
    served = results.found.get("endpoint_resource_name")
    taken_down = results.own_endpoint and not keep
    if taken_down:
        gone = (served, results.found.get("model_resource_name"))
        found, outputs = (
            {name: value for name, value in of.items() if value not in gone}
            for of in (results.found, outputs)
        )
        results = replace(results, found=found)
    yield from made(results, outputs)
    if taken_down:
        yield "Its endpoint was taken down; --keep leaves it up."
    named = list(results.found.values())
    if named and control.running() is None:
        chosen = f" --base-model {shlex.quote(base_model)}" if base_model else ""
        yield f"Job and weights stay in {paths.state_dir()} (gs:// in storage/); to look at them:"
        yield f"vertex-sft local up{chosen}"
    if any(
        name.split("/")[:2] not in (["projects", control.PROJECT], ["gs:", ""]) for name in named
    ):
        # Another project's name alone would be asked for at Google.
        yield 'Point this shell at it: eval "$(vertex-sft local env)"'
    yield from next_commands(results)
    if not keep:
        return
    if results.own_endpoint:
        yield how_to_delete(results, here=True)
    else:
        yield "There is no endpoint of this run to keep. The local Vertex AI still runs."
    yield (
        "vertex-sft local down stops it with everything it serves; what is deployed is back at the "
        "next vertex-sft local up."
    )


def _of_no_quality(result: "Rehearsal", base_model: str | None) -> "Iterator[str]":
    """That the random model stood in, as figures of it look like a failure."""
    from sft_local import control

    if result.base_model != "tiny" or not result.results.found:
        return
    cure = ["vertex-sft local down"] if control.running() else []
    cure.append("run again without --base-model tiny" if base_model else "run again")
    yield (
        "tiny stood in, a random model that knows nothing: its answers are noise, and the figures "
        f"say nothing of quality. For a model that learns: {', then '.join(cure)}."
    )


def _places(wanted: "Wanted") -> dict[str, str]:
    """Project and region as options give them, for the parameters of these names."""
    from sft_components.vertex.connection import LOCATION
    from sft_pipelines.submitting import project_problem

    if wanted.project and (problem := project_problem(wanted.project)):
        raise UserError(problem)
    if wanted.region and not LOCATION.fullmatch(wanted.region):
        raise UserError(f"--region is {wanted.region!r}: write a region such as us-central1.")
    given = {"project": wanted.project, "location": wanted.region}
    return {name: value for name, value in given.items() if value}


def _without_effect(wanted: "Wanted") -> list[str]:
    """Options that were given and that only a submitted run has a use for."""
    given = {
        "--pipeline-root": wanted.pipeline_root,
        "--display-name": wanted.display_name,
        "--label": wanted.labels,
        "--service-account": wanted.service_account,
        "--network": wanted.network,
        "--kms-key": wanted.kms_key,
        "--caching" if wanted.caching else "--no-caching": wanted.caching is not None,
        "--failure-policy": wanted.failure_policy,
    }
    return [name for name, value in given.items() if value]


def _as_dict(result: "Rehearsal") -> dict[str, object]:
    return {
        "folder": str(result.folder),
        "run_name": result.run_name,
        "state": "succeeded" if result.succeeded else "failed",
        "failed_step": result.failed_step,
        "error": result.error,
        "log": str(result.log),
        "outputs": result.outputs,
        "results": result.results.found,
        "evaluation": result.results.evaluation,
        "reports": [report for _, report in result.results.reports],
        "seconds": result.seconds,
        "total_seconds": round(result.total_s, 1),
    }


def _summary(out: "Console", result: "Rehearsal") -> None:
    from rich.table import Table
    from rich.text import Text

    from sft_components.evaluation.report import shared_opening
    from sft_components.evaluation.tasks import PRIMARY, SPOKEN

    if result.predictions:
        count = len(result.predictions)
        title = f"Held-out rows, {SHOWN_ROWS} of {count}" if count > SHOWN_ROWS else "Held-out rows"
        table = Table(title=title, title_justify="left")
        compared = any(row["base"] is not None for row in result.predictions)
        answers = ("base answer", "tuned answer") if compared else ("tuned answer",)
        for column in ("prompt", "expected", *answers):
            table.add_column(column, overflow="fold", max_width=44)
        opening = shared_opening([row["prompt"] for row in result.predictions])
        if opening:
            opens = f"Every prompt begins: {_short(opening)}"
            out.print(opens, markup=False, soft_wrap=True)
        for row in result.predictions[:SHOWN_ROWS]:
            table.add_row(
                Text(_short(row["prompt"].removeprefix(opening))),
                Text(_short(row["reference"])),
                *([Text(_short(row["base"] or ""))] if compared else []),
                Text(_short(row["tuned"]), style="green" if row["tuned_exact"] else ""),
            )
        out.print(table)
    out.print(f"files of the run: {result.folder}", markup=False, soft_wrap=True)
    for name, seconds in (*result.seconds.items(), ("in all", result.total_s)):
        out.print(f"{name:22} {seconds:6.1f} s", highlight=False)
    if rows := result.predictions:
        primary = PRIMARY[result.results.evaluation["task"]]
        scores = [name for name in ("base_scores", "tuned_scores") if rows[0][name]]
        means = " -> ".join(f"{fmean(row[s][primary] for row in rows):.2f}" for s in scores)
        out.print(f"{SPOKEN[primary]} {means} on {len(rows)} held-out rows", highlight=False)


def _short(text: str, limit: int = 120) -> str:
    from sft_components.evaluation.report import readable

    line = printable(readable(" ".join(text.split())))
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
