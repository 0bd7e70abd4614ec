"""The page docs/admin.md has every metric, with its type."""

from __future__ import annotations

import re
from pathlib import Path

from router.metrics.exporter import (
    ADDRESS_FAMILIES,
    ALONE,
    BUILD_INFO,
    ERROR_FAMILIES,
    HEALTH_FAMILIES,
    HISTOGRAMS,
    HUB_FAMILIES,
    LIMIT_FAMILIES,
    MULTIPLEXING_FAMILIES,
    POOL_FAMILIES,
    PREPARED_FAMILIES,
    ROUTING_FAMILIES,
    TIMEOUT_FAMILIES,
    TRACED,
)

PAGE = (Path(__file__).parents[2] / "docs" / "admin.md").read_text()


def test_every_metric_is_explained_with_its_type() -> None:
    explained = re.findall(r"^\| `(pgcat_\w+)` \| (\w+) \| .+ \|$", PAGE, re.MULTILINE)
    assert explained == [
        *((family.name, family.kind) for family in ADDRESS_FAMILIES),
        *((family.name, family.kind) for family in POOL_FAMILIES),
        *((family.name, family.kind) for family in ROUTING_FAMILIES),
        *((family.name, family.kind) for family in PREPARED_FAMILIES),
        *((family.name, family.kind) for family in MULTIPLEXING_FAMILIES),
        (ALONE, "counter"),
        *((family.name, family.kind) for family in HUB_FAMILIES),
        *((family.name, family.kind) for family in HEALTH_FAMILIES),
        *((family.name, family.kind) for family in LIMIT_FAMILIES),
        *((family.name, family.kind) for family in TIMEOUT_FAMILIES),
        *((family.name, family.kind) for family in ERROR_FAMILIES),
        (TRACED, "counter"),
        *((f"pgcat_{name}", "histogram") for name in HISTOGRAMS),
        (BUILD_INFO, "gauge"),
    ]
