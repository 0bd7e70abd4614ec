"""Keys of PgCat's file that are understood and do nothing yet: the operator must hear it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .model import Config


def unsupported(config: Config) -> Iterator[str]:
    """Name what the configuration asks for in vain, a line each."""
    general = config.general
    if general.dns_cache_enabled:
        yield "general.dns_cache_enabled: has no effect: each connection looks names up"
    for name, pool in config.pools.items():
        base = f"pools.{name}"
        if pool.auth_query or general.auth_query:
            yield f"{base}.auth_query: has no effect: users without a password cannot log in"
        for number, shard in enumerate(pool.shards):
            if shard.mirrors:
                yield f"{base}.shards.{number}.mirrors: have no effect: nothing is mirrored"
