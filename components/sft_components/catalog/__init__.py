"""Facts about models, machines, regions and prices: `models.yaml` and a typed look-up into it."""

from sft_components.catalog.lookup import Catalog, load_catalog
from sft_components.catalog.schema import (
    Architecture,
    Family,
    Legacy,
    LegacyAccelerator,
    Limits,
    Location,
    Machine,
    ModelSpec,
    ModeSpec,
    Quota,
    RecommendedSteps,
    Serving,
    Source,
    TokenEstimate,
    TuningMode,
)

__all__ = [
    "Architecture",
    "Catalog",
    "Family",
    "Legacy",
    "LegacyAccelerator",
    "Limits",
    "Location",
    "Machine",
    "ModeSpec",
    "ModelSpec",
    "Quota",
    "RecommendedSteps",
    "Serving",
    "Source",
    "TokenEstimate",
    "TuningMode",
    "load_catalog",
]
