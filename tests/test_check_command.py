"""`pgcat check` and `pgcat schema`."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from router import cli
from tests.support.router import PoolText, config_text, servers_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.cluster.cluster import Cluster
    from tests.support.cluster.server import Server
    from tests.support.postgres import PostgresRun


@pytest.fixture(scope="module")
def cluster(postgres_run: PostgresRun) -> Iterator[Cluster]:
    """A primary and a replica."""
    cluster = postgres_run.private(replicas=1)
    yield cluster
    cluster.close()


GOOD = config_text(6432, {"app": PoolText([[("127.0.0.1", 1, "primary")]])})
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a configuration is to be."""
    return tmp_path / "pgcat.toml"


def checked(capsys: Capture, *words: str) -> tuple[int, dict[str, object]]:
    """The exit code, and what was told as JSON."""
    code = cli.main(["check", "--json", *words])
    told: dict[str, object] = json.loads(capsys.readouterr().out)
    return code, told


def test_a_file_that_is_in_order_is_said_to_be(file: Path, capsys: Capture) -> None:
    file.write_text(GOOD)
    assert cli.main(["check", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: in order\n"


def test_all_mistakes_are_told_at_once_with_their_keys(file: Path, capsys: Capture) -> None:
    text = GOOD.replace("port = 6432", 'port = "x"').replace("pool_size = 5", "pool_size = -5")
    file.write_text(text)
    assert cli.main(["check", str(file)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{file}: 2 problems"
    assert lines[1].startswith("  problem  general.port: must be an integer")
    code, told = checked(capsys, str(file))
    assert (code, told["ok"]) == (1, False)
    problems = told["problems"]
    assert isinstance(problems, list)
    assert [each["key"] for each in problems] == [
        "general.port",
        "pools.app.users.0.pool_size",
    ]
    assert problems[0]["message"] == 'must be an integer from 1 to 65535, got "x"'


def test_a_key_with_odd_signs_is_told_as_a_key(file: Path, capsys: Capture) -> None:
    file.write_text(GOOD.replace("pools.app", 'pools."a: b"').replace("pool_size = 5", ""))
    _, told = checked(capsys, str(file))
    problems = told["problems"]
    assert isinstance(problems, list)
    assert [each["key"] for each in problems] == ['pools."a: b".users.0.pool_size']


def test_what_is_no_toml_is_a_problem_without_a_key(file: Path, capsys: Capture) -> None:
    file.write_text("[general")
    code, told = checked(capsys, str(file))
    assert code == 1
    problems = told["problems"]
    assert isinstance(problems, list)
    assert problems[0]["key"] is None
    assert "not valid TOML" in problems[0]["message"]


def test_warnings_count_if_they_are_to(file: Path, capsys: Capture) -> None:
    file.write_text(GOOD.replace("[general]", "[general]\nworker_threads = 8"))
    code, told = checked(capsys, str(file))
    assert (code, told["ok"], told["problems"]) == (0, True, [])
    code, told = checked(capsys, "--strict", str(file))
    assert (code, told["ok"]) == (1, False)
    assert told["warnings"] == [
        {"key": "general.worker_threads", "message": "has no effect: there is one thread"}
    ]


def test_what_cannot_be_looked_at_is_neither_good_nor_bad(capsys: Capture) -> None:
    assert cli.main(["check", "nowhere.toml"]) == 2
    assert "cannot read nowhere.toml: No such file" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        cli.main(["check"])
    assert end.value.code == 2


def test_a_check_does_not_connect_unless_asked(file: Path, capsys: Capture) -> None:
    file.write_text(GOOD)
    code, told = checked(capsys, str(file))
    assert code == 0
    assert "servers" not in told
    code, told = checked(capsys, "--connect", str(file))
    assert code == 1
    assert "Connection refused" in str(told["problems"])


@pytest.mark.slow
def test_servers_tell_what_they_are(file: Path, capsys: Capture, cluster: Cluster) -> None:
    cluster.wait_for_replication()
    [shard] = cluster.shards
    file.write_text(config_text(6432, {"app": PoolText([servers_of(shard)])}))
    code, told = checked(capsys, "--connect", str(file))
    assert (code, told["problems"], told["warnings"]) == (0, [], [])
    servers = told["servers"]
    assert isinstance(servers, list)
    assert [each["role"] for each in servers] == [
        "primary",
        *["standby"] * len(shard.replicas),
    ]
    for each in servers:
        assert each["version"]
        assert each["pool_connections"] == 5
        assert each["available_connections"] > 5
        assert each["logins"] == [{"pool": "app", "user": "postgres", "shard": 0}]
        assert (each["lag_bytes"] is None) is (each["role"] == "primary")
    assert cli.main(["check", "--connect", str(file)]) == 0
    assert "app/postgres shard 0: logged in" in capsys.readouterr().out


@pytest.mark.slow
def test_a_wrong_role_a_wrong_user_and_too_large_pools_are_found(
    file: Path, capsys: Capture, postgres: Server
) -> None:
    nobody = '[pools.app.users.1]\nusername = "nobody_here"\npool_size = 1000\n'
    nobody += 'auth_type = "trust"\npassword = ""'
    pool = PoolText([[(postgres.host, postgres.port, "replica")]], more_users=nobody)
    file.write_text(config_text(6432, {"app": pool}))
    code, told = checked(capsys, "--connect", str(file))
    name = f"{postgres.host}:{postgres.port}"
    assert code == 1
    problems, warnings = told["problems"], told["warnings"]
    assert isinstance(problems, list)
    assert isinstance(warnings, list)
    assert {(each["server"], each["message"][:30]) for each in problems} == {
        (name, "is a primary, and replica in s"),
        (name, "app/nobody_here: server asks f"),
    }
    assert len([each for each in warnings if "may open 1005 connections" in str(each)]) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limits", "wanted"),
    [
        ("reserve_pool_size = 3", 16),
        ("max_db_connections = 6", 6),
        ("max_server_connections = 4\nmax_db_connections = 6", 4),
    ],
)
def test_limits_count_in_what_pools_may_open(
    file: Path, capsys: Capture, postgres: Server, limits: str, wanted: int
) -> None:
    more = '[pools.app.users.1]\nusername = "bob"\npool_size = 5\nauth_type = "trust"\n'
    more += 'password = ""\nserver_username = "postgres"'
    pool = PoolText([[(postgres.host, postgres.port, "primary")]], more_users=more)
    file.write_text(config_text(6432, {"app": pool}, limits))
    code, told = checked(capsys, "--connect", str(file))
    assert (code, told["warnings"]) == (0, [])
    servers = told["servers"]
    assert isinstance(servers, list)
    assert [each["pool_connections"] for each in servers] == [wanted]


def test_who_has_read_enough_may_go() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "router", "schema"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


def test_the_schema_knows_every_key_and_says_what_it_means(capsys: Capture) -> None:
    assert cli.main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    general = schema["$defs"]["General"]
    assert general["additionalProperties"] is False
    assert general["properties"]["port"]["description"] == "Port to listen on."
    assert general["properties"]["verify_config"]["deprecated"] is True
    assert "No effect: there is one thread." in str(general["properties"]["worker_threads"])
