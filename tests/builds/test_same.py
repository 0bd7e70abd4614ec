"""Whatever it is given, the compiled build does what the plain files do."""

from __future__ import annotations

import subprocess
import sys
from itertools import zip_longest
from typing import TYPE_CHECKING

import pytest

from tests.support.builds import TREE, Build, build

if TYPE_CHECKING:
    from pathlib import Path

SHOWN = 10

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(build() is not Build.COMPILED, reason="there is only one build here"),
]


def test_both_builds_do_the_same(tmp_path: Path) -> None:
    started = {kind: _start(kind, tmp_path / kind) for kind in ("plain", "compiled")}
    for kind, suffix in (("plain", ".py"), ("compiled", ".so")):
        _, complaints = started[kind].communicate()
        # A crash shows as the number of a signal: too deep a recursion is one in compiled code.
        assert started[kind].returncode == 0, complaints
        assert complaints.strip().endswith(suffix)
    with (tmp_path / "plain").open() as plain, (tmp_path / "compiled").open() as compiled:
        pairs = list(zip_longest(plain, compiled))
    different = [f"plain:    {one}compiled: {other}" for one, other in pairs if one != other]
    assert len(pairs) > 50_000
    assert not different, "\n".join([f"{len(different)} differ", *different[:SHOWN]])


def _start(kind: str, path: Path) -> subprocess.Popen[str]:
    with path.open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.builds.outcomes", kind],
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            cwd=TREE,
        )
