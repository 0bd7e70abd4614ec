"""The whole configuration as frozen values."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from .general import General  # noqa: TC001 - pydantic evaluates it
from .keys import Key, Name, Reload, Section
from .peers import Peer  # noqa: TC001 - pydantic evaluates it
from .plugins import Plugins
from .pools import PoolConfig  # noqa: TC001 - pydantic evaluates it


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

    peers: Annotated[
        dict[Name, Peer],
        Key("Processes that share clients with this one, by their peer_id.", Reload.AT_ONCE),
    ] = Field(default={})

    def plugins_of(self, pool: PoolConfig) -> Plugins:
        """The plugins that are in force in a pool: its own table, or else the global one."""
        return pool.plugins or self.plugins or Plugins()
