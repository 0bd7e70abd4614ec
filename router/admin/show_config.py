"""SHOW CONFIG: the configuration in force as rows, in PgCat's order, without the secrets."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from ..config.declared import Declaration, Nesting, declarations
from .show import ConfigRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..config.keys import Section
    from ..config.model import Config
    from ..config.pools import PoolConfig

# What PgCat shows comes first; all other keys follow.
_GENERAL: Final = (
    "host",
    "port",
    "prometheus_exporter_port",
    "connect_timeout",
    "idle_timeout",
    "healthcheck_timeout",
    "shutdown_timeout",
    "healthcheck_delay",
    "ban_time",
    "idle_client_in_transaction_timeout",
)
_POOL: Final = (
    "pool_mode",
    "load_balancing_mode",
    "primary_reads_enabled",
    "query_parser_enabled",
    "query_parser_max_length",
    "query_parser_read_write_splitting",
    "default_role",
    "sharding_function",
)


def config_rows(config: Config) -> list[ConfigRow]:
    """The rows of SHOW CONFIG."""
    rows = list(_section(config.general, "", _GENERAL))
    for name, peer in config.peers.items():
        rows += _section(peer, f"peers.{name}.", ())
    for name, pool in config.pools.items():
        rows += _section(pool, f"pools.{name}.", _POOL)
        rows += _summary(name, pool)
    return rows


def _section(section: Section, prefix: str, first: tuple[str, ...]) -> Iterator[ConfigRow]:
    declared = declarations(type(section))
    for name in (*first, *(name for name in declared if name not in first)):
        key = declared[name]
        if key.nesting is Nesting.NONE and not key.is_secret:
            yield ConfigRow(
                prefix + name,
                _text(key, getattr(section, key.field)),
                "-" if key.required else _text(key, key.default),
                key.changes_at_reload,
            )


def _summary(name: str, pool: PoolConfig) -> Iterable[ConfigRow]:
    users = ",".join(user.username for user in pool.users)
    return (
        ConfigRow(f'pools."{name}".shard_count', str(len(pool.shards)), "-", True),
        ConfigRow(f'pools."{name}".users', users, "-", True),
    )


def _text(declared: Declaration, value: object) -> str:
    if value is None:
        return declared.key.unset
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)
