"""`vertex-sft models`: what the catalogue knows."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sft_components.errors import UserError
from sft_pipelines.cli.completing import model_names
from sft_pipelines.cli.output import console, print_json, print_table, wrong_use
from sft_pipelines.near import did_you_mean, there_are

if TYPE_CHECKING:
    from sft_components.catalog import Catalog, ModelSpec, Serving


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("models")(models)


def models(
    name: Annotated[
        str,
        typer.Argument(
            help="Show everything known of this model, with its sources.",
            autocompletion=model_names,
        ),
    ] = "",
    family: Annotated[
        str, typer.Option("--family", help="Only llama, gemma, qwen, gemini, text, chat, ...")
    ] = "",
    show_all: Annotated[bool, typer.Option("--all", help="Retired models too.")] = False,
    allow_unlisted: Annotated[
        bool,
        typer.Option("--allow-unlisted", help="With NAME: what is guessed of a newer model."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models that can be tuned, or show one in full."""
    from sft_components.catalog import load_catalog

    catalog = load_catalog()
    with wrong_use():
        if name:
            if family or show_all:
                raise UserError("Give a NAME, or --family and --all, not both.")
            model = catalog.find(name, allow_unlisted)
            print_json(_as_dict(catalog, model)) if as_json else _print_one(catalog, model)
            return
        families = sorted({model.family for model in catalog.models.values()})
        if allow_unlisted:
            raise UserError("--allow-unlisted goes with a NAME.")
        if family and family not in families:
            raise UserError(
                f"Unknown family {family!r}.{did_you_mean(family.lower(), families)}"
                f"{there_are(families)}"
            )
    # Whole families are retired: asked for by name, they are shown rather than an empty table.
    listed = catalog.in_family(family, show_all) or catalog.in_family(family, retired=True)
    if as_json:
        print_json([_as_dict(catalog, model) for model in listed])
    else:
        _print_table(listed)


def price(model: "ModelSpec") -> str:
    """Price of tuning for people."""
    known = model.usd_per_million_tokens
    return "unknown" if known is None else f"${known:,.2f}"


def machine(serving: "Serving") -> str:
    """A machine with its accelerators for people."""
    return (
        f"{serving.machine_type}, {serving.accelerator_count} × "
        f"{serving.accelerator_type.removeprefix('NVIDIA_')}"
    )


def _as_dict(catalog: "Catalog", model: "ModelSpec") -> dict[str, Any]:
    import msgspec

    sources = {group: catalog.sources[key] for group, key in model.sources.items()}
    fields: dict[str, Any] = msgspec.to_builtins(model)
    return {**fields, "sources": msgspec.to_builtins(sources)}


def _max_tokens(model: "ModelSpec") -> str:
    longest = [f"{mode.max_tokens:,}" for mode in model.modes.values()]
    return " / ".join(dict.fromkeys(longest))


def _served_on(model: "ModelSpec") -> str:
    if model.serving is not None:
        return machine(model.serving)
    by_service = model.served_by_service
    return "by the service" if by_service else "not named"


def _print_table(listed: "list[ModelSpec]") -> None:
    rows = [
        (
            model.name,
            model.family,
            model.status,
            ", ".join(model.modes),
            _max_tokens(model),
            price(model),
            _served_on(model),
        )
        for model in listed
    ]
    numbers = ("Max tokens", "$ per 1M tokens")
    print_table(("Name", "Family", "Status", "Modes", *numbers, "Served on"), rows, right=numbers)


def _print_one(catalog: "Catalog", model: "ModelSpec") -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    out.print(Text(f"{model.title}  ({model.name})", style="bold"))
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(style="dim", no_wrap=True)
    used: dict[str, None] = {}
    for label, value, group in _facts(model):
        if value:
            key = model.sources.get(group, "")
            table.add_row(label, Text(value), key)
            used.update({key: None} if key else {})
    out.print(table)
    if model.warning:
        out.print(Text(f"Warning: {model.warning}"))
    for note in (*model.notes, *_unlike_ratios(model)):
        out.print(Text(f"Note: {note}"))
    for key in used:
        source = catalog.sources[key]
        out.print(Text(f"{key}: {source.title}, {source.date} {source.url}".rstrip(), style="dim"))


def _facts(model: "ModelSpec") -> Iterator[tuple[str, str, str]]:
    """Label, value and source group of everything known of `model`."""
    import msgspec

    from sft_components.catalog import Limits

    yield "family", model.family, ""
    yield "status", model.status, "status"
    yield "successor", model.successor, ""
    yield "tuned through", _route(model), ""
    yield "aliases", ", ".join(model.aliases), ""
    yield "formats", ", ".join(model.formats), "limits"
    yield "modalities", ", ".join(model.modalities), "limits"
    for name, mode in model.modes.items():
        yield f"{name} max tokens", f"{mode.max_tokens:,}", "limits"
        rate = "" if mode.learning_rate is None else f"{mode.learning_rate:g}"
        yield f"{name} learning rate", rate, "hyperparameters"
        yield f"{name} adapter size", str(mode.adapter_size or ""), "hyperparameters"
        yield f"{name} tokens per character", str(mode.tokens_per_char or ""), "tokens"
    yield "adapter sizes", ", ".join(map(str, model.adapter_sizes)), "hyperparameters"
    yield "default epochs", str(model.default_epochs or ""), "hyperparameters"
    batches = ", ".join(f"{region} {size}" for region, size in model.batch_size.items())
    yield "batch size", batches, "hyperparameters"
    yield "context length", model.context_length, "limits"
    usual = msgspec.structs.asdict(Limits())
    for limit, value in msgspec.structs.asdict(model.limits).items():
        if value != usual[limit]:
            yield limit.replace("_", " "), _limit(value), "limits"
    yield "regions", ", ".join(model.regions), "regions"
    yield "customer-managed keys", "yes" if model.cmek else "no", "limits"
    yield "price of 1M tokens", price(model), "price"
    yield "served on", _served_on(model), "serving"
    if model.serving is not None:
        settings = msgspec.structs.asdict(model.serving)
        for setting in ("max_model_len", "gpu_memory_utilization", "max_num_seqs"):
            yield f"vLLM {setting.replace('_', ' ')}", str(settings[setting] or ""), "serving"
    others = "; ".join(machine(serving) for serving in model.serving_alternatives)
    yield "or served on", others, "serving"
    yield "public weights", model.weights_uri, "weights"
    if model.parameters is not None:
        yield "parameters", f"{model.parameters:g} billion", "size"
    if shape := model.architecture:
        sizes = f"hidden size {shape.hidden_size}, {shape.num_hidden_layers} layers"
        yield "checkpoint", f"{shape.model_type}, {sizes}", "architecture"


def _unlike_ratios(model: "ModelSpec") -> Iterator[str]:
    """A note where one tokenizer has more than one ratio."""
    if len({mode.tokens_per_char for mode in model.modes.values()}) > 1:
        yield (
            "The tokenizer is the same in each mode; the tokens per character differ because the "
            f"table of {model.sources['tokens']} has them so."
        )


def _route(model: "ModelSpec") -> str:
    if model.route == "pipeline-job":
        return f"pipelineJobs.create with {model.template}"
    return "tuningJobs.create"


def _limit(value: float | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:.0%}"
