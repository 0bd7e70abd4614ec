"""The page docs/admin.md has every metric, with its type."""

from __future__ import annotations

import re
from pathlib import Path

from router.metrics.families import ALONE, BUILD_INFO, GROUPS, HISTOGRAMS, MULTIPLEXING, TRACED

PAGE = (Path(__file__).parents[2] / "docs" / "admin.md").read_text()


def test_every_metric_is_explained_with_its_type() -> None:
    explained = re.findall(r"^\| `(pgcat_\w+)` \| (\w+) \| .+ \|$", PAGE, re.MULTILINE)
    families = [
        *(
            family
            for group in GROUPS
            for family in (*group.families, *([ALONE] if group is MULTIPLEXING else []))
        ),
        TRACED,
    ]
    assert explained == [
        *((family.name, family.kind) for family in families),
        *((f"pgcat_{name}", "histogram") for name in HISTOGRAMS),
        (BUILD_INFO.name, BUILD_INFO.kind),
    ]
