"""node-postgres, if Node.js and its package `pg` are there."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .conftest import SESSION, SINGLE, TINY_CACHE, TRANSACTION, run_program

if TYPE_CHECKING:
    from .conftest import Proxied

SCRIPT = Path(__file__).with_name("node_client.mjs")
# Where ./run and Debian put it.
MODULES = (
    Path(__file__).parents[2] / ".venv/node/node_modules",
    Path("/usr/share/nodejs"),
    Path("/usr/lib/nodejs"),
)


@pytest.fixture(scope="module")
def node_environment() -> dict[str, str]:
    """The environment in which node finds `pg`."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    path = ":".join(filter(None, (os.environ.get("NODE_PATH"), *map(str, MODULES))))
    environment = {**os.environ, "NODE_PATH": path}
    if run_program(["node", "-e", 'require("pg")'], environment).returncode:
        pytest.skip("node does not find the package pg: apt-get install node-pg")
    return environment


@pytest.mark.parametrize("pool", [SESSION, TRANSACTION, SINGLE, TINY_CACHE])
def test_node_postgres_sees_what_it_would_see_without_a_router(
    proxied: Proxied, node_environment: dict[str, str], pool: str
) -> None:
    command = ["node", str(SCRIPT), proxied.router.host, str(proxied.port), pool]
    done = run_program(command, node_environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "application_name": "node",
        "values": {"n": 7, "t": "wörd", "j": {"a": [1]}, "nothing": None},
        "named": [0, 2, 4, 6, 8],
        "several": [1, 2],
        "errors": ["22012", "22012", "42601", "42601"],
        "count": 10,
        "notices": ["from node"],
        "queued": list(range(100)),
        "mixed": list(range(120)),
    }
