"""Where a request goes."""

from dataclasses import dataclass

from sft_local.wire import Version

PLACE = "/{version}/projects/{project}/locations/{location}"
"""The beginning of every path."""


@dataclass(frozen=True)
class Place:
    """Where a request goes: version of the API, project and location."""

    version: Version
    project: str
    location: str

    @property
    def parent(self) -> str:
        """`projects/P/locations/L`."""
        return f"projects/{self.project}/locations/{self.location}"

    def name(self, collection: str, resource: str) -> str:
        """The resource's full name."""
        return f"{self.parent}/{collection}/{resource}"
