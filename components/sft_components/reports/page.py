"""The frame of a report: one HTML file that needs nothing but itself."""

import base64
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup


@dataclass(frozen=True)
class Section:
    """One part of a page."""

    title: str
    """The heading; none where it is empty."""
    body: str
    """`Markup` is inserted as HTML; any other string is data, escaped, its line breaks kept."""
    note: str = ""
    """A sentence below the heading that says how to read what follows."""


def page(title: str, sections: Sequence[Section], *, script: str = "") -> str:
    """A whole HTML document: inline style, no network, light and dark, wide and narrow.

    Args:
        title: The document's title and its heading.
        sections: The parts in their order.
        script: JavaScript of the report itself, never of data. The page's content security policy
            admits this script by its hash and no other.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return _template().render(
        title=title, sections=sections, script=Markup(script), script_hash=digest  # noqa: S704
    )  # fmt: skip


@functools.cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja")
