"""What a client sends, cut into messages: whole ones, and the pieces of those too long to hold.

Theory of operation
-------------------
Input comes to rest for one of three reasons, and which one it is decides what happens next:

- the handler *declined* a message because it has to wait for something (a server, an answer):
  nothing more can be acted on, so the owner stops reading when `held` is above HOLD_LIMIT;
- a message is *incomplete*: only more input helps, so reading must go on. What is here of it is
  bounded by what may be held as a whole, and not looked at again before it can be complete;
- the client has had its *turn*: as much as one client may do before the others get theirs.
"""

from __future__ import annotations

from typing import Final

from ..compiling import mypyc_attr
from ..errors import ClientProtocolError
from . import codes
from .framing import CLIENT_KINDS, HEADER, HEADER_SIZE, TEXT_LIMIT
from .segments import ReplySink

# Reading stops when so many bytes are declined.
HOLD_LIMIT: Final = 64 * 1024
# So many messages are a turn.
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
# With how many names such a message begins, which must be here first.
_NAMES: Final = {codes.PARSE: 1, codes.BIND: 2}


@mypyc_attr(allow_interpreted_subclasses=True)
class ClientStream(ReplySink):
    """The client's half of a connection: feed it bytes, it calls its own hooks.

    Attributes:
        has_declined: the handler declined what is held; it is offered again by `feed`.
        wants_turn: what is held is only waiting for its turn: call `feed` in a while.
    """

    __slots__ = (
        "_awaited",
        "_feeding",
        "_held",
        "_partial",
        "_passing",
        "_start",
        "has_declined",
        "wants_turn",
    )

    def __init__(self) -> None:
        # What has been declined, or waits for its turn: all of it from _start on.
        self._held = b""
        self._start = 0
        # An incomplete message, which is not worth a look before it has so many bytes.
        self._partial = bytearray()
        self._awaited = 0
        self._passing = 0
        self._feeding = False
        self.has_declined = False
        self.wants_turn = False

    # --- hooks

    def on_message(self, kind: int, data: bytes, start: int, end: int) -> bool:
        """Take the message data[start:end], header included; False declines it for now.

        CopyData comes in runs: as many of these messages as are there.
        """
        raise NotImplementedError

    def on_long_message(self, kind: int, head: bytes, missing: int) -> bool:
        """Take a message of which `head` is here and `missing` bytes are to come.

        The names that a Parse or Bind begins with are in the head. False declines it for now.
        """
        raise NotImplementedError

    def on_piece(self, data: bytes) -> bool:
        """Take more of the long message that was taken last; False declines it for now."""
        raise NotImplementedError

    def on_long_end(self) -> None:
        """The long message that was taken last is complete."""

    # --- input

    @property
    def passing(self) -> bool:
        """Whether the rest of a long message is still to come."""
        return self._passing > 0

    @property
    def holds_goodbye(self) -> bool:
        """Whether the last of the whole messages that are held is Terminate."""
        held, pos, kind = self._held, self._start, 0
        while not self._passing and len(held) - pos >= HEADER_SIZE:
            kind, length = HEADER.unpack_from(held, pos)
            pos += 1 + length
        return kind == codes.TERMINATE and pos == len(held)

    @property
    def is_quiet(self) -> bool:
        """Whether whatever comes next begins a message, and nothing is held before it."""
        return not (self._held or self._partial or self._passing or self._feeding)

    @property
    def held(self) -> int:
        """Bytes that wait here."""
        return len(self._held) - self._start + len(self._partial)

    @property
    def is_full(self) -> bool:
        """Whether reading more would only add to what cannot be acted on."""
        return self.has_declined and self.held > HOLD_LIMIT

    def feed(self, data: bytes) -> None:
        """Take what the client sent, behind what is held.

        Raises:
            ClientProtocolError: this is not the protocol; the connection cannot go on.
        """
        start = 0
        if self._partial:
            self._partial += data
            if len(self._partial) < self._awaited:
                return
            data = bytes(self._partial)
            self._partial = bytearray()
        elif self._held:
            if data:
                data = self._held[self._start :] + data
            else:
                data, start = self._held, self._start
            self._held = b""
            self._start = 0
        self.has_declined = self.wants_turn = False
        self._feeding = True
        try:
            self._consume(data, start)
        finally:
            self._feeding = False

    def hold(self, data: bytes) -> None:
        """Keep what was declined outside of `feed`; nothing may be held before it."""
        self._held = data
        self.has_declined = True

    def drop_input(self) -> None:
        """Forget what is held: nobody will act on it."""
        self._held = b""
        self._start = 0
        self._partial = bytearray()
        self.has_declined = self.wants_turn = False

    def _consume(self, data: bytes, pos: int) -> None:
        """Hand out what can be handed out, and keep the rest."""
        end = len(data)
        if self._passing and end > pos:
            stop = min(pos + self._passing, end)
            if not self.on_piece(data if stop - pos == end else data[pos:stop]):
                self._decline(data, pos)
                return
            self._passing -= stop - pos
            pos = stop
            if not self._passing:
                self.on_long_end()
        awaited = HEADER_SIZE
        left = TURN
        while end - pos >= HEADER_SIZE:
            kind = data[pos]
            # By hand: compiled, this costs less than a call.
            length = data[pos + 1] << 24 | data[pos + 2] << 16 | data[pos + 3] << 8
            length |= data[pos + 4]
            after = pos + 1 + length
            if length < 4 or length > codes.MAX_MESSAGE_LENGTH:
                raise ClientProtocolError(f"invalid message length {length}")
            if not _KNOWN[kind]:
                raise ClientProtocolError(f"invalid frontend message type {kind}")
            if length > _SHORT_LIMIT and kind not in _LONGEST_WHOLE:
                raise ClientProtocolError(
                    f"invalid message length {length} for type {chr(kind)!r}"
                )
            if not left:
                self.wants_turn = True
                self._held, self._start = data, pos
                return
            left -= 1
            if after <= end:
                if kind == codes.COPY_DATA:
                    after = _end_of_copy_data(data, after, end)
                if not self.on_message(kind, data, pos, after):
                    self._decline(data, pos)
                    return
                pos = after
                continue
            if length <= _LONGEST_WHOLE.get(kind, _SHORT_LIMIT):
                awaited = 1 + length
                break
            if not _has_names(kind, data, pos):
                awaited = end - pos + 1
                break
            if not self.on_long_message(kind, data[pos:], after - end):
                self._decline(data, pos)
                return
            self._passing = after - end
            return
        if pos < end:
            self._partial += data[pos:]
            self._awaited = awaited

    def _decline(self, data: bytes, pos: int) -> None:
        self._held, self._start = data, pos
        self.has_declined = True


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
