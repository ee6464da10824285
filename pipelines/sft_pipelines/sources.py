"""Where a run's template comes from: a name, a file, a registry, or a request's own spec."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sft_components.errors import UserError
from sft_pipelines import registry
from sft_pipelines.compiling import find_template
from sft_pipelines.parameters import Template, make_template, read_template
from sft_pipelines.request_files import PipelineRequest

LEGACY_INPUTS = (
    "project",
    "location",
    "model_display_name",
    "large_model_reference",
    "train_steps",
    "learning_rate_multiplier",
    "learning_rate",
    "tuning_method",
    "evaluation_interval",
    "enable_early_stopping",
    "enable_checkpoint_selection",
    "tpu_training_skip_cmek",
    "api_endpoint",
    "dataset_uri",
    "dataset_name",
    "default_context",
    "accelerator_type",
    "encryption_spec_key_name",
    "evaluation_data_uri",
    "evaluation_output_root_dir",
    "max_context_length",
    "tensorboard_resource_id",
)
"""What Google's public templates take."""


@dataclass(frozen=True)
class Source:
    """A template and what is sent of it."""

    template: Template
    uri: str = ""
    """Sent as `templateUri`: an address by digest, or that of a public template."""
    sends_spec: bool = True
    """False for a public template: the service reads it from `uri`."""
    inline: bool = False
    """The spec is part of a request: `template.path` is the request's file."""

    @property
    def digest(self) -> str:
        """`sha256:…` of a template from a registry, else empty."""
        version = self.uri.rpartition("/")[2]
        return version if version.startswith(registry.DIGEST) else ""

    def describe(self) -> str:
        """For people."""
        if not self.sends_spec:
            return self.uri
        return self.uri or f"{self.template.name} ({self.template.path})"


def find_source(
    name: str,
    request: PipelineRequest | None,
    *,
    public: bool,
    say: Callable[[str], None],
) -> Source:
    """The template to run.

    Args:
        name: A template's name, file or address; empty: what `request` names.
        request: A whole request, or None.
        public: Send the address of one of Google's public templates as it is, instead of running
            ours that mirrors it.
        say: Called with a sentence for what is not obvious: a mirrored template, a tag's digest.

    Raises:
        UserError: No template is named, or it is not found.
    """
    if name and request and (request.template_uri or request.pipeline_spec):
        say(f"{name} is run in place of the template in {request.place}.")
    if not name and request and request.pipeline_spec:
        return Source(_inline(request), inline=True)
    wanted = name or (request.template_uri if request else "")
    if not wanted:
        raise UserError("No template is named: give TEMPLATE, or a request with a templateUri.")
    mirrored = registry.legacy_template(wanted)
    if public and not mirrored:
        raise UserError(
            f"--public-template goes with the address of one of Google's public tuning templates, "
            f"not with {wanted!r}."
        )
    if mirrored:
        template = read_template(find_template(mirrored))
        if public:
            known = {k: p for k, p in template.parameters.items() if k in LEGACY_INPUTS}
            return Source(replace(template, parameters=known), wanted, sends_spec=False)
        say(
            f"{wanted} is run as our {mirrored}, which takes the same inputs; "
            "--public-template sends the address as it is."
        )
        return Source(template)
    if registry.is_registry_url(wanted):
        asked = registry.parse_address(wanted)
        address = registry.resolve(asked)
        if address != asked:
            say(f"{asked.package} {asked.version} is {address.version}.")
        return Source(registry.pull(address), str(address))
    return Source(read_template(find_template(wanted)))


def _inline(request: PipelineRequest) -> Template:
    spec: dict[str, Any] = request.pipeline_spec
    if "pipelineInfo" not in spec or "root" not in spec:
        raise UserError(f"{request.place}: pipelineSpec is not a compiled pipeline.")
    return make_template(Path(request.place), spec)
