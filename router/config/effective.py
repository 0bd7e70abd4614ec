"""What is in force for one user of one pool, after all defaults, as plain comparable values."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final, TypeVar

from ..routing.types import RouterOptions
from .declared import changes, declarations
from .general import General
from .keymaps import key_maps, key_type
from .keys import Reload, Unit
from .values import (
    Deferring,
    Listen,
    LoadBalancingMode,
    Multiplexing,
    PoolMode,
    ProtocolVersion,
    ReadYourWrites,
    ReplicaFallback,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pydantic import SecretStr

    from .keys import Section
    from .model import Config
    from .plugins import Plugins
    from .pools import PoolConfig, User

_T = TypeVar("_T")


LOGIN: Final = (
    "server_username",
    "server_password",
    "server_tls",
    "verify_server_certificate",
    "server_tls_ca_file",
    "statement_timeout",
)
"""Settings of a pool that a connection has from its login on: it serves no others."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """What one user's pool is run by. Two equal ones mean that nothing has changed for it.

    A field that is called like a key has the value of the user, else of the pool, else of
    [general]. A float is a time in seconds.

    Attributes:
        pool, user: the names that clients give.
        statement_timeout, idle_client_in_transaction_timeout: 0.0 is off.
        client_idle_timeout, query_timeout, transaction_timeout: 0.0 is off.
        max_...: 0 is any number.
        log_min_duration_statement: below 0.0 is off.
        query_wait_timeout: 0.0 is connect_timeout for each server.
        most_pinned: max_pinned, of one server; in statement mode 0.
        checkout_failure_limit: None is off.
        tcp_user_timeout: milliseconds; 0 is none.
        server_tls_ca_file: None is the system's CA certificates.
        prewarmer: queries for each new server connection.
        routing: what decides where a statement goes, the same for all users.
    """

    pool: str
    user: str
    pool_mode: PoolMode
    server_username: str
    server_password: SecretStr | None
    pool_size: int
    min_pool_size: int
    reserve_pool_size: int
    reserve_pool_timeout: float
    max_db_connections: int
    max_user_connections: int
    max_server_connections: int
    max_db_client_connections: int
    max_user_client_connections: int
    max_waiting_clients: int
    connect_timeout: float
    query_wait_timeout: float
    idle_timeout: float
    server_lifetime: float
    server_login_timeout: float
    statement_timeout: float
    idle_client_in_transaction_timeout: float
    client_idle_timeout: float
    query_timeout: float
    transaction_timeout: float
    healthcheck_timeout: float
    healthcheck_delay: float
    ban_time: float
    replica_fallback: ReplicaFallback
    max_replica_lag: float
    max_replica_lag_bytes: int
    retry_reads: bool
    deferred_begin: bool | None
    read_your_writes: ReadYourWrites
    read_your_writes_timeout: float
    multiplexing: Multiplexing | None
    multiplexing_depth: int
    multiplexing_slow: float
    multiplexing_connections: int
    checkout_failure_limit: int | None
    load_balancing_mode: LoadBalancingMode
    prepared_statements_cache_size: int
    cleanup_server_connections: bool
    pin_session_state: bool
    listen: Listen
    most_pinned: int
    server_round_robin: bool
    log_client_parameter_status_changes: bool
    log_min_duration_statement: float
    log_statement_text: bool
    tcp_keepalives_idle: int
    tcp_keepalives_count: int
    tcp_keepalives_interval: int
    tcp_user_timeout: int
    server_max_protocol_version: ProtocolVersion
    server_tls: bool
    verify_server_certificate: bool
    server_tls_ca_file: Path | None
    learn_functions: bool
    db_activity_based_routing: bool
    db_activity_init_delay: float
    db_activity_ttl: float
    table_mutation_cache_ttl: float
    prewarmer: tuple[str, ...]
    routing: RouterOptions

    @property
    def log_after(self) -> float:
        """Statements that take so long or longer are logged; infinity is off."""
        least = self.log_min_duration_statement
        return math.inf if least < 0 else least

    @property
    def falls_back(self) -> bool:
        """Whether reads go to the primary when no replica is left."""
        return self.replica_fallback is ReplicaFallback.PRIMARY

    @property
    def login(self) -> tuple[object, ...]:
        """What a connection has from its login on, as values of `LOGIN`."""
        return tuple(getattr(self, name) for name in LOGIN)

    @property
    def deferring(self) -> Deferring:
        """Which transactions get their server with their first statement."""
        routing, is_wanted = self.routing, self.deferred_begin
        if is_wanted is False or self.pool_mode is not PoolMode.TRANSACTION:
            return Deferring.OFF
        if is_wanted or routing.shard_count > 1:
            return Deferring.ALL
        splits = routing.query_parser_enabled and routing.query_parser_read_write_splitting
        return Deferring.READ_ONLY if splits else Deferring.OFF

    @property
    def shares_reads(self) -> bool:
        """Whether clients share connections; by default where a read may be run twice."""
        if self.multiplexing is None:
            return self.pool_mode is PoolMode.TRANSACTION and self.retry_reads
        is_shared = self.pool_mode is not PoolMode.SESSION
        return is_shared and self.multiplexing is Multiplexing.READS

    @property
    def sees_own_writes(self) -> bool:
        """Whether a client's reads see what it has written, wherever they go."""
        return self.read_your_writes is ReadYourWrites.SESSION

    @property
    def least_busy(self) -> bool:
        """Whether the server with the fewest busy connections is preferred."""
        return self.load_balancing_mode is LoadBalancingMode.LEAST_OUTSTANDING_CONNECTIONS


def pool_settings(config: Config, pool: PoolConfig, user: User) -> PoolSettings:
    """Return what is in force for a user of a pool of the configuration."""
    password = user.password if user.server_password is None else user.server_password
    return _filled(
        PoolSettings,
        {field.name: field.type == "float" for field in fields(PoolSettings)},
        (user, pool, config.general),
        pool=pool.name,
        user=user.username,
        server_username=user.server_username or user.username,
        server_password=password,
        checkout_failure_limit=pool.checkout_failure_limit or None,
        most_pinned=_most_pinned(pool, user),
        table_mutation_cache_ttl=pool.table_mutation_cache_ms_ttl / 1000,
        prewarmer=_prewarmer(config.plugins_of(pool)),
        routing=router_options(pool),
    )


def _most_pinned(pool: PoolConfig, user: User) -> int:
    if (user.pool_mode or pool.pool_mode) is PoolMode.STATEMENT:
        return 0
    return user.pool_size - 1 if pool.max_pinned is None else pool.max_pinned


def router_options(pool: PoolConfig) -> RouterOptions:
    """Return what decides where a statement goes; what is called like a key has its value."""
    return _filled(
        RouterOptions,
        {field.name: False for field in fields(RouterOptions)},
        (pool,),
        shard_count=len(pool.shards),
        sharding_key_type=key_type(pool).value,
        shard_keys=key_maps(pool),
        refuses_without_key=pool.refuses_without_key,
    )


def _filled(
    kind: Callable[..., _T],
    names: dict[str, bool],
    sections: tuple[Section, ...],
    **derived: object,
) -> _T:
    """Make a value of keys by their names, and of what is derived from them.

    Args:
        kind: what is made.
        names: its fields, and whether each is a time, which is wanted in seconds.
        sections: where its keys are, those that are preferred first.
        derived: fields that are not simply a key.
    """
    values: dict[str, object] = {}
    for name in names.keys() - derived.keys():
        for section in sections:
            declared = declarations(type(section)).get(name)
            if declared is None or values.get(name) is not None:
                continue
            value = getattr(section, declared.field)
            if names[name] and value is not None:
                value = value / 1000 if declared.unit is Unit.MILLISECONDS else float(value)
            values[name] = value
    return kind(**values, **derived)


def _prewarmer(plugins: Plugins) -> tuple[str, ...]:
    section = plugins.prewarmer
    return section.queries if section is not None and section.enabled else ()


def restart_keys(running: General, wanted: General) -> Iterator[str]:
    """Name the keys whose changes need a restart."""
    for declared, *_ in changes(running, wanted, Reload.RESTART):
        yield declared.name


def in_force(running: Config, wanted: Config) -> Config:
    """What can be had of a configuration without a restart.

    The other keys keep the values that the process runs with, so that the next configuration is
    compared with these and not with what a file has said in between.
    """
    kept = {
        declared.field: getattr(running.general, declared.field)
        for declared in declarations(General).values()
        if declared.key.reload is Reload.RESTART
    }
    return wanted.model_copy(update={"general": wanted.general.model_copy(update=kept)})
