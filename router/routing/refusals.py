"""What clients are told whose statements belong to no single shard."""

from __future__ import annotations

from typing import Final

from ..errors import AmbiguousShard, ForEveryShard, NoSingleShard, RoutingError

NO_KEY: Final = "no key"
UNKNOWN_KEY: Final = "key not known"
EVERY_SHARD: Final = "for every shard"
COPY: Final = "COPY of a table"
UNREADABLE: Final = "not understood"
TOO_LONG: Final = "too long"
TOO_COMPLEX: Final = "too complex"
KINDS: Final = (
    "several shards",
    NO_KEY,
    UNKNOWN_KEY,
    EVERY_SHARD,
    COPY,
    UNREADABLE,
    TOO_LONG,
    TOO_COMPLEX,
)
"""What `NoSingleShard.kind` can be."""

CHOOSE: Final = "choose the shard with SET SHARD, SET SHARDING KEY or a comment"
_EACH: Final = "Choose a shard with SET SHARD or a comment, and do the same on each of them."


def no_key(table: str, column: str) -> NoSingleShard:
    """Make the error for a use of a sharded table without its key."""
    if not column:
        return NoSingleShard(
            f'the statement belongs to no single shard: "{table}" is made of sharded tables',
            kind=NO_KEY,
            hint=f"Use the tables that it is made of, with their keys, or {CHOOSE}.",
        )
    return NoSingleShard(
        "the statement belongs to no single shard: it gives no value for the sharding key "
        f'"{column}" of table "{table}"',
        kind=NO_KEY,
        hint=f"Give it as a constant or a parameter, as in {column} = $1, or {CHOOSE}.",
    )


def beside_plain(table: str) -> NoSingleShard:
    """Make the error for a table that no setting names beside one with a key."""
    return NoSingleShard(
        f'table "{table}" is used beside sharded tables, and is on default_shard only',
        kind=NO_KEY,
        hint="If every shard has the same rows of it, name it in omnisharded_tables; if it has "
        f"a sharding key, in automatic_sharding_key. Or read it by itself, or {CHOOSE}.",
    )


def renames(table: str) -> NoSingleShard:
    """Make the error for a sharded table that would not be known any more."""
    return NoSingleShard(
        f'table "{table}" and its sharding key would not be what the settings call them',
        kind=EVERY_SHARD,
        hint="Have the settings name both the old and the new name, and do it on each shard "
        "with SET SHARD.",
    )


def unknown_key() -> NoSingleShard:
    """Make the error for a key of which nobody can tell the value."""
    return NoSingleShard(
        "the statement's sharding key is not known",
        kind=UNKNOWN_KEY,
        hint=f"Use literals or parameters of the key's type, or {CHOOSE}.",
    )


def too_long() -> NoSingleShard:
    """Make the error for a text that nobody looks at, or a part of it only."""
    return NoSingleShard(
        "the statement is too long to find its sharding keys",
        kind=TOO_LONG,
        hint=f"Use parameters or shorter statements, or {CHOOSE}.",
    )


def too_complex(limit: str) -> NoSingleShard:
    """Make the error for a statement that has too much of something to be analysed."""
    return NoSingleShard(
        f"the statement is too complex to find its shard: {limit}",
        kind=TOO_COMPLEX,
        hint=f"Send less at a time, {CHOOSE}, or raise the limit if it is a setting.",
    )


def unprepared() -> NoSingleShard:
    """Make the error for a prepared statement whose parameters nobody looks at."""
    return NoSingleShard(
        "sharding keys of prepared statements are not found without a statement cache",
        kind=UNKNOWN_KEY,
        hint=f"Set prepared_statements_cache_size, or {CHOOSE}.",
    )


def unreadable(table: str) -> NoSingleShard:
    named = f', and names the sharded table "{table}"' if table else ""
    return NoSingleShard(
        f"the statement is not understood, so that its shard is not known{named}",
        kind=UNREADABLE,
        hint=f"Write it in another way, or {CHOOSE}.",
    )


def unknown_statement(name: str) -> RoutingError:
    """Make the error for an EXECUTE of what the client has not prepared on its server."""
    return RoutingError(
        f'prepared statement "{name}" does not exist',
        sqlstate="26000",
        hint="Prepare it first, by a PREPARE that is no part of another statement.",
    )


def not_alone(kind: str) -> NoSingleShard:
    return NoSingleShard(
        f"{kind} must be the only statement of its query to find its shard",
        kind=UNREADABLE,
        hint=f"Send it on its own, or {CHOOSE}.",
    )


def for_all(kind: str, table: str) -> NoSingleShard:
    what = f'the sharded table "{table}"' if table else "tables that are sharded"
    return NoSingleShard(
        f"{kind or 'the statement'} concerns {what}, on every shard",
        kind=COPY if kind == "COPY" else EVERY_SHARD,
        hint=_EACH,
    )


def for_every_shard(kind: str, table: str, *, in_turn: bool) -> ForEveryShard:
    """Make the error for a command that can be brought to all shards, but not now."""
    what = f'the sharded table "{table}", on every shard' if table else "every shard"
    also = "" if in_turn else ", and in one that no statement has brought to a shard before"
    return ForEveryShard(
        f"{kind or 'the statement'} concerns {what}",
        kind=EVERY_SHARD,
        hint="Outside of a transaction block it is brought to all shards, alone or with others "
        f"of its kind{also}. Or {CHOOSE}, and do the same on each of them.",
        in_turn=in_turn,
        is_of_sharded=bool(table),
    )


def not_together(first: ForEveryShard) -> NoSingleShard:
    """Make the error for a command for all shards among statements that are not."""
    return NoSingleShard(
        first.message,
        kind=first.kind,
        hint=f"Send it on its own, for all shards, or {CHOOSE}.",
    )


def not_to_be_split(why: str) -> AmbiguousShard:
    """Make the error for an INSERT of rows of several shards that cannot be split."""
    return AmbiguousShard(
        f"the rows belong to several shards, and cannot be split: {why}",
        hint="Send one statement for each shard.",
    )


def copy_not_split(why: str) -> NoSingleShard:
    """Make the error for a COPY into a sharded table that cannot be split by its keys."""
    return NoSingleShard(
        f"COPY into a sharded table cannot be split by its keys: {why}",
        kind=COPY,
        hint="Write it in another way, or send each shard its rows: "
        "choose it with SET SHARD or a comment.",
    )


def only_one_copy(table: str, why: str = "") -> NoSingleShard:
    """Make the error for a change of a table that every shard has.

    `why` says why it is not brought to all of them.
    """
    what = f"might not stay the same there: {why}" if why else "a change of it reaches only one"
    return NoSingleShard(
        f'table "{table}" is on every shard, and {what}', kind=EVERY_SHARD, hint=_EACH
    )
