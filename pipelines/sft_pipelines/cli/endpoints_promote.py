"""`vertex-sft endpoints promote` and `rollback`."""

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sft_components.errors import UserError
from sft_pipelines.cli.endpoints import Name, find
from sft_pipelines.cli.jobs import AsJson, Locations, Project

if TYPE_CHECKING:
    from sft_components.evaluation.settings import Settings
    from sft_components.promote_model.settings import Promotion
    from sft_components.vertex.connection import Connection


OPTIONS = {
    "traffic_share": "--share",
    "settle_s": "--settle",
    "min_replica_count": "--min-replicas",
    "max_replica_count": "--max-replicas",
    "version_aliases": "--alias",
    "fallback_machines": "--fallback-machine",
    "test_share": "--test-share",
    "base_model": "--base-model",
    "parent_model": "--parent-model",
    "max_latency_s": "--max-latency-s",
    "min_improvement": "--min-improvement",
    "machine_type": "--machine-type",
    "accelerator_type": "--accelerator-type",
    "accelerator_count": "--accelerator-count",
}
"""Of `promote`, by the settings of the components, which their errors name."""


REPORT = "evaluate-endpoint.html"


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("promote")(promote)
    app.command("rollback")(rollback)


def promote(
    name: Name,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Model of the registry, projects/P/locations/L/models/ID@VERSION (or an alias), "
            "or the gs:// folder of weights.",
        ),
    ],
    project: Project = "",
    location: Locations = None,
    share: Annotated[
        int, typer.Option("--share", help="Per cent that it gets; below 100 the old one stays.")
    ] = 100,
    test_share: Annotated[
        int,
        typer.Option(
            help="Per cent of the users' requests while it is tested; 0: it is tested on an "
            "endpoint of its own."
        ),
    ] = 0,
    settle: Annotated[
        float, typer.Option("--settle", help="Seconds that the old one stays without traffic.")
    ] = 60.0,
    base_model: Annotated[
        str, typer.Option("--base-model", "-m", help="What was tuned, as the catalogue names it.")
    ] = "",
    parent_model: Annotated[
        str, typer.Option(help="projects/P/locations/L/models/ID that gets it as a new version.")
    ] = "",
    machine_type: Annotated[
        str,
        typer.Option(
            help="For instance g2-standard-12; empty: the machine of the old one, or the base "
            "model's own."
        ),
    ] = "",
    accelerator_type: Annotated[str, typer.Option(help="Empty: the machine's own.")] = "",
    accelerator_count: Annotated[
        int, typer.Option(help="Of one replica; 0: the machine's own.")
    ] = 0,
    fallback_machine: Annotated[
        list[str] | None, typer.Option(help="To try where there is none; may be repeated.")
    ] = None,
    min_replicas: Annotated[
        int, typer.Option(help="Fewest machines at an empty endpoint; else as the old one.")
    ] = 1,
    max_replicas: Annotated[int, typer.Option(help="Most machines there.")] = 1,
    spot: Annotated[bool, typer.Option("--spot", help="Spot machines there.")] = False,
    service_account: Annotated[str, typer.Option(help="Account its container runs as.")] = "",
    alias: Annotated[
        list[str] | None,
        typer.Option("--alias", help="Version aliases; may be repeated.", show_default="champion"),
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(help="Held-out rows: it is compared with the old one before any user's turn."),
    ] = None,
    gate: Annotated[
        str, typer.Option(help="What must hold, such as exact_match >= base.exact_match.")
    ] = "",
    min_improvement: Annotated[
        float,
        typer.Option(
            help="Least gain over the old one in the primary metric, -1 to 1; -1: any will do."
        ),
    ] = 0.0,
    output_dir: Annotated[
        Path, typer.Option(help="Where an evaluation gets a folder for report and answers.")
    ] = Path("runs"),
    max_latency_s: Annotated[
        float, typer.Option(help="Longest answer of the smoke test; 0: no limit.")
    ] = 0.0,
    run_name: Annotated[
        str,
        typer.Option(help="What is begun under a name is gone on with; empty: made of the names."),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Put a model in the place of the one that an endpoint serves, without a lost request.

    It is tested, deployed beside the old one and given its traffic; then the old one is undeployed.
    Whatever fails before, the traffic is as it was. At an endpoint that serves nothing yet it is
    the first, and whatever fails leaves that empty.
    """
    from dataclasses import asdict, replace

    from sft_components.evaluate_endpoint.work import check_evaluation
    from sft_components.evaluation.gate import needs_base
    from sft_components.evaluation.settings import Settings
    from sft_components.promote_model.record import spoken
    from sft_components.promote_model.registering import PREVIOUS_ALIAS
    from sft_components.promote_model.settings import Promotion
    from sft_components.promote_model.shares import check_first
    from sft_components.promote_model.work import promote_model
    from sft_components.vertex.keys import PROMOTES_LABEL, deployed_id, digest
    from sft_pipelines.cli.output import check_output_dir, print_json, wrong_use
    from sft_pipelines.endpoints.promoting import check_not_served, check_weights, version_of

    weights = model.startswith("gs://")
    settings = Settings(gate=gate, min_improvement=min_improvement)
    place, endpoint = find(name, project, location)
    wanted = Promotion(
        endpoint=endpoint.name,
        run_name=run_name or "promotion",
        model="" if weights else model,
        checkpoint_uri=model if weights else "",
        base_model=base_model,
        parent_model=parent_model,
        test_share=test_share,
        traffic_share=share,
        settle_s=settle,
        machine_type=machine_type,
        accelerator_type=accelerator_type,
        accelerator_count=accelerator_count,
        fallback_machines=fallback_machine or [],
        min_replica_count=min_replicas,
        max_replica_count=max_replicas,
        spot=spot,
        service_account=service_account,
        version_aliases=alias or ["champion"],
        max_latency_s=max_latency_s,
    )
    with wrong_use(), _named_as_options():
        if not weights:
            _check_model(model, endpoint.name)
        wanted.check()
        if evaluation is None and (gate or min_improvement):
            option = "--gate" if gate else "--min-improvement"
            raise UserError(f"{option} needs rows to measure: give --evaluation.")
        if not endpoint.deployed:
            check_first(endpoint.name, share, test_share)
            if needs_base(gate):
                raise UserError(
                    f"The gate {gate!r} compares with what {endpoint.name} serves, which is "
                    "nothing yet: name metrics of the new model alone."
                )
            if min_improvement > 0:
                raise UserError(
                    f"--min-improvement compares with what {endpoint.name} serves, which is "
                    "nothing yet: leave it out."
                )
        old = endpoint.name if endpoint.deployed else ""
        if evaluation is not None:
            check_output_dir(output_dir)
            check_evaluation(
                project=endpoint.name.split("/")[1],
                base_model=base_model,
                base_endpoint=old,
                evaluation_path=evaluation,
                settings=settings,
            )
        if not weights:
            # An alias moves on with each promotion, which must not look like the one before.
            model = version_of(model, place)
            wanted = replace(wanted, model=model)
        if not run_name:
            wanted = replace(wanted, run_name=f"promotion-{digest(endpoint.name, model)}")
        begun = deployed_id(wanted.run_name, endpoint.name)
        if PROMOTES_LABEL not in endpoint.labels and begun not in {d.id for d in endpoint.deployed}:
            if weights:
                check_weights(model, place.project)
            if not machine_type:
                check_not_served(model, endpoint, place, _log)
    examine = _Examination(wanted, old, evaluation, settings, output_dir) if evaluation else None
    with _named_as_options():
        result = promote_model(wanted, examine=examine, log=_log)
    if examine is not None and not examine.done:
        with suppress(OSError):  # there may be answers of one that was cut off
            examine.report.parent.rmdir()
    if as_json:
        print_json(asdict(result))
    else:
        # It may have been there: promoted before, or with a share of the traffic.
        others = [d for d in endpoint.deployed if d.id != result.deployed_model]
        names = {d.id: f"{d.model} ({d.id})" for d in others}
        names[result.deployed_model] = f"{result.model} ({result.deployed_model})"
        typer.echo(f"{result.endpoint} serves {spoken(result.traffic, names)}")
        before = {deployed.model.partition("@")[0] for deployed in others}
        alone = list(result.traffic) == [result.deployed_model]
        if alone and len(before) == 1:
            back = f"vertex-sft endpoints promote {result.endpoint} {before.pop()}@{PREVIOUS_ALIAS}"
            typer.echo(f"To go back to what it served before: {back}")
        elif not alone:
            given = {"-m": base_model, "--parent-model": parent_model, "--run-name": run_name}
            options = [word for pair in given.items() if pair[1] for word in pair]
            options += [word for name in alias or [] for word in ("--alias", name)]
            whole = shlex.join(
                ["vertex-sft", "endpoints", "promote", endpoint.name, model, *options]
            )
            typer.echo(f"To give it all the traffic: {whole}")
            back = f"vertex-sft endpoints rollback {endpoint.name}"
            typer.echo(f"To take it away, with the traffic as before: {back}")
        if examine is not None and examine.done:
            typer.echo(f"report of the evaluation: {examine.report}")
            typer.echo(f"its answers: {examine.predictions}")
        elif examine is not None:
            typer.echo("not evaluated: it serves there already")


def rollback(
    name: Name, project: Project = "", location: Locations = None, as_json: AsJson = False
) -> None:
    """Undo a promotion that has not ended, or one with a share: the traffic as it was before.

    One that has ended has nothing to go back to: promote MODEL@previous-champion instead.
    """
    from google.cloud.aiplatform_v1beta1.services.endpoint_service import EndpointServiceClient

    from sft_components.promote_model.registering import PREVIOUS_ALIAS
    from sft_components.promote_model.restoring import roll_back
    from sft_pipelines.cli.output import print_json
    from sft_pipelines.endpoints.remote import get_endpoint

    place, endpoint = find(name, project, location)
    if not roll_back(place.client(EndpointServiceClient), endpoint.name, _log):
        models = {deployed.model.partition("@")[0] for deployed in endpoint.deployed}
        named = [f"{model}@{PREVIOUS_ALIAS}" for model in models]
        before = [version for version in named if _exists(place, version)]
        how = "No model that it serves has a version that was in use before."
        if before:
            command = f"vertex-sft endpoints promote {endpoint.name} {before[0]}"
            how = f"To go back to the version that the model had before: {command}"
        typer.echo(f"Error: {endpoint.name} is in no promotion. {how}", err=True)
        raise typer.Exit(1)
    now = get_endpoint(place, endpoint.name)
    if as_json:
        print_json(now.as_dict())
    else:
        for deployed in now.deployed:
            typer.echo(f"{deployed.model}: {deployed.traffic} %")
        if not now.deployed:
            typer.echo(f"{endpoint.name} serves nothing, as before.")


def _exists(place: "Connection", model: str) -> bool:
    from google.api_core import exceptions as api
    from google.cloud.aiplatform_v1beta1.services.model_service import ModelServiceClient

    try:
        place.client(ModelServiceClient).get_model(name=model, timeout=60)
    except api.NotFound:
        return False
    return True


@contextmanager
def _named_as_options() -> Iterator[None]:
    """Errors with the options that a person gave in the place of the component's settings."""
    try:
        yield
    except UserError as error:
        names = rf"(?<![\w/.-])({'|'.join(OPTIONS)})(?![\w/-])"
        error.args = (re.sub(names, lambda found: OPTIONS[found[0]], str(error)),)
        raise


def _check_model(model: str, endpoint: str) -> None:
    """Refuse what is no model of the registry that the endpoint could serve."""
    _, project, _, location, *_ = endpoint.split("/")
    parts = model.split("/")
    if len(parts) != 6 or parts[::2] != ["projects", "locations", "models"] or not all(parts):
        name = parts[-1] or "ID"
        raise UserError(
            f"MODEL is {model!r}: write projects/{project}/locations/{location}/models/"
            f"{name}{'' if '@' in name else '@VERSION'}, or the gs:// folder of weights."
        )
    if parts[3] != location:
        raise UserError(
            f"MODEL is in {parts[3]}, and {endpoint} is not: an endpoint serves models of its "
            "region."
        )


class _Examination:
    """What evaluates the challenger at its test endpoint.

    Args:
        wanted: The promotion.
        old: The endpoint of the champion that it is compared with; empty: there is none.
        rows: Held-out rows.
        settings: What must hold.
        output_dir: Where it gets a folder of its own.
    """

    def __init__(
        self, wanted: "Promotion", old: str, rows: Path, settings: "Settings", output_dir: Path
    ) -> None:
        self.done = False
        """Whether it was evaluated: one that serves already is not."""
        self._wanted = wanted
        self._old = old
        self._rows = rows
        self._settings = settings
        folder = _folder(output_dir.absolute() / re.sub(r"[^\w.-]", "-", wanted.run_name))
        folder.mkdir(parents=True, exist_ok=True)
        self.report = folder / REPORT
        self.predictions = folder / "predictions.jsonl"

    def __call__(self, endpoint: str) -> None:
        """Compare the model at `endpoint`.

        Raises:
            UserError: The gate is not passed.
        """
        from sft_components.evaluate_endpoint.work import evaluate_endpoint
        from sft_components.evaluation.outcome import Outputs

        result = evaluate_endpoint(
            project=endpoint.split("/")[1],
            endpoint=endpoint,
            base_model=self._wanted.base_model,
            base_endpoint=self._old,
            evaluation_path=self._rows,
            settings=self._settings,
            outputs=Outputs(self.report, self.predictions),
            log=_log,
        )
        if not result.passed:
            raise UserError(f"The gate is not passed: {result.reason} See {self.report}.")
        self.done = True


def _folder(first: Path) -> Path:
    """`first`, or with a number behind it: one in which no evaluation has ended.

    Where one was cut off are the answers that it had; the next goes on from there.
    """
    number, folder = 1, first
    while (folder / REPORT).exists():
        number += 1
        folder = first.with_name(f"{first.name}-{number}")
    return folder


def _log(line: str) -> None:
    typer.echo(line, err=True)
