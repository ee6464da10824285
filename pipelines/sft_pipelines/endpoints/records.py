"""Endpoints in one form, read from the API's JSON, with what they cost."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from sft_components.catalog import load_catalog
from sft_components.vertex.deployments import DEPLOY_TIMEOUT_S
from sft_components.vertex.expiry import expiry
from sft_components.vertex.keys import PROMOTES_LABEL, RUN_LABEL, SERVES_LABEL, is_endpoint_id
from sft_pipelines.jobs.records import moment

ORPHAN_AFTER_S = 2 * DEPLOY_TIMEOUT_S
"""So long a deployment, and its cancellation, may take before the endpoint gets its labels."""


class Deployed(msgspec.Struct, frozen=True, kw_only=True):
    """One model at an endpoint."""

    id: str
    model: str
    """`projects/…/models/ID@VERSION`."""
    display_name: str
    created: str
    """RFC 3339."""
    traffic: int
    """Per cent of the endpoint's requests."""
    machine_type: str
    """Empty where the service serves on its own machines, as it does Gemini."""
    accelerator_type: str
    accelerator_count: int
    min_replicas: int
    """0: none while nobody asks."""
    max_replicas: int
    replicas: int
    """How many serve now."""
    spot: bool

    @property
    def usd_per_hour(self) -> float | None:
        """What the replicas that serve now cost; None where the catalogue has no price."""
        price = self._price
        return None if price is None else price * self.replicas

    @property
    def usd_so_far(self) -> float | None:
        """Since it was deployed, with the fewest replicas all the time (one where it may be 0)."""
        price, start = self._price, moment(self.created)
        if price is None or start is None:
            return None
        hours = max(0.0, (datetime.now(UTC) - start).total_seconds() / 3600)
        return price * max(1, self.min_replicas) * hours

    @property
    def _price(self) -> float | None:
        known = load_catalog().machines.get(self.machine_type)
        return known.usd_per_hour if known else None

    def as_dict(self) -> dict[str, Any]:
        """The fields for JSON."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return {**fields, "usd_per_hour": self.usd_per_hour, "usd_so_far": self.usd_so_far}


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint."""

    name: str
    """Full resource name."""
    display_name: str
    created: str
    """RFC 3339."""
    address: str
    """The host of its own, where it is dedicated; inside a VPC network that of `predict`."""
    network: str = ""
    """`projects/NUMBER/global/networks/NAME` that alone reaches it; empty: it is public."""
    labels: dict[str, str]
    deployed: list[Deployed]
    resource: dict[str, Any]
    """The API's own JSON."""

    @property
    def id(self) -> str:
        """The last part of the name."""
        return self.name.rpartition("/")[2]

    @property
    def location(self) -> str:
        """Its region."""
        return self.name.split("/")[3]

    @property
    def run(self) -> str:
        """The pipeline run that it belongs to; empty where none of ours made or took it."""
        return self.labels.get(RUN_LABEL, "")

    @property
    def is_ours(self) -> bool:
        """Whether a run of our pipelines made or took it."""
        return bool(self.run) or is_endpoint_id(self.id)

    @property
    def may_be_orphan(self) -> bool:
        """Whether a run made it, and seems to have died before its deployment had ended.

        Only then does an endpoint get the labels that say whose it is and when it may go.
        """
        return (
            is_endpoint_id(self.id)
            and SERVES_LABEL not in self.labels
            and self.expires is None
            and (self.seconds or 0.0) > ORPHAN_AFTER_S
        )

    @property
    def seconds(self) -> float | None:
        """Its age."""
        start = moment(self.created)
        return (datetime.now(UTC) - start).total_seconds() if start else None

    @property
    def expires(self) -> datetime | None:
        """When it may be taken down; None: never, or it is not ours."""
        return expiry(self.labels) if self.run else None

    @property
    def has_expired(self) -> bool:
        """Whether that moment is past."""
        return self.expires is not None and self.expires <= datetime.now(UTC)

    @property
    def may_be_reaped(self) -> bool:
        """Whether it is past its time, and no run is about to promote a model there."""
        return self.has_expired and PROMOTES_LABEL not in self.labels

    @property
    def usd_per_hour(self) -> float | None:
        """What it costs now; None where a machine's price is unknown."""
        return _sum([found.usd_per_hour for found in self.deployed])

    @property
    def usd_so_far(self) -> float | None:
        """What its models have cost since each was deployed; those that are gone are not known."""
        return _sum([found.usd_so_far for found in self.deployed])

    @property
    def console_link(self) -> str:
        """Its page in the Google Cloud console."""
        project = self.name.split("/")[1]
        root = "https://console.cloud.google.com/vertex-ai/online-prediction/locations"
        return f"{root}/{self.location}/endpoints/{self.id}?project={project}"

    def as_dict(self) -> dict[str, Any]:
        """The fields for JSON, without the resource."""
        return {
            "id": self.id,
            "name": self.name,
            "display_name": self.display_name,
            "location": self.location,
            "created": self.created,
            "seconds": self.seconds,
            "address": self.address,
            "network": self.network,
            "labels": self.labels,
            "run": self.run,
            "expires": self.expires.isoformat() if self.expires else "",
            "has_expired": self.has_expired,
            "is_ours": self.is_ours,
            "may_be_orphan": self.may_be_orphan,
            "deployed": [found.as_dict() for found in self.deployed],
            "usd_per_hour": self.usd_per_hour,
            "usd_so_far": self.usd_so_far,
            "console_link": self.console_link,
        }


def from_endpoint(resource: Mapping[str, Any]) -> Endpoint:
    """An endpoint from its resource."""
    split = resource.get("trafficSplit", {})
    network = resource.get("network", "")
    models = resource.get("deployedModels", [])
    private = models[0].get("privateEndpoints", {}) if models else {}
    return Endpoint(
        name=resource["name"],
        display_name=resource.get("displayName", ""),
        created=resource.get("createTime", ""),
        address=resource.get("dedicatedEndpointDns", "") or private.get("predictHttpUri", ""),
        network=network,
        labels=dict(resource.get("labels", {})),
        deployed=[
            # Inside a VPC network there is one model, and no split.
            _deployed(found, int(split.get(found.get("id"), 100 if network else 0)))
            for found in models
        ],
        resource=dict(resource),
    )


def _deployed(found: Mapping[str, Any], traffic: int) -> Deployed:
    resources = found.get("dedicatedResources", {})
    machine = resources.get("machineSpec", {})
    fewest = int(resources.get("minReplicaCount", 0))
    ready = found.get("status", {}).get("availableReplicaCount")
    version = found.get("modelVersionId", "")
    return Deployed(
        id=found.get("id", ""),
        model=found.get("model", "") + (f"@{version}" if version else ""),
        display_name=found.get("displayName", ""),
        created=found.get("createTime", ""),
        traffic=traffic,
        machine_type=machine.get("machineType", ""),
        accelerator_type=machine.get("acceleratorType", ""),
        accelerator_count=int(machine.get("acceleratorCount", 0)),
        min_replicas=fewest,
        max_replicas=int(resources.get("maxReplicaCount", 0)) or max(1, fewest),
        replicas=fewest if ready is None else int(ready),
        spot=bool(resources.get("spot", False)),
    )


def _sum(prices: list[float | None]) -> float | None:
    known = [price for price in prices if price is not None]
    return sum(known) if len(known) == len(prices) else None
