"""Batches that are sent in one piece: read, given a place, and sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import ClientProtocolError, RouterError, RoutingError
from ..protocol import codes, messages
from ..protocol.binds import PORTAL, bind_ends, bind_head
from ..protocol.framing import HEADER_SIZE, message_end
from ..protocol.marks import HARMLESS
from ..protocol.segments import Segment
from ..routing.types import ServerRole
from .answered import AnsweredStatement
from .batch import BATCH_LIMIT, MOST_KEPT
from .bound_keys import bound_values
from .controls import control_of
from .operation import Operation, needs_no_server

if TYPE_CHECKING:
    from ..pool.server import ServerConnection
    from ..protocol.frontend import ClientStream
    from ..routing.router import QueryRouter
    from ..routing.state import RoutingState
    from ..routing.types import Route
    from .answered import PreparedStatement
    from .batch import Batch
    from .client_routing import ClientRouting


# A Describe or Execute of a batch that is taken in one piece has so many bytes.
_SHORTEST: Final = 7
_LONGEST: Final = 1000


class WholeBatch:
    """A batch of one Bind and what follows it, all of which is here.

    Attributes:
        data: it is data[start:end].
        portal_end, name_end, rest: where in it the names of the Bind end, and the Bind.
        statement: what is bound.
        count: of its messages behind the Bind.
        token: that of the unnamed statement, if it is this one that is bound.
        is_parsed: its Parse comes before the Bind.
    """

    __slots__ = (
        "count",
        "data",
        "end",
        "is_parsed",
        "name_end",
        "portal_end",
        "rest",
        "start",
        "statement",
        "token",
    )

    def __init__(
        self,
        data: bytes,
        start: int,
        portal_end: int,
        name_end: int,
        rest: int,
        end: int,
        statement: PreparedStatement,
        count: int,
    ) -> None:
        self.data: Final = data
        self.start: Final = start
        self.portal_end: Final = portal_end
        self.name_end: Final = name_end
        self.rest: Final = rest
        self.end: Final = end
        self.statement: Final = statement
        self.count: Final = count
        self.token = 0
        self.is_parsed = False

    @property
    def is_unnamed(self) -> bool:
        """Whether it is the unnamed statement that is bound."""
        return self.name_end == self.portal_end + 1

    def operations(self) -> list[Operation]:
        """The same message by message."""
        data, statement = self.data, self.statement
        found = list[Operation]()
        if self.is_parsed:
            found.append(Operation(codes.PARSE, b"", statement))
        portal = data[self.start + HEADER_SIZE : self.portal_end]
        found.append(
            Operation(codes.BIND, data[self.name_end + 1 : self.rest], statement, portal)
        )
        for operation in found:
            operation.token = self.token
        pos = self.rest
        while pos < self.end:
            after = message_end(data, pos)
            found.append(Operation(data[pos], data[pos:after]))
            pos = after
        return found


def read_whole(
    stream: ClientStream, statements: dict[bytes, PreparedStatement]
) -> WholeBatch | None:
    """Read the messages from a Bind to the Sync, if they are what most batches have."""
    data, rest, size, count = stream.data, stream.end, len(stream.data), 0
    try:
        portal_end, name_end = bind_ends(data, stream.start, rest)
    except ClientProtocolError:
        return None
    statement = statements.get(data[portal_end + 1 : name_end])
    if (
        statement is None
        or isinstance(statement, AnsweredStatement)
        or statement.glance is not HARMLESS
        or (statement.control is not None and control_of(statement) is not None)
    ):
        return None
    pos = rest
    while size - pos >= HEADER_SIZE:
        after, kind = message_end(data, pos), data[pos]
        length = after - pos
        if kind == codes.SYNC:
            if length != HEADER_SIZE or after - stream.start > BATCH_LIMIT:
                return None
            return WholeBatch(
                data, stream.start, portal_end, name_end, rest, after, statement, count + 1
            )
        # What is odd about a message is for the one to say that looks at it.
        if kind != codes.DESCRIBE and kind != codes.EXECUTE:
            return None
        if not _SHORTEST <= length <= _LONGEST or after > size:
            return None
        if kind == codes.DESCRIBE and data[pos + HEADER_SIZE] != PORTAL:
            return None
        count += 1
        pos = after
    return None


def route_of(router: QueryRouter, state: RoutingState, found: WholeBatch) -> Route | None:
    """Find the place for a batch that binds one statement; None if that needs a closer look."""
    if router.is_static:
        if state.is_default:
            return router.static_route
        return None if state.choice is ServerRole.AUTO else router.route_unknown(state)
    if state.choice is ServerRole.AUTO and not router.options.query_parser_enabled:
        return None  # Parse has not looked at the text
    analysis = found.statement.analysis
    if analysis is None or analysis.prepares or analysis.executes or analysis.limit:
        return None
    values = found.data[found.name_end + 1 : found.rest]
    counted = router.too_complex
    try:
        keys = bound_values(router, state, found.statement, analysis, values, is_whole=True)
        return router.route_analysis(analysis, state, keys)
    except RoutingError:
        router.too_complex = counted  # it is counted where it is refused
        return None


class WholeBatches:
    """Sends the batches of one client that are here from their Bind to their Sync."""

    __slots__ = ("_batch", "_lease", "_routing")

    def __init__(self, routing: ClientRouting, batch: Batch) -> None:
        self._routing: Final = routing
        self._lease: Final = routing.lease
        self._batch: Final = batch

    def take(self, stream: ClientStream) -> bool:
        """Send a batch of which all is here, from its Bind to its Sync, in one piece.

        Most batches bind and execute one statement that the server has, and neither needs a
        look at its messages one by one. What is not so is left for `Batch.on_message`.

        Raises:
            RouterError: there is no server for the batch; see `Batch.fail`.
        """
        lease, batch = self._lease, self._batch
        names, operations = batch.names, batch.operations
        if (
            lease.server is not None
            or batch.skipping
            or batch.is_begun
            or batch.reader.portals
            or not names.renames
            or lease.pool.inspector is not None
            or lease.writes is not None
            or lease.deferred is not None
            or self._routing.state.has_local
            or self._routing.epoch != lease.pool.router.epoch
        ):
            return False
        token = 0  # of the unnamed statement that has just been parsed
        if operations:
            first = operations[0]
            token = first.token
            if len(operations) > 1 or not token or not needs_no_server(first):
                return False
        found = read_whole(stream, names.statements)
        if found is None or (token and not found.is_unnamed):
            return False
        route = route_of(lease.pool.router, self._routing.state, found)
        if route is None:
            return False
        stream.extend(found.end, found.count)
        try:
            server = lease.request(route)
        except RouterError:
            batch.collect_whole(found.data, found.start, found.end)
            raise
        if server is not None and (token or self._has(server, found)):
            self._send(server, found, token)
            return True
        batch.collect_whole(found.data, found.start, found.end)
        if server is not None:
            batch.script.trust()
            batch.replay(server)
        return True

    def _has(self, server: ServerConnection, found: WholeBatch) -> bool:
        """Whether the server has the statement."""
        if found.is_unnamed:
            return server.unnamed == self._batch.names.token
        return server.statements.use_if_there(found.statement.name)

    def _send(self, server: ServerConnection, found: WholeBatch, token: int) -> None:
        """Send it, and expect nothing but what is to be forwarded."""
        lease, data = self._lease, found.data
        segment = Segment.whole_batch(lease.holder, lease.engine.now)
        segment.opening = token
        segment.fingerprint = self._batch.script.fingerprint_of(found.statement)
        server.queue.append(segment)
        self._batch.script.trust()
        if found.end - found.start <= MOST_KEPT:
            found.is_parsed = token != 0
            if found.is_unnamed:
                found.token = self._batch.names.token
            # Of a long read, this must not keep more than its own.
            segment.request = found if len(data) <= MOST_KEPT else found.operations()
        if found.is_unnamed:
            message = data[found.start : found.end]
        else:
            portal = data[found.start + HEADER_SIZE : found.portal_end]
            size = found.rest - found.name_end - 1
            head = bind_head(portal, found.statement.name, size)
            message = head + data[found.name_end + 1 : found.end]
        if token:
            server.unnamed = token
            message = messages.parse(b"", found.statement.body) + message
            self._batch.take()
        server.send(message)
