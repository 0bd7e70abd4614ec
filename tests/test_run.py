"""The script that sets everything up, where that cannot be done."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.builds import TREE

if TYPE_CHECKING:
    from pathlib import Path


def run_offline(tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the script for the first time, where no package index answers."""
    (tree / "router").mkdir()
    for name in ("run", "pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(TREE / name, tree)
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    pip = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "http://127.0.0.1:9/",
        "PIP_RETRIES": "0",
        "PYTHON": sys.executable,
    }
    return subprocess.run(
        ["./run", *words],
        env=ours | pip,
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("words", ["demo", "test --compiled"])
def test_a_first_run_without_a_network_says_what_is_missing(tmp_path: Path, words: str) -> None:
    done = run_offline(tmp_path, *words.split())
    assert done.returncode == 1
    assert done.stdout == ""
    assert "connect to the network" in done.stderr
    assert "PIP_INDEX_URL" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) < 12
    [last] = done.stderr.splitlines()[-1:]
    log = last.split()[-1]
    with open(log) as said:
        assert "ERROR: No matching distribution found" in said.read()


def test_what_it_does_not_know_it_explains() -> None:
    done = subprocess.run(
        ["sh", str(TREE / "run"), "nonsense"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "./run test" in done.stderr
