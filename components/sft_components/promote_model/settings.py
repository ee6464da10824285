"""What is wanted of a promotion."""

from collections.abc import Sequence
from dataclasses import dataclass

from sft_components.catalog.machines import check_machine, check_replicas
from sft_components.errors import UserError
from sft_components.promote_model.shares import check_parent_model, check_promotion
from sft_components.smoke_test_endpoint.settings import check_smoke_test


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """What is wanted of a promotion."""

    endpoint: str
    """`projects/…/endpoints/…` that serves the champion, or is empty."""
    run_name: str
    """What is begun under this name is found again by it."""
    model: str = ""
    """The challenger in the registry: `projects/…/models/ID[@VERSION or ALIAS]`."""
    checkpoint_uri: str = ""
    """gs:// folder of its weights, where it is not registered yet."""
    base_model: str = ""
    """What was tuned, as the catalogue names it."""
    parent_model: str = ""
    """`projects/…/models/ID` that it becomes a version of."""
    model_display_name: str = ""
    tested_endpoint: str = ""
    """The run's own endpoint, where it has been tested already: taken down before the challenger is
    deployed beside the champion, as it holds the machine that this may need."""
    test_share: int = 0
    """Per cent of the users' requests that it gets while it is tested; 0: it is tested on an
    endpoint of its own, which is taken down again."""
    traffic_share: int = 100
    """Per cent that it gets at last. Below 100 the champion stays beside it; an empty endpoint
    takes 100."""
    settle_s: float = 60.0
    """How long the champion stays deployed once it has no traffic, in seconds: a new split does not
    reach every request at once, and the endpoint is watched meanwhile."""
    machine_type: str = ""
    """Empty: the champion's, or the catalogue's where there is none. The next two may be left out
    for a machine that the catalogue holds."""
    accelerator_type: str = ""
    accelerator_count: int = 0
    fallback_machines: Sequence[str] = ()
    min_replica_count: int = 1
    """This and the next two hold at an empty endpoint; else they are as the champion's."""
    max_replica_count: int = 1
    spot: bool = False
    service_account: str = ""
    """Account that the challenger's container runs as."""
    version_aliases: Sequence[str] = ("champion",)
    """What the registry calls the version that serves."""
    prompts: Sequence[str] = ()
    """Of the smoke test; empty: built-in ones."""
    max_latency_s: float = 0.0

    def check(self) -> None:
        """
        Raises:
            UserError: A setting cannot be.
        """
        check_promotion(
            self.traffic_share, self.test_share, self.settle_s, list(self.version_aliases)
        )
        check_smoke_test(max_latency_s=self.max_latency_s, prompts=self.prompts)
        check_parent_model(self.parent_model, self.endpoint)
        if not (self.model or self.checkpoint_uri or self.tested_endpoint):
            raise UserError("Nothing to promote: give model_resource_name or checkpoint_uri.")
        check_machine(
            self.machine_type, self.accelerator_type, self.accelerator_count, allow_unlisted=True
        )
        check_replicas(self.min_replica_count, self.max_replica_count)
