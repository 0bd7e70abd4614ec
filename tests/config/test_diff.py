"""What a reload changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.declared import declarations
from router.config.diff import ConfigDiff, diff, in_force
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


def after(changes: Mapping[str, object]) -> ConfigDiff:
    """Compare the two pools with what the changes make of them."""
    return diff(config(TWO_POOLS), config({**TWO_POOLS, **changes}))


def test_the_same_file_changes_nothing() -> None:
    assert after({}) == ConfigDiff(
        added=frozenset(),
        removed=frozenset(),
        changed=frozenset(),
        unchanged=frozenset({ANN, BOB, OTHER}),
        plugins=frozenset(),
        general=(),
        restart=(),
    )


def test_a_default_that_is_spelled_out_changes_nothing() -> None:
    found = after({"pools/app/connect_timeout": 1000, "pools/app/users/0/min_pool_size": 0})
    assert found.unchanged == {ANN, BOB, OTHER}


def test_one_users_change_leaves_the_others_alone() -> None:
    found = after({"pools/app/users/1/pool_size": 9})
    assert found.changed == {BOB}
    assert found.unchanged == {ANN, OTHER}


def test_a_pools_change_is_of_all_its_users() -> None:
    assert after({"pools/app/pool_mode": "session"}).changed == {ANN, BOB}


def test_a_pools_change_leaves_alone_a_user_who_overrides_it() -> None:
    changes = {"pools/app/users/1/pool_mode": "session"}
    old = config({**TWO_POOLS, **changes})
    new = config({**TWO_POOLS, **changes, "pools/app/pool_mode": "statement"})
    assert diff(old, new).changed == {ANN}


def test_a_general_default_changes_exactly_the_pools_that_inherit_it() -> None:
    found = after({"general/connect_timeout": 5})
    assert found.changed == {ANN, BOB}
    assert found.unchanged == {OTHER}
    assert found.general == ("connect_timeout",)
    assert found.restart == ()


def test_another_server_is_a_change_of_all_users_of_the_pool() -> None:
    found = after({"pools/app/shards/0/servers": [["three", 5432, "primary"]]})
    assert found.changed == {ANN, BOB}


def test_users_come_and_go() -> None:
    found = after(
        {
            "pools/app/users/1": REMOVED,
            "pools/app/users/2": {"username": "eve", "password": "e", "pool_size": 1},
        }
    )
    assert found.removed == {BOB}
    assert found.added == {("app", "eve")}
    assert found.unchanged == {ANN, OTHER}


def test_a_users_key_may_change() -> None:
    moved = {"username": "bob", "password": "b", "pool_size": 2}
    found = after({"pools/app/users/1": REMOVED, "pools/app/users/zz": moved})
    assert found.unchanged == {ANN, BOB, OTHER}


def test_a_pool_goes_with_its_users() -> None:
    assert after({"pools/other": REMOVED}).removed == {OTHER}


def test_a_new_password_is_a_change_since_servers_get_it_too() -> None:
    assert after({"pools/app/users/0/password": "new"}).changed == {ANN}


def test_a_new_way_to_log_in_changes_no_pool() -> None:
    assert after({"pools/app/users/0/auth_type": "scram-sha-256"}).changed == frozenset()


@pytest.mark.parametrize(
    ("key", "value"), [("host", "127.0.0.1"), ("port", 1), ("listen_backlog", 1)]
)
def test_the_listeners_keys_need_a_restart(key: str, value: object) -> None:
    found = after({f"general/{key}": value})
    assert found.restart == (key,)
    assert found.changed == frozenset()


def test_global_plugins_are_changed_for_pools_without_their_own() -> None:
    own = {
        "pools/app/query_parser_enabled": True,
        "pools/app/plugins": {"query_logger": {"enabled": True}},
    }
    old = config({**TWO_POOLS, **own})
    new = config({**TWO_POOLS, **own, "plugins/query_logger": {"enabled": True}})
    found = diff(old, new)
    assert found.plugins == {"other"}
    assert found.unchanged == {ANN, BOB, OTHER}


# What the process starts with, and what files may say; None leaves the key out.
AT_RESTART: dict[str, tuple[object, ...]] = {
    "host": ("a", "b", None),
    "port": (5432, 6432, None),
    "listen_backlog": (1, 2, 4096, None),
    "enable_prometheus_exporter": (True, False, None),
    "prometheus_exporter_port": (9930, 1, None),
}
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
        config({f"general/{key}": v for key, v in each.items() if v is not None})
        for each in files
    )
    running = started
    for wanted in later:
        expected = tuple(
            key
            for key in declarations(General)
            if key in AT_RESTART
            and (getattr(started.general, key) or False)
            != (getattr(wanted.general, key) or False)
        )
        assert diff(running, wanted).restart == expected
        running = in_force(running, wanted)
        assert all(
            getattr(running.general, key) == getattr(started.general, key) for key in AT_RESTART
        )
