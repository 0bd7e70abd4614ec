"""What is in force for one user of one pool, after all defaults, as plain comparable values.

Two equal `PoolSettings` mean that nothing has changed for the pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .keymaps import key_maps, key_type
from .values import LoadBalancingMode, PoolMode

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import SecretStr

    from .keymaps import KeyMap
    from .model import Config, General, PoolConfig, User
    from .plugins import Plugins
    from .regexes import Regex


@dataclass(frozen=True, slots=True)
class RoutingSettings:
    """What decides where a statement goes.

    Attributes:
        default_role: "primary", "replica", or None for any.
        query_parser_max_length: bytes.
        key_maps: the sharding keys of each shard; empty if a hash decides.
        default_shard: "shard_N", "random" or "random_healthy".
        db_activity_init_delay, db_activity_ttl, table_mutation_cache_ttl: seconds.
    """

    shard_count: int
    default_role: str | None
    query_parser_enabled: bool
    query_parser_max_length: int
    query_parser_max_tokens: int
    read_write_splitting: bool
    primary_reads_enabled: bool
    read_functions: frozenset[str]
    write_functions: frozenset[str]
    learn_functions: bool
    sharding_function: str
    sharding_key_type: str
    key_maps: tuple[KeyMap, ...]
    automatic_sharding_key: tuple[str, ...]
    omnisharded_tables: tuple[str, ...]
    sharding_key_policy: str
    refuses_without_key: bool
    sharding_key_regex: Regex | None
    shard_id_regex: Regex | None
    regex_search_limit: int
    default_shard: str
    db_activity_based_routing: bool
    db_activity_init_delay: float
    db_activity_ttl: float
    table_mutation_cache_ttl: float
    load_balancing_mode: LoadBalancingMode

    @property
    def least_busy(self) -> bool:
        """Whether the server with the fewest busy connections is preferred."""
        return self.load_balancing_mode is LoadBalancingMode.LEAST_OUTSTANDING_CONNECTIONS


@dataclass(frozen=True, slots=True)
class AuthQuery:
    """How the password hash of a user is fetched from a server."""

    query: str
    user: str
    password: SecretStr


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """What one user's pool is run by; times are seconds unless their name says otherwise.

    Attributes:
        pool, user: the names that clients give.
        statement_timeout, idle_client_in_transaction_timeout: 0.0 is off.
        checkout_failure_limit: None is off.
        tcp_user_timeout: milliseconds; 0 is none.
        server_tls_ca_file: None is the system's CA certificates.
        prewarmer: queries for each new server connection.
    """

    pool: str
    user: str
    pool_mode: PoolMode
    server_username: str
    server_password: SecretStr | None
    pool_size: int
    min_pool_size: int
    connect_timeout: float
    idle_timeout: float
    server_lifetime: float
    server_login_timeout: float
    statement_timeout: float
    idle_client_in_transaction_timeout: float
    healthcheck_timeout: float
    healthcheck_delay: float
    ban_time: float
    checkout_failure_limit: int | None
    prepared_statements_cache_size: int
    cleanup_server_connections: bool
    server_round_robin: bool
    log_client_parameter_status_changes: bool
    tcp_keepalives_idle: int
    tcp_keepalives_count: int
    tcp_keepalives_interval: int
    tcp_user_timeout: int
    server_tls: bool
    verify_server_certificate: bool
    server_tls_ca_file: Path | None
    auth_query: AuthQuery | None
    prewarmer: tuple[str, ...]
    routing: RoutingSettings


def pool_settings(config: Config, pool: PoolConfig, user: User) -> PoolSettings:
    """Return what is in force for a user of a pool of the configuration."""
    general = config.general
    password = user.password if user.server_password is None else user.server_password
    cache_size = _first(
        pool.prepared_statements_cache_size, general.prepared_statements_cache_size
    )
    return PoolSettings(
        pool=pool.name,
        user=user.username,
        pool_mode=user.pool_mode or pool.pool_mode,
        server_username=user.server_username or user.username,
        server_password=password,
        pool_size=user.pool_size,
        min_pool_size=user.min_pool_size or 0,
        connect_timeout=_seconds(
            user.connect_timeout, pool.connect_timeout, general.connect_timeout
        ),
        idle_timeout=_seconds(user.idle_timeout, pool.idle_timeout, general.idle_timeout),
        server_lifetime=_seconds(
            user.server_lifetime, pool.server_lifetime, general.server_lifetime
        ),
        server_login_timeout=_seconds(general.server_login_timeout),
        statement_timeout=_seconds(user.statement_timeout),
        idle_client_in_transaction_timeout=_seconds(general.idle_client_in_transaction_timeout),
        healthcheck_timeout=_seconds(general.healthcheck_timeout),
        healthcheck_delay=_seconds(general.healthcheck_delay),
        ban_time=float(general.ban_time),
        checkout_failure_limit=pool.checkout_failure_limit or None,
        prepared_statements_cache_size=cache_size,
        cleanup_server_connections=pool.cleanup_server_connections,
        server_round_robin=general.server_round_robin,
        log_client_parameter_status_changes=pool.log_client_parameter_status_changes,
        tcp_keepalives_idle=general.tcp_keepalives_idle,
        tcp_keepalives_count=general.tcp_keepalives_count,
        tcp_keepalives_interval=general.tcp_keepalives_interval,
        tcp_user_timeout=general.tcp_user_timeout,
        server_tls=general.server_tls,
        verify_server_certificate=general.verify_server_certificate,
        server_tls_ca_file=general.server_tls_ca_file,
        auth_query=_auth_query(general, pool),
        prewarmer=_prewarmer(config.plugins_of(pool)),
        routing=routing_settings(pool),
    )


def routing_settings(pool: PoolConfig) -> RoutingSettings:
    """Return the part that decides where a statement goes, the same for all users."""
    return RoutingSettings(
        shard_count=len(pool.shards),
        default_role=None if pool.default_role == "any" else pool.default_role.value,
        query_parser_enabled=pool.query_parser_enabled,
        query_parser_max_length=pool.query_parser_max_length,
        query_parser_max_tokens=pool.query_parser_max_tokens,
        read_write_splitting=pool.query_parser_read_write_splitting,
        primary_reads_enabled=pool.primary_reads_enabled,
        read_functions=frozenset(pool.read_functions),
        write_functions=frozenset(pool.write_functions),
        learn_functions=pool.learn_functions,
        sharding_function=pool.sharding_function.value,
        sharding_key_type=key_type(pool).value,
        key_maps=key_maps(pool),
        automatic_sharding_key=pool.automatic_sharding_key,
        omnisharded_tables=pool.omnisharded_tables,
        sharding_key_policy=pool.sharding_key_policy.value,
        refuses_without_key=pool.refuses_without_key,
        sharding_key_regex=pool.sharding_key_regex,
        shard_id_regex=pool.shard_id_regex,
        regex_search_limit=pool.regex_search_limit,
        default_shard=pool.default_shard,
        db_activity_based_routing=pool.db_activity_based_routing,
        db_activity_init_delay=_seconds(pool.db_activity_init_delay),
        db_activity_ttl=float(pool.db_activity_ttl),
        table_mutation_cache_ttl=_seconds(pool.table_mutation_cache_ms_ttl),
        load_balancing_mode=pool.load_balancing_mode,
    )


def _prewarmer(plugins: Plugins) -> tuple[str, ...]:
    section = plugins.prewarmer
    return section.queries if section is not None and section.enabled else ()


def _auth_query(general: General, pool: PoolConfig) -> AuthQuery | None:
    """Inherit key by key; all three or nothing."""
    query = pool.auth_query or general.auth_query
    user = pool.auth_query_user or general.auth_query_user
    password = pool.auth_query_password or general.auth_query_password
    if query is None or user is None or password is None:
        return None
    return AuthQuery(query, user, password)


def _first(specific: int | None, default: int) -> int:
    return default if specific is None else specific


def _seconds(*millis: int | None) -> float:
    """The first of some settings in milliseconds that is set."""
    return next((value / 1000 for value in millis if value is not None), 0.0)
