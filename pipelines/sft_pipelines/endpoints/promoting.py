"""What a promotion is held against before it makes anything."""

from collections.abc import Callable, Iterable

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.model_service import ModelServiceClient

from sft_components.errors import UserError
from sft_components.evaluate_model.checkpoint import check_files
from sft_components.promote_model.registering import versioned
from sft_components.vertex.connection import Connection
from sft_components.vertex.names import same_resource
from sft_components.vertex.retrying import CALL_TIMEOUT_S, reading
from sft_components.vertex.storage import REFUSALS, missing, split_uri, storage_client
from sft_pipelines.endpoints.records import Endpoint

LISTED = 1_000
"""Objects below a folder that are looked through for weights."""
SHOWN = 4
NAME = "name the folder that holds the weights."


def check_weights(uri: str, project: str) -> None:
    """Refuse a gs:// folder that holds no model, which a deployment would find out minutes later.

    One that may not be looked at from here is left to the service, which has its own account.

    Args:
        uri: The folder.
        project: Google Cloud project of the requests.

    Raises:
        UserError: With what the folder holds, and where below it there is a model.
    """
    bucket, prefix = split_uri(uri)
    prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    client = storage_client(project)
    try:
        found = client.list_blobs(bucket, prefix=prefix, delimiter="/", retry=reading(60.0))
        names = {blob.name.removeprefix(prefix) for blob in found} - {""}
        folders = {folder.removeprefix(prefix) for folder in found.prefixes}
        if not (lack := _lack(uri, names)):
            return
        below = client.list_blobs(bucket, prefix=prefix, max_results=LISTED, retry=reading(60.0))
        fit = _folders_with_model(bucket, [blob.name for blob in below])
    except api.NotFound:
        raise missing(f"Bucket gs://{bucket} does not exist: {NAME}") from None
    except REFUSALS:
        return
    if fit:
        raise UserError(f"{lack} There is a model in {_some(fit)}.")
    if not names | folders:
        raise missing(f"There is nothing in {uri}: {NAME}")
    raise UserError(f"{lack} It holds {_some(sorted(folders) + sorted(names))}: {NAME}")


def version_of(model: str, place: Connection) -> str:
    """The full name, with its version, of a model that is named by an alias or by none.

    Raises:
        UserError: There is no such model.
    """
    try:
        return versioned(_get(model, place))
    except api.NotFound as error:
        raise UserError(f"There is no model {model}.") from error


def check_not_served(
    model: str, endpoint: Endpoint, place: Connection, log: Callable[[str], None]
) -> None:
    """Refuse a version that the endpoint serves already: a second copy is a second machine.

    The same weights, which may be for another container, are only told of.

    Args:
        model: Version of a model in the registry, or the gs:// folder of weights.
        endpoint: Where it is to go.
        place: Where the endpoint is.
        log: Called with a warning.

    Raises:
        UserError: It is served there.
    """
    for deployed in endpoint.deployed:
        if model.startswith("gs://"):
            try:
                source = _get(deployed.model, place).artifact_uri
            except api.ClientError:
                continue
            if source.rstrip("/") == model.rstrip("/"):
                log(
                    f"WARNING: {endpoint.name} serves these weights already, as {deployed.model}: "
                    "while both are deployed, two machines are paid for."
                )
        elif same_resource(deployed.model, model):
            how = (
                "To have it on another machine, give machine_type."
                if deployed.traffic
                else f"To give it all of it: gcloud ai endpoints update {endpoint.name} "
                f"--traffic-split={deployed.id}=100"
            )
            raise UserError(
                f"{endpoint.name} serves {deployed.model} already, with {deployed.traffic} % of "
                f"the traffic: a second copy would be a second machine. {how}"
            )


def _get(model: str, place: Connection) -> types.Model:
    models = place.client(ModelServiceClient)
    return models.get_model(name=model, retry=reading(), timeout=CALL_TIMEOUT_S)


def _lack(uri: str, names: set[str]) -> str:
    """What is missing in the folder; empty: it is a model."""
    try:
        check_files(uri, names)
    except UserError as error:
        return str(error)
    return ""


def _folders_with_model(bucket: str, names: Iterable[str]) -> list[str]:
    """Where among these objects there is a model."""
    inside: dict[str, set[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        inside.setdefault(f"gs://{bucket}/{folder}", set()).add(file)
    return [folder for folder, files in inside.items() if not _lack(folder, files)]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
