"""Which endpoint serves which weights: kept in the store, so that it outlives the process.

A deployment is the tie between an endpoint and a model. Its model server is another matter: one
that has none gets it at the next question.
"""

import random
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from sft_components.promote_model.record import read_record
from sft_components.vertex.keys import TRIAL
from sft_local import control, wire
from sft_local.named import named_endpoints
from sft_local.operations import OperationCancelledError, Operations
from sft_local.results import encryption_spec
from sft_local.serving import MAX_SERVERS, ModelServer, ModelServers
from sft_local.stand_in import LABEL, StandIn
from sft_local.store import Store, now
from sft_local.versions import version_row
from sft_local.wire import ApiError

Surface = Literal["vllm", "gemini", "text", "chat"]
"""The formats an endpoint is asked in: Model Garden's vLLM image, Gemini's, the PaLM API's two."""
_KIND = "deployment"
_SURFACE = "surface"
QUOTA = "custom_model_serving_nvidia_l4_gpus"
"""What the service calls the places that are few here."""
BASE_ID = "base"
"""The model server's id of the base model itself."""


class Deployment(msgspec.Struct, frozen=True):
    """What is known of a deployed model beside the resource."""

    endpoint: str
    model: str
    """The registry model with its version: `projects/P/locations/L/models/ID@1`."""
    weights: str
    """A gs:// folder, or a folder of this machine."""
    surface: Surface
    undo: list[str] = []
    """The resources to delete should the server be killed before the deployment is complete."""
    complete: bool = True
    max_model_len: int = 0
    """vLLM's, where the container names one."""


class NotServedError(ApiError):
    """The deployed model is not there, or not any more."""

    def __init__(self, deployed_id: str) -> None:
        """`deployed_id`: the one that was asked for."""
        super().__init__("UNAVAILABLE", f"Deployed model {deployed_id} is not served.")


class Hosting:
    """The deployments of one local Vertex AI."""

    def __init__(
        self,
        store: Store,
        servers: ModelServers,
        operations: Operations,
        stand_in: StandIn,
        prediction_host: str,
    ) -> None:
        """Takes back what an earlier server left unfinished; the rest is served when asked."""
        self._store = store
        self._servers = servers
        self._operations = operations
        self._stand_in = stand_in
        self._prediction_host = prediction_host
        self._take_back_unfinished()
        self._renew_addresses()

    def _take_back_unfinished(self) -> None:
        for deployed_id, found in self._all().items():
            if not found.complete:
                for name in found.undo:
                    self._store.delete(name)
                self.forget(deployed_id)

    def _renew_addresses(self) -> None:
        """Each server process has another port."""
        for endpoint in self._store.all("Endpoint"):
            if not (endpoint.dedicated_endpoint_enabled or endpoint.network):
                continue
            with self._store.change(endpoint.name) as stored:
                if stored.dedicated_endpoint_enabled:
                    stored.dedicated_endpoint_dns = self._prediction_host
                if stored.network:
                    for deployed in stored.deployed_models:
                        deployed.private_endpoints = self._private(deployed.id)

    def host(
        self,
        *,
        parent: str,
        endpoint_id: str,
        model: str,
        weights_uri: str,
        display_name: str,
        labels: Mapping[str, str] = {},
        description: str = "",
        surface: Surface = "gemini",
        dedicated: bool = False,
        encryption_key: str = "",
    ) -> str:
        """Creates an endpoint that serves a model, as the service does after a tuning.

        The model server starts at the first question, and may end when another model needs the
        place: any number of models can be hosted.

        Args:
            parent: `projects/P/locations/L`.
            endpoint_id: The endpoint's id.
            model: The model of the registry, which exists: `projects/P/locations/L/models/ID@1`.
            weights_uri: The gs:// folder of its weights.
            display_name: The endpoint's and the deployed model's.
            labels: The endpoint's labels.
            description: The endpoint's description.
            surface: The formats it is asked in.
            dedicated: Whether it has an address of its own.
            encryption_key: The endpoint's customer-managed key; empty for none.

        Returns:
            The endpoint's resource name.

        Raises:
            ApiError: There is such an endpoint already, or no such model.
        """
        name = f"{parent}/endpoints/{endpoint_id}"
        version_row(self._store, model)
        self._store.keep(_SURFACE, model.partition("@")[0], surface)
        sentence = "Served on this machine's CPU by transformers serve."
        self._store.create(
            name,
            self.endpoint(
                name,
                display_name=display_name,
                description=f"{description} {sentence}".strip(),
                labels=labels,
                dedicated=dedicated,
                encryption_key=encryption_key,
            ),
        )
        deployed_id = self._operations.next_id()
        self.begin(
            deployed_id, Deployment(name, model, weights_uri, surface, undo=[name], complete=False)
        )
        try:
            self.attach(deployed_id, {"display_name": display_name}, {"0": 100})
        except BaseException:
            self._store.delete(name)
            self.forget(deployed_id)
            raise
        return name

    def endpoint(
        self,
        name: str,
        *,
        display_name: str,
        description: str = "",
        labels: Mapping[str, str] | None = None,
        dedicated: bool = False,
        network: str = "",
        encryption_key: str = "",
    ) -> Any:
        """The resource of a new endpoint, labelled with what stands in for its models here."""
        moment = now()
        return wire.types().Endpoint(
            name=name,
            display_name=display_name,
            description=description,
            labels={**(labels or {}), LABEL: self._stand_in.model.label},
            dedicated_endpoint_enabled=dedicated,
            dedicated_endpoint_dns=self._prediction_host if dedicated else "",
            network=network,
            encryption_spec=encryption_spec(encryption_key),
            create_time=moment,
            update_time=moment,
        )

    def begin(self, deployed_id: str, deployment: Deployment) -> None:
        """Keeps `deployment`, which `attach` will complete.

        Raises:
            ApiError: `deployed_id` is in use (ALREADY_EXISTS).
        """
        if self._store.note(_KIND, deployed_id) is not None:
            raise ApiError("ALREADY_EXISTS", f"Deployed model {deployed_id} already exists.")
        self._store.keep(_KIND, deployed_id, msgspec.json.encode(deployment).decode())

    def forget(self, deployed_id: str) -> None:
        """Drops what `begin` kept."""
        self._store.forget(_KIND, deployed_id)

    def attach(self, deployed_id: str, deployed: Any, traffic: Mapping[str, int]) -> Any:
        """Writes a deployment into its endpoint and its model.

        Args:
            deployed_id: What `begin` was given.
            deployed: The DeployedModel's other fields.
            traffic: The endpoint's new traffic split, in which "0" is this model; empty leaves the
                split as it is.

        Returns:
            The DeployedModel.
        """
        found = self.find(deployed_id)
        name, _, version = found.model.partition("@")
        row, number = version_row(self._store, found.model)
        message = wire.types().DeployedModel(deployed)
        message.id = deployed_id
        message.model, message.model_version_id = name, version or number
        message.create_time = now()
        message.status = {"available_replica_count": 1}
        with self._store.change(found.endpoint) as endpoint:
            if endpoint.network:
                message.private_endpoints = self._private(deployed_id)
            endpoint.deployed_models.append(message)
            if traffic:
                endpoint.traffic_split = {
                    deployed_id if key == "0" else key: share for key, share in traffic.items()
                }
        with self._store.change(row) as model:
            model.deployed_models.append(
                {"endpoint": found.endpoint, "deployed_model_id": deployed_id}
            )
        complete = msgspec.structs.replace(found, undo=[], complete=True)
        self._store.keep(_KIND, deployed_id, msgspec.json.encode(complete).decode())
        return message

    def detach(self, endpoint: str, deployed_id: str, traffic: Mapping[str, int]) -> None:
        """Takes a deployment out of its endpoint, then ends its server once it has answered.

        Args:
            endpoint: The endpoint.
            deployed_id: The deployed model.
            traffic: The endpoint's new traffic split; empty leaves the others' shares.
        """
        with self._store.change(endpoint) as stored:
            gone = [d for d in stored.deployed_models if d.id == deployed_id]
            stored.deployed_models = [d for d in stored.deployed_models if d.id != deployed_id]
            split = dict(traffic) or dict(stored.traffic_split)
            stored.traffic_split = {k: v for k, v in split.items() if k != deployed_id}
        for deployed in gone:
            row, _ = version_row(self._store, f"{deployed.model}@{deployed.model_version_id}")
            with self._store.change(row) as model:
                model.deployed_models = [
                    d for d in model.deployed_models if d.deployed_model_id != deployed_id
                ]
        self.forget(deployed_id)
        self._servers.stop(deployed_id)

    def find(self, deployed_id: str) -> Deployment:
        """The deployment of the model `deployed_id`.

        Raises:
            NotServedError: There is none.
        """
        text = self._store.note(_KIND, deployed_id)
        if text is None:
            raise NotServedError(deployed_id)
        return msgspec.json.decode(text, type=Deployment)

    def is_deploying(self, endpoint: str) -> bool:
        """Whether a deployment at `endpoint` is under way."""
        return any(d.endpoint == endpoint and not d.complete for d in self._all().values())

    def surface_of(self, model: str) -> Surface:
        """How `model` (without its version) is asked: as its tuning's endpoint, else as vLLM is."""
        text = self._store.note(_SURFACE, model)
        return "vllm" if text is None else msgspec.convert(text, Surface)

    def choose(self, endpoint: Any) -> Any:
        """One of the endpoint's deployed models, at random by its share of the traffic.

        Raises:
            ApiError: None has any (UNAVAILABLE).
        """
        shares = dict(endpoint.traffic_split)
        if endpoint.network:
            # One model and no split.
            shares = {d.id: 100 for d in endpoint.deployed_models}
        candidates = [d for d in endpoint.deployed_models if shares.get(d.id, 0) > 0]
        if not candidates:
            raise ApiError("UNAVAILABLE", f"{endpoint.name} has no deployed model with traffic.")
        return random.choices(candidates, [shares[d.id] for d in candidates])[0]  # noqa: S311

    def acquire(self, deployed_id: str) -> ModelServer:
        """The server of a deployed model for one question; give it to `release` afterwards.

        Raises:
            NotServedError: The model is not deployed, or not any more.
            ApiError: It cannot be served.
        """
        found = self.find(deployed_id)
        try:
            server = self._servers.acquire(deployed_id, found.weights)
        except OperationCancelledError:
            raise NotServedError(deployed_id) from None
        server.max_model_len = found.max_model_len
        if found.surface == "vllm" and not server.max_model_len:
            server.max_model_len = server.context
        if self._store.note(_KIND, deployed_id) is None:
            # Undeployed while its server was being started: nothing would ever end that.
            self._servers.release(server)
            self._servers.stop(deployed_id, patience=0)
            raise NotServedError(deployed_id)
        return server

    def acquire_base(self) -> ModelServer:
        """The server of the base model itself, for one question."""
        return self._servers.acquire(BASE_ID, str(self._stand_in.model.folder))

    def release(self, server: ModelServer) -> None:
        """Says that a question to `server` has been answered."""
        self._servers.release(server)

    def reserve(self, deployed_id: str) -> None:
        """Takes a place for a deployment that has begun.

        Raises:
            ApiError: All are taken (RESOURCE_EXHAUSTED).
        """
        if not self._servers.reserve(deployed_id):
            raise ApiError(
                "RESOURCE_EXHAUSTED",
                "The following quota metrics exceed quota limits: "
                f"aiplatform.googleapis.com/{QUOTA}. {self.full()}",
            )

    def full(self, named: Iterable[str] = ()) -> str:
        """What is deployed, and the commands that take it down; empty while there is a place.

        The endpoints are of all projects: a list of them shows those of one.

        Args:
            named: Endpoints that who asks needs, as are those of runs here: they are to stay.
        """
        reserved = self._servers.reserved()
        if len(reserved) < MAX_SERVERS:
            return ""
        found = self._all()
        most = f"At most {MAX_SERVERS} models are deployed at once on this machine: "
        if not found.keys() >= set(reserved):
            return f"{most}one is being taken down and still answers; try again in two minutes."
        served = [found[key].endpoint for key in reserved]
        names = dict.fromkeys(served)
        several = [name for name in names if served.count(name) > 1]
        for name in several:
            record = read_record(self._store.get(name))
            if record is not None and record.state == "shared":
                return (
                    f"{most}{name} shares its traffic between two. Take the share back with "
                    f"`vertex-sft endpoints rollback {name}`, or give the new model all of it with "
                    "`vertex-sft endpoints promote`."
                )
        if several or any(map(_is_trial, names)):
            return f"{most}a promotion is under way; try again when it has ended."
        kept = [name for name in names if name in {*named, *named_endpoints(self._store)}]
        free = [_delete_command(name) for name in names if name not in kept]
        stays = f"a run names {' and '.join(kept)} in its parameters"
        if not free:
            return (
                f"{most}{stays}. Wait for the end of that run, or leave one out of its parameters."
            )
        told = f"{most}take one down with {' or '.join(free)}."
        return f"{told} The other stays, as {stays}." if kept else told

    def start(self, deployed_id: str, cancel: threading.Event) -> None:
        """Starts the server of a deployment whose place is reserved."""
        self._servers.start(deployed_id, self.find(deployed_id).weights, cancel)

    def _private(self, deployed_id: str) -> dict[str, str]:
        """The addresses of a model whose endpoint is inside a VPC network: here on this machine."""
        url = f"http://{self._prediction_host}/v1/models/{deployed_id}"
        return {"predict_http_uri": f"{url}:predict", "health_http_uri": url}

    def _all(self) -> dict[str, Deployment]:
        return {
            key: msgspec.json.decode(text, type=Deployment)
            for key, text in self._store.notes(_KIND).items()
        }


def _is_trial(endpoint: str) -> bool:
    return endpoint.rpartition("/")[2].startswith(TRIAL)


def _delete_command(endpoint: str) -> str:
    """The command that deletes an endpoint, from any shell: another project is asked at Google."""
    ours = endpoint.split("/")[1] == control.PROJECT
    point = "" if ours else 'eval "$(vertex-sft local env)" && '
    return f"`{point}vertex-sft endpoints delete {endpoint}`"
