"""Statements that belong to another shard than the server that their client holds.

A client holds a server in a transaction, in an open batch, and for good in session mode. What
it sends then can run nowhere else, so that a statement whose sharding key says otherwise would
read or write the wrong rows: it is refused. Only a batch that has done nothing yet but prepare
and describe moves on: drivers ask for the types of the parameters before they bind values, and
so before anyone can know the shard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import AmbiguousShard, NoSingleShard, RoutingError
from ..protocol import codes
from ..routing import obstacles
from ..routing.decisions import UNBOUND
from .batch_route import check_all_are_here, key_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..pool.server import ServerConnection
    from ..protocol.segments import Segment
    from ..routing.types import Analysis, KeyValue
    from .attachment import Attachment
    from .operations import Operation
    from .session import Session


def query_objection(
    session: Session, server: ServerConnection, sql: bytes
) -> RoutingError | None:
    """Why the text of a Query must not run on the server that the client holds."""
    router = session.pool.router
    if not router.finds_shards or server.status == codes.IN_FAILED_TRANSACTION:
        return None
    try:
        analysis = router.analyse(sql)
    except RoutingError as error:
        return error
    if analysis is None:
        return None
    router.note_prepared(analysis, sql, session.routing)
    return objection(session, server, analysis, UNBOUND)


def bind_objection(
    session: Session, server: ServerConnection, operation: Operation
) -> RoutingError | None:
    """Why a Bind must not run on the server that the client holds."""
    router, statement = session.pool.router, operation.statement
    if (
        not router.finds_shards
        or operation.own is not None
        or statement is None
        or statement.analysis is None
        or server.status == codes.IN_FAILED_TRANSACTION
    ):
        return None
    analysis = statement.analysis
    if session.epoch != router.epoch:  # the server has told more about its tables since
        analysis = router.analyse(statement.text) or analysis
    router.note_prepared(analysis, statement.text, session.routing)
    try:
        values = key_values(operation.data, analysis, statement.body, router.sharder)
        if operation.missing and session.routing.shard is None:
            check_all_are_here(analysis, values)
    except RoutingError as error:
        return error
    return objection(session, server, analysis, values)


def objection(
    session: Session,
    server: ServerConnection,
    analysis: Analysis,
    values: Mapping[int, KeyValue | tuple[KeyValue, ...] | None],
) -> RoutingError | None:
    """Why a statement must not run on the server that the client holds.

    Args:
        session: the client's.
        server: what it holds.
        analysis: of the statement.
        values: of its parameters that are sharding keys.
    """
    try:
        shard = session.pool.router.demanded_shard(analysis, session.routing, values)
    except AmbiguousShard as error:
        return error
    except NoSingleShard as error:
        return None if session.has_chosen else error
    except RoutingError as error:
        return error
    held = server.pool.address.shard
    if shard is None or shard == held:
        return None
    return RoutingError(
        f"the statement belongs to shard {shard}, but its transaction is on shard {held}",
        sqlstate="0A000",
        hint="Choose the shard with SET SHARDING KEY, SET SHARD or a comment before BEGIN, "
        "or before the first statement in session mode.",
    )


def long_objection(session: Session, kind: int) -> RoutingError | None:
    """Why a text that is too long to hold must not be sent, wherever that would be."""
    if kind not in b"QP" or not session.pool.router.refuses:
        return None
    is_chosen = session.routing.shard is not None or session.has_chosen
    if is_chosen or session.status == codes.IN_FAILED_TRANSACTION:
        return None
    return obstacles.too_long()


def foreign_objection(session: Attachment, sql: bytes) -> RoutingError | None:
    """Why a text must not be prepared by a name of which the router keeps no record.

    Nobody would look at what is bound to it.
    """
    router = session.pool.router
    if not router.refuses or session.routing.shard is not None or session.has_chosen:
        return None
    analysis = router.analyse(sql)
    if analysis is None or not (analysis.keys or analysis.unkeyed or analysis.obstacle):
        return None
    return obstacles.unprepared()


def may_leave(session: Session, segment: Segment) -> bool:
    """Whether the open batch has done nothing that another server could not do as well."""
    return not segment.has_bound and session.status == codes.IDLE and not session.keeps_server
