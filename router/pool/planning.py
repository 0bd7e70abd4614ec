"""What a reload does to each pool: decided here, carried out by the registry."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Final

from ..config.declared import changes, declarations
from ..config.effective import PoolSettings, in_force, pool_settings, restart_keys
from ..config.general import General
from ..config.keys import Reload
from ..config.pools import PoolConfig, User
from ..config.values import ConfiguredRole
from .address import Address

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..config.keys import Section
    from ..config.model import Config
    from ..config.plugins import Plugins

Key = tuple[str, str]
"""Of a pool: the database and the user."""

# A pool whose settings differ in one of these is replaced: keys that say so, and what is made
# of such keys alone.
_FIXED: Final = {
    "table_mutation_cache_ttl",
    "routing",
    *(
        name
        for section in (General, PoolConfig, User)
        for name, declared in declarations(section).items()
        if declared.key.reload is Reload.REPLACED
    ),
}
# What is shown of a change besides its name; passwords never are.
_SHOWN: Final = (bool, int, float, str, Enum)


class Action(Enum):
    """What becomes of a pool."""

    KEEP = "kept"
    CHANGE = "changed"
    """It takes new values over, and keeps its connections."""
    REPLACE = "replaced"
    """By a new one; transactions end in the old one, whose connections are closed then."""
    OPEN = "new"
    DROP = "gone"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A pool as a configuration has it."""

    settings: PoolSettings
    addresses: list[list[Address]]
    plugins: Plugins

    def servers(self) -> list[str]:
        """Its servers, by shard and role."""
        return [
            f"{address.label} ({address.database})"
            for shard in self.addresses
            for address in shard
        ]


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """What becomes of one pool.

    Attributes:
        wanted: what it is to be; None if it is to go.
        changes: what differs, one line each.
    """

    key: Key
    action: Action
    wanted: Wanted | None
    changes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What logs call it."""
        return "/".join(self.key)

    @property
    def line(self) -> str:
        """What becomes of it and why, for people."""
        return (
            f"{self.action.value}: {', '.join(self.changes)}"
            if self.changes
            else (self.action.value)
        )


@dataclass(frozen=True, slots=True)
class ReloadPlan:
    """What a reload does.

    Attributes:
        restart: keys of [general] whose new values need a restart.
        general: the other changes of [general].
        peers: changes of [peers], each with the name of one.
        pools: those that are to be in the order of the configuration, then those that go.
    """

    restart: tuple[str, ...]
    general: tuple[str, ...]
    pools: tuple[PoolPlan, ...]
    peers: tuple[tuple[str, str], ...] = ()

    def names(self, action: Action) -> list[str]:
        """The pools that an action is for."""
        return [pool.name for pool in self.pools if pool.action is action]


def plan_reload(running: Config, config: Config) -> ReloadPlan:
    """Decide what a reload does to a router that runs by a configuration."""
    restart = tuple(restart_keys(running.general, config.general))
    general = tuple(_general(running.general, config.general))
    pools = plan_pools(pools_of(running), pools_of(in_force(running, config)))
    return ReloadPlan(restart, general, pools, tuple(_peers(running, config)))


def plan_pools(
    running: Mapping[Key, Wanted], wanted: Mapping[Key, Wanted]
) -> tuple[PoolPlan, ...]:
    """Decide what becomes of each pool.

    A pool that keeps its servers and its credentials keeps its connections and takes the new
    sizes and times; any other change replaces it.
    """
    plans = [_plan(key, running.get(key), new) for key, new in wanted.items()]
    gone = [PoolPlan(key, Action.DROP, None) for key in running if key not in wanted]
    return (*plans, *gone)


def _plan(key: Key, old: Wanted | None, new: Wanted) -> PoolPlan:
    if old is None:
        return PoolPlan(key, Action.OPEN, new)
    differ = [
        field.name
        for field in fields(PoolSettings)
        if getattr(old.settings, field.name) != getattr(new.settings, field.name)
    ]
    changes = [_change(name, old.settings, new.settings) for name in differ]
    if old.plugins != new.plugins:
        changes.append("plugins")
    if old.addresses != new.addresses:
        changes = [*_servers(old, new), *changes]
        action = Action.REPLACE
    elif not _FIXED.isdisjoint(differ):
        action = Action.REPLACE
    else:
        action = Action.CHANGE if changes else Action.KEEP
    return PoolPlan(key, action, new, tuple(changes))


def _servers(old: Wanted, new: Wanted) -> list[str]:
    """Which come and which go."""
    before, after = old.servers(), new.servers()
    come = [f"opens {name}" for name in after if name not in before]
    go = [f"drains {name}" for name in before if name not in after]
    return [*come, *go] or ["order or weight of servers"]


def _change(name: str, old: PoolSettings, new: PoolSettings) -> str:
    was, becomes = getattr(old, name), getattr(new, name)
    if name == "routing":
        differ = [
            field.name
            for field in fields(was)
            if getattr(was, field.name) != getattr(becomes, field.name)
        ]
        return f"routing ({', '.join(differ)})"
    return _shown(name, was, becomes)


def _general(old: General, new: General) -> list[str]:
    """Keys of [general] that are not about pools, and take effect without a restart."""
    return _differences(old, new, Reload.AT_ONCE, Reload.CONNECTIONS)


def _peers(running: Config, config: Config) -> Iterator[tuple[str, str]]:
    """Names of peers that come, go or change, and how."""
    for name in dict.fromkeys((*running.peers, *config.peers)):
        old, new = running.peers.get(name), config.peers.get(name)
        if old is None or new is None:
            yield name, "new" if old is None else "gone"
        elif old != new:
            yield name, ", ".join(_differences(old, new, Reload.AT_ONCE))


def _differences(old: Section, new: Section, *reloads: Reload) -> list[str]:
    return [
        _shown(declared.name, was, becomes)
        for declared, was, becomes in changes(old, new, *reloads)
    ]


def _shown(name: str, was: object, becomes: object) -> str:
    if not isinstance(was, _SHOWN) or not isinstance(becomes, _SHOWN):
        return name
    return f"{name} {_plain(was)} -> {_plain(becomes)}"


def _plain(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.value if isinstance(value, Enum) else value


def pools_of(config: Config) -> dict[Key, Wanted]:
    """The pools of a configuration, in its order."""
    return {
        (pool.name, user.username): Wanted(
            pool_settings(config, pool, user), addresses, config.plugins_of(pool)
        )
        for pool in config.pools.values()
        for addresses in (addresses_of(pool),)
        for user in pool.users
    }


def addresses_of(pool: PoolConfig) -> list[list[Address]]:
    """The servers of each shard."""
    found = []
    for number, shard in enumerate(pool.shards):
        counts: Counter[ConfiguredRole] = Counter()
        servers = []
        for index, server in enumerate(shard.servers):
            servers.append(
                Address(
                    pool=pool.name,
                    shard=number,
                    index=index,
                    number=counts[server.role],
                    is_primary=server.role is ConfiguredRole.PRIMARY,
                    host=server.host,
                    port=server.port,
                    database=shard.database,
                    is_auto=server.role is ConfiguredRole.AUTO,
                    weight=server.weight,
                )
            )
            counts[server.role] += 1
        found.append(servers)
    return found
