"""Reports of a submitted run as a browser opens them."""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sft_pipelines.cli.places import running_here

if TYPE_CHECKING:
    from sft_components.vertex.connection import Connection
    from sft_local.control import LocalVertex


def as_pages(
    reports: Iterable[tuple[str, str]], run: str, connection: "Connection"
) -> list[tuple[str, str]]:
    """Step and address of each report; of one on this machine a copy that is named as a page.

    KFP's artifacts have no ending, and a browser shows the source of such a file.

    Args:
        reports: Step and `gs://` address.
        run: Resource name of the pipeline job; the copies go with its other files.
        connection: Where it ran.
    """
    local = _local(connection)
    if local is None:
        return list(reports)
    _, project, _, location, _, job = run.split("/")
    folder = local.state_dir / "pipelines" / project / location / job / "reports"
    pages: list[tuple[str, str]] = []
    for step, address in reports:
        if (file := _object(local, address)) is None:
            pages.append((step, address))
            continue
        stem = re.sub(r"[^\w.-]", "-", step)
        several = sum(other == step for other, _ in pages)
        page = folder / f"{stem}{f'-{several + 1}' if several else ''}.html"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, page)
        except OSError:  # a full disk is not to hide how the run ended
            pages.append((step, address))
        else:
            pages.append((step, str(page)))
    return pages


def _local(connection: "Connection") -> "LocalVertex | None":
    """The local Vertex AI of this user, if `connection` is to that."""
    if not connection.is_local:
        return None
    found = running_here()
    return found if found is not None and found.api_url == connection.base_url else None


def _object(local: "LocalVertex", address: str) -> Path | None:
    """The file of an object; None: there is none, or the address leads out of the buckets."""
    root = (local.state_dir / "storage").resolve()
    file = (root / address.removeprefix("gs://")).resolve()
    return file if file.is_relative_to(root) and file.is_file() else None
