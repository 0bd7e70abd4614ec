"""What is in force for one user of one pool."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from router.config.declared import declarations
from router.config.effective import PoolSettings, pool_settings
from router.config.general import General
from router.config.keys import Unit
from router.config.pools import PoolConfig, User
from router.config.regexes import Regex
from router.config.values import PoolMode
from router.routing.types import Role

from .builders import REMOVED, config

if TYPE_CHECKING:
    from collections.abc import Mapping

GENERAL, POOL, USER = "general", "pools/app", "pools/app/users/0"


def settings(changes: Mapping[str, object] | None = None) -> PoolSettings:
    """The settings of the only user of the only pool."""
    loaded = config(changes)
    pool = loaded.pools["app"]
    return pool_settings(loaded, pool, pool.users[0])


@pytest.mark.parametrize("key", ["connect_timeout", "idle_timeout", "server_lifetime"])
def test_a_users_time_goes_before_the_pools_and_that_before_the_general_one(key: str) -> None:
    changes = {f"{GENERAL}/{key}": 3000}
    assert getattr(settings(changes), key) == 3.0
    changes[f"{POOL}/{key}"] = 2000
    assert getattr(settings(changes), key) == 2.0
    changes[f"{USER}/{key}"] = 1000
    assert getattr(settings(changes), key) == 1.0


def test_milliseconds_become_seconds_and_seconds_stay() -> None:
    found = settings(
        {
            f"{GENERAL}/ban_time": 7,
            f"{GENERAL}/healthcheck_delay": 1500,
            f"{GENERAL}/idle_client_in_transaction_timeout": 250,
            f"{GENERAL}/tcp_keepalives_idle": 40,
            f"{USER}/statement_timeout": 100,
            f"{POOL}/db_activity_ttl": 8,
            f"{POOL}/table_mutation_cache_ms_ttl": 9,
        }
    )
    assert found.ban_time == 7.0
    assert found.healthcheck_delay == 1.5
    assert found.idle_client_in_transaction_timeout == 0.25
    assert found.tcp_keepalives_idle == 40
    assert found.statement_timeout == 0.1
    assert found.server_login_timeout == 15.0
    assert found.db_activity_ttl == 8.0
    assert found.table_mutation_cache_ttl == 0.009


def test_every_time_is_in_seconds_but_for_those_that_the_kernel_is_told() -> None:
    timed = {
        declared.field
        for section in (User, PoolConfig, General)
        for declared in declarations(section).values()
        if declared.unit in (Unit.MILLISECONDS, Unit.SECONDS)
    }
    types = {field.name: field.type for field in fields(PoolSettings)}
    counted = {name for name in timed & types.keys() if types[name] != "float"}
    assert counted == {"tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_user_timeout"}


def test_the_users_pool_mode_goes_before_the_pools() -> None:
    assert settings().pool_mode is PoolMode.TRANSACTION
    assert settings({f"{USER}/pool_mode": "session"}).pool_mode is PoolMode.SESSION


@pytest.mark.parametrize("most", [None, 0, 3])
@pytest.mark.parametrize("of_user", [None, *PoolMode])
@pytest.mark.parametrize("of_pool", PoolMode)
def test_in_statement_mode_nobody_keeps_a_server(
    of_pool: PoolMode, of_user: PoolMode | None, most: int | None
) -> None:
    changes: dict[str, object] = {f"{POOL}/pool_mode": of_pool.value, f"{USER}/pool_size": 8}
    if of_user is not None:
        changes[f"{USER}/pool_mode"] = of_user.value
    if most is not None:
        changes[f"{POOL}/max_pinned"] = most
    is_statement = (of_user or of_pool) is PoolMode.STATEMENT
    wanted = 7 if most is None else most
    assert settings(changes).most_pinned == (0 if is_statement else wanted)


def test_servers_know_the_user_by_the_same_name_and_password_unless_told_otherwise() -> None:
    found = settings()
    assert (found.server_username, found.server_password) == ("ann", SecretStr("ann-secret"))
    found = settings({f"{USER}/server_username": "bob", f"{USER}/server_password": "x"})
    assert (found.server_username, found.server_password) == ("bob", SecretStr("x"))
    assert (found.pool, found.user) == ("app", "ann")


def test_a_user_may_have_no_password_at_all() -> None:
    found = settings({f"{USER}/password": REMOVED, f"{USER}/auth_type": "trust"})
    assert found.server_password is None


def test_an_empty_server_password_is_a_password() -> None:
    assert settings({f"{USER}/server_password": ""}).server_password == SecretStr("")


@pytest.mark.parametrize(
    ("general", "pool", "effective"),
    [(None, None, 500), (7, None, 7), (7, 9, 9), (7, 0, 0), (0, None, 0)],
)
def test_a_pools_statement_cache_goes_before_the_general_one(
    general: int | None, pool: int | None, effective: int
) -> None:
    changes: dict[str, object] = {}
    if general is not None:
        changes[f"{GENERAL}/prepared_statements_cache_size"] = general
    if pool is not None:
        changes[f"{POOL}/prepared_statements_cache_size"] = pool
    assert settings(changes).prepared_statements_cache_size == effective


def test_a_checkout_failure_limit_of_0_is_off() -> None:
    assert settings().checkout_failure_limit is None
    assert settings({f"{POOL}/checkout_failure_limit": 0}).checkout_failure_limit is None
    assert settings({f"{POOL}/checkout_failure_limit": 2}).checkout_failure_limit == 2


def test_the_default_role_any_is_no_role() -> None:
    assert settings().routing.default_role is None
    assert settings({f"{POOL}/default_role": "Replica"}).routing.default_role is Role.REPLICA


def test_routing_takes_the_pools_settings() -> None:
    found = settings(
        {
            f"{POOL}/query_parser_enabled": True,
            f"{POOL}/query_parser_read_write_splitting": True,
            f"{POOL}/primary_reads_enabled": True,
            f"{POOL}/query_parser_max_length": 10,
            f"{POOL}/sharding_function": "sha1",
            f"{POOL}/default_shard": "random",
            f"{POOL}/automatic_sharding_key": "t.k",
            f"{POOL}/shard_id_regex": "(1)",
            f"{POOL}/read_functions": ["mine"],
            f"{POOL}/load_balancing_mode": "loc",
        }
    )
    routing = found.routing
    assert routing.shard_count == 1
    assert routing.query_parser_enabled
    assert routing.query_parser_read_write_splitting
    assert routing.primary_reads_enabled
    assert routing.query_parser_max_length == 10
    assert routing.sharding_function == "sha1"
    assert routing.default_shard == "random"
    assert routing.automatic_sharding_key == ("t.k",)
    assert routing.shard_id_regex == Regex("(1)")
    assert routing.read_functions == ("mine",)
    assert found.least_busy
    assert not settings().least_busy


def test_equal_configurations_give_equal_hashable_settings() -> None:
    assert settings() == settings()
    assert len({settings(), settings(), settings({f"{USER}/pool_size": 6})}) == 2


def test_settings_show_no_password() -> None:
    assert "ann-secret" not in repr(settings())
