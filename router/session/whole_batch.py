"""A batch that is sent in one piece, and its messages one by one if that has to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import ClientProtocolError, RoutingError
from ..protocol import codes
from ..protocol.binds import PORTAL, bind_ends
from ..protocol.framing import HEADER_SIZE, message_end
from ..protocol.marks import HARMLESS
from ..routing.types import ServerRole
from .answered import AnsweredStatement
from .bound_keys import bound_values
from .controls import control_of
from .operation import Operation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..protocol.frontend import ClientStream
    from ..routing.router import QueryRouter
    from ..routing.state import RoutingState
    from ..routing.types import Route
    from .answered import PreparedStatement


# A Describe or Execute of a batch that is taken in one piece has so many bytes.
_SHORTEST: Final = 7
_LONGEST: Final = 1000

# So many bytes do not wait for the Sync.
BATCH_LIMIT: Final = 64 * 1024


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
    stream: ClientStream, statements: Mapping[bytes, PreparedStatement]
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
        if kind not in b"DE" or not _SHORTEST <= length <= _LONGEST or after > size:
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
    if state.choice is ServerRole.AUTO and not router.options.parser_enabled:
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
