"""What a client sends, cut into messages: whole ones, and the pieces of those too long to hold.

Theory of operation
-------------------
The owner gives the stream what it has read (`receive`), then takes one thing after another out
of it: `next` says what there is, and `take` that it has been acted on.

Input comes to rest for one of three reasons, and which one it is decides what happens next:

- the owner *declines* what there is because it has to wait for something (a server, an answer):
  nothing more can be acted on, so it stops reading when `held` is above HOLD_LIMIT;
- a message is *incomplete*: only more input helps, so reading must go on. What is here of it is
  bounded by what may be held as a whole, and not looked at again before it can be complete;
- the client has had its *turn*: as much as one client may do before the others get theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import ClientProtocolError
from ..turns import work
from . import codes
from .framing import CLIENT_KINDS, HEADER, HEADER_SIZE, TEXT_LIMIT, message_end

if TYPE_CHECKING:
    from ..compiling import i64

# Reading stops when so many bytes are declined.
HOLD_LIMIT: Final = 64 * 1024
# So many messages are a turn, or fewer if they are more work.
TURN: Final = 32

_KNOWN: Final = bytes(kind in CLIENT_KINDS for kind in range(256))
# Messages that may be passed on before they are here as a whole, and how long one that is not.
_BIND_LIMIT: Final = 128 * 1024
_LONGEST_WHOLE: Final = {
    codes.QUERY: TEXT_LIMIT,
    codes.PARSE: TEXT_LIMIT,
    codes.BIND: _BIND_LIMIT,
    codes.FUNCTION_CALL: _BIND_LIMIT,
    codes.COPY_DATA: 0,
}
# The others may not be longer, or PostgreSQL takes them for nonsense and ends the connection
# (its PQ_SMALL_MESSAGE_LIMIT), which would be that of a pool.
_SHORT_LIMIT: Final = 10_000
# What `next` finds.
NOTHING: Final = 0
"""Nothing more: the rest is incomplete, or the turn is over."""
MESSAGE: Final = 1
"""A whole message; of CopyData, as many of them as are here."""
LONG_MESSAGE: Final = 2
"""The head of a message that is too long to hold; the names of a Parse or Bind are in it."""
PIECE: Final = 3
"""More of the long message that was taken last."""

# With how many names such a message begins, which must be here first.
_NAMES: Final = {codes.PARSE: 1, codes.BIND: 2}


class ClientStream:
    """The client's half of a connection.

    Attributes:
        kind: the type of the message that `next` has found.
        data, start, end: it, or as much of it as there is, is data[start:end].
        missing: of a LONG_MESSAGE, bytes that are still to come.
        has_declined: what was found has been declined; `next` finds it again after `receive`.
        wants_turn: what is held is only waiting for its turn: call `receive` in a while.
        is_copied: the long message that was taken last is of a COPY that is split.
    """

    __slots__ = (
        "_awaited",
        "_partial",
        "_passing",
        "_turn_end",
        "data",
        "end",
        "has_declined",
        "is_copied",
        "kind",
        "missing",
        "start",
        "wants_turn",
    )

    def __init__(self) -> None:
        self.data = b""
        self.start = 0
        self.end = 0
        self.kind = 0
        self.missing = 0
        self.has_declined = False
        self.wants_turn = False
        self.is_copied = False
        # An incomplete message, which is not worth a look before it has so many bytes; 0: none.
        self._partial = bytearray()
        self._awaited = 0
        # Bytes of a long message that are still to come.
        self._passing = 0
        # When the turn is over, in units of work; what others have done meanwhile counts, too.
        self._turn_end = 0

    @property
    def passing(self) -> bool:
        """Whether the rest of a long message is still to come."""
        return self._passing > 0

    @property
    def holds_goodbye(self) -> bool:
        """Whether the last of the whole messages that are held is Terminate."""
        data, pos, kind = self.data, self.start, 0
        while not self._passing and len(data) - pos >= HEADER_SIZE:
            kind, length = HEADER.unpack_from(data, pos)
            pos += 1 + length
        return kind == codes.TERMINATE and pos == len(data)

    @property
    def held(self) -> int:
        """Bytes that wait here."""
        return len(self.data) - self.start + len(self._partial)

    @property
    def is_full(self) -> bool:
        """Whether reading more would only add to what cannot be acted on."""
        return self.has_declined and self.held > HOLD_LIMIT

    def receive(self, data: bytes) -> None:
        """Take what the client sent, behind what is held; a turn begins."""
        self.has_declined = self.wants_turn = False
        self._turn_end = work.units + TURN
        if self._awaited:
            self._partial += data
            if len(self._partial) >= self._awaited:
                self.data, self.start = bytes(self._partial), 0
                self._partial = bytearray()
                self._awaited = 0
        elif len(self.data) == 0:
            self.data, self.start = data, 0
        elif data:
            self.data, self.start = self.data[self.start :] + data, 0

    def next(self) -> int:
        """Find what comes next: NOTHING, MESSAGE, LONG_MESSAGE or PIECE.

        Raises:
            ClientProtocolError: this is not the protocol; the connection cannot go on.
        """
        data = self.data
        pos: i64 = self.start
        size: i64 = len(data)
        if self._passing and pos < size:
            if self.is_copied and work.units >= self._turn_end:
                self.wants_turn = True
                return NOTHING
            self.end = min(pos + self._passing, size)
            return PIECE
        awaited = HEADER_SIZE
        if size - pos >= HEADER_SIZE:
            kind: i64 = data[pos]
            # By hand: compiled, this costs less than a call.
            length: i64 = data[pos + 1]
            length = length << 8 | data[pos + 2]
            length = length << 8 | data[pos + 3]
            length = length << 8 | data[pos + 4]
            after: i64 = pos + 1 + length
            if length < 4 or length > codes.MAX_MESSAGE_LENGTH:
                raise ClientProtocolError(f"invalid message length {length}")
            if not _KNOWN[kind]:
                raise ClientProtocolError(f"invalid frontend message type {kind}")
            if length > _SHORT_LIMIT and kind not in _LONGEST_WHOLE:
                raise ClientProtocolError(
                    f"invalid message length {length} for type {chr(kind)!r}"
                )
            if work.units >= self._turn_end:
                self.wants_turn = True
                return NOTHING
            self.kind = kind
            self.missing = 0
            if after <= size:
                self.end = (
                    _end_of_copy_data(data, after, size) if kind == codes.COPY_DATA else after
                )
                return MESSAGE
            if length <= _LONGEST_WHOLE.get(kind, _SHORT_LIMIT):
                awaited = 1 + length
            elif _has_names(kind, data, pos):
                self.end, self.missing = size, after - size
                return LONG_MESSAGE
            else:
                awaited = size - pos + 1
        if pos < size:
            self._partial += data[pos:]
            self._awaited = awaited
        self.data = b""
        self.start = 0
        return NOTHING

    def take(self) -> None:
        """What was found has been acted on."""
        if self._passing:
            self._passing -= self.end - self.start
            self.is_copied = self.is_copied and self._passing > 0
        else:
            work.units += 1
            self._passing, self.missing = self.missing, 0
        self.start = self.end

    def extend(self, end: int, count: int) -> None:
        """So many more messages, up to data[end], are acted on together with what was found."""
        self.end = end
        work.units += count

    def copied(self, most: int) -> bytes:
        """What is in the CopyData that was found, as far as it is about so many bytes.

        What is beyond that is found again, be it as the rest of a long message.
        """
        data, pos = self.data, self.start
        if self._passing:
            self.end = min(self.end, pos + most)
            return data[pos : self.end]
        parts: list[bytes] = []
        while pos < self.end and most > 0:
            after = message_end(data, pos)
            start = pos + HEADER_SIZE
            pos = min(after, len(data), start + most)
            most -= pos - start + HEADER_SIZE
            parts.append(data[start:pos])
            if pos < after:
                self.is_copied, self.missing = True, after - pos
                break
        self.end = pos
        return b"".join(parts)

    def decline(self) -> None:
        """What was found has to wait."""
        self.has_declined = True

    def drop(self) -> None:
        """Forget what is held: nobody will act on it."""
        self.data = b""
        self.start = self.end = self.missing = self._passing = 0
        self._partial = bytearray()
        self._awaited = 0
        self.has_declined = self.wants_turn = self.is_copied = False


def _end_of_copy_data(data: bytes, pos: int, end: int) -> int:
    """Where the run of whole CopyData messages ends that goes on at `pos`."""
    while end - pos >= HEADER_SIZE and data[pos] == codes.COPY_DATA:
        length = data[pos + 1] << 24 | data[pos + 2] << 16 | data[pos + 3] << 8
        length |= data[pos + 4]
        if length < 4 or pos + 1 + length > end:
            break
        pos += 1 + length
    return pos


def _has_names(kind: int, data: bytes, pos: int) -> bool:
    """Whether the names are here that a message data[pos:] begins with.

    Raises:
        ClientProtocolError: they are too long to wait for.
    """
    at = pos + HEADER_SIZE
    for _ in range(_NAMES.get(kind, 0)):
        found = data.find(b"\0", at)
        if found < 0:
            if len(data) - pos > _BIND_LIMIT:
                raise ClientProtocolError(
                    f"the names in a message of type {chr(kind)!r} are too long"
                )
            return False
        at = found + 1
    return True
