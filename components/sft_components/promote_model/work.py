"""Champion and challenger on one endpoint: test the new model, move the traffic, end the old one.

At no moment is there less than one model that answers; whatever goes wrong, the traffic is given
back to the model that had it. At an endpoint that serves nothing yet the challenger is the first;
whatever goes wrong, it is empty again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.endpoint_service import EndpointServiceClient

from sft_components.deploy_model.plan import Replicas
from sft_components.errors import UserError
from sft_components.promote_model.challenger import Challenger
from sft_components.promote_model.deployed import (
    first,
    resources_alone,
    resources_beside,
    serving,
    version,
)
from sft_components.promote_model.record import (
    STATE_LABEL,
    Record,
    State,
    read_record,
    spoken,
    without_record,
    write,
)
from sft_components.promote_model.registering import Registry, versioned
from sft_components.promote_model.restoring import (
    end_promotion,
    forget_promotion,
    restore_traffic,
)
from sft_components.promote_model.settings import Promotion
from sft_components.promote_model.shares import check_first, check_public, with_share
from sft_components.promote_model.trial import Trial
from sft_components.promote_model.watching import watch
from sft_components.smoke_test_endpoint.work import examine_endpoint
from sft_components.steps import on_stop, undone
from sft_components.vertex.endpoints import delete_endpoint, get_endpoint, undeploy
from sft_components.vertex.expiry import EXPIRES_LABEL
from sft_components.vertex.failures import said
from sft_components.vertex.keys import (
    PROMOTES_LABEL,
    RUN_LABEL,
    SERVES_LABEL,
    deployed_id,
    label_value,
)
from sft_components.vertex.names import same_resource
from sft_components.vertex.prediction import endpoint_connection


@dataclass(frozen=True)
class PromoteResult:
    """What serves after it."""

    endpoint: str
    model: str
    """`projects/…/models/ID@VERSION` of the challenger."""
    deployed_model: str
    """Its id at the endpoint."""
    traffic: dict[str, int] = field(default_factory=dict)
    """Shares by deployed model."""


def promote_model(
    wanted: Promotion,
    *,
    examine: Callable[[str], None] | None = None,
    log: Callable[[str], None] = print,
) -> PromoteResult:
    """Put a model in the place of the one that an endpoint serves, or at an empty endpoint.

    Ended and called again, it goes on where it was. Told to stop, or after any failure before the
    traffic has moved for good, it gives the traffic back and takes the challenger away.

    Args:
        wanted: What to promote, where and how.
        examine: Called with the name of the endpoint of its own where the challenger is tested,
            for instance to evaluate it there; it raises to refuse.
        log: Called with lines of progress.

    Raises:
        UserError: A setting is wrong, the challenger does not pass, or it cannot be deployed.
    """
    wanted.check()
    if examine is not None and (wanted.test_share or wanted.tested_endpoint):
        raise UserError("To be evaluated the challenger needs an endpoint of its own: test_share 0")
    work = _Work(wanted, examine, log)
    with on_stop(work.give_back), undone(work.take_back, log):
        return work.run()


class _Work:
    """One promotion."""

    def __init__(
        self,
        wanted: Promotion,
        examine: Callable[[str], None] | None,
        log: Callable[[str], None],
    ) -> None:
        self._wanted = wanted
        self._examine = examine
        self._log = log
        connection = endpoint_connection(wanted.endpoint)
        self._connection = connection
        self._endpoints: Any = connection.client(EndpointServiceClient)
        self._registry = Registry(connection, wanted.run_name, log)
        self._label = label_value(wanted.run_name)
        self._id = deployed_id(wanted.run_name, wanted.endpoint)
        self._challenger: Challenger | None = None
        self._trial: Trial | None = None
        self._begun = False
        """Whether there is something to give back: from the record to the moment of no return."""
        self._registered: types.Model | None = None
        """What is taken out of the registry again after a failure."""

    def run(self) -> PromoteResult:
        """Do it all, or what is left of it."""
        endpoint, record = self._look()
        if record is None and endpoint.labels.get(SERVES_LABEL) == self._label:
            done = next((d for d in endpoint.deployed_models if d.id == self._id), None)
            if done is not None:
                self._log(f"{endpoint.name} serves {version(done)} of this run already")
                return self._result(done)
        # What an attempt before has begun is undone by a failure of this one.
        self._begun = record is not None and record.state == "testing"
        champions = record.before if record else serving(endpoint)
        if not champions:
            check_first(endpoint.name, self._wanted.traffic_share, self._wanted.test_share)
        former = first(endpoint, champions)
        if record is None or record.state == "testing":
            deployed = self._test_and_deploy(endpoint, champions)
        else:
            deployed = self._held(endpoint, record.challenger)
        if record is None or record.state != "ending":
            self._move(champions)
        if self._wanted.traffic_share == 100 or (record and record.state == "ending"):
            # Before it counts as ended: a retry of what has ended does nothing more.
            self._crown(deployed, former)
            ending = Record(self._label, deployed.id, "ending", champions)
            end_promotion(self._endpoints, self._wanted.endpoint, ending, self._log)
        return self._result(deployed)

    def give_back(self) -> None:
        """The traffic as it was, at once."""
        if self._begun and restore_traffic(self._endpoints, self._wanted.endpoint, self._label):
            self._log(f"The traffic of {self._wanted.endpoint} is as it was")

    def take_back(self) -> None:
        """The traffic as it was, and everything away that this promotion has made."""
        try:
            if self._begun:
                self.give_back()
                if self._challenger is not None:
                    self._challenger.undeploy()
                else:
                    undeploy(self._endpoints, self._wanted.endpoint, self._id, self._log)
                forget_promotion(self._endpoints, self._wanted.endpoint, self._label)
        finally:
            if self._trial is not None:
                self._trial.end()
            if self._registered is not None:
                self._registry.forget(self._registered)

    def _look(self) -> tuple[types.Endpoint, Record | None]:
        """The endpoint, and the promotion of this run that it is in the middle of.

        Raises:
            UserError: Nothing can be promoted there.
        """
        name = self._wanted.endpoint
        endpoint = self._now()
        record = read_record(endpoint)
        if record is not None and record.run != self._label:
            raise UserError(
                f"{name} is in the middle of a promotion by run {record.run}: wait for its end, or "
                f"undo it with `vertex-sft endpoints rollback {name}`."
            )
        check_public(name, endpoint.network)
        if record is not None and record.lost:
            raise UserError(
                f"{name} does not say any more what it served before this promotion: set its "
                f"traffic by hand, and take off the labels {PROMOTES_LABEL} and {STATE_LABEL}."
            )
        if record is None and endpoint.deployed_models and not serving(endpoint):
            raise UserError(
                f"{name} holds models of which none gets requests: give one the traffic, or "
                "undeploy them."
            )
        return endpoint, record

    def _now(self) -> types.Endpoint:
        """The endpoint as it is."""
        endpoint = get_endpoint(self._endpoints, self._wanted.endpoint)
        if endpoint is None:
            raise UserError(f"There is no endpoint {self._wanted.endpoint}.")
        return endpoint

    def _held(self, endpoint: types.Endpoint, deployed_id: str) -> types.DeployedModel:
        """The challenger that an attempt before has deployed.

        Raises:
            UserError: It is gone.
        """
        for deployed in endpoint.deployed_models:
            if deployed.id == deployed_id:
                return deployed
        raise UserError(
            f"{endpoint.name} does not hold {deployed_id} any more, which was to be promoted: undo "
            f"that with `vertex-sft endpoints rollback {endpoint.name}`."
        )

    def _model(self, key: str, accelerators: int) -> types.Model:
        """The challenger in the registry; one that is made here gets the endpoint's own key."""
        wanted, source = self._wanted, None
        named = wanted.model
        if not named and wanted.tested_endpoint and not wanted.checkpoint_uri:
            found = get_endpoint(self._endpoints, wanted.tested_endpoint)
            if found is None or not found.deployed_models:
                raise UserError(f"{wanted.tested_endpoint} serves nothing: name the model.")
            named = found.deployed_models[0].model
        if named:
            source = self._registry.get(named)
            own = source.name.partition("@")[0]
            if not wanted.parent_model or same_resource(own, wanted.parent_model):
                return source
        self._registered = self._registry.register(
            source=source,
            checkpoint_uri=wanted.checkpoint_uri,
            base_model=wanted.base_model,
            parent_model=wanted.parent_model,
            display_name=wanted.model_display_name,
            encryption_key=key,
            accelerators=accelerators,
        )
        return self._registered

    def _test_and_deploy(
        self, endpoint: types.Endpoint, champions: Mapping[str, int]
    ) -> types.DeployedModel:
        """The challenger, tested and deployed beside the champions, or as the first."""
        wanted = self._wanted
        machine = (wanted.machine_type, wanted.accelerator_type, wanted.accelerator_count)
        if champions:
            champion = first(endpoint, champions)
            resources = resources_beside(endpoint.name, champion, machine, wanted.fallback_machines)
        else:
            replicas = Replicas(wanted.min_replica_count, wanted.max_replica_count, wanted.spot)
            resources = resources_alone(
                wanted.base_model, machine, wanted.fallback_machines, replicas
            )
        key = endpoint.encryption_spec.kms_key_name
        # One container for all machines: one that has more may leave some unused.
        model = self._model(key, min(r.machine_spec.accelerator_count for r in resources))
        challenger = Challenger(
            endpoints=self._endpoints,
            endpoint=wanted.endpoint,
            id=self._id,
            model=versioned(model),
            display_name=wanted.model_display_name or model.display_name,
            resources=resources,
            log=self._log,
            base_model=wanted.base_model,
            service_account=wanted.service_account,
        )
        if wanted.tested_endpoint:
            self._take_down_tested()
        elif not wanted.test_share and challenger.find() is None:
            self._trial = Trial(challenger, self._connection.parent, wanted.run_name, key)
            name = self._trial.begin()
            self._smoke_test(name)
            if self._examine is not None:
                self._examine(name)
            self._trial.end()
            self._trial = None
        self._claim(champions)
        self._begun, self._challenger = True, challenger
        deployed = challenger.deploy(first=not champions)
        if wanted.test_share:
            self._share(champions, wanted.test_share)
            self._smoke_test(wanted.endpoint, self._id)
        elif not champions:
            # Nobody's requests are at stake yet, and what answers here can be nobody else.
            self._smoke_test(wanted.endpoint)
        return deployed

    def _claim(self, champions: Mapping[str, int]) -> None:
        """Write the record of this promotion, unless another has come first.

        Since the endpoint was looked at, the challenger may have been tested for long.

        Raises:
            UserError: The endpoint is in the middle of another's promotion, or serves others now.
        """
        record = Record(self._label, self._id, "testing", champions)
        name = self._wanted.endpoint
        while True:
            endpoint, found = self._look()
            if found is None and serving(endpoint) != dict(champions):
                raise UserError(
                    f"What {name} serves has changed while the challenger was tested: promote it "
                    "again, against what is there now."
                )
            labels = {**without_record(endpoint.labels), **record.labels()}
            try:
                write(self._endpoints, name, labels=labels, etag=endpoint.etag)
            except (api.Conflict, api.BadRequest) as error:
                # Somebody else was faster, or our own call was answered too late.
                if self._now().etag == endpoint.etag:
                    raise
                self._log(f"{said(error)} Looking at {name} again.")
            else:
                return

    def _take_down_tested(self) -> None:
        name = self._wanted.tested_endpoint
        found = get_endpoint(self._endpoints, name)
        if found is None:
            return
        if found.labels.get(RUN_LABEL) != self._label or same_resource(name, self._wanted.endpoint):
            self._log(f"{name} is not this run's own: it stays up")
            return
        delete_endpoint(self._endpoints, name, self._log)

    def _smoke_test(self, endpoint: str, deployed: str = "") -> None:
        examine_endpoint(
            endpoint=endpoint,
            base_model=self._wanted.base_model,
            prompts=self._wanted.prompts,
            max_latency_s=self._wanted.max_latency_s,
            deployed_model=deployed,
            log=self._log,
        ).passed()

    def _share(self, champions: Mapping[str, int], share: int) -> None:
        split = with_share(champions, self._id, share)
        names = {d.id: f"{version(d)} ({d.id})" for d in self._now().deployed_models}
        self._log(f"Traffic of {self._wanted.endpoint}: {spoken(split, names)}")
        write(self._endpoints, self._wanted.endpoint, split=split)

    def _move(self, champions: Mapping[str, int]) -> None:
        """Give the challenger its share for good, if the endpoint answers for a while with it."""
        share = self._wanted.traffic_share
        self._begun = True
        self._share(champions, share)
        if share:
            watch(self._wanted, self._log)
        state: State = "ending" if share == 100 else "shared"
        record = Record(self._label, self._id, state, champions)
        endpoint = self._now()
        labels = {**without_record(endpoint.labels), **record.labels()}
        if labels.pop(EXPIRES_LABEL, ""):
            # It was made to be tried for a while; now users are answered there.
            self._log(f"{endpoint.name} stays until it is deleted: its time to live is lifted")
        write(self._endpoints, self._wanted.endpoint, labels=labels)
        # From here on there is no way back: a model that is being undeployed cannot be given
        # traffic, one that shares it does so by choice, and one that is alone has proved itself.
        self._begun, self._registered = False, None

    def _crown(self, deployed: types.DeployedModel, former: types.DeployedModel | None) -> None:
        champion = self._registry.get(version(deployed))
        old = version(former) if former is not None and former.model_version_id else ""
        self._registry.crown(champion, old, list(self._wanted.version_aliases))

    def _result(self, deployed: types.DeployedModel) -> PromoteResult:
        endpoint = self._now()
        return PromoteResult(
            endpoint=endpoint.name,
            model=version(deployed),
            deployed_model=deployed.id,
            traffic={key: share for key, share in endpoint.traffic_split.items() if share},
        )
