"""Typed look-up into `models.yaml`, the only place that holds figures of models and machines."""

import difflib
import functools
import re
from pathlib import Path

import msgspec

from sft_components.catalog.schema import (
    Container,
    Legacy,
    Location,
    Machine,
    ModelSpec,
    ModeSpec,
    Quota,
    Source,
    TokenEstimate,
)
from sft_components.errors import UserError

OPEN_NAME = re.compile(r"[a-z0-9-]+/[a-z0-9._-]+@[a-z0-9._-]+")
"""`publisher/family@version`, the form that the API takes for open models."""
GEMINI_NAME = re.compile(r"gemini-[a-z0-9.-]+")


class Catalog(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All models, machines, locations and sources."""

    sources: dict[str, Source]
    token_estimate: TokenEstimate
    locations: dict[str, Location]
    accelerator_gb: dict[str, int]
    """Memory of one accelerator."""
    accelerator_types: tuple[str, ...]
    """Their names in the API."""
    machines: dict[str, Machine]
    vllm: Container
    quotas: dict[str, Quota]
    legacy: Legacy
    models: dict[str, ModelSpec]

    def find(self, name: str, allow_unlisted: bool = False) -> ModelSpec:
        """The model called `name`, an alias of it, or its `publishers/…/models/…` form.

        Args:
            name: Reference as the API takes it. Case and punctuation must be right.
            allow_unlisted: Let a model through that the catalogue does not hold, if its name is
                well-formed and its family is known. What comes back then has `unlisted` set and
                a warning as its first note: limits and regions are those of the family's nearest
                model, both tuning modes of an open model are open, and price, serving machine,
                weights and recommended settings are unknown. A misspelling of a listed model is
                refused all the same.

        Raises:
            UserError: No such model; the message names the nearest ones.
        """
        wanted = _short(name)
        if not wanted:
            raise UserError(
                f"The name of the model is empty: write for instance {next(iter(self.models))!r}."
            )
        for key, model in self.models.items():
            if wanted == key or wanted in model.aliases:
                return model
        if allow_unlisted and not self._spelled_alike(wanted):
            return self._unlisted(wanted)
        raise UserError(f"Unknown model {name!r}. {self._advice(wanted)}")

    def in_family(self, family: str, retired: bool = False) -> list[ModelSpec]:
        """The models of a family, or of all where `family` is empty, in the catalogue's order."""
        return [
            model
            for model in self.models.values()
            if family in ("", model.family) and (retired or model.status == "current")
        ]

    def _spelled_alike(self, wanted: str) -> str:
        """The listed name that differs from `wanted` only in case, punctuation or family part."""
        for key, model in self.models.items():
            if any(_same_version(wanted, known) for known in (key, *model.aliases)):
                return key
        return ""

    def _advice(self, wanted: str) -> str:
        if known := self.in_family(wanted.lower()) or self.in_family(wanted.lower(), retired=True):
            return (
                f"It is a family: write one of its models, such as {_one_of(_names(known)[:2])}; "
                f"`vertex-sft models --family {wanted.lower()}` lists them."
            )
        stem = _squeezed(wanted.partition("@")[0].rpartition("/")[2])
        if key := self._spelled_alike(wanted):
            if _is_bare(wanted, key):
                return _in_full([key, *(k for k in self._starting_with(stem) if k != key)])
            return _why_not(wanted, key)
        for key in self.models:
            if "@" not in key and stem == _squeezed(key):
                return f"It has no @version: write {key!r}."
        if "@" in wanted and (versions := self._starting_with(stem)):
            return f"There is no such @version: the catalogue holds {', '.join(versions)}."
        # What breaks off in the middle of a word is misspelt.
        whole = "[^a-z0-9]*".join(stem) + r"(?!(?<=[a-z])[a-z]|(?<=\d)\d)"
        if stem and (versions := [k for k in self._starting_with(stem) if re.search(whole, k)]):
            if _is_bare(wanted, versions[0]):
                return _in_full(versions)
            return f"Its version is missing: write {_one_of(versions)}."
        by_version = {_version(key).lower(): key for key in self.models}
        near = difflib.get_close_matches(_version(wanted).lower(), by_version, 3, 0.7)
        if near:
            return f"Did you mean {_one_of([by_version[version] for version in near])}?"
        if family := _family(wanted):
            known = self.in_family(family) or self.in_family(family, retired=True)
            return f"The {family} models are {', '.join(_names(known))}."
        return (
            "It is of no family that can be tuned: those are llama, gemma, qwen and gemini; "
            "`vertex-sft models` lists the models."
        )

    def _starting_with(self, stem: str) -> list[str]:
        """The names whose family part is `stem`, or whose version starts with it."""
        families = [
            key
            for key in self.models
            if "@" in key and stem == _squeezed(key.partition("@")[0].rpartition("/")[2])
        ]
        return families or [key for key in self.models if _squeezed(_version(key)).startswith(stem)]

    def _unlisted(self, wanted: str) -> ModelSpec:
        family = _family(wanted)
        form = GEMINI_NAME if family == "gemini" else OPEN_NAME
        if not family or not form.fullmatch(wanted):
            raise UserError(
                f"{wanted!r} cannot be tried as an unlisted model: write gemini-VERSION, or "
                "publisher/family@version for a llama, gemma or qwen model."
            )
        siblings = {_version(model.name): model for model in self.in_family(family)}
        near = difflib.get_close_matches(_version(wanted), siblings, 1, 0.0)
        sibling = siblings[near[0]]
        longest = min(mode.max_tokens for mode in sibling.modes.values())
        per_char = max((m.tokens_per_char or 0 for m in sibling.modes.values()), default=0)
        guess = ModeSpec(max_tokens=longest, tokens_per_char=per_char or None)
        modes = {"PEFT_ADAPTER": guess} if family == "gemini" else _both_modes(guess)
        return msgspec.structs.replace(
            sibling,
            name=wanted,
            title=f"{_version(wanted)} (unlisted)",
            aliases=(),
            modes=modes,
            adapter_sizes=max((model.adapter_sizes for model in siblings.values()), key=len),
            usd_per_million_tokens=None,
            weights_uri="",
            architecture=None,
            parameters=None,
            serving=None,
            serving_alternatives=(),
            sources={},
            notes=(
                f"{wanted} is not in the catalogue: its limits and regions are taken from "
                f"{sibling.name}, its price and serving machine are unknown, and the service "
                "may refuse it.",
            ),
            unlisted=True,
        )


def _both_modes(mode: ModeSpec) -> dict[str, ModeSpec]:
    return {"PEFT_ADAPTER": mode, "FULL": mode}


def _short(name: str) -> str:
    """`name` without blanks and without the parts that only the long form has."""
    wanted = name.strip().removeprefix("models/")
    if wanted.startswith("publishers/"):
        wanted = wanted.removeprefix("publishers/").replace("/models/", "/", 1)
    bare = wanted.removeprefix("google/")
    # Models of Google's own API carry no publisher in front.
    return bare if bare.startswith("gemini-") or "-bison" in bare else wanted


def _version(name: str) -> str:
    """What tells a model from its siblings: the @version of an open model, else the last part."""
    last = name.rpartition("/")[2]
    return last if "-bison" in last else last.rpartition("@")[2]


def _squeezed(text: str) -> str:
    """Letters and digits only, in lower case, so that spellings can be compared."""
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _same_version(one: str, other: str) -> bool:
    # Hugging Face prefixes some Llama models with Meta's name.
    first, second = (_squeezed(_version(name)).removeprefix("meta") for name in (one, other))
    return first == second


def _family(name: str) -> str:
    for family in ("llama", "gemma", "qwen", "gemini", "codechat", "chat", "code", "text"):
        if family in name.lower():
            return family
    return ""


def _why_not(wanted: str, key: str) -> str:
    """Why `wanted` is not `key`, though both mean the same model; and what to write."""
    write = f"write {key!r}."
    if wanted.lower() == key:
        return f"Model names are in lower case: {write}"
    if OPEN_NAME.fullmatch(key) and "@" not in wanted:
        if wanted != wanted.lower():
            return f"That looks like its name on Hugging Face; on Vertex AI {write}"
        return f"Its @version is missing: {write}"
    stem, known = wanted.partition("@")[0], key.partition("@")[0]
    if "@" in wanted and stem != known:
        return f"What stands before @ is {known!r}, not {stem!r}: {write}"
    return f"The punctuation differs: {write}"


def _is_bare(wanted: str, key: str) -> bool:
    """Whether `wanted` has nothing of what stands before the version in `key`."""
    return bool(OPEN_NAME.fullmatch(key)) and not {"/", "@"} & set(wanted)


def _in_full(keys: list[str]) -> str:
    return f"Publisher, family and @version make its full name: write {_one_of(keys[:3])}."


def _names(models: list[ModelSpec]) -> list[str]:
    return [model.name for model in models]


def _one_of(names: list[str]) -> str:
    return " or ".join(repr(name) for name in names)


@functools.cache
def load_catalog() -> Catalog:
    """The catalogue that ships with the package."""
    raw = (Path(__file__).parent / "models.yaml").read_bytes()
    catalog = msgspec.yaml.decode(raw, type=Catalog)
    named = {k: msgspec.structs.replace(m, name=k) for k, m in catalog.models.items()}
    return msgspec.structs.replace(catalog, models=named)
