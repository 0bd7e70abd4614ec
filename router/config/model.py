"""The whole configuration as frozen values."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator

from .general import General
from .keys import Key, Name, Reload, Section
from .plugins import Answer, Intercept, Plugins, Prewarmer, QueryLogger, TableAccess
from .pools import Mirror, PoolConfig, Server, Shard, User
from .values import AuthType, LoadBalancingMode, PoolMode, ShardingFunction

__all__ = [
    "Answer",
    "AuthType",
    "Config",
    "General",
    "Intercept",
    "LoadBalancingMode",
    "Mirror",
    "Plugins",
    "PoolConfig",
    "PoolMode",
    "Prewarmer",
    "QueryLogger",
    "Server",
    "Shard",
    "ShardingFunction",
    "TableAccess",
    "User",
]


def _with_names(pools: object) -> object:
    """Tell each pool the key of its table."""
    if not isinstance(pools, dict):
        return pools
    return {
        name: {**pool, "name": name} if isinstance(pool, dict) else pool
        for name, pool in pools.items()
    }


class Config(Section):
    """Everything that the file says."""

    general: Annotated[General, Key("The process, and defaults for all pools.")]
    pools: Annotated[
        dict[Name, PoolConfig],
        BeforeValidator(_with_names),
        Key("The databases that clients can ask for."),
    ]
    plugins: Annotated[
        Plugins | None,
        Key("Plugins of all pools without their own.", Reload.AT_ONCE, unset="none"),
    ] = None

    def plugins_of(self, pool: PoolConfig) -> Plugins:
        """The plugins that are in force in a pool: its own table, or else the global one."""
        return pool.plugins or self.plugins or Plugins()
