"""The rules that take more than one key to judge, and what the operator must hear."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

from ..routing.limits import MAX_LENGTH
from ..routing.sharding import IMPLIED
from ..routing.types import KeyType, KeyValue
from .declared import Declaration, KeyPath, Nesting, declarations
from .files import check_files
from .findings import Finding
from .keymaps import MAPS, Bounds, is_less, key_type, read_bounds, read_key
from .keys import Numbered, Section
from .peers import MOST_PEERS, peer_number
from .values import AuthType, ConfiguredRole, ShardingFunction, ShardingKeyPolicy, WithoutKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .general import General
    from .model import Config
    from .plugins import Plugins
    from .pools import PoolConfig, Shard

# How long all clients may wait for a search, in seconds.
_AFFORDABLE = 0.1
_ADMIN_DATABASES = ("pgcat", "pgbouncer")
_AUTH_QUERY_KEYS = ("auth_query", "auth_query_user", "auth_query_password")


def check(config: Config, table: Mapping[str, object]) -> Iterator[Finding]:
    """Look at everything; `table` is what the configuration was made of."""
    yield from _check_general(config.general)
    yield from check_files(config.general)
    yield from _check_peers(config)
    yield from _check_plugins(config.plugins, ("plugins",), table)
    for name, pool in config.pools.items():
        yield from _check_pool(config, pool, ("pools", name), table)
    yield from unused_keys(config)


def _keys(table: Mapping[str, object], path: KeyPath, *, numeric: bool = False) -> list[str]:
    """The keys of a table of tables, in the order in which the model has its values."""
    for part in path:
        table = cast("Mapping[str, object]", table.get(str(part), {}))
    return Numbered(numeric=numeric).ordered(table)


# --- [general]


def _check_general(general: General) -> Iterator[Finding]:
    base = ("general",)
    if general.auth_query:
        for key in _AUTH_QUERY_KEYS[1:]:
            if not getattr(general, key):
                yield Finding(
                    (*base, key), "is required with auth_query", ((*base, "auth_query"),)
                )
    if general.stats_password and not general.stats_username:
        yield _idle((*base, "stats_password"), (*base, "stats_username"))
    if general.stats_username == general.admin_username:
        yield Finding(
            (*base, "stats_username"),
            "must be another one than admin_username, who may do everything",
            ((*base, "admin_username"),),
        )
    elif (
        general.stats_username
        and not general.stats_password
        and general.admin_auth_type is not AuthType.TRUST
    ):
        yield Finding(
            (*base, "stats_password"),
            "is required with stats_username",
            ((*base, "stats_username"),),
        )
    if general.verify_server_certificate and not general.server_tls:
        yield _idle((*base, "verify_server_certificate"), (*base, "server_tls"))
    if general.server_tls_ca_file and not general.verify_server_certificate:
        yield _idle((*base, "server_tls_ca_file"), (*base, "verify_server_certificate"))
    if general.tcp_user_timeout:
        yield Finding(
            (*base, "tcp_user_timeout"),
            "ends each connection whose peer is too busy to read for "
            f"{general.tcp_user_timeout / 1000:g} s; dead peers are found without it",
            is_warning=True,
        )


def _idle(path: KeyPath, switch: KeyPath) -> Finding:
    return Finding(
        path, f"has no effect unless {switch[-1]} is true", (switch,), is_warning=True
    )


# --- [peers]


def _check_peers(config: Config) -> Iterator[Finding]:
    own = ("general", "peer_id")
    for name in config.peers:
        if peer_number(name) is None:
            yield Finding(("peers", name), f"must be called by an id from 1 to {MOST_PEERS}")
        elif not config.general.peer_id:
            text = "has no effect unless peer_id is set"
            yield Finding(("peers", name), text, (own,), is_warning=True)
    others = config.peers.keys() - {str(config.general.peer_id)}
    if config.general.so_reuseport and not (config.general.peer_id and others):
        yield Finding(
            ("general", "so_reuseport"),
            "cancel requests that reach another process on the port are lost unless peer_id "
            "and [peers] say where they belong",
            (own, ("peers",)),
            is_warning=True,
        )


# --- plugins


def _check_plugins(
    plugins: Plugins | None, base: KeyPath, table: Mapping[str, object]
) -> Iterator[Finding]:
    if plugins is None or plugins.intercept is None:
        return
    path = (*base, "intercept", "queries")
    for key, answer in zip(_keys(table, path), plugins.intercept.queries, strict=True):
        width = len(answer.columns)
        for number, row in enumerate(answer.result):
            if len(row) != width:
                yield Finding(
                    (*path, key, "result", number),
                    f"must have as many values as schema has columns, {width}, got {len(row)}",
                    ((*path, key, "schema"),),
                )


# --- [pools.NAME]


def _check_pool(
    config: Config, pool: PoolConfig, base: KeyPath, table: Mapping[str, object]
) -> Iterator[Finding]:
    if pool.name in _ADMIN_DATABASES:
        yield Finding(
            base, "cannot be reached: it is a name of the admin database", is_warning=True
        )
    yield from _check_parser(pool, base)
    yield from _check_without_key(pool, base)
    yield from _check_plugins(pool.plugins, (*base, "plugins"), table)
    yield from _check_regexes(pool, base)
    yield from _check_activity(pool, base)
    yield from _check_auth_query(config.general, pool, base)
    yield from _check_users(config.general, pool, base, table)
    yield from _check_shards(pool, base, table)


def _check_parser(pool: PoolConfig, base: KeyPath) -> Iterator[Finding]:
    if pool.query_parser_enabled:
        return
    switch = (*base, "query_parser_enabled")
    message = "is only valid when query_parser_enabled is true"
    if pool.query_parser_read_write_splitting:
        yield Finding((*base, "query_parser_read_write_splitting"), message, (switch,))


def _check_without_key(pool: PoolConfig, base: KeyPath) -> Iterator[Finding]:
    path, policy = (*base, "sharding_without_key"), (*base, "sharding_key_policy")
    is_sticky = pool.sharding_key_policy is ShardingKeyPolicy.STICKY
    if is_sticky and pool.sharding_without_key is WithoutKey.REFUSE:
        yield Finding(path, 'is only valid with sharding_key_policy "strict"', (policy,))
    if (
        pool.is_sharded_by_key
        and pool.sharding_without_key is None
        and not pool.refuses_without_key
    ):
        places = "the shard of the client's last key, else to " if is_sticky else ""
        yield Finding(
            path,
            "is not set: statements on sharded tables that name no key go to "
            f"{places}{pool.default_shard}, which has only a part of the rows; "
            'set it to "refuse", or to "default_shard" if that is meant',
            (policy, (*base, "default_shard"), (*base, "automatic_sharding_key")),
            is_warning=True,
        )


def _check_regexes(pool: PoolConfig, base: KeyPath) -> Iterator[Finding]:
    for key, pattern in (
        ("sharding_key_regex", pool.sharding_key_regex),
        ("shard_id_regex", pool.shard_id_regex),
    ):
        if pattern is None:
            continue
        if (
            key == "sharding_key_regex"
            and pattern.is_ascii_only
            and key_type(pool) is KeyType.TEXT
        ):
            yield Finding(
                (*base, key),
                r"must not have \w, \W, \b or \B: they are about letters of ASCII, and keys "
                r"are text; write [\pL\pM\pN_] for \w, or [A-Za-z0-9_] if that is meant",
                ((*base, "sharding_key_type"), (*base, "sharding_function")),
            )
        longest = pattern.longest_search(min(pool.regex_search_limit, MAX_LENGTH))
        if longest > _AFFORDABLE:
            yield Finding(
                (*base, key),
                f"can take {longest:.1f} s for a statement that is made for it; "
                "repeat less in it, or lower regex_search_limit",
                ((*base, "regex_search_limit"),),
                is_warning=True,
            )


def _check_activity(pool: PoolConfig, base: KeyPath) -> Iterator[Finding]:
    if not pool.db_activity_based_routing:
        return
    if not pool.query_parser_read_write_splitting:
        switch = (*base, "query_parser_read_write_splitting")
        yield _idle((*base, "db_activity_based_routing"), switch)
    for key in ("db_activity_init_delay", "db_activity_ttl", "table_mutation_cache_ms_ttl"):
        if getattr(pool, key) == 0:
            yield Finding(
                (*base, key),
                "must be greater than 0 with db_activity_based_routing, got 0",
                ((*base, "db_activity_based_routing"),),
            )


def _check_auth_query(general: General, pool: PoolConfig, base: KeyPath) -> Iterator[Finding]:
    """Each key is the pool's own or that of [general]; there must be all or none."""
    own = [key for key in _AUTH_QUERY_KEYS if getattr(pool, key)]
    inherited = [key for key in _AUTH_QUERY_KEYS if getattr(general, key)]
    if general.auth_query and not own:
        return  # then it is the matter of [general]
    missing = [key for key in _AUTH_QUERY_KEYS if key not in (*own, *inherited)]
    if len(missing) == len(_AUTH_QUERY_KEYS):
        return
    given = own or inherited
    where = "" if own else " in [general]"
    for key in missing:
        yield Finding(
            (*base, key),
            f"is required because of {' and '.join(given)}{where}",
            tuple(
                (*path, other) for path in (base, ("general",)) for other in _AUTH_QUERY_KEYS
            ),
        )


def _has_auth_query(general: General, pool: PoolConfig) -> bool:
    return all(getattr(pool, key) or getattr(general, key) for key in _AUTH_QUERY_KEYS)


def _check_users(
    general: General, pool: PoolConfig, base: KeyPath, table: Mapping[str, object]
) -> Iterator[Finding]:
    base = (*base, "users")
    seen: dict[str, KeyPath] = {}
    if not pool.users:
        yield Finding(base, "has no users, so nobody can use the pool", is_warning=True)
    for key, user in zip(_keys(table, base), pool.users, strict=True):
        path = (*base, key)
        first = seen.setdefault(user.username, path)
        if first is not path:
            yield Finding(
                (*path, "username"),
                f'must differ from that of {first[-1]}, "{user.username}"',
                ((*first, "username"),),
            )
        if user.min_pool_size > user.pool_size:
            yield Finding(
                (*path, "min_pool_size"),
                f"must be at most pool_size, {user.pool_size}, got {user.min_pool_size}",
                ((*path, "pool_size"),),
            )
        needs_password = user.auth_type is not AuthType.TRUST
        if user.password is None and needs_password and not _has_auth_query(general, pool):
            yield Finding(
                (*path, "password"),
                'is required unless auth_query is set or auth_type is "trust"',
                ((*path, "auth_type"),),
            )


# --- [pools.NAME.shards.N]


def _check_shards(
    pool: PoolConfig, base: KeyPath, table: Mapping[str, object]
) -> Iterator[Finding]:
    path = (*base, "shards")
    numbers = _keys(table, path, numeric=True)
    wrong = list(_check_numbers(numbers, path))
    yield from wrong
    for number, shard in zip(numbers, pool.shards, strict=True):
        yield from _check_shard(shard, (*path, number))
    yield from _check_key_maps(pool, base, list(zip(numbers, pool.shards, strict=True)))
    if not wrong and pool.default_shard.startswith("shard_"):
        default = int(pool.default_shard.removeprefix("shard_"))
        if default >= len(numbers):
            yield Finding(
                (*base, "default_shard"),
                f'must name a shard from 0 to {len(numbers) - 1}, got "{pool.default_shard}"',
                (path,),
            )


def _check_numbers(names: list[str], path: KeyPath) -> Iterator[Finding]:
    if not names:
        yield Finding(path, "must have at least one shard, 0")
    odd = [name for name in names if re.fullmatch("0|[1-9][0-9]*", name) is None]
    for name in odd:
        yield Finding((*path, name), "must be a number: shards are numbered 0, 1, 2 ...")
    # The names come in numeric order, so each must be its own position.
    gap = next((n for n, name in enumerate(names) if name != str(n)), None)
    if gap is not None and not odd:
        yield Finding(path, f"must be numbered from 0 without gaps, {gap} is missing")


def _check_shard(shard: Shard, base: KeyPath) -> Iterator[Finding]:
    path = (*base, "servers")
    if not shard.servers:
        yield Finding(path, "must have at least one server")
    primaries = sum(server.role is ConfiguredRole.PRIMARY for server in shard.servers)
    if primaries > 1:
        yield Finding(path, f"must have at most one primary, got {primaries}")
    autos = sum(server.role is ConfiguredRole.AUTO for server in shard.servers)
    if 0 < autos < len(shard.servers):
        yield Finding(path, f'must have the role "auto" all or none, got {autos} of them')
    if shard.patroni and autos < len(shard.servers):
        yield Finding(path, 'must have the role "auto", since `patroni` is set')
    entries = [(server.host, server.port, server.role) for server in shard.servers]
    for index, entry in enumerate(entries):
        if entry in entries[:index]:
            first = entries.index(entry)
            yield Finding((*path, index), f"must differ from server {first}")
    yield from _check_mirrors(shard, base)


def _check_mirrors(shard: Shard, base: KeyPath) -> Iterator[Finding]:
    for index, mirror in enumerate(shard.mirrors):
        if mirror.mirroring_target_index >= len(shard.servers):
            yield Finding(
                (*base, "mirrors", index, "mirroring_target_index"),
                f"must be the position of a server, from 0 to {len(shard.servers) - 1}, "
                f"got {mirror.mirroring_target_index}",
                ((*base, "servers"),),
            )


# --- [pools.NAME], which keys each shard has


def _check_key_maps(
    pool: PoolConfig, base: KeyPath, shards: Sequence[tuple[str, Shard]]
) -> Iterator[Finding]:
    """Look at all keys about sharding; `shards` are with their names in the file."""
    function = pool.sharding_function
    chosen = (*base, "sharding_function")
    implied = IMPLIED.get(function)
    given = pool.sharding_key_type
    if implied is not None and given is not None and given is not implied:
        yield Finding(
            (*base, "sharding_key_type"),
            f'must be "{implied.value}", or left out, when sharding_function is '
            f'"{function.value}", got "{given.value}"',
            (chosen,),
        )
    placed = [((*base, "shards", name), shard) for name, shard in shards]
    for path, shard in placed:
        yield from _check_presence(function, path, shard, chosen)
    if function not in MAPS:
        return
    defaults = [path for path, shard in placed if shard.sharding_default]
    for path in defaults[1:]:
        yield Finding(
            (*path, "sharding_default"),
            f"may be true for one shard only, and is for shard {defaults[0][-1]}",
            ((*defaults[0], "sharding_default"),),
        )
    # What a key is may be at fault as well as the key.
    rests = (chosen, (*base, "sharding_key_type"))
    if function is ShardingFunction.LIST:
        yield from _check_values(placed, key_type(pool), rests)
    else:
        yield from _check_ranges(placed, key_type(pool), rests)


def _check_presence(
    function: ShardingFunction, path: KeyPath, shard: Shard, chosen: KeyPath
) -> Iterator[Finding]:
    for needed, key in MAPS.items():
        given = getattr(shard, key)
        if given is not None and function is not needed:
            yield Finding(
                (*path, key), f'is only valid when sharding_function is "{needed}"', (chosen,)
            )
        if given is None and function is needed and not shard.sharding_default:
            yield Finding(
                (*path, key),
                f'is required when sharding_function is "{needed}", '
                "except for the shard with sharding_default",
                (chosen, (*path, "sharding_default")),
            )
    if shard.sharding_default and function not in MAPS:
        yield Finding(
            (*path, "sharding_default"),
            'is only valid when sharding_function is "list" or "range"',
            (chosen,),
        )


_Placed = list[tuple["KeyPath", "Shard"]]


def _check_values(
    shards: _Placed, kind: KeyType, rests: tuple[KeyPath, ...]
) -> Iterator[Finding]:
    seen: dict[KeyValue, KeyPath] = {}
    for base, shard in shards:
        for index, written in enumerate(shard.sharding_values or ()):
            path = (*base, "sharding_values", index)
            try:
                value = read_key(written, kind)
            except ValueError as error:
                yield Finding(path, str(error), rests)
                continue
            first = seen.setdefault(value, path)
            if first is not path:
                yield Finding(
                    path,
                    f"must differ from all others, shard {first[-3]} has {value} already",
                    (first, *rests),
                )


def _check_ranges(
    shards: _Placed, kind: KeyType, rests: tuple[KeyPath, ...]
) -> Iterator[Finding]:
    ranges: list[tuple[Bounds, KeyPath]] = []
    for base, shard in shards:
        for index, pair in enumerate(shard.sharding_ranges or ()):
            path = (*base, "sharding_ranges", index)
            try:
                ranges.append((read_bounds(pair, kind), path))
            except ValueError as error:
                yield Finding(path, str(error), rests)
    # Keys are of one type, so that they have an order; MINVALUE comes first.
    ranges.sort(key=lambda each: (each[0][0] is not None, each[0][0]))
    reach: tuple[Bounds, KeyPath] | None = None
    for bounds, path in ranges:
        if reach is None or not is_less(bounds[0], reach[0][1]):
            reach = bounds, path
            continue
        other = reach[1]
        yield Finding(
            path,
            f"must not overlap with range {other[-1]} of shard {other[-3]}",
            (other, *rests),
        )
        if bounds[1] is None or is_less(reach[0][1], bounds[1]):
            reach = bounds, path


# --- keys that are understood and do nothing, or nothing yet


def unused_keys(section: Section, path: KeyPath = ()) -> Iterator[Finding]:
    """Find what the file asks for in vain, at and below a section."""
    for declared in declarations(type(section)).values():
        # What the file does not mention promises nothing.
        if declared.field not in section.model_fields_set:
            continue
        value, here = getattr(section, declared.field), (*path, declared.name)
        if not declared.key.unused:
            for name, inner in _sections(value, declared):
                yield from unused_keys(inner, (*here, *name))
        elif not _asks_for_nothing(value):
            yield Finding(here, f"has no effect: {declared.key.unused}", is_warning=True)


def _sections(value: object, declared: Declaration) -> Iterator[tuple[KeyPath, Section]]:
    """The sections in a value, each with the rest of its path; arrays give positions."""
    if isinstance(value, Section):
        yield (), value
    elif declared.nesting is not Nesting.NONE and isinstance(value, dict):
        for name, inner in cast("Mapping[str, Section]", value).items():
            yield (name,), inner
    elif declared.nesting is not Nesting.NONE and isinstance(value, tuple):
        for position, inner in enumerate(cast("tuple[Section, ...]", value)):
            yield (position,), inner


def _asks_for_nothing(value: object) -> bool:
    """Whether it turns off what is not there anyway; a number never does."""
    return value is None or value is False or value in ("", ())
