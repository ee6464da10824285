"""What says whether data sets are still those of yesterday, without reading them."""

import hashlib
import json

from sft_components.datasets.source import find


def data_version(project: str, *addresses: str, model: str = "") -> str:
    """A digest of the files that `addresses` name: it changes whenever one of them is written.

    Vertex AI's cache goes by a step's inputs, and an address stays the same when rows are added.
    With this beside the address the cache can be used.

    Args:
        project: Project that Cloud Storage requests are made in.
        addresses: Paths and gs:// addresses, each perhaps with wildcards; empty ones count as such.
        model: As for `source.find`.

    Raises:
        UserError: An address names nothing, or it may not be read.
    """
    files = [
        [(source.name, source.size, source.written) for source in find(address, project, model)]
        if address
        else []
        for address in addresses
    ]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:32]
