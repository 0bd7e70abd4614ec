"""What a statement does in a transaction that is on all shards: there, or at its home alone."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from ..errors import ForEveryShard, NoSingleShard
from ..routing import refusals, transactions
from ..routing.decisions import UNBOUND
from ..routing.for_all import CopyForShards, RowsForSeveral
from ..routing.transactions import TransactionKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..routing.keyplan import BoundKey
    from ..routing.router import QueryRouter
    from ..routing.state import RoutingState
    from ..routing.transactions import TransactionStatement


class Part(Enum):
    """Where a statement of such a transaction is run."""

    HOME = "at home"
    ALL = "on all shards"
    ROWS = "on the shards of its rows"
    COMMIT = "it ends them all"


# First words of commands that begin, end or divide transactions.
_CONTROLS: Final = frozenset(
    (
        "BEGIN",
        "START",
        "COMMIT",
        "END",
        "ROLLBACK",
        "ABORT",
        "PREPARE TRANSACTION",
        "SAVEPOINT",
        "RELEASE",
    )
)
_DIVIDES: Final = (("SAVEPOINT",), ("RELEASE",))
_SETTINGS: Final = frozenset(("SET", "RESET"))


def part_of(
    router: QueryRouter,
    state: RoutingState,
    sql: bytes,
    keys: Mapping[int, BoundKey] = UNBOUND,
    *,
    has_failed: bool,
) -> Part:
    """Find out where a text is run.

    Args:
        router: the pool's.
        state: what the client has chosen.
        sql: the text.
        keys: the values of its parameters that are sharding keys.
        has_failed: the transaction has: what is an error then is left to the server at home.

    Raises:
        RoutingError: nowhere, in such a transaction.
    """
    control = transactions.read(sql)
    if control is not None:
        return _part_of_control(control, has_failed=has_failed)
    analysis = router.analyse(sql)
    assert analysis is not None
    kinds = analysis.kinds
    if any(kind in _CONTROLS or kind.partition(" ")[0] in _CONTROLS for kind in kinds):
        if kinds in _DIVIDES:
            return Part.HOME if has_failed else Part.ALL
        raise _refused(
            "What begins or ends transactions must stand alone", "Send it by itself."
        )
    is_for_all = isinstance(analysis.obstacle, ForEveryShard)
    if not is_for_all and (analysis.limit or not analysis.is_read_through):
        raise refusals.unreadable("")
    if has_failed:
        return Part.HOME
    if analysis.has_comment or analysis.comment_error is not None:
        raise _refused("No shard can be chosen", _APART)
    if isinstance(analysis.obstacle, CopyForShards):
        return Part.ROWS
    if is_for_all:
        return Part.ALL
    if _SETTINGS.issuperset(kinds):
        return Part.ALL
    if not _SETTINGS.isdisjoint(kinds):
        raise _refused(
            "SET concerns all shards, and what is with it does not", "Send it alone."
        )
    if b"set_config" in sql.lower():
        return Part.ALL
    try:
        shard = router.demanded_shard(analysis, state, keys)
    except RowsForSeveral:
        return Part.ROWS
    if shard is not None and analysis.is_rows:
        return Part.ROWS
    if shard is not None:
        raise _refused("A statement with a sharding key is one shard's", _APART)
    return Part.HOME


_APART: Final = "End the transaction that defines something, and send it in another one."


def _refused(why: str, hint: str) -> NoSingleShard:
    return NoSingleShard(
        f"{why} in a transaction that is on all shards", kind=refusals.EVERY_SHARD, hint=hint
    )


def _part_of_control(wanted: TransactionStatement, *, has_failed: bool) -> Part:
    control = wanted.control
    if wanted.chains:
        raise _refused("AND CHAIN is not possible", "End it, and begin another one.")
    if has_failed:
        return Part.ALL if control is TransactionKind.ROLLBACK_TO else Part.HOME
    if control is TransactionKind.COMMIT:
        return Part.COMMIT
    if control in (TransactionKind.BEGIN, TransactionKind.NOTHING, TransactionKind.ROLLBACK):
        return Part.HOME
    return Part.ALL
