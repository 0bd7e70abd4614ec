"""`pgcat plan`, and what a reload makes of the same plan."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg
import pytest

from router import cli
from tests.config.builders import REMOVED, toml
from tests.support.router import PoolText, config_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.cluster.server import Server
    from tests.support.router import RouterProcess

Capture = pytest.CaptureFixture[str]
APP, USER = "pools/app", "pools/app/users/0"


class Plans:
    """Runs the command on files of a directory."""

    def __init__(self, directory: Path, capsys: Capture) -> None:
        self.old, self.new = directory / "old.toml", directory / "new.toml"
        self.capsys = capsys

    def of(self, **changes: object) -> tuple[int, dict[str, list[object]]]:
        """The exit code, and what would happen because of some changes."""
        self.old.write_text(toml({}))
        self.new.write_text(toml({name.replace("__", "/"): v for name, v in changes.items()}))
        code = cli.main(["plan", "--json", str(self.old), str(self.new)])
        return code, json.loads(self.capsys.readouterr().out)

    def pool(self, **changes: object) -> tuple[str, list[str]]:
        """What would become of the pool."""
        code, told = self.of(**changes)
        assert code == 3
        [pool] = told["pools"]
        assert isinstance(pool, dict)
        return pool["action"], pool["changes"]


@pytest.fixture
def plans(tmp_path: Path, capsys: Capture) -> Plans:
    """A directory for them."""
    return Plans(tmp_path, capsys)


def test_of_two_equal_files_nothing_happens(plans: Plans) -> None:
    code, told = plans.of()
    assert code == 0
    assert told["restart"] == told["general"] == []
    assert [(each["action"], each["changes"]) for each in told["pools"]] == [  # type: ignore[index]
        ("kept", [])
    ]


def test_each_change_is_told_with_what_comes_of_it(plans: Plans) -> None:
    assert plans.pool(pools__app__users__0__pool_size=6)[0] == "changed"
    assert "pool_size 5 -> 6" in plans.pool(pools__app__users__0__pool_size=6)[1]
    action, changes = plans.pool(pools__app__users__0__server_password="hidden")
    assert (action, changes) == ("replaced", ["server_password"])
    action, changes = plans.pool(pools__app__default_role="primary")
    assert (action, changes) == ("replaced", ["routing (default_role)"])
    servers = [["one", 5432, "primary"], ["two", 5432, "replica"]]
    action, changes = plans.pool(pools__app__shards__0__servers=servers)
    assert action == "replaced"
    assert "opens replica two:5432 of shard 0" in str(changes)
    log = {"enabled": True}
    assert plans.pool(pools__app__plugins={"query_logger": log}) == ("changed", ["plugins"])


def test_keys_that_need_a_restart_and_keys_that_do_not_are_told_apart(plans: Plans) -> None:
    code, told = plans.of(general__port=7000, general__shutdown_timeout=5)
    assert code == 3
    assert told["restart"] == ["port"]
    assert told["general"] == ["shutdown_timeout 60000 -> 5"]
    assert "kept" in str(told["pools"])


def test_pools_that_come_and_go_are_told(plans: Plans) -> None:
    pool = {
        "users": {"0": {"username": "ann", "password": "x", "pool_size": 1}},
        "shards": {"0": {"database": "d", "servers": [["h", 1, "primary"]]}},
    }
    _, told = plans.of(pools__web=pool, pools__app=REMOVED)
    found = {each["database"]: each["action"] for each in told["pools"]}  # type: ignore[index]
    assert found == {"web": "new", "app": "gone"}
    assert cli.main(["plan", str(plans.old), str(plans.new)]) == 3
    assert "web/ann: new\napp/" in plans.capsys.readouterr().out


def test_a_file_that_cannot_be_used_is_told(plans: Plans) -> None:
    plans.old.write_text(toml({}))
    plans.new.write_text("[general")
    assert cli.main(["plan", str(plans.old), str(plans.new)]) == 1
    assert "not valid TOML" in plans.capsys.readouterr().err


@pytest.mark.slow
def test_a_reload_does_what_the_dry_run_has_told(
    start_router: Callable[..., RouterProcess], postgres: Server
) -> None:
    servers = [[(postgres.host, postgres.port, "primary")]]
    pools = {"db": PoolText(servers), "other": PoolText(servers)}
    router = start_router(pools)
    with router.connect("db") as connection:
        connection.execute("SELECT 1")
        pools["db"].options = 'default_role = "primary"'
        pools["other"].pool_size = 9
        text = config_text(router.port + 1, pools, "ban_time = 5")
        router.config_path.write_text(text)
        rows = {row["subject"]: row for row in router.admin("RELOAD DRY RUN")}
        told = {name: (row["action"], row["changes"]) for name, row in rows.items()}
        assert told == {
            "general": ("restart", "port"),
            "db/postgres": ("replaced", "ban_time 60.0 -> 5.0, routing (default_role)"),
            "other/postgres": (
                "changed",
                "pool_size 5 -> 9, ban_time 60.0 -> 5.0, most_pinned 4 -> 8",
            ),
        }
        assert rows["db/postgres"]["drained"] == "1"
        assert rows["other/postgres"]["drained"] == "0"
        sizes = {row["pool"]: row["pool_size"] for row in router.admin("SHOW DATABASES")}
        assert sizes == {"db": "5", "other": "5"}, "nothing has been done"
        router.admin("RELOAD")
        log = router.log_with("configuration reloaded from")
        assert "[db/postgres] pool is replaced: " in log
        assert "[other/postgres] pool is changed: pool_size 5 -> 9" in log
        assert "pools: 0 kept, 1 changed, 1 replaced, 0 new, 0 gone" in log
        router.config_path.write_text("[general")
        with pytest.raises(psycopg.Error, match="not valid TOML"):
            router.admin("RELOAD DRY RUN")
