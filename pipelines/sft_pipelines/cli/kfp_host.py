"""`vertex-sft run --kfp-host`: submit to open-source Kubeflow Pipelines."""

import signal
import sys
from typing import TYPE_CHECKING

import typer

from sft_pipelines.cli.costs import say_cost
from sft_pipelines.cli.job_options import err
from sft_pipelines.cli.outcome import INTERRUPTED, ended, wants_cancel
from sft_pipelines.cli.output import print_checked, print_json, wrong_use

if TYPE_CHECKING:
    from sft_pipelines.open_source import KfpHost, KfpRun
    from sft_pipelines.preparing import Wanted


def run_on_kfp(
    wanted: "Wanted",
    *,
    host: str,
    namespace: str,
    experiment: str,
    wait: bool,
    check_only: bool,
    as_json: bool,
) -> None:
    """Check, submit and follow; exits with 1 when the run does not succeed."""
    from datetime import UTC, datetime

    from rich.console import Console

    from sft_components.errors import UserError
    from sft_pipelines.checking import (
        check_addresses,
        check_buckets,
        check_data,
        check_prompts,
        check_values,
    )
    from sft_pipelines.cli.job_screen import JobScreen
    from sft_pipelines.cli.places import reach_storage
    from sft_pipelines.defaults import default_project, default_region
    from sft_pipelines.following import planned_tasks
    from sft_pipelines.open_source import KfpHost
    from sft_pipelines.preparing import check_region, read_source, read_values

    with wrong_use():
        request, source = read_source(wanted, err)
        if not source.sends_spec:
            raise UserError("--public-template: only Vertex AI can read that address.")
        defaults = {
            "project": wanted.project or default_project(),
            "location": wanted.region or default_region(),
        }
        values = read_values(wanted, request, source, defaults, err)
        check_region(wanted, source.template, values, str(values.get("location") or ""), err)
        root = wanted.pipeline_root or (request.pipeline_root if request else "")
        check_addresses(source.template, values, root)
        check_values(source.template, values, root, err)
        project = str(values.get("project") or "")
        check_prompts(values, project, err)
        if not check_only:
            reach_storage(root, *map(str, values.values()))
            check_data(source.template, values, project)
            check_buckets(source.template, values, root, project)
        say_cost(source.template, values, project, only_limited=check_only)
    if check_only:
        print_checked(source.describe(), {"parameters": values}, as_json)
        return
    err(f"{source.describe()} to {host}")
    kfp = KfpHost(host, namespace)
    template = source.template
    run = kfp.submit(
        template,
        values,
        # The steps are told this name, and find by it what their run has made: no other run may
        # have it.
        name=f"{wanted.display_name or template.name} {datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}",
        pipeline_root=root,
        experiment=experiment,
        service_account=wanted.service_account,
        caching=wanted.caching,
    )
    err(run.url)
    described = {"run_id": run.run_id, "name": run.name, "url": run.url, "parameters": values}
    if not wait:
        if as_json:
            print_json({**described, "state": "pending"})
        else:
            typer.echo(run.run_id)
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    planned = planned_tasks(template.spec)
    while True:
        try:
            with JobScreen(Console(stderr=as_json)) as screen:
                for snapshot in kfp.follow(run, planned, screen.note):
                    screen.show(snapshot)
        except KeyboardInterrupt:
            _interrupted(kfp, run)
        else:
            break
    if as_json:
        print_json({**described, **ended(snapshot)})
    for task in snapshot.tasks:
        if task.state == "failed" and not task.graph:
            err(f"Error: {task.name} failed: {task.error or 'its log says why'}")
    if not snapshot.succeeded:
        err(f"Run {run.name} ended as {snapshot.state}. {snapshot.error}".rstrip())
        err(f"Logs of its steps: {run.url}")
        sys.exit(1)
    if not as_json:
        typer.echo(f"Succeeded: run {run.name}, {run.run_id}.")
        typer.echo(f"Outputs and logs of its steps: {run.url}")
        if root:
            typer.echo(f"Files of its steps: below {root}")
        if output := values.get("output_uri"):
            typer.echo(f"Data and weights: below {output}")


def _interrupted(kfp: "KfpHost", run: "KfpRun") -> None:
    if not wants_cancel():
        err(f"The run goes on. Look at it, or terminate it, at {run.url}")
        sys.exit(INTERRUPTED)
    kfp.cancel(run)
    err("Terminating the run.")
