"""The KFP registry: what `kfp.registry.RegistryClient` speaks, below `/kfp/REPOSITORY`."""

from typing import Any

import msgspec
from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse

from sft_local.pipelines.registry import MAX_BYTES, Package
from sft_local.vertex import Body, VertexHere
from sft_local.wire import ApiError

router = APIRouter()

_HOST = "/kfp/{repository}"
_PACKAGE = _HOST + "/packages/{package}"
_OVERHEAD = 64 * 1024
"""What a form may have beside the template."""


class _Tag(msgspec.Struct):
    version: str


@router.post(_HOST)
async def upload(repository: str, request: Request, vertex: VertexHere) -> Response:
    """Keeps a template; answers PACKAGE/DIGEST."""
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > MAX_BYTES + _OVERHEAD:
        raise _refuse(f"A template may have at most {MAX_BYTES} bytes.")
    async with request.form(max_files=1, max_fields=8) as form:
        content, tags = form.get("content"), form.get("tags", "")
        if content is None or isinstance(content, str) or not isinstance(tags, str):
            raise _refuse("The form needs a file `content`; `tags` is text.")
        data = await content.read()
    names = [tag.strip() for tag in tags.split(",") if tag.strip()]
    package, version = await run_in_threadpool(vertex.registry.upload, repository, data, names)
    return PlainTextResponse(f"{package}/{version}")


@router.get(_HOST + "/packages")
def list_packages(repository: str, vertex: VertexHere) -> dict[str, Any]:
    """All packages of a repository."""
    found = vertex.registry.packages(repository)
    return {"packages": [_package(name, package) for name, package in found.items()]}


@router.get(_PACKAGE)
def get_package(repository: str, package: str, vertex: VertexHere) -> dict[str, Any]:
    """One package."""
    return _package(package, vertex.registry.package(repository, package))


@router.delete(_PACKAGE)
def delete_package(repository: str, package: str, vertex: VertexHere) -> dict[str, Any]:
    """Removes a package with all its versions."""
    vertex.registry.delete_package(repository, package)
    return {"done": True}


@router.get(_PACKAGE + "/versions")
def list_versions(repository: str, package: str, vertex: VertexHere) -> dict[str, Any]:
    """All versions of a package."""
    found = vertex.registry.package(repository, package)
    return {"versions": [_version(package, found, version) for version in found.versions]}


@router.get(_PACKAGE + "/versions/{version}")
def get_version(repository: str, package: str, version: str, vertex: VertexHere) -> dict[str, Any]:
    """One version, by its digest."""
    digest = vertex.registry.resolve(repository, package, version)
    return _version(package, vertex.registry.package(repository, package), digest)


@router.delete(_PACKAGE + "/versions/{version}")
def delete_version(
    repository: str,
    package: str,
    version: str,
    vertex: VertexHere,
    force: bool = Query(False),
) -> dict[str, Any]:
    """Removes a version that has no tags."""
    vertex.registry.delete_version(repository, package, version, force=force)
    return {"done": True}


@router.get(_PACKAGE + "/tags")
def list_tags(repository: str, package: str, vertex: VertexHere) -> dict[str, Any]:
    """All tags of a package."""
    found = vertex.registry.package(repository, package)
    return {"tags": [_tag(package, name, version) for name, version in found.tags.items()]}


@router.post(_PACKAGE + "/tags")
def create_tag(
    repository: str,
    package: str,
    body: Body,
    vertex: VertexHere,
    tag: str = Query(alias="tagId"),
) -> dict[str, Any]:
    """Makes a tag."""
    version = _wanted(body)
    vertex.registry.tag(repository, package, tag, version, new=True)
    return _tag(package, tag, version)


@router.patch(_PACKAGE + "/tags/{tag}")
def update_tag(
    repository: str, package: str, tag: str, body: Body, vertex: VertexHere
) -> dict[str, Any]:
    """Moves a tag."""
    version = _wanted(body)
    vertex.registry.tag(repository, package, tag, version, new=False)
    return _tag(package, tag, version)


@router.get(_PACKAGE + "/tags/{tag}")
def get_tag(repository: str, package: str, tag: str, vertex: VertexHere) -> dict[str, Any]:
    """One tag."""
    found = vertex.registry.package(repository, package)
    if tag not in found.tags:
        raise ApiError("NOT_FOUND", f"There is no tag {tag!r} of package {package!r}.")
    return _tag(package, tag, found.tags[tag])


@router.delete(_PACKAGE + "/tags/{tag}")
def delete_tag(repository: str, package: str, tag: str, vertex: VertexHere) -> dict[str, Any]:
    """Removes a tag."""
    vertex.registry.delete_tag(repository, package, tag)
    return {}


@router.get(_HOST + "/{package}/{version}")
def download(repository: str, package: str, version: str, vertex: VertexHere) -> Response:
    """A template's text, by tag or digest."""
    digest, content = vertex.registry.content(repository, package, version)
    return Response(content, media_type="application/yaml", headers={"ETag": f'"{digest}"'})


def _refuse(message: str) -> ApiError:
    return ApiError("INVALID_ARGUMENT", message)


def _wanted(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Tag).version.rpartition("/")[2]
    except msgspec.DecodeError as error:
        raise _refuse(f"The tag: {error}") from None


def _package(name: str, found: Package) -> dict[str, Any]:
    return {
        "name": f"packages/{name}",
        "displayName": name,
        "createTime": found.created,
        "updateTime": found.updated,
    }


def _version(package: str, found: Package, version: str) -> dict[str, Any]:
    created = found.versions[version]
    tags = [_tag(package, tag, to) for tag, to in found.tags.items() if to == version]
    return {
        "name": f"packages/{package}/versions/{version}",
        "createTime": created,
        "updateTime": created,
        "relatedTags": tags,
    }


def _tag(package: str, tag: str, version: str) -> dict[str, Any]:
    return {
        "name": f"packages/{package}/tags/{tag}",
        "version": f"packages/{package}/versions/{version}",
    }
