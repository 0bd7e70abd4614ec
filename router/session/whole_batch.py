"""A batch that is sent in one piece, and its messages one by one if that has to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..protocol import codes
from ..protocol.framing import HEADER_SIZE, message_end
from .operation import Operation

if TYPE_CHECKING:
    from .answered import PreparedStatement


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
