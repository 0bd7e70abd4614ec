"""What a reload changes, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .declared import declarations
from .general import General
from .keys import Reload
from .settings import PoolSettings, pool_settings

if TYPE_CHECKING:
    from .model import Config, Shard

PoolKey = tuple[str, str]
"""Pool name and user name."""


@dataclass(frozen=True, slots=True)
class ConfigDiff:
    """Two configurations compared.

    Attributes:
        added, removed: pools that only one of the two has, by (pool, user).
        changed: pools whose effective settings or whose servers differ.
        unchanged: pools that need not notice.
        plugins: names of pools, in both, whose effective plugins differ.
        general: keys of [general] that differ.
        restart: those of them that take effect at a restart only.
    """

    added: frozenset[PoolKey]
    removed: frozenset[PoolKey]
    changed: frozenset[PoolKey]
    unchanged: frozenset[PoolKey]
    plugins: frozenset[str]
    general: tuple[str, ...]
    restart: tuple[str, ...]


def diff(old: Config, new: Config) -> ConfigDiff:
    """Compare what is in force, not what is written: to spell out a default is no change."""
    before, after = _pools(old), _pools(new)
    kept = before.keys() & after.keys()
    changed = frozenset(key for key in kept if before[key] != after[key])
    general = _changed_keys(old.general, new.general)
    known = declarations(General)
    return ConfigDiff(
        added=frozenset(after.keys() - before.keys()),
        removed=frozenset(before.keys() - after.keys()),
        changed=changed,
        unchanged=frozenset(kept - changed),
        plugins=frozenset(
            name
            for name in old.pools.keys() & new.pools.keys()
            if old.plugins_of(old.pools[name]) != new.plugins_of(new.pools[name])
        ),
        general=general,
        restart=tuple(key for key in general if known[key].key.reload is Reload.RESTART),
    )


def in_force(running: Config, wanted: Config) -> Config:
    """What can be had of a configuration without a restart.

    The other keys keep the values that the process runs with, so that the next configuration is
    compared with these and not with what a file has said in between.
    """
    kept = {
        declared.field: getattr(running.general, declared.field)
        for declared in declarations(General).values()
        if not declared.key.unused and declared.key.reload is Reload.RESTART
    }
    return wanted.model_copy(update={"general": wanted.general.model_copy(update=kept)})


def _pools(config: Config) -> dict[PoolKey, tuple[PoolSettings, tuple[Shard, ...]]]:
    return {
        (name, user.username): (pool_settings(config, pool, user), pool.shards)
        for name, pool in config.pools.items()
        for user in pool.users
    }


def _changed_keys(old: General, new: General) -> tuple[str, ...]:
    return tuple(
        name
        for name, declared in declarations(General).items()
        if _meaning(getattr(old, declared.field)) != _meaning(getattr(new, declared.field))
    )


def _meaning(value: object) -> object:
    """None is off wherever there are only on and off."""
    return False if value is None else value
