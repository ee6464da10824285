"""`vertex-sft prompt`."""

import json
from typing import Annotated

import typer

from sft_components.errors import UserError


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("prompt")(prompt)


def prompt(
    endpoint: Annotated[str, typer.Argument(help="projects/P/locations/L/endpoints/ID")],
    text: Annotated[str, typer.Argument(help="What to say to the model.")],
    system: Annotated[str, typer.Option(help="System instruction.")] = "",
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 128,
    temperature: Annotated[float, typer.Option(min=0.0, help="0: always the likeliest.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole answer.")] = False,
) -> None:
    """Ask an endpoint and print its answer as it comes.

    Speaks to the local Vertex AI if one runs, unless GOOGLE_VERTEX_BASE_URL names another.
    """
    from google.api_core import exceptions as api

    from sft_components.vertex.prediction import EndpointSession, endpoint_connection
    from sft_pipelines.cli.local import point_at_local

    point_at_local()
    session = EndpointSession(endpoint_connection(endpoint), endpoint)
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": text})
    body = {"messages": messages, "max_tokens": max_tokens, "temperature": temperature}
    try:
        if as_json:
            typer.echo(json.dumps(session.ask("/chat/completions", body), indent=2))
            return
        for payload in session.stream_chat(body):
            for choice in json.loads(payload).get("choices", []):
                typer.echo(choice.get("delta", {}).get("content") or "", nl=False)
        typer.echo()
    except api.GoogleAPICallError as error:
        raise UserError(f"{endpoint}: {error.message}") from error
