"""`vertex-sft run`: on Vertex AI, on this machine, or on open-source Kubeflow Pipelines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from sft_components.errors import UserError
from sft_pipelines.cli import job_options as options
from sft_pipelines.cli.output import wrong_use


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("run", cls=options.TakesInputs)(run)


def run(
    template: options.TemplateName = "",
    parameter: options.Parameters = None,
    parameters_file: options.ParametersFile = None,
    request: options.RequestFile = None,
    public_template: options.PublicTemplate = False,
    project: options.Project = "",
    region: options.Region = "",
    pipeline_root: options.PipelineRoot = "",
    display_name: options.DisplayName = "",
    job_id: Annotated[
        str,
        typer.Option(
            help="Last part of the job's name. The same command with the same id follows the "
            "job that it made.",
            show_default="the template and the time",
        ),
    ] = "",
    label: options.Labels = None,
    service_account: options.ServiceAccount = "",
    network: options.Network = "",
    kms_key: options.KmsKey = "",
    caching: options.Caching = None,
    failure_policy: options.FailurePolicy = "",
    experiment: Annotated[
        str, typer.Option(help="Experiment that the run is shown in; made if there is none.")
    ] = "",
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Follow the run to its end.")
    ] = True,
    check_only: Annotated[
        bool, typer.Option("--check-only", help="Check everything, send nothing.")
    ] = False,
    kfp_host: Annotated[
        str, typer.Option(metavar="URL", help="Run on this open-source Kubeflow Pipelines.")
    ] = "",
    kfp_namespace: Annotated[
        str, typer.Option(help="With --kfp-host: the user's namespace, if it has several.")
    ] = "",
    local: Annotated[
        bool, typer.Option("--local", help="Rehearse on this machine, with no account.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="With --local: leave the endpoint running.")
    ] = False,
    base_model: Annotated[
        str | None,
        typer.Option(
            help="With --local: the stand-in for base models: smollm2, tiny or a folder.",
            show_default="smollm2, or that of a local Vertex AI that runs",
        ),
    ] = None,
    output_dir: Annotated[
        Path, typer.Option(help="With --local: where each run gets a folder.")
    ] = Path("runs"),
    as_json: options.AsJson = False,
) -> None:
    """Run a template: checked first, then submitted and followed to its end.

    Exit status: 0 it succeeded (or was submitted), 1 it failed or was cancelled, 2 wrong use, 130
    after Ctrl-C.

    A model that the gate keeps from deployment is no failure: --json has it as evaluation.passed.
    """
    from sft_pipelines.preparing import Wanted

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
    with wrong_use():
        if local and kfp_host:
            raise UserError("Give --local or --kfp-host, not both.")
        ours = {"--keep": keep, "--base-model": base_model}
        theirs = {"--job-id": job_id, "--experiment": experiment, "--no-wait": not wait}
        if local:
            _refuse("--local", {**theirs, "--kfp-namespace": kfp_namespace})
        elif kfp_host:
            _refuse("--kfp-host", {**ours, "--job-id": job_id})
        else:
            _refuse("Vertex AI", {**ours, "--kfp-namespace": kfp_namespace})
    if local:
        from sft_pipelines.cli.rehearsal.command import rehearse_command

        rehearse_command(
            wanted,
            base_model=base_model,
            keep=keep,
            output_dir=output_dir,
            check_only=check_only,
            as_json=as_json,
        )
    elif kfp_host:
        from sft_pipelines.cli.kfp_host import run_on_kfp

        run_on_kfp(
            wanted,
            host=kfp_host,
            namespace=kfp_namespace,
            experiment=experiment,
            wait=wait,
            check_only=check_only,
            as_json=as_json,
        )
    else:
        from sft_pipelines.cli.submit import run_on_vertex

        run_on_vertex(
            wanted,
            job_id=job_id,
            experiment=experiment,
            wait=wait,
            check_only=check_only,
            as_json=as_json,
        )


def _refuse(way: str, options: Mapping[str, object]) -> None:
    """Refuse options that would be passed over."""
    given = ", ".join(name for name, value in options.items() if value)
    if given:
        raise UserError(f"{given} has no effect with {way}: leave it out.")
