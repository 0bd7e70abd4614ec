"""Statements that belong to another shard than the server that their client holds.

A client holds a server in a transaction, in an open batch, and for good in session mode. What
it sends then can run nowhere else, so that a statement whose sharding key says otherwise would
read or write the wrong rows: it is refused. Only a batch that has done nothing yet but prepare
and describe moves on: drivers ask for the types of the parameters before they bind values, and
so before anyone can know the shard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import RoutingError
from ..protocol import codes
from .batch_route import check_all_are_here, key_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..pool.server import ServerConnection
    from ..protocol.segments import Segment
    from ..routing.types import Analysis, KeyValue
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
    return None if analysis is None else objection(session, server, analysis, {})


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


def may_leave(session: Session, segment: Segment) -> bool:
    """Whether the open batch has done nothing that another server could not do as well."""
    return not segment.has_bound and session.status == codes.IDLE and not session.keeps_server
