"""What a reload does to pools: nothing, new values in place, or another pool."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from router.config.loader import parse
from router.plugins.inspector import inspector_of
from router.pool.control import Selection
from router.pool.registry import PoolRegistry
from tests.config.builders import REMOVED, config, toml
from tests.support.harness import FakeEngine

if TYPE_CHECKING:
    from router.pool.address_pool import AddressPool
    from router.pool.pool import Pool
    from router.pool.server import ServerConnection
    from router.protocol.variables import Variables

CERTIFICATE = Path(__file__).parent.parent / "config" / "tls" / "certificate.pem"
APP, USER = "pools/app", "pools/app/users/0"
# Two shards, so that everything about routing matters.
BASE: dict[str, object] = {
    "general/server_tls": True,
    "general/verify_server_certificate": True,
    f"{APP}/query_parser_enabled": True,
    f"{APP}/query_parser_read_write_splitting": True,
    f"{APP}/automatic_sharding_key": "t.id",
    f"{APP}/sharding_without_key": "refuse",
    f"{APP}/shards/1": {"database": "app1", "servers": [["two", 5432, "primary"]]},
}
IN_PLACE = {
    f"{USER}/pool_size": 6,
    f"{USER}/min_pool_size": 1,
    f"{APP}/connect_timeout": 7,
    f"{APP}/idle_timeout": 7,
    f"{APP}/server_lifetime": 7,
    "general/server_login_timeout": 7,
    "general/idle_client_in_transaction_timeout": 7,
    "general/ban_time": 7,
    "general/server_round_robin": False,
    "general/tcp_keepalives_idle": 7,
    f"{APP}/load_balancing_mode": "loc",
    f"{APP}/checkout_failure_limit": 7,
    f"{APP}/cleanup_server_connections": False,
    f"{APP}/log_client_parameter_status_changes": True,
    "plugins/prewarmer": {"enabled": True, "queries": ["SELECT 1"]},
}
REPLACED = {
    f"{APP}/shards/1/servers": [["three", 5432, "primary"]],
    f"{APP}/shards/1": REMOVED,
    f"{USER}/password": "other",
    f"{USER}/server_username": "other",
    f"{USER}/statement_timeout": 7,
    f"{USER}/pool_mode": "session",
    "general/server_tls": False,
    "general/verify_server_certificate": False,
    "general/server_tls_ca_file": str(CERTIFICATE),
    f"{APP}/prepared_statements_cache_size": 7,
    f"{APP}/query_parser_read_write_splitting": False,
    f"{APP}/default_role": "primary",
    f"{APP}/default_shard": "random",
    f"{APP}/sharding_function": "sha1",
    f"{APP}/shard_id_regex": "shard: (1)",
    f"{APP}/learn_functions": True,
    f"{APP}/db_activity_based_routing": True,
    f"{APP}/db_activity_ttl": 7,
    f"{APP}/db_activity_init_delay": 7,
    f"{APP}/table_mutation_cache_ms_ttl": 7,
    f"{APP}/read_functions": ["f"],
}


class Connector:
    """Opens nothing."""

    def open(self, pool: AddressPool, startup: Variables | None) -> None:
        """Somebody wants a connection."""

    def listen(self, *_: object) -> None:
        """Nobody listens."""

    def cancel(self, server: ServerConnection) -> None:
        """Somebody wants a statement to end."""


def reloaded(changes: dict[str, object]) -> tuple[Pool, Pool | None]:
    """The pool before a reload, and that behind it."""
    registry = PoolRegistry(FakeEngine(), Connector(), lambda *_: None)
    registry.apply(config(BASE))
    before = registry.get("app", "ann")
    assert before is not None
    registry.apply(parse(toml({**BASE, **changes}), "test.toml").config)
    return before, registry.get("app", "ann")


def test_a_reload_without_changes_leaves_a_pool_alone() -> None:
    before, after = reloaded({})
    assert after is before


@pytest.mark.parametrize(("key", "value"), IN_PLACE.items())
def test_sizes_and_times_are_taken_over_in_place(key: str, value: object) -> None:
    was = reloaded({})[0].settings
    before, after = reloaded({key: value})
    assert after is before
    assert before.settings != was
    assert not before.retired
    assert all(part.settings is before.settings for part in before.address_pools())


@pytest.mark.parametrize(("key", "value"), REPLACED.items())
def test_other_servers_and_other_routes_make_another_pool(key: str, value: object) -> None:
    before, after = reloaded({key: value})
    assert after is not None
    assert after is not before
    assert before.retired


def test_a_pool_that_the_file_has_no_more_is_gone() -> None:
    users = {"0": {"username": "bob", "password": "b", "pool_size": 1}}
    before, after = reloaded({f"{APP}/users": users})
    assert after is None
    assert before.retired


def changed() -> tuple[PoolRegistry, Pool, Pool]:
    """A registry after a reload that replaces its pool, and both pools."""
    registry = PoolRegistry(FakeEngine(), Connector(), lambda *_: None)
    registry.apply(config(BASE))
    before = registry.get("app", "ann")
    registry.apply(config({**BASE, f"{APP}/default_role": "primary"}))
    after = registry.get("app", "ann")
    assert before is not None
    assert after is not None
    assert after is not before
    return registry, before, after


def test_the_servers_of_a_replaced_pool_are_of_no_concern_to_it_when_it_has_none() -> None:
    registry, before, after = changed()
    busy = before.address_pools()[0]
    busy.connecting = 1
    registry.maintain()
    assert registry.retired() == [before]
    busy.connecting = 0
    registry.maintain()
    assert registry.retired() == []
    for old, new in zip(before.address_pools(), after.address_pools(), strict=True):
        assert old.health is new.health
        assert old.health.parts == [new]
        assert all(list(quota.parts) == [new] for quota in new.shares.all)


@pytest.mark.parametrize("selection", [Selection(), Selection("app"), Selection("app", "ann")])
def test_a_pool_that_is_paused_stays_so_when_it_is_replaced(selection: Selection) -> None:
    registry = PoolRegistry(FakeEngine(), Connector(), lambda *_: None)
    registry.apply(config(BASE))
    registry.control.pause(selection)
    registry.apply(config({**BASE, f"{APP}/default_role": "primary"}))
    after = registry.get("app", "ann")
    assert after is not None
    assert after.paused
    registry.control.resume(selection)
    assert not after.paused


def test_plugins_are_switched_for_who_is_still_at_a_replaced_pool() -> None:
    registry = PoolRegistry(FakeEngine(), Connector(), inspector_of)
    registry.apply(config(BASE))
    before = registry.get("app", "ann")
    assert before is not None
    before.address_pools()[0].connecting = 1  # somebody waits there
    changes = {**BASE, f"{APP}/default_role": "primary"}
    for is_on in (True, False, True):
        registry.apply(config({**changes, "plugins/query_logger": {"enabled": is_on}}))
        assert registry.retired() == [before]
        after = registry.get("app", "ann")
        assert after is not None
        assert (after.inspector is not None) is is_on
        assert before.inspector is after.inspector
