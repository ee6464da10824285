"""Show a run in a Vertex AI experiment, as the Python SDK does."""

import re

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1 import types
from google.cloud.aiplatform_v1.services.metadata_service import MetadataServiceClient

from sft_components.errors import UserError
from sft_components.vertex.connection import Connection
from sft_components.vertex.retrying import CALL_TIMEOUT_S, find_or_create, reading

SCHEMA = "system.Experiment"
EXPERIMENT = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")


def check_name(experiment: str) -> None:
    """Refuse what cannot name an experiment.

    Raises:
        UserError: It cannot.
    """
    if experiment and not EXPERIMENT.fullmatch(experiment):
        raise UserError(
            f"{experiment!r} cannot name an experiment: lower-case letters, digits and dashes, "
            "at most 128."
        )


def associate(connection: Connection, run_context: str, experiment: str) -> None:
    """Put a run into an experiment, which is made if there is none.

    Args:
        connection: Project and region of the run.
        run_context: Resource name of the run's metadata context, which the service makes soon
            after the run has started.
        experiment: Name of the experiment.

    Raises:
        UserError: The name is taken by something else.
        google.api_core.exceptions.GoogleAPICallError: The service refuses.
    """
    client = connection.client(MetadataServiceClient)
    store = f"{connection.parent}/metadataStores/default"
    name = f"{store}/contexts/{experiment}"

    def find() -> types.Context | None:
        found: types.Context
        try:
            found = client.get_context(name=name, retry=reading(60.0), timeout=CALL_TIMEOUT_S)
        except api.NotFound:
            return None
        return found

    def create() -> types.Context:
        created: types.Context = client.create_context(
            parent=store,
            context=types.Context(
                display_name=experiment,
                schema_title=SCHEMA,
                schema_version="0.0.1",
                metadata={"experiment_deleted": False},
            ),
            context_id=experiment,
            retry=None,
            timeout=CALL_TIMEOUT_S,
        )
        return created

    context, _ = find_or_create(find, create, lambda _: None)
    if context.schema_title != SCHEMA:
        raise UserError(f"{name} is no experiment, but a {context.schema_title}.")
    client.add_context_children(
        context=name, child_contexts=[run_context], retry=reading(60.0), timeout=CALL_TIMEOUT_S
    )
