"""Examples for the help of every command, which the documentation shows too."""

import inspect

import typer

_RUN = (
    "-p model_display_name=mine -p dataset_uri=gs://B/rows.jsonl "
    "-p evaluation_data_uri=gs://B/held-out.jsonl -p output_uri=gs://B/tuned"
)
_MODEL = "meta/llama3_1@llama-3.1-8b-instruct"
_ENDPOINT = "projects/P/locations/us-central1/endpoints/ID"

EXAMPLES: dict[str, tuple[str, ...]] = {
    "validate": (
        f"vertex-sft validate rows.jsonl --model {_MODEL}",
        "vertex-sft validate gs://B/rows-*.jsonl --validation validation.jsonl -m gemini-3.5-flash "
        "--report report.html",
    ),
    "rules": ("vertex-sft rules > rules.md",),
    "convert": (
        "vertex-sft convert rows.jsonl converted.jsonl --to generate-content",
        "vertex-sft convert table.csv table.jsonl -m gemini-3.5-flash "
        "--columns prompt=question,completion=answer --split 0.1",
    ),
    "run": (
        f"vertex-sft run tune-llama-model --region us-central1 {_RUN}",
        "vertex-sft run tune-gemini-model --local --parameters-file parameters.yaml",
        "vertex-sft run --request request.json --check-only",
    ),
    "push": (
        "vertex-sft push tune-llama-model "
        "--registry https://us-central1-kfp.pkg.dev/PROJECT/templates",
    ),
    "compile": (
        "vertex-sft compile --output compiled",
        "vertex-sft compile --output compiled --image us-docker.pkg.dev/P/R/vertex-sft:1.0",
    ),
    "prompt": (
        f'vertex-sft prompt {_ENDPOINT} "Why is the sky blue?"',
        f'vertex-sft prompt {_ENDPOINT} "Hello" --system "Be brief." --json',
    ),
    "models": ("vertex-sft models --family qwen", f"vertex-sft models {_MODEL}"),
    "doctor": (
        f"vertex-sft doctor --project P --location us-central1 -m {_MODEL} --bucket gs://B",
        "vertex-sft doctor --json",
    ),
    "estimate": (
        f"vertex-sft estimate rows.jsonl -m {_MODEL} --hours 24",
        f"vertex-sft estimate --tokens 1000000 -m {_MODEL} --max-cost-usd 20",
    ),
    "runs list": ("vertex-sft runs list --template tune-llama-model --limit 5",),
    "runs follow": ("vertex-sft runs follow tune-llama-model-20261125-210000",),
    "runs cancel": ("vertex-sft runs cancel tune-llama-model-20261125-210000",),
    "schedule create": (
        'vertex-sft schedule create nightly tune-llama-model --cron "0 3 * * *" '
        f"--time-zone Europe/Paris --when-changed {_RUN}",
    ),
    "schedule list": ("vertex-sft schedule list --region us-central1",),
    "schedule show": ("vertex-sft schedule show nightly --json",),
    "schedule pause": ("vertex-sft schedule pause nightly",),
    "schedule resume": ("vertex-sft schedule resume nightly --catch-up",),
    "schedule delete": ("vertex-sft schedule delete nightly --yes",),
    "jobs list": (
        "vertex-sft jobs list --state active --location all",
        "vertex-sft jobs list --family gemini --since 7d --json",
    ),
    "jobs show": ("vertex-sft jobs show 1795642580299 --location us-central1",),
    "jobs cancel": ("vertex-sft jobs cancel 1795642580299 --wait",),
    "jobs metrics": ("vertex-sft jobs metrics 1795642580299 --all",),
    "jobs wait": ("vertex-sft jobs wait 1795642580299 --timeout 7200",),
    "endpoints list": ("vertex-sft endpoints list --ours --location all",),
    "endpoints show": (f"vertex-sft endpoints show {_ENDPOINT}",),
    "endpoints delete": ("vertex-sft endpoints delete ID --yes",),
    "endpoints reap": ("vertex-sft endpoints reap --dry-run",),
    "endpoints promote": (
        f"vertex-sft endpoints promote {_ENDPOINT} projects/P/locations/us-central1/models/ID@2",
    ),
    "endpoints rollback": (f"vertex-sft endpoints rollback {_ENDPOINT}",),
    "local up": ("vertex-sft local up", "vertex-sft local up --base-model tiny"),
    "local down": ("vertex-sft local down",),
    "local status": ("vertex-sft local status --json",),
    "local env": ('eval "$(vertex-sft local env)"',),
}
"""By the command's words."""


def add_examples(app: typer.Typer, before: str = "") -> None:
    """Put the examples at the end of each command's help, whose lines are as wide as the screen."""
    for command in app.registered_commands:
        if command.callback and command.callback.__doc__:
            paragraphs = inspect.cleandoc(command.callback.__doc__).split("\n\n")
            command.help = "\n\n".join(" ".join(part.split()) for part in paragraphs)
        name = command.name or getattr(command.callback, "__name__", "").replace("_", "-")
        found = EXAMPLES.get(f"{before}{name}")
        if found:
            command.epilog = "\n\n".join(("Examples:", *found))
    for group in app.registered_groups:
        if group.typer_instance is not None:
            add_examples(group.typer_instance, f"{before}{group.name} ")
