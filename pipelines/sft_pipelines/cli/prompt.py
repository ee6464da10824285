"""`vertex-sft prompt`."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sft_components.errors import UnlikeError, UserError

if TYPE_CHECKING:
    from sft_components.prompting.asking import Answer, Question
    from sft_components.prompting.sampling import Sampling, Surface
    from sft_components.vertex.prediction import EndpointSession

DEFAULT_TOKENS = 128
ENDPOINT_ID = re.compile(r"[a-z0-9-]+")
Option = typer.Option


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("prompt")(prompt)


def prompt(
    endpoint: Annotated[
        str,
        typer.Argument(help="Full name of an endpoint, its id, or the name of a Gemini model."),
    ],
    text: Annotated[str, typer.Argument(help="What to say to the model.")],
    system: Annotated[str, Option(help="System instruction.")] = "",
    max_tokens: Annotated[int, Option(help="Longest answer, in tokens.")] = DEFAULT_TOKENS,
    temperature: Annotated[float, Option(help="0: always the likeliest.")] = 0.0,
    top_p: Annotated[float | None, Option(help="Only the likeliest of this sum.")] = None,
    top_k: Annotated[int | None, Option(help="Only so many of the likeliest.")] = None,
    min_p: Annotated[
        float | None, Option(help="vLLM: only those of this share of the likeliest.")
    ] = None,
    stop: Annotated[
        list[str] | None,
        Option(metavar="TEXT", help="Text at which the answer ends; may be repeated."),
    ] = None,
    seed: Annotated[
        int | None, Option(help="The same seed, the same answer, as far as can be.")
    ] = None,
    presence_penalty: Annotated[float | None, Option(help="Against words that came.")] = None,
    frequency_penalty: Annotated[
        float | None, Option(help="Against words that came often.")
    ] = None,
    repetition_penalty: Annotated[float | None, Option(help="vLLM: above 1 against both.")] = None,
    surface: Annotated[
        str,
        Option(help="chat, predict, generateContent, text or messages; empty: what it answers to."),
    ] = "",
    raw_response: Annotated[
        bool, Option(help="predict: only the answer, or the prompt before it.")
    ] = True,
    base_model: Annotated[
        str, Option("--base-model", "-m", help="What was tuned: it says how it is asked.")
    ] = "",
    compare: Annotated[
        str, Option(help="Another endpoint or Gemini model that is asked the same.")
    ] = "",
    project: Annotated[str, Option(help="Project of an id or a model.")] = "",
    location: Annotated[
        str, Option("--location", "--region", "-l", help="Location of an id or a model.")
    ] = "",
    stream: Annotated[bool, Option(help="Print the answer as it comes.")] = True,
    as_json: Annotated[bool, Option("--json", help="Print the whole answer.")] = False,
) -> None:
    """Ask an endpoint and print its answer as it comes.

    Speaks to the local Vertex AI if one runs and no other project is named, unless
    GOOGLE_VERTEX_BASE_URL names an address.
    """
    from google.api_core import exceptions as api

    from sft_components.prompting.asking import Question
    from sft_components.prompting.sampling import Sampling, SamplingError
    from sft_components.vertex.failures import said
    from sft_pipelines.cli.output import print_json, wrong_use
    from sft_pipelines.cli.places import point_at_local

    sampling = Sampling(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        seed=seed,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        repetition_penalty=repetition_penalty,
        stop=tuple(stop or ()),
    )
    question = Question(text, system, raw_response)
    with wrong_use():
        chosen = _surface(surface)
        names = [name for name in (endpoint, compare) if name]
        point_at_local(project, *names)
        asked = [_session(name, project, location) for name in names]
    try:
        if compare:
            with ThreadPoolExecutor(len(asked)) as pool:
                jobs = [
                    pool.submit(_ask, session, chosen, base_model, question, sampling, False)
                    for session in asked
                ]
                answers = [job.result() for job in jobs]
        else:
            pieces = stream and not as_json
            answers = [_ask(asked[0], chosen, base_model, question, sampling, pieces)]
    except SamplingError:
        with wrong_use():
            raise
    except api.GoogleAPICallError as error:
        raise UserError(f"{endpoint}: {said(error)}") from error
    except UnlikeError as error:
        raise UserError(f"{endpoint}: {error}") from error
    if as_json:
        found = [_as_dict(s, answer) for s, answer in zip(asked, answers, strict=True)]
        print_json(found if compare else answers[0].raw)
    elif compare:
        _print_beside(asked, answers)
    elif not stream:
        typer.echo(answers[0].text)


def _surface(name: str) -> "tuple[Surface, ...]":
    from sft_components.prompting.sampling import SURFACES

    found = tuple(surface for surface in SURFACES if surface == name)
    if name and not found:
        raise UserError(f"--surface is {name!r}: write one of {', '.join(SURFACES)}.")
    return found


def _session(name: str, project: str, location: str) -> "EndpointSession":
    """The endpoint, or the published model, of that name."""
    from sft_components.prompting.asking import published
    from sft_components.vertex.prediction import EndpointSession, endpoint_connection
    from sft_pipelines.cli.places import connections, reach
    from sft_pipelines.endpoints.remote import get_endpoint

    if name.startswith("projects/"):
        return EndpointSession(reach(endpoint_connection(name)), name)
    place = connections(project, [location] if location else [])[0]
    try:
        return published(place.project, place.location, name)
    except UserError as error:
        # No model: the id of an endpoint then.
        endpoint = f"{place.parent}/endpoints/{name}"
        if not ENDPOINT_ID.fullmatch(name):
            raise
        try:
            get_endpoint(place, endpoint)
        except UserError:
            raise UserError(
                f"There is no endpoint {name} of {place.project} in {place.location}: "
                "`vertex-sft endpoints list --location all` shows the full names. If it is to be a "
                f"model: {error}"
            ) from error
        return EndpointSession(place, endpoint)


def _ask(
    session: "EndpointSession",
    chosen: "tuple[Surface, ...]",
    base_model: str,
    question: "Question",
    sampling: "Sampling",
    stream: bool,
) -> "Answer":
    from sft_components.prompting.asking import ask, ask_somehow, surfaces_of

    begun = False

    def tell(text: str) -> None:
        nonlocal begun
        begun = True
        typer.echo(text, nl=False)

    on_piece = tell if stream else None
    try:
        if chosen:
            return ask(session, chosen[0], question, sampling, on_piece)
        surfaces = surfaces_of(session, base_model)
        return ask_somehow(session, surfaces, question, sampling, on_piece)
    finally:
        # Also where it broke off, so that what is said of that has a line of its own.
        if begun:
            typer.echo()


def _as_dict(session: "EndpointSession", answer: "Answer") -> dict[str, Any]:
    return {
        "endpoint": session.endpoint,
        "surface": answer.surface,
        "text": answer.text,
        "seconds": round(answer.seconds, 3),
        "tokens": answer.tokens,
        "answer": answer.raw,
    }


def _print_beside(asked: "list[EndpointSession]", answers: "list[Answer]") -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from sft_pipelines.cli.output import console

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for session in asked:
        table.add_column(Text(session.endpoint.rpartition("/")[2]), ratio=1, overflow="fold")
    table.add_row(*(Text(answer.text.strip()) for answer in answers))
    tails = []
    for answer in answers:
        tokens = f", {answer.tokens} tokens" if answer.tokens is not None else ""
        tails.append(Text(f"{answer.surface}, {answer.seconds:.2f} s{tokens}", style="dim"))
    table.add_section()
    table.add_row(*tails)
    out = console()
    out.print(table)
    if answers[0].text.strip() == answers[1].text.strip():
        out.print("The answers are the same.")
