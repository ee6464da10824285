"""`vertex-sft doctor`."""

from typing import TYPE_CHECKING, Annotated

import typer

from sft_pipelines.cli.completing import model_names

if TYPE_CHECKING:
    from sft_pipelines.doctor.examination import Wanted
    from sft_pipelines.doctor.lines import Line

MARKS = {
    "ok": ("ok", "green"),
    "not ok": ("not ok", "red"),
    "could not be asked": ("?", "yellow"),
    "not here": ("–", "dim"),
}

INSTALL_GCLOUD = "https://cloud.google.com/sdk/docs/install"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("doctor")(doctor)


def doctor(
    project: Annotated[
        str,
        typer.Option("--project", help="Project; empty: GOOGLE_CLOUD_PROJECT, else gcloud's."),
    ] = "",
    location: Annotated[
        str,
        typer.Option(
            "--location",
            "--region",
            "-l",
            help="Region; empty: GOOGLE_CLOUD_LOCATION, else us-central1.",
        ),
    ] = "",
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="Look at its region and its quotas too.",
            autocompletion=model_names,
        ),
    ] = "",
    bucket: Annotated[
        str, typer.Option("--bucket", help="Bucket of rows and checkpoints, or gs://BUCKET/…")
    ] = "",
    service_account: Annotated[
        str,
        typer.Option("--service-account", help="Account the steps run as; empty: Compute's own."),
    ] = "",
    encryption_key: Annotated[
        str, typer.Option("--encryption-key", help="Customer-managed key, its full name.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at all that a run needs: each line ok, not ok, or ? where nobody could be asked.

    Nothing is changed. What is not ok comes with the command that mends it. Looks at the local
    Vertex AI if one runs and no other project is named, unless GOOGLE_VERTEX_BASE_URL names an
    address; – is what it does not have and a run there does not need.

    Exit status: 0 nothing is wrong that could be seen, 1 something is, 2 wrong use.
    """
    from shutil import which

    from sft_pipelines.cli.output import console, print_json, wrong_use
    from sft_pipelines.cli.places import DEFAULT_LOCATION, point_at_local
    from sft_pipelines.defaults import default_project, default_region
    from sft_pipelines.doctor.examination import Wanted, examine

    found = point_at_local(project)
    wanted = Wanted(
        project or default_project(),
        location or default_region() or DEFAULT_LOCATION,
        model,
        bucket,
        service_account,
        encryption_key,
    )
    lines = []
    out = console()
    with wrong_use():
        place = _looks_at(wanted, found)
    if not as_json:
        out.print(place, markup=False, soft_wrap=True)
    for line in examine(wanted):
        lines.append(line)
        if not as_json and not _is_sound_package(line):
            mark, colour = MARKS[line.status]
            out.print(f"[{colour}]{mark:>6}[/]", end="  ")
            out.print(f"{line.name}: {line.detail}", markup=False)
            if line.cure:
                out.print(f"        mend: {line.cure}", markup=False, soft_wrap=True)
    if as_json:
        print_json([line._asdict() for line in lines])
    wrong = sum(line.status == "not ok" for line in lines)
    unasked = sum(line.status == "could not be asked" for line in lines)
    if not as_json:
        packages = [
            f"{x.name.removeprefix('package ')} {x.detail}" for x in lines if _is_sound_package(x)
        ]
        if packages:
            out.print(f"[green]    ok[/]  packages: {', '.join(packages)}", soft_wrap=True)
        if any("gcloud " in x.cure for x in lines) and which("gcloud") is None:
            out.print(f"gcloud is not installed here: {INSTALL_GCLOUD}", soft_wrap=True)
        # As many as are shown: sound packages are one.
        shown = len(lines) - max(0, len(packages) - 1)
        counts = f"{wrong} not ok, {unasked} could not be asked"
        if absent := sum(line.status == "not here" for line in lines):
            counts += f", {absent} not here"
        out.print(f"{counts}, of {shown}.")
    if wrong:
        raise typer.Exit(1)


def _is_sound_package(line: "Line") -> bool:
    """Whether it needs no line of its own."""
    return line.name.startswith("package ") and line.status == "ok"


def _looks_at(wanted: "Wanted", found: bool) -> str:
    """What is looked at and, where it is not Google, how to look there.

    Args:
        wanted: Project and region.
        found: Whether it is a local Vertex AI that no variable names.
    """
    from sft_components.vertex.connection import Connection
    from sft_pipelines.cli.places import check_address
    from sft_pipelines.defaults import UNSET_LOCAL

    connection = Connection(wanted.project, wanted.location)
    check_address(connection)
    if not connection.is_local:
        return f"Looks at {connection.base_url}."
    cure = "" if found else f"{UNSET_LOCAL} and "
    return (
        f"Looks at the local Vertex AI, {connection.base_url}; to look at Google: {cure}give "
        "--project PROJECT"
    )
