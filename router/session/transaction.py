"""What the transaction that a client has open has done so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..queries import Shape

if TYPE_CHECKING:
    from ..protocol.segments import Segment


class Transaction:
    """What is known of a transaction that is open.

    Attributes:
        shape: of the last statement that was answered.
        statements: how many were.
        writes: one of them surely did.
        is_lasting: one of them asked for one snapshot for all.
    """

    __slots__ = ("is_lasting", "shape", "statements", "writes")

    def __init__(self) -> None:
        self.shape: Shape | None = None
        self.statements = 0
        self.writes = False
        self.is_lasting = False

    def note(self, segment: Segment) -> None:
        """A segment has been answered in it."""
        self.statements += 1
        shape = segment.shape or segment.parsed
        self.shape = shape if isinstance(shape, Shape) else None
        if self.shape is not None and not segment.failed:
            self.writes |= self.shape.writes
            self.is_lasting |= self.shape.is_lasting
