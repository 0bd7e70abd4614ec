"""What a reload changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.declared import declarations
from router.config.effective import PoolSettings, in_force, pool_settings, restart_keys
from router.config.general import General
from router.config.keys import Reload

from .builders import REMOVED, config

if TYPE_CHECKING:
    from collections.abc import Mapping

ANN, BOB, OTHER = ("app", "ann"), ("app", "bob"), ("other", "ann")
TWO_POOLS: dict[str, object] = {
    "pools/app/users/1": {"username": "bob", "password": "b", "pool_size": 2},
    "pools/other": {
        "connect_timeout": 77,
        "users": {"0": {"username": "ann", "password": "a", "pool_size": 3}},
        "shards": {"0": {"database": "d", "servers": [["two", 5432, "primary"]]}},
    },
}


def settings(changes: Mapping[str, object]) -> dict[tuple[str, str], PoolSettings]:
    """What is in force in the two pools with some changes, by pool and user."""
    loaded = config({**TWO_POOLS, **changes})
    return {
        (name, user.username): pool_settings(loaded, pool, user)
        for name, pool in loaded.pools.items()
        for user in pool.users
    }


def changed(changes: Mapping[str, object]) -> set[tuple[str, str]]:
    """Which of the pools of before notice."""
    before, after = settings({}), settings(changes)
    return {key for key in before if before[key] != after.get(key)}


def test_the_same_file_changes_nothing() -> None:
    assert settings({}).keys() == {ANN, BOB, OTHER}
    assert changed({}) == set()


def test_a_default_that_is_spelled_out_changes_nothing() -> None:
    assert changed({"pools/app/connect_timeout": 1000, "general/ban_time": 60}) == set()


def test_one_users_change_leaves_the_others_alone() -> None:
    assert changed({"pools/app/users/1/pool_size": 9}) == {BOB}


def test_a_pools_change_is_of_all_its_users() -> None:
    assert changed({"pools/app/pool_mode": "session"}) == {ANN, BOB}


def test_a_pools_change_leaves_alone_a_user_who_overrides_it() -> None:
    own = {"pools/app/users/1/pool_mode": "session"}
    before, after = settings(own), settings({**own, "pools/app/pool_mode": "statement"})
    assert {key for key in before if before[key] != after[key]} == {ANN}


def test_a_general_default_changes_exactly_the_pools_that_inherit_it() -> None:
    assert changed({"general/connect_timeout": 5}) == {ANN, BOB}


def test_a_users_key_may_change() -> None:
    moved = {"username": "bob", "password": "b", "pool_size": 2}
    assert changed({"pools/app/users/1": REMOVED, "pools/app/users/zz": moved}) == set()


def test_a_new_password_is_a_change_since_servers_get_it_too() -> None:
    assert changed({"pools/app/users/0/password": "new"}) == {ANN}


def test_a_new_way_to_log_in_changes_no_pool() -> None:
    assert changed({"pools/app/users/0/auth_type": "scram-sha-256"}) == set()


def test_a_plugin_that_acts_on_statements_changes_no_pool() -> None:
    assert changed({"plugins/query_logger": {"enabled": True}}) == set()
    assert changed({"plugins/prewarmer": {"enabled": True, "queries": ["q"]}}) == {
        ANN,
        BOB,
        OTHER,
    }


@pytest.mark.parametrize(
    ("key", "value"), [("host", "127.0.0.1"), ("port", 1), ("listen_backlog", 1)]
)
def test_the_listeners_keys_need_a_restart(key: str, value: object) -> None:
    wanted = config({f"general/{key}": value, "general/ban_time": 7})
    assert list(restart_keys(config().general, wanted.general)) == [key]
    assert changed({f"general/{key}": value}) == set()


# What the process starts with, and what files may say; None leaves the key out.
AT_RESTART: dict[str, tuple[object, ...]] = {
    "host": ("a", "b", None),
    "port": (5432, 6432, None),
    "listen_backlog": (1, 2, 4096, None),
    "so_reuseport": (True, False, None),
    "peer_id": (1, 2),
    "unix_socket_dir": ("/run/a", "/run/b", None),
    "unix_socket_mode": (0o770, 0o777, None),
    "enable_prometheus_exporter": (True, False, None),
    "prometheus_exporter_port": (9930, 1, None),
    "opentelemetry_endpoint": ("http://a:4318/v1/traces", "https://b/", None),
    "opentelemetry_service_name": ("a", "b", None),
}
# Or so_reuseport would be a warning.
PEERS = {"peers/9": {"host": "c"}}
FILES = st.fixed_dictionaries({key: st.sampled_from(some) for key, some in AT_RESTART.items()})


def test_these_are_all_the_keys_that_need_a_restart() -> None:
    declared = declarations(General).items()
    assert {name for name, key in declared if key.key.reload is Reload.RESTART} == set(
        AT_RESTART
    )


@given(st.lists(FILES, min_size=2, max_size=5))
def test_what_needs_a_restart_is_told_by_what_runs_and_not_by_the_last_file(
    files: list[dict[str, object]],
) -> None:
    """Changed, changed again, set back: in every order."""
    started, *later = (
        config({f"general/{key}": v for key, v in each.items() if v is not None} | PEERS)
        for each in files
    )
    running = started
    for wanted in later:
        expected = tuple(
            key
            for key in declarations(General)
            if key in AT_RESTART
            and getattr(started.general, key) != getattr(wanted.general, key)
        )
        assert tuple(restart_keys(running.general, wanted.general)) == expected
        running = in_force(running, wanted)
        assert all(
            getattr(running.general, key) == getattr(started.general, key) for key in AT_RESTART
        )
