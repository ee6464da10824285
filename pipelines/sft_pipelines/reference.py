"""Write the reference pages of the documentation from what they describe.

`python -m sft_pipelines.reference docs/reference` reads `compiled/`, the catalogue, the command
line and the table of roles. The same bytes for the same sources.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import typer
import yaml

from sft_components.catalog import load_catalog
from sft_pipelines import roles
from sft_pipelines.cli.examples import EXAMPLES

COMPILED = Path(__file__).parents[2] / "compiled"
NOTE = "Written by `make compile`; change its sources, not this page."


def pages() -> dict[str, Callable[[], str]]:
    """Every page by its file name."""
    return {
        "components.md": components,
        "templates.md": templates,
        "models.md": models,
        "commands.md": commands,
        "roles.md": role_table,
    }


def write(folder: Path) -> Iterator[Path]:
    """Write every page below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in pages().items():
        (folder / name).write_text(make(), encoding="utf-8")
        yield folder / name


def components() -> str:
    """Inputs, outputs and image of each component."""
    out = ["# Components", "", NOTE, ""]
    out += ["A file each in `compiled/components`, for `kfp.components.load_component_from_file`."]
    for file in sorted((COMPILED / "components").glob("*.yaml")):
        spec = _spec(file)
        (executor,) = spec["deploymentSpec"]["executors"].values()
        component = next(iter(spec["components"].values()))
        out += ["", f"## {file.stem}", ""]
        out += [*_paragraphs(_described(file)), f"Image: `{executor['container']['image']}`.", ""]
        out += _inputs(component.get("inputDefinitions", {}))
        out += _outputs(component.get("outputDefinitions", {}))
    return _page(out)


def templates() -> str:
    """Inputs and outputs of each template."""
    out = ["# Templates", "", NOTE, ""]
    out += ["A file each in `compiled/pipelines`. How they work: [Pipelines](../pipelines.md)."]
    for file in sorted((COMPILED / "pipelines").glob("*.yaml")):
        spec = _spec(file)
        out += ["", f"## {file.stem}", ""]
        out += _paragraphs(_described(file))
        out += _inputs(spec["root"]["inputDefinitions"])
        out += _outputs(spec["root"].get("outputDefinitions", {}))
    return _page(out)


def models() -> str:
    """The catalogue."""
    catalog = load_catalog()
    out = ["# Models", "", NOTE, "", "`vertex-sft models NAME` shows all of one, with the sources."]
    for status in ("current", "retired"):
        out += ["", f"## {status.capitalize()}", ""]
        rows = []
        for model in catalog.models.values():
            if model.status != status:
                continue
            price = model.usd_per_million_tokens
            rows.append(
                (
                    f"`{model.name}`",
                    model.family,
                    ", ".join(model.modes),
                    " / ".join(
                        dict.fromkeys(f"{mode.max_tokens:,}" for mode in model.modes.values())
                    ),
                    ", ".join(model.modalities),
                    "unknown" if price is None else f"{price:.2f}",
                    model.serving.machine_type if model.serving else "",
                    ", ".join(model.regions),
                )
            )
        heads = ("name", "family", "modes", "max tokens", "input", "$ per 1M tokens", "served on")
        out += _table((*heads, "tuned in"), rows)
    return _page(out)


def commands() -> str:
    """Every command with its arguments, options and examples."""
    from sft_pipelines.cli.app import app

    out = ["# Commands", "", NOTE, "", "[Commands](../commands.md) tells how they are used."]
    for words, command in _leaves(typer.main.get_command(app)):
        out += ["", f"## vertex-sft {words}", ""]
        out += _paragraphs(command.help or "")
        rows = []
        for parameter in command.params:
            if parameter.name == "help":
                continue
            if parameter.param_type_name == "argument":
                names = f"`{parameter.metavar or parameter.name}`"
            else:
                names = ", ".join(
                    f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts)
                )
            shown = parameter.show_default if isinstance(parameter.show_default, str) else ""
            default = shown or parameter.default
            plain = isinstance(default, str | int | float) and not isinstance(default, bool)
            rows.append(
                (
                    names,
                    parameter.help or "",
                    "required" if parameter.required else f"{default}" if plain else "",
                )
            )
        out += _table(("", "meaning", "default"), rows)
        out += ["", "```sh", *EXAMPLES[words], "```"]
    return _page(out)


def role_table() -> str:
    """Who needs which role where."""
    out = [
        "# Roles",
        "",
        NOTE,
        "",
        "The smallest predefined role, and in the last column what is truly called: a custom role "
        "of just these permissions does as well. `vertex-sft doctor` checks them.",
    ]
    for title, needs in (
        ("The account that the steps run as", roles.STEPS),
        ("The account that the command line runs as", roles.COMMANDS),
    ):
        out += ["", f"## {title}", ""]
        out += _table(
            ("for", "on", "role", "when", "permissions"),
            [
                (
                    need.who,
                    need.place,
                    f"`{need.role}`",
                    need.when or "always",
                    ", ".join(f"`{name}`" for name in need.permissions),
                )
                for need in needs
            ],
        )
    out += ["", "## Google's own accounts", ""]
    out += _table(
        ("account", "title", "role on the project", "for"),
        [
            (
                f"`{agent.email('PROJECT_NUMBER')}`",
                agent.title,
                f"`{agent.role}`" if agent.role else "made at the first tuning",
                ", ".join(agent.families) or "all",
            )
            for agent in roles.AGENTS
        ],
    )
    out += [
        "",
        f"Both need `{roles.OBJECT_USER}` on a bucket of another project, and with a "
        f"customer-managed key the first needs `{roles.KEY_USER}` on it.",
    ]
    return _page(out)


def _leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from _leaves(inner, (*path, name))
    else:
        yield " ".join(path), command


def _spec(file: Path) -> dict[str, Any]:
    spec: dict[str, Any] = next(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    return spec


def _described(file: Path) -> str:
    """The description in a compiled file's first lines; kfp puts a component's nowhere else."""
    lines = file.read_text(encoding="utf-8").splitlines()
    header = [line.removeprefix("#") for line in lines if line.startswith("#")]
    start = next((n for n, line in enumerate(header) if line.startswith(" Description:")), None)
    if start is None:
        return ""
    text = [header[start].removeprefix(" Description:")]
    for line in header[start + 1 :]:
        if line.startswith((" Inputs:", " Outputs:")):
            break
        text.append(line.strip())
    return "\n".join(text).strip()


def _inputs(declared: dict[str, Any]) -> list[str]:
    rows = []
    for name, one in sorted(declared.get("artifacts", {}).items()):
        rows.append((f"`{name}`", _artifact(one), "required", one.get("description", "")))
    for name, one in sorted(declared.get("parameters", {}).items()):
        rows.append((f"`{name}`", _type(one), _default(one), one.get("description", "")))
    return _table(("input", "type", "default", "meaning"), rows) if rows else []


def _outputs(declared: dict[str, Any]) -> list[str]:
    rows = []
    for name, one in sorted(declared.get("parameters", {}).items()):
        rows.append((f"`{name}`", _type(one), one.get("description", "")))
    for name, one in sorted(declared.get("artifacts", {}).items()):
        rows.append((f"`{name}`", _artifact(one), one.get("description", "")))
    return ["", *_table(("output", "type", "meaning"), rows)] if rows else []


def _type(parameter: dict[str, Any]) -> str:
    return str(parameter["parameterType"]).removeprefix("NUMBER_").lower()


def _artifact(artifact: dict[str, Any]) -> str:
    return str(artifact["artifactType"].get("schemaTitle", "artifact")).removeprefix("system.")


def _default(parameter: dict[str, Any]) -> str:
    if "defaultValue" not in parameter:
        return "" if parameter.get("isOptional") else "required"
    value = parameter["defaultValue"]
    if _type(parameter) == "integer" and isinstance(value, float):
        value = int(value)
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    heads = list(heads)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return lines + ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _paragraphs(text: str) -> list[str]:
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        flat = " ".join(paragraph.split()).replace("<", "&lt;")
        lines += [flat, ""] if flat else []
    return lines


def _page(lines: list[str]) -> str:
    return "\n".join(lines).rstrip("\n") + "\n"


if __name__ == "__main__":
    for written in write(Path(sys.argv[1])):
        sys.stdout.write(f"{written}\n")
