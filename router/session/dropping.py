"""DEALLOCATE and DISCARD ALL as they come in the extended protocol.

The names that they drop are the client's and mean nothing to a server. So what the server is
given in place of such a statement is an empty one; executing it drops the names here, and its
EmptyQueryResponse is replaced by the CommandComplete that the client expects. In a transaction
that has failed, the server refuses the empty statement as it would refuse the real one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..protocol.prepared import Statement
from ..routing.types import Analysis
from . import intercept

if TYPE_CHECKING:
    from collections.abc import Container

PreparedStatement = Statement[Analysis | None]

# All of them are the same statement to a server.
_EMPTY: Final[PreparedStatement] = Statement(b"\0\0\0", None, 0)


class DroppingStatement(PreparedStatement):
    """What a client has prepared in order to drop prepared statements."""

    __slots__ = ("wanted",)

    def __init__(self, wanted: intercept.Deallocation) -> None:
        super().__init__(_EMPTY.body, None, 0, name=_EMPTY.name)
        self.wanted: Final = wanted


def dropping_statement(body: bytes, names: Container[bytes]) -> DroppingStatement | None:
    """The statement for the body of a Parse, if it drops others; `names` are the client's."""
    if not intercept.may_concern(body):
        return None
    wanted = intercept.deallocation(body[: body.index(b"\0")])
    if wanted is None or (wanted.name is not None and wanted.name not in names):
        return None  # one that was prepared in SQL is the server's
    return DroppingStatement(wanted)
