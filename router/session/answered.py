"""Statements that the router answers itself: recognised, and answered in either protocol.

In the extended protocol a client prepares, binds, describes and executes them like any other.
While it has no server, they need none: `Batch` gives out the replies. With a server, each has a
stand-in there, an empty statement, whose replies are replaced by ours. So it is the server that
says whether a portal exists and whether the transaction has failed, and replies come in their
order.

To servers the stand-in of all of them is the same statement of the router's own. In session
mode clients' names are the server's; there an empty statement takes the client's name as well,
so that the server knows it to be taken.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ..errors import ClientProtocolError, ForEveryShard, RoutingError
from ..firstwords import BEFORE, GAP, LEADS, beginnings, may_begin
from ..protocol import codes, marks, messages
from ..protocol.binds import declared_types, execution
from ..protocol.marks import HARMLESS
from ..protocol.messages import TEXT_OID
from ..protocol.portals import Answer, Portal, bound, described, described_statement
from ..protocol.prepared import Statement
from ..routing import commands, explain
from ..routing.for_all import CopyForShards
from ..routing.types import Analysis, Role
from .bound_keys import key_values, plan_of
from .client_routing import in_transaction
from .following import Part, part_of
from .inspection import text_objection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..pool.contracts import PluginAnswer
    from ..pool.server import ServerConnection
    from ..routing.commands import Wording
    from ..routing.explain import Decision
    from ..routing.positions import Positions
    from ..routing.state import Overrides
    from .client_routing import ClientRouting

PreparedStatement = Statement[Analysis | None]

# What follows the name in the Parse of an empty statement.
EMPTY_BODY: Final = b"\0\0\0"
_STAND_IN: Final[PreparedStatement] = Statement(EMPTY_BODY, None, HARMLESS)

# Type oids by what a value in binary format is: int8, int2, int4; text and its like; uuid.
_INTEGERS: Final = {20: 8, 21: 2, 23: 4}
_TEXTS: Final = frozenset((0, 18, 19, TEXT_OID, 705, 1042, 1043))
_UUID: Final = 2950

_EXPLAIN_COLUMNS: Final[tuple[tuple[str, int], ...]] = tuple(
    (name, TEXT_OID) for name in explain.COLUMNS
)

# DEALLOCATE and DISCARD ALL, as a single statement.
_DEALLOCATE: Final = re.compile(
    rb"%(before)s(?:deallocate%(gap)s+(?:prepare%(gap)s+)?"
    rb'(?:(?P<all>all)|"(?P<quoted>(?:[^"]|"")+)"|(?P<name>[a-z_\x80-\xff][\w$\x80-\xff]*))'
    rb"|discard%(gap)s+(?P<discard>all))%(before)s\Z" % {b"before": BEFORE, b"gap": GAP},
    re.IGNORECASE,
)

# How those and the routing commands begin: with one of these, or as what may stand before them.
ANSWERED_BEGINNINGS: Final = beginnings(
    b"set", b"show", b"reset", b"explain", b"deallocate", b"discard"
)
ANSWERED_LEADS: Final = LEADS
_EXPLAIN: Final = beginnings(b"explain")
_DROPS: Final = beginnings(b"deallocate", b"discard")


def may_concern(sql: bytes) -> bool:
    """Whether a text may be one of the router's own, by its first letters."""
    return sql[:3] in ANSWERED_BEGINNINGS or sql[:1] in ANSWERED_LEADS


@dataclass(frozen=True, slots=True)
class Deallocation:
    """A DEALLOCATE or DISCARD ALL.

    Attributes:
        name: the statement, or None for all of them.
        discard: whether it is DISCARD ALL.
        tag: of the CommandComplete.
    """

    name: bytes | None
    discard: bool
    tag: str


def deallocation(sql: bytes) -> Deallocation | None:
    """Recognise a statement that drops prepared statements; None for all other SQL."""
    match = _DEALLOCATE.match(sql) if may_begin(sql, _DROPS) else None
    if match is None:
        return None
    if match["discard"]:
        return Deallocation(None, True, "DISCARD ALL")
    if match["all"]:
        return Deallocation(None, False, "DEALLOCATE ALL")
    quoted = match["quoted"]
    name = match["name"].lower() if quoted is None else quoted.replace(b'""', b'"')
    return Deallocation(name, False, "DEALLOCATE")


# --- what is answered


class AnsweredStatement(PreparedStatement):
    """A statement that the router answers itself; subclasses say what it is.

    Attributes:
        columns: name and type oid of each; empty for what returns no rows.
        types: type oids of the parameters.
        client_name: what the client calls it.
        size: bytes of its text and types.
        is_at_server: in session mode, whether a server has been told that name.
    """

    __slots__ = ("client_name", "columns", "is_at_server", "size", "types")

    def __init__(
        self, columns: tuple[tuple[str, int], ...] = (), types: tuple[int, ...] = ()
    ) -> None:
        super().__init__(EMPTY_BODY, None, HARMLESS, name=_STAND_IN.name)
        self.columns: Final = columns
        self.types: Final = types
        self.client_name = b""
        self.size = 0
        self.is_at_server = False

    def run(self, routing: ClientRouting, portal: AnsweredPortal) -> Answer:
        """Carry it out.

        Raises:
            RouterError: it cannot be; nothing has changed.
        """
        raise NotImplementedError

    def bound(self, name: bytes, data: bytes) -> AnsweredPortal:
        """Bind values to it; `data` is what follows the names in the Bind.

        Raises:
            ClientProtocolError: they do not fit.
        """
        return bound(self, self.client_name, name, data)

    def answer_query(self, routing: ClientRouting) -> bytes:
        """Carry it out as a Query; returns the reply without the ReadyForQuery.

        Raises:
            RouterError: it cannot be; nothing has changed.
        """
        formats = (0,) * len(self.columns)
        portal: AnsweredPortal = Portal(b"", self, b"", (), formats)
        rows = portal.execute(0, lambda: self.run(routing, portal))
        return (described(self.columns, formats) if self.columns else b"") + rows


AnsweredPortal = Portal[AnsweredStatement]


class RoutingCommand(AnsweredStatement):
    """SET SHARD and its kin, perhaps with the value to come as the parameter $1."""

    __slots__ = ("_wording",)

    def __init__(self, wording: Wording, types: tuple[int, ...] = ()) -> None:
        column = wording.column
        super().__init__(() if column is None else ((column, TEXT_OID),), types)
        self._wording: Final = wording

    def run(self, routing: ClientRouting, portal: AnsweredPortal) -> Answer:
        value = None
        if self._wording.has_parameter:
            if not portal.values:
                raise RoutingError("there is no parameter $1", sqlstate="42P02")
            data, is_binary = portal.values[0]
            value = parameter_text(data, self.types[0], is_binary=is_binary)
        reply = routing.choose(self._wording, value)
        if reply.column is None:
            return Answer(None, reply.tag)
        return Answer((messages.data_row((reply.value,)),))


class Drop(AnsweredStatement):
    """What drops prepared statements, whose names mean nothing to a server.

    The names are gone as soon as its Execute has been read: see `Names`.
    """

    __slots__ = ("wanted",)

    def __init__(self, wanted: Deallocation) -> None:
        super().__init__()
        self.wanted: Final = wanted

    def run(self, routing: ClientRouting, portal: AnsweredPortal) -> Answer:
        wanted, lease = self.wanted, routing.lease
        if wanted.discard:
            if lease.status != codes.IDLE:
                raise in_transaction(wanted.tag)
            routing.discard_all()
        if lease.pins.pin is not None and wanted.name is None:
            lease.drops |= marks.UNKNOWN if wanted.discard else marks.PREPARE
        return Answer(None, wanted.tag)


class Canned(AnsweredStatement):
    """What a plugin has an answer to."""

    __slots__ = ("_answer",)

    def __init__(self, answer: PluginAnswer, body: bytes) -> None:
        super().__init__(answer.columns, _types(body, answer.parameters))
        self._answer: Final = answer

    def run(self, routing: ClientRouting, portal: AnsweredPortal) -> Answer:
        return Answer(self._answer.rows(portal.formats))


class ExplainRoute(AnsweredStatement):
    """EXPLAIN ROUTE: where a statement would go now; it is not sent anywhere."""

    __slots__ = ("_parse", "_sql")

    def __init__(self, sql: bytes, types: tuple[int, ...] = (), parse: bytes = b"") -> None:
        """`parse` is the body of the Parse, if it is prepared."""
        super().__init__(_EXPLAIN_COLUMNS, types)
        self._sql: Final = sql
        self._parse: Final = parse

    def run(self, routing: ClientRouting, portal: AnsweredPortal) -> Answer:
        router, lease = routing.router, routing.lease

        def values(analysis: Analysis) -> explain.Values:
            return key_values(portal.data, plan_of(self._parse, analysis, router))

        decision = explain.decide(
            router, self._sql, routing.state, values if self._parse else None
        )
        inspector, server = lease.pool.inspector, lease.server
        refused = None if inspector is None else text_objection(lease, inspector, self._sql)
        if inspector is not None and inspector.answer(self._sql) is not None:
            decision = explain.answered("the plugin intercept answers it")
        elif refused is not None:
            decision = replace(decision, route=None, rule=None, error=refused)
        elif server is not None and decision.rule != explain.ROUTER_RULE:
            decision = _with_server(routing, server, self._sql, decision)
        elif lease.deferred is not None and decision.rule == explain.EVERY_SHARD:
            error = decision.analysis.obstacle
            if isinstance(error, ForEveryShard) and error.in_turn:
                decision = replace(decision, route=None, rule=None, error=error)
        elif lease.causality is not None and decision.route is not None:
            role, reason = lease.causality.outlook(lease.pool, decision.route)
            if reason:
                route = replace(decision.route, role=role, reason=reason)
                decision = replace(decision, route=route)
        return Answer((messages.data_row(explain.row(router, decision)),))


def _with_server(
    routing: ClientRouting, server: ServerConnection, sql: bytes, decision: Decision
) -> Decision:
    """The decision for a client that has a server already."""
    if routing.branches is not None:
        return _among_all(routing, server, sql, decision)
    if server.status != codes.IDLE:
        by = "transaction"
    elif routing.lease.is_kept_for_good:
        by = "session"
    else:
        return decision
    if routing.router.finds_shards:
        wrong = routing.wrong_shard(server, decision.analysis, decision.values)
        may_join = not routing.lease.is_altered and routing.may_join(server)
        if isinstance(wrong, ForEveryShard) and not wrong.in_turn and may_join:
            return _on_all(decision)
        if wrong is not None:
            return replace(decision, route=None, rule=None, error=wrong)
    address = server.pool.address
    role = Role.PRIMARY if server.pool.is_primary else Role.REPLICA
    return decision.held(role, address.shard, by)


def _among_all(
    routing: ClientRouting, server: ServerConnection, sql: bytes, decision: Decision
) -> Decision:
    """The decision in a transaction that is on all shards."""
    router, state, keys = routing.router, routing.state, decision.values
    has_failed = server.status == codes.IN_FAILED_TRANSACTION
    try:
        part = part_of(router, state, sql, keys, has_failed=has_failed)
    except RoutingError as error:
        return replace(decision, route=None, rule=None, error=error)
    if part is not Part.HOME:
        return _on_all(decision)
    return decision.held(Role.PRIMARY, server.pool.address.shard, "transaction")


def _on_all(decision: Decision) -> Decision:
    """The same on all shards, if it can be: a COPY need not be one that can be split."""
    is_copy = isinstance(decision.analysis.obstacle, CopyForShards)
    return decision if is_copy and decision.error is not None else decision.on_all()


# --- recognising


def answered_query(sql: bytes) -> AnsweredStatement | None:
    """The statement for the text of a Query; what drops statements is the business of `Names`.

    Raises:
        RoutingError: it is one, and wrong.
    """
    wording = commands.worded(sql)
    if wording is not None:
        return RoutingCommand(wording)
    explained = explain.explained(sql) if may_begin(sql, _EXPLAIN) else None
    return None if explained is None else ExplainRoute(explained)


def answered_statement(
    body: bytes, names: Mapping[bytes, PreparedStatement], *, renames: bool
) -> AnsweredStatement | None:
    """The statement for the body of a Parse, if it is one of the router's own.

    Args:
        body: what follows the name.
        names: what the client has prepared.
        renames: whether the client's names are unknown to servers.

    Raises:
        RouterError: it is one, and wrong.
    """
    if not may_concern(body):
        return None
    sql = body[: body.index(b"\0")]
    wording = commands.worded(sql)
    if wording is not None:
        return RoutingCommand(wording, _types(body, int(wording.has_parameter)))
    explained = explain.explained(sql) if may_begin(sql, _EXPLAIN) else None
    if explained is not None:
        types = _types(body, explain.parameter_count(explained))
        return ExplainRoute(explained, types, body)
    wanted = deallocation(sql)
    if wanted is None:
        return None
    if wanted.name is None:
        return Drop(wanted) if renames else None
    statement = names.get(wanted.name)
    return None if statement is None or is_at_server(statement) else Drop(wanted)


def drops_all(body: bytes) -> bool:
    """Whether the body of a Parse is DEALLOCATE ALL or DISCARD ALL."""
    if not may_concern(body):
        return False
    wanted = deallocation(body[: body.index(b"\0")])
    return wanted is not None and wanted.name is None


def is_at_server(statement: PreparedStatement) -> bool:
    """Whether the server knows the name, and says what is wrong with using it again."""
    return isinstance(statement, AnsweredStatement) and statement.is_at_server


def _types(body: bytes, needed: int) -> tuple[int, ...]:
    """The parameters' types: what the Parse declares, else text."""
    declared = declared_types(body)
    declared += (0,) * max(needed - len(declared), 0)
    return tuple(oid or TEXT_OID for oid in declared)


def parameter_text(data: bytes | None, oid: int, *, is_binary: bool) -> str | None:
    """Read a parameter as the text that PostgreSQL would write for it; None for NULL.

    Raises:
        ClientProtocolError: it is none of the types that a command takes, or broken.
    """
    if data is None:
        return None
    if not is_binary or oid in _TEXTS:
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise ClientProtocolError(
                "invalid byte sequence in a parameter", sqlstate="22021"
            ) from None
    if len(data) == _INTEGERS.get(oid):
        return str(int.from_bytes(data, "big", signed=True))
    if oid == _UUID and len(data) == 16:
        return str(uuid.UUID(bytes=data))
    if oid in _INTEGERS or oid == _UUID:
        raise ClientProtocolError(
            "incorrect binary data format in a parameter", sqlstate="22P03"
        )
    raise ClientProtocolError(
        f"a routing command takes no parameter of type oid {oid} in binary format",
        sqlstate="0A000",
        hint="Send it as text.",
    )


# --- one message of a batch


class AnsweredMessage:
    """What one message of a batch has to do with a statement that is answered here.

    Attributes:
        statement: which one.
        portal: the one that is bound, described, executed or closed; None if it is about the
            statement itself.
        dropped: statements of the client that executing it drops.
        reply: the answer, once it is known.
    """

    __slots__ = (
        "_before",
        "_needed",
        "_progress",
        "_routing",
        "dropped",
        "portal",
        "reply",
        "statement",
    )

    def __init__(
        self, statement: AnsweredStatement, portal: AnsweredPortal | None = None
    ) -> None:
        self.statement: Final = statement
        self.portal: Final = portal
        self.dropped: dict[bytes, PreparedStatement] | None = None
        self.reply: bytes | None = None
        self._routing: ClientRouting | None = None
        self._before: Overrides | None = None
        self._needed: Positions | None = None
        self._progress: tuple[Answer | None, int] | None = None

    def perform(self, routing: ClientRouting, kind: int, data: bytes) -> bytes:
        """Do what the message asks for, unless it has been done; returns the reply.

        Raises:
            RouterError: it cannot be done; nothing has changed.
        """
        if self.reply is None:
            self.reply = self._perform(routing, kind, data)
        return self.reply

    def _perform(self, routing: ClientRouting, kind: int, data: bytes) -> bytes:
        statement, portal = self.statement, self.portal
        if kind == codes.PARSE:
            return messages.PARSE_COMPLETE
        if kind == codes.BIND:
            return messages.BIND_COMPLETE
        if kind == codes.CLOSE:
            return messages.CLOSE_COMPLETE
        if kind == codes.DESCRIBE:
            return described_statement(statement) if portal is None else portal.described()
        assert portal is not None
        _, limit = execution(data, 0, len(data))
        self._routing, self._before = routing, routing.state.overrides
        causality = routing.lease.causality
        self._needed = None if causality is None else causality.needed
        self._progress = portal.progress
        return portal.execute(limit, lambda: statement.run(routing, portal))

    def undo(self) -> None:
        """Take back what was done: it turns out that the server skips it."""
        if self._routing is not None and self._before is not None:
            self._routing.state.restore(self._before)
            self._routing.set_pipelining()
            causality = self._routing.lease.causality
            if causality is not None and self._needed is not None:
                causality.needed = self._needed
            if self.portal is not None and self._progress is not None:
                self.portal.restore(self._progress)
        self.reply = self._before = None
