"""The command `vertex-sft`."""

import sys
from typing import Annotated

import typer

from sft_components import __version__
from sft_components.errors import UnlikeError, UserError
from sft_pipelines.cli import compile as compile_command
from sft_pipelines.cli import (
    convert,
    doctor,
    endpoints,
    endpoints_promote,
    estimate,
    jobs,
    jobs_follow,
    local,
    models,
    prompt,
    push,
    run,
    runs,
    schedule,
    validate,
)
from sft_pipelines.cli.examples import add_examples
from sft_pipelines.cli.saying import explained, of_file

NO_CREDENTIALS = (
    "Run `gcloud auth application-default login`; without an account, rehearse with "
    "`vertex-sft run TEMPLATE --local`, or speak to a local Vertex AI: `vertex-sft local up` and "
    '`eval "$(vertex-sft local env)"`.'
)

app = typer.Typer(
    name="vertex-sft",
    help="Supervised fine-tuning on Vertex AI: validate, rehearse, compile and run its pipelines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vertex-sft {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of every command."""


validate.register(app)
convert.register(app)
run.register(app)
push.register(app)
compile_command.register(app)
prompt.register(app)
models.register(app)
doctor.register(app)
estimate.register(app)
jobs_follow.register(jobs.app)
endpoints_promote.register(endpoints.app)
app.add_typer(runs.app, name="runs")
app.add_typer(schedule.app, name="schedule")
app.add_typer(jobs.app, name="jobs")
app.add_typer(endpoints.app, name="endpoints")
app.add_typer(local.app, name="local")
add_examples(app)


def main() -> None:
    """Run the command line; what a person can mend ends with a sentence and exit status 1."""
    try:
        app()
    except (UserError, UnlikeError, OSError) as error:
        # requests' connection errors are OSErrors too.
        if type(error).__module__.startswith("requests."):
            said = explained(error)
        else:
            said = of_file(error) if isinstance(error, OSError) else str(error)
        typer.echo(f"Error: {said}", err=True)
        sys.exit(1)
    except Exception as error:
        if type(error).__module__.startswith("google."):
            typer.echo(f"Error: {explained(error)}", err=True)
            if type(error).__name__ in ("DefaultCredentialsError", "RefreshError"):
                typer.echo(NO_CREDENTIALS, err=True)
            sys.exit(1)
        raise
