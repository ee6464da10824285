"""Templates in a registry: Artifact Registry's KFP repositories, or one on this machine."""

import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import google.auth.exceptions
import google.auth.transport.requests  # kfp's client refreshes credentials with it
import requests
from kfp.registry import RegistryClient
from kfp.registry.registry_client import DEFAULT_REGISTRY_CONTEXT
from platformdirs import user_cache_path

from sft_components.errors import UserError
from sft_components.vertex.connection import is_loopback
from sft_components.vertex.failures import said
from sft_components.vertex.keys import digest
from sft_pipelines.defaults import PROJECT_FORM, PROJECT_ID
from sft_pipelines.near import did_you_mean, there_are
from sft_pipelines.parameters import Template, read_template

DIGEST = "sha256:"
GOOGLE = re.compile(
    r"https://(?P<location>[\w-]+)-kfp\.pkg\.dev/(?P<project>[^/]+)/(?P<repo>[^/]+)"
)
TAG = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
LEGACY = re.compile(
    r"https://us-kfp\.pkg\.dev/ml-pipeline/large-language-model-pipelines/"
    r"(?P<template>tune-large-model|tune-large-chat-model)(?:/[^/]+)?/?"
)
"""Addresses of the public templates that ours mirror."""


@dataclass(frozen=True)
class Address:
    """A template in a registry."""

    host: str
    """The repository: scheme, host and path."""
    package: str
    version: str
    """A tag or a digest (`sha256:…`)."""

    def __str__(self) -> str:
        return f"{self.host}/{self.package}/{self.version}"


def is_registry_url(text: str) -> bool:
    """Whether `text` is an address in a registry."""
    return text.startswith(("https://", "http://"))


def legacy_template(uri: str) -> str:
    """Our template that mirrors the public one at `uri`; empty if `uri` is another."""
    match = LEGACY.fullmatch(uri)
    return match["template"] if match else ""


def parse_address(url: str) -> Address:
    """The parts of `HOST/PACKAGE/TAG_OR_DIGEST`.

    Raises:
        UserError: `url` is not in Artifact Registry and not on this machine, has no version, or
            names a project that can be none.
    """
    host, _, rest = url.rstrip("/").rpartition("/")
    repository, _, package = host.rpartition("/")
    if match := GOOGLE.match(url):
        parts = [part for part in url[match.end() :].strip("/").split("/") if part]
        repository = match[0]
        _check_project(url, match["project"])
        if len(parts) == 2:
            return Address(repository, *parts)
        advice = f"{repository}/PACKAGE/TAG"
    elif is_loopback(url):
        if len(urlsplit(url).path.strip("/").split("/")) >= 3:
            return Address(repository, package, rest)
        advice = "http://127.0.0.1:PORT/REPOSITORY/PACKAGE/TAG"
    else:
        advice = "https://LOCATION-kfp.pkg.dev/PROJECT/REPOSITORY/PACKAGE/TAG"
    raise UserError(f"{url} is no template's address: write {advice}, or a digest for TAG.")


def parse_repository(url: str) -> str:
    """The repository that `url` names.

    Raises:
        UserError: It is neither in Artifact Registry nor on this machine, or names a project that
            can be none.
    """
    clean = url.rstrip("/")
    if match := GOOGLE.fullmatch(clean):
        _check_project(url, match["project"])
        return clean
    if is_loopback(clean) and clean.startswith("http"):
        return clean
    raise UserError(
        f"{url!r} is no KFP repository: write https://LOCATION-kfp.pkg.dev/PROJECT/REPOSITORY."
    )


def _check_project(url: str, project: str) -> None:
    if not PROJECT_ID.fullmatch(project):
        raise UserError(f"{url}: write your project in place of {project}; {PROJECT_FORM}.")


def resolve(address: Address) -> Address:
    """`address` by its digest: what a tag points to now.

    Raises:
        UserError: There is no such template, or it may not be read.
    """
    if address.version.startswith(DIGEST):
        return address
    with _speaking(address.host, str(address)), _listing(address):
        tag = _client(address.host).get_tag(address.package, address.version)
    return Address(address.host, address.package, _digest(tag))


def pull(address: Address) -> Template:
    """The template at an address with a digest; kept in the user's cache, since it never changes.

    Raises:
        UserError: It is not there, may not be read, or is no compiled pipeline.
    """
    folder = _cache() / "templates"
    name = f"{address.package}-{address.version.removeprefix(DIGEST)}-{digest(address.host)[:8]}"
    path = folder / f"{name}.yaml"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            partial = Path(fresh) / path.name
            with _speaking(address.host, str(address)), _listing(address):
                _client(address.host).download_pipeline(
                    address.package, version=address.version, file_name=str(partial)
                )
            read_template(partial)
            partial.replace(path)
    return read_template(path)


@dataclass(frozen=True)
class Pushed:
    """A template that is in a registry now."""

    address: Address
    """By digest."""
    tags: dict[str, str]
    """What each tag named before; empty for a new one."""


def push(
    template: Template,
    repository: str,
    *,
    version: str,
    tags: Sequence[str] = ("latest",),
    move: bool = False,
) -> Pushed:
    """Upload a template with its tags.

    Args:
        template: What to upload; its pipeline's name becomes the package's.
        repository: Address of a KFP repository.
        version: Tag that keeps its meaning: refused when it names something else already.
        tags: Tags that move, for instance `latest`.
        move: Let `version` move too.

    Raises:
        UserError: A tag cannot be one, `version` is taken, or the registry refuses.
    """
    wanted = list(dict.fromkeys([version, *tags]))
    for tag in wanted:
        if not TAG.fullmatch(tag):
            raise UserError(
                f"{tag!r} cannot be a tag: write lower-case letters, digits, dots and dashes."
            )
    with _speaking(repository, f"{repository}/{template.name}"):
        client = _client(repository)
        before = {tag: _tag(client, template.name, tag) for tag in wanted}
        taken = before[version]
        if taken and not move and not _same(client, template, taken):
            raise UserError(
                f"{version} of {template.name} names {taken}, which holds something else: give "
                "another --version-tag, or --move to let it name this one."
            )
        package, new = client.upload_pipeline(str(template.path), tags=wanted)
        # Asked for: whether an upload moves a tag that exists is documented nowhere.
        for tag in wanted:
            now = _tag(client, package, tag)
            if not now:
                client.create_tag(package, new, tag)
            elif now != new:
                client.update_tag(package, new, tag)
    return Pushed(Address(repository, package, new), before)


def _same(client: Any, template: Template, digest: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "template.yaml"
        client.download_pipeline(template.name, version=digest, file_name=str(path))
        return path.read_bytes() == template.path.read_bytes()


def _tag(client: Any, package: str, tag: str) -> str:
    """The digest that a tag names; empty when there is no such tag or package."""
    try:
        return _digest(client.get_tag(package, tag))
    except requests.HTTPError as error:
        if _is_absence(error):
            return ""
        raise


def _is_absence(error: requests.HTTPError) -> bool:
    return error.response is not None and error.response.status_code == 404


@contextmanager
def _listing(address: Address) -> Iterator[None]:
    """Where there is no such template, say what there is; left to `_speaking` if nobody can."""
    try:
        yield
    except requests.HTTPError as error:
        if not _is_absence(error):
            raise
        client, package, version = _client(address.host), address.package, address.version
        # Who may download may not be let list; then the first answer says more than the refusal.
        with suppress(requests.RequestException):
            tags = _names(client.list_tags(package))
            if tags:
                what, advice = "tag", did_you_mean(version, tags)
                if version.startswith(DIGEST):
                    what, advice = "content", " Name one by a tag."
                raise UserError(
                    f"{package} has no {what} {version} in {address.host}.{advice}{there_are(tags)}"
                ) from error
        with suppress(requests.RequestException):
            packages = _names(client.list_packages())
            if package not in packages:
                raise UserError(
                    f"There is no template {package} in {address.host}."
                    f"{did_you_mean(package, packages)}{there_are(packages)}"
                ) from error
        raise


def _names(resources: Iterable[dict[str, Any]]) -> list[str]:
    return [str(one["name"]).rpartition("/")[2] for one in resources]


def _digest(tag: dict[str, Any]) -> str:
    return str(tag["version"]).rpartition("/")[2]


class _Anonymous(requests.auth.AuthBase):
    """No credentials: those of another registry must not be sent to this machine's."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


def _client(host: str) -> Any:
    if is_loopback(host):
        return RegistryClient(host=host, auth=_Anonymous(), config_file=DEFAULT_REGISTRY_CONTEXT)
    return RegistryClient(host=host)


@contextmanager
def _speaking(host: str, what: str) -> Iterator[None]:
    """What the registry answers, in sentences."""
    try:
        yield
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        match = GOOGLE.match(host)
        if status == 404:
            advice = (
                f" Or the repository is missing: gcloud artifacts repositories create "
                f"{match['repo']} --repository-format=KFP --location={match['location']} "
                f"--project={match['project']}"
                if match
                else ""
            )
            raise UserError(f"{what} is not in the registry.{advice}") from error
        if status in (401, 403):
            raise UserError(
                f"{what}: the registry refuses ({status}). Grant roles/artifactregistry.reader "
                "to read, roles/artifactregistry.writer to push."
            ) from error
        text = error.response.text[:300] if error.response is not None else str(error)
        raise UserError(f"{what}: the registry answers {status}: {text}") from error
    except requests.ConnectionError as error:
        raise UserError(f"{said(error)}.") from error
    except google.auth.exceptions.DefaultCredentialsError as error:
        raise UserError(
            f"{what}: no credentials. Run: gcloud auth application-default login"
        ) from error


def _cache() -> Path:
    named = os.environ.get("VERTEX_SFT_CACHE")
    return Path(named) if named else user_cache_path("vertex-sft", appauthor=False)
