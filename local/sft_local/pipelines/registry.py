"""Compiled templates by package, digest and tag, in a folder of this machine."""

import hashlib
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import yaml

from sft_local.pipelines.spec import check_spec
from sft_local.store import now
from sft_local.wire import ApiError

MAX_BYTES = 16 * 2**20
DIGEST = "sha256:"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_VERSION = re.compile(r"sha256:[0-9a-f]{64}")
_RESERVED = "packages"
"""What the addresses of the protocol hold in the place of a package's name."""
_URI = re.compile(
    r"http://(?:127\.0\.0\.1|localhost)(?::\d+)?/kfp/"
    r"(?P<repository>[^/]+)/(?P<package>[^/]+)/(?P<version>[^/]+)"
)


class Package(msgspec.Struct):
    """A template's versions and tags."""

    created: str
    updated: str
    versions: dict[str, str] = msgspec.field(default_factory=dict)
    """When each digest was uploaded."""
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    """The digest of each tag."""


class Registry:
    """The repositories below one folder. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        """`folder`: created when there is something to keep."""
        self._folder = folder
        self._lock = threading.RLock()

    def upload(self, repository: str, content: bytes, tags: list[str]) -> tuple[str, str]:
        """Keeps a compiled pipeline; its tags point to it from now on.

        Returns:
            The package, which is the pipeline's name, and the digest.

        Raises:
            ApiError: It is no compiled pipeline, too large, or a name is none.
        """
        if len(content) > MAX_BYTES:
            raise _refuse(f"A template may have at most {MAX_BYTES} bytes, not {len(content)}.")
        spec = read(content)
        package = _checked("package", str(spec["pipelineInfo"]["name"]))
        for tag in tags:
            _checked("tag", tag)
        version = DIGEST + hashlib.sha256(content).hexdigest()
        with self._changed(repository, package, create=True) as found:
            path = self._path(repository, package) / f"{version.removeprefix(DIGEST)}.yaml"
            if not path.is_file():
                partial = path.with_suffix(".new")
                partial.write_bytes(content)
                partial.replace(path)
            found.versions.setdefault(version, _moment())
            found.tags.update(dict.fromkeys(tags, version))
        return package, version

    def packages(self, repository: str) -> dict[str, Package]:
        """The packages of a repository by name."""
        folder = self._folder / _checked("repository", repository)
        names = sorted(path.parent.name for path in folder.glob("*/package.json"))
        return {name: self.package(repository, name) for name in names}

    def package(self, repository: str, package: str) -> Package:
        """One package.

        Raises:
            ApiError: There is none of that name (NOT_FOUND).
        """
        try:
            text = (self._path(repository, package) / "package.json").read_bytes()
        except FileNotFoundError:
            raise _unknown(f"package {package!r} in repository {repository!r}") from None
        return msgspec.json.decode(text, type=Package)

    def resolve(self, repository: str, package: str, version: str) -> str:
        """The digest that `version`, a tag or a digest, stands for.

        Raises:
            ApiError: There is none (NOT_FOUND).
        """
        found = self.package(repository, package)
        digest = version if version.startswith(DIGEST) else found.tags.get(version, "")
        if digest not in found.versions:
            raise _unknown(f"version {version!r} of package {package!r}")
        return digest

    def content(self, repository: str, package: str, version: str) -> tuple[str, bytes]:
        """The digest and the text of `version`, a tag or a digest.

        Raises:
            ApiError: There is none (NOT_FOUND).
        """
        digest = self.resolve(repository, package, version)
        name = f"{digest.removeprefix(DIGEST)}.yaml"
        return digest, (self._path(repository, package) / name).read_bytes()

    def tag(self, repository: str, package: str, tag: str, version: str, *, new: bool) -> None:
        """Points `tag` to the digest `version`.

        Args:
            repository: The repository.
            package: The package.
            tag: The tag.
            version: A digest of the package.
            new: Whether the tag is to be made (and must not be there) or moved (and must be).

        Raises:
            ApiError: There is no such version, or the tag is there, or is not.
        """
        digest = self.resolve(repository, package, version)
        with self._changed(repository, package) as found:
            if new and tag in found.tags:
                raise ApiError("ALREADY_EXISTS", f"The tag {tag!r} already exists.")
            if not new and tag not in found.tags:
                raise _unknown(f"tag {tag!r}")
            found.tags[_checked("tag", tag)] = digest

    def delete_tag(self, repository: str, package: str, tag: str) -> None:
        """Removes a tag.

        Raises:
            ApiError: There is none of that name.
        """
        with self._changed(repository, package) as found:
            if found.tags.pop(tag, None) is None:
                raise _unknown(f"tag {tag!r}")

    def delete_version(self, repository: str, package: str, version: str, *, force: bool) -> None:
        """Removes a version; one with tags only by `force`, and the tags with it.

        Raises:
            ApiError: There is none, or it has tags.
        """
        if not _VERSION.fullmatch(version):
            raise _unknown(f"version {version!r} of package {package!r}")
        digest = self.resolve(repository, package, version)
        with self._changed(repository, package) as found:
            tags = [tag for tag, target in found.tags.items() if target == digest]
            if tags and not force:
                raise ApiError(
                    "FAILED_PRECONDITION",
                    f"The version {digest} has the tags {', '.join(tags)}: delete them first.",
                )
            for tag in tags:
                del found.tags[tag]
            del found.versions[digest]
            name = f"{digest.removeprefix(DIGEST)}.yaml"
            (self._path(repository, package) / name).unlink(missing_ok=True)

    def delete_package(self, repository: str, package: str) -> None:
        """Removes a package with all its versions.

        Raises:
            ApiError: There is none of that name.
        """
        with self._lock:
            self.package(repository, package)
            shutil.rmtree(self._path(repository, package))

    @contextmanager
    def _changed(self, repository: str, package: str, *, create: bool = False) -> Iterator[Package]:
        folder = self._path(repository, package)
        with self._lock:
            if create and not (folder / "package.json").is_file():
                folder.mkdir(parents=True, exist_ok=True)
                found = Package(_moment(), _moment())
            else:
                found = self.package(repository, package)
            yield found
            found.updated = _moment()
            partial = folder / "package.new"
            partial.write_bytes(msgspec.json.encode(found))
            partial.replace(folder / "package.json")

    def _path(self, repository: str, package: str) -> Path:
        return self._folder / _checked("repository", repository) / _checked("package", package)


def parse_uri(uri: str) -> tuple[str, str, str] | None:
    """Repository, package and version of a template's address in this registry, or None.

    The port is not looked at: it is another one after each start of the server.
    """
    match = _URI.fullmatch(uri)
    return (match["repository"], match["package"], match["version"]) if match else None


def read(content: bytes) -> dict[str, Any]:
    """The compiled pipeline in a YAML file, without what it says about other platforms.

    Raises:
        ApiError: It is none.
    """
    try:
        loaded = next(iter(yaml.load_all(content, Loader=_LOADER)), None)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise _refuse(f"The template is no YAML: {reason}") from None
    if not isinstance(loaded, dict):
        raise _refuse("The template is no compiled pipeline.")
    check_spec(loaded)
    return loaded


# Templates embed whole packages: the C parser is ten times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _moment() -> str:
    return now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _checked(what: str, name: str) -> str:
    # Names become folders: none may lead elsewhere.
    if not _NAME.fullmatch(name) or name == _RESERVED:
        raise _refuse(
            f"{name!r} cannot name a {what}: at most 128 lower-case letters, digits, dots, dashes "
            f"and underscores, a letter or digit first, and not {_RESERVED!r}."
        )
    return name


def _refuse(message: str) -> ApiError:
    return ApiError("INVALID_ARGUMENT", message)


def _unknown(what: str) -> ApiError:
    return ApiError("NOT_FOUND", f"There is no {what}.")
