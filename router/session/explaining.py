"""EXPLAIN ROUTE in a session: it asks where a statement would go now, and sends none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ..protocol import codes, messages
from ..protocol.messages import TEXT_OID
from ..protocol.portals import Answer
from ..routing import explain
from ..routing.types import Role
from . import straying
from .batch_route import key_values
from .objections import text_objection
from .own import OwnStatement

if TYPE_CHECKING:
    from ..pool.server import ServerConnection
    from ..routing.explain import Decision
    from ..routing.types import Analysis
    from .own import OwnPortal
    from .session import Session

COLUMNS: Final[tuple[tuple[str, int], ...]] = tuple(
    (name, TEXT_OID) for name in explain.COLUMNS
)


def explained_row(
    session: Session, sql: bytes, parameters: explain.Parameters | None = None
) -> bytes:
    """The answer as a DataRow; `parameters` gives the values of those that are keys."""
    router = session.pool.router
    decision = explain.decide(router, sql, session.routing, parameters)
    server = session.server
    refused = text_objection(session, sql)
    if session.pool.inspector is not None and session.pool.inspector.answer(sql) is not None:
        decision = explain.answered("the plugin intercept answers it")
    elif refused is not None:
        decision = replace(decision, route=None, rule=None, error=refused)
    elif server is not None and decision.rule != explain.OWN_RULE:
        decision = _held(session, server, decision)
    return messages.data_row(explain.row(router, decision))


def _held(session: Session, server: ServerConnection, decision: Decision) -> Decision:
    """The decision for a client that has a server already."""
    if server.status != codes.IDLE:
        by = "transaction"
    elif session.pinned or session.pool.is_session_mode:
        by = "session"
    else:
        return decision
    if session.pool.router.finds_shards:
        stray = straying.objection(session, server, decision.analysis, decision.values)
        if stray is not None:
            return replace(decision, route=None, rule=None, error=stray)
    address = server.pool.address
    role = Role.PRIMARY if address.is_primary else Role.REPLICA
    return decision.held(role, address.shard, by)


class ExplainStatement(OwnStatement):
    """EXPLAIN ROUTE, whose statement may have parameters."""

    __slots__ = ("_parse", "_sql")

    def __init__(self, sql: bytes, types: tuple[int, ...], parse: bytes) -> None:
        """`parse` is the body of the Parse."""
        super().__init__(COLUMNS, types)
        self._sql: Final = sql
        self._parse: Final = parse

    def run(self, session: Session, portal: OwnPortal) -> Answer:
        def values(analysis: Analysis) -> explain.Values:
            return key_values(portal.data, analysis, self._parse, session.pool.router.sharder)

        return Answer((explained_row(session, self._sql, values),))
