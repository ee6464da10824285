"""`vertex-sft schedule`: runs that start by themselves."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sft_components.errors import UserError
from sft_pipelines.cli import job_options as options
from sft_pipelines.cli.costs import say_cost
from sft_pipelines.cli.job_options import err
from sft_pipelines.cli.output import ask, print_json, print_table, wrong_use
from sft_pipelines.cli.places import hinting_at_local, place, reach, reach_storage
from sft_pipelines.states import state_word

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1 import types

    from sft_pipelines.scheduling import Schedules

app = typer.Typer(help="Runs that start by themselves.", no_args_is_help=True)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Name, number or resource name of the schedule.")
]


@app.command(cls=options.TakesInputs)
def create(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name; a schedule that has it is updated.")
    ],
    template: options.TemplateName = "",
    cron: Annotated[
        str, typer.Option(help='Minute, hour, day, month, weekday, for instance "0 3 * * 1".')
    ] = "",
    time_zone: Annotated[
        str, typer.Option(help="IANA name, for instance Europe/Paris.", show_default="UTC")
    ] = "",
    start: Annotated[str, typer.Option(help="No run before, ISO 8601.", show_default="now")] = "",
    end: Annotated[str, typer.Option(help="No run after, ISO 8601.", show_default="never")] = "",
    max_runs: Annotated[int, typer.Option(help="Runs in all; 0: no limit.")] = 0,
    max_concurrent: Annotated[int, typer.Option(help="Runs that are being started at once.")] = 1,
    max_active: Annotated[
        int | None,
        typer.Option(
            help="Runs that have not ended, at once; 0: no limit.",
            show_default="1 with --when-changed, else 0",
        ),
    ] = None,
    allow_queueing: Annotated[
        bool,
        typer.Option(
            "--allow-queueing", help="Runs above these limits wait instead of being skipped."
        ),
    ] = False,
    when_changed: Annotated[
        bool,
        typer.Option(
            "--when-changed",
            help="A run ends early, and well, when the data set is the one of the last "
            "successful run.",
        ),
    ] = False,
    parameter: options.Parameters = None,
    parameters_file: options.ParametersFile = None,
    request: options.RequestFile = None,
    public_template: options.PublicTemplate = False,
    project: options.Project = "",
    region: options.Region = "",
    pipeline_root: options.PipelineRoot = "",
    display_name: options.DisplayName = "",
    label: options.Labels = None,
    service_account: options.ServiceAccount = "",
    network: options.Network = "",
    kms_key: options.KmsKey = "",
    caching: options.Caching = None,
    failure_policy: options.FailurePolicy = "",
    as_json: options.AsJson = False,
) -> None:
    """Create a schedule, or update the one that has NAME.

    The template's content is fixed at this moment: a newer version in the registry is run only
    after another `schedule create`.
    """
    from dataclasses import replace

    from sft_pipelines.checking import check_buckets, check_data
    from sft_pipelines.preparing import Wanted, prepare
    from sft_pipelines.scheduling import Schedules, leaves_endpoints, make_when, remember_under
    from sft_pipelines.submitting import build_job, console_url

    with wrong_use():
        if not cron:
            raise UserError('No time is named: give --cron, for instance --cron "0 3 * * *".')
        if not name or len(name) > 128:
            raise UserError(f"A schedule's name has 1 to 128 characters, not {len(name)}.")
        when = make_when(
            cron,
            time_zone=time_zone,
            start=start,
            end=end,
            max_runs=max_runs,
            max_concurrent=max_concurrent,
            # A second run beside the first would not know yet what that one is trained on.
            max_active=int(when_changed) if max_active is None else max_active,
            allow_queueing=allow_queueing,
        )
        wanted = Wanted(
            template=template,
            assignments=parameter or (),
            parameters_file=parameters_file,
            request_file=request,
            public_template=public_template,
            project=project,
            region=region,
            pipeline_root=pipeline_root,
            display_name=display_name,
            labels=label or (),
            service_account=service_account,
            network=network,
            kms_key=kms_key,
            caching=caching,
            failure_policy=failure_policy,
        )
        with hinting_at_local():
            prepared = prepare(wanted, err)
        if when_changed:
            values = remember_under(
                name,
                prepared.source.template,
                prepared.values,
                prepared.options.pipeline_root,
            )
            prepared = replace(prepared, values=values)
        if leaves_endpoints(prepared.values, prepared.source.template):
            err(
                "Warning: each run whose model passes leaves an endpoint of its own, which costs "
                "money until it is deleted: give endpoint_ttl_hours and reap them with "
                "`vertex-sft endpoints reap`, or give promote_to_endpoint."
            )
        job = build_job(prepared.source, prepared.values, prepared.options)
    schedules = Schedules(reach(prepared.connection))
    run = (prepared.source.template, prepared.values, prepared.options.project)
    reach_storage(prepared.options.pipeline_root, *map(str, prepared.values.values()))
    with wrong_use():
        check_buckets(*run[:2], prepared.options.pipeline_root, prepared.options.project)
    try:
        check_data(*run)
    except UserError as error:
        # Something may write it before the first run.
        err(f"Warning: {error} A run that does not find it fails in its first step.")
    else:
        with wrong_use():
            say_cost(*run)
    schedule, new = schedules.upsert(name, job, when, err)
    if as_json:
        print_json({**_described(schedule), "created": new})
        return
    typer.echo(f"{'Created' if new else 'Updated'} {schedule.name}")
    typer.echo(f"{prepared.source.describe()}, {schedule.cron}, next {_next_run(schedule)}")
    typer.echo(console_url(prepared.connection, schedule.name))


@app.command("list")
def list_schedules(
    project: options.OfProject = "",
    region: options.InRegion = "",
    as_json: options.AsJson = False,
) -> None:
    """List the schedules of pipelines in a region."""
    from sft_pipelines.scheduling import template_of

    found = _schedules(project, region).all()
    if as_json:
        print_json([_described(one) for one in found])
        return
    if not found:
        typer.echo("No schedules.")
        return
    rows = [
        (
            one.display_name,
            state_word(one.state.name),
            one.cron,
            _next_run(one).partition(" (")[0],  # the table has room for one clock
            str(one.started_run_count),
            template_of(one),
            one.name.rpartition("/")[2],
        )
        for one in found
    ]
    headings = ("Name", "State", "Cron", "Next run", "Runs", "Template", "Number")
    print_table(headings, rows, right=("Runs",))


@app.command()
def show(
    name: Name,
    project: options.OfProject = "",
    region: options.InRegion = "",
    as_json: options.AsJson = False,
) -> None:
    """Show one schedule: when, what, with which inputs."""
    found = _schedules(project, region, name).find(name)
    facts = _described(found)
    if as_json:
        print_json(facts)
        return
    facts = {**facts, "next_run": _next_run(found)}
    for key, value in facts.items():
        if key != "parameters" and value not in ("", None):
            typer.echo(f"{key.replace('_', ' ')}: {value}")
    for key, value in facts["parameters"].items():
        typer.echo(f"  {key}: {value}")


@app.command()
def pause(
    name: Name,
    project: options.OfProject = "",
    region: options.InRegion = "",
    as_json: options.AsJson = False,
) -> None:
    """Start no more runs; those that run go on."""
    found = _schedules(project, region, name).pause(name)
    if as_json:
        print_json(_described(found))
    else:
        typer.echo(f"{found.display_name} is {state_word(found.state.name)}.")


@app.command()
def resume(
    name: Name,
    project: options.OfProject = "",
    region: options.InRegion = "",
    catch_up: Annotated[
        bool, typer.Option("--catch-up", help="Start the runs that were missed, too.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Start runs again."""
    found = _schedules(project, region, name).resume(name, catch_up=catch_up)
    if as_json:
        print_json(_described(found))
    else:
        typer.echo(
            f"{found.display_name} is {state_word(found.state.name)}, next {_next_run(found)}."
        )


@app.command()
def delete(
    name: Name,
    project: options.OfProject = "",
    region: options.InRegion = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Delete a schedule; runs that it has started go on.

    Without --yes it asks first, and where nobody can be asked it refuses.
    """
    schedules = _schedules(project, region, name)
    found = schedules.find(name)
    ask(f"Delete {found.display_name} ({found.name}, {found.cron})?", yes)
    deleted = schedules.delete(found.name)
    if as_json:
        print_json({"deleted": deleted})
    else:
        typer.echo(f"Deleted {deleted}")


def _schedules(project: str, region: str, name: str = "") -> "Schedules":
    """The schedules of the place that a resource name, the options or the environment name."""
    from sft_pipelines.scheduling import Schedules

    parts = name.split("/")
    if len(parts) == 6 and parts[::2] == ["projects", "locations", "schedules"]:
        project, region = parts[1], parts[3]
    with wrong_use():
        return Schedules(place(project, region))


def _described(schedule: "types.Schedule") -> dict[str, Any]:
    from google.protobuf import json_format

    from sft_pipelines.scheduling import template_of

    job = schedule.create_pipeline_job_request.pipeline_job
    config = json_format.MessageToDict(type(job).pb(job).runtime_config)
    template = template_of(schedule)
    version = template.rpartition("/")[2]
    return {
        "display_name": schedule.display_name,
        "name": schedule.name,
        "state": state_word(schedule.state.name),
        "cron": schedule.cron,
        "next_run": _moment(schedule),
        "start": schedule.start_time.isoformat() if schedule.start_time else "",
        "end": schedule.end_time.isoformat() if schedule.end_time else "",
        "runs": schedule.started_run_count,
        "max_runs": schedule.max_run_count or "",
        "max_concurrent": schedule.max_concurrent_run_count,
        "max_active": schedule.max_concurrent_active_run_count or "",
        "allow_queueing": schedule.allow_queueing,
        "template": template,
        "template_digest": version if version.startswith("sha256:") else "",
        "service_account": job.service_account,
        "last_response": schedule.last_scheduled_run_response.run_response,
        "parameters": config.get("parameterValues", {}),
    }


def _moment(schedule: "types.Schedule") -> str:
    """When it starts the next run; empty: it starts none as it is."""
    if schedule.state.name != "ACTIVE" or not schedule.next_run_time:
        return ""
    return str(schedule.next_run_time.isoformat(timespec="minutes"))


def _next_run(schedule: "types.Schedule") -> str:
    """The same for people: by the schedule's clock, and by this machine's where it differs."""
    import zoneinfo

    from sft_pipelines.cli.jobs_print import local_time
    from sft_pipelines.cron import zone_of

    here = local_time(_moment(schedule))
    if not here:
        return "none"
    zone = zone_of(schedule.cron)
    try:
        there = schedule.next_run_time.astimezone(zoneinfo.ZoneInfo(zone))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):  # not every machine has the zones
        return here
    if there.utcoffset() == there.astimezone().utcoffset():
        return here
    return f"{there:%Y-%m-%d %H:%M} {zone} ({here})"
