"""What a client sends, cut into messages: whole ones, and the pieces of those too long to hold.

A handler may decline a message because it has to wait for something (a server, an answer); the
stream then holds it, and everything behind it, until `resume_input`. What is held is bounded:
the owner stops reading from the socket while `held` is above HOLD_LIMIT.
"""

from __future__ import annotations

from typing import Final

from ..compiling import mypyc_attr
from ..errors import ClientProtocolError
from . import codes
from .framing import CLIENT_KINDS, HEADER, TEXT_LIMIT
from .segments import ReplySink

# Reading stops when so many bytes are held back.
HOLD_LIMIT: Final = 64 * 1024

# Messages that may be passed on before they are here as a whole; the others are short by
# nature.
_STREAMED: Final = frozenset(
    (codes.QUERY, codes.PARSE, codes.BIND, codes.FUNCTION_CALL, codes.COPY_DATA)
)
_KNOWN: Final = bytes(kind in CLIENT_KINDS for kind in range(256))
_LONGEST_WHOLE: Final = {codes.QUERY: TEXT_LIMIT, codes.PARSE: TEXT_LIMIT, codes.COPY_DATA: 0}
_DEFAULT_WHOLE: Final = 128 * 1024


@mypyc_attr(allow_interpreted_subclasses=True)
class ClientStream(ReplySink):
    """The client's half of a connection: feed it bytes, it calls its own hooks."""

    __slots__ = ("_feeding", "_held", "_passing")

    def __init__(self) -> None:
        self._held = b""
        self._passing = 0
        self._feeding = False

    # --- hooks

    def on_message(self, kind: int, data: bytes, start: int, end: int) -> bool:
        """Take the message data[start:end], header included; False declines it for now."""
        raise NotImplementedError

    def on_long_message(self, kind: int, head: bytes, missing: int) -> bool:
        """Take a message of which `head` is here and `missing` bytes are to come.

        False declines it for now, be it to wait or because the head is too short to tell.
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
        held, pos, kind = self._held, 0, 0
        while not self._passing and len(held) - pos >= 5:
            kind, length = HEADER.unpack_from(held, pos)
            pos += 1 + length
        return kind == codes.TERMINATE and pos == len(held)

    @property
    def is_quiet(self) -> bool:
        """Whether whatever comes next begins a message, and nothing is held before it."""
        return not self._held and not self._passing and not self._feeding

    @property
    def held(self) -> int:
        """Bytes that wait here."""
        return len(self._held)

    def feed(self, data: bytes) -> None:
        """Take what the client sent.

        Raises:
            ClientProtocolError: this is not the protocol; the connection cannot go on.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        self._feeding = True
        try:
            self._held = self._consume(data)
        finally:
            self._feeding = False

    def hold(self, data: bytes) -> None:
        """Keep what was declined outside of `feed`; nothing may be held before it."""
        self._held = data

    def resume_input(self) -> None:
        """Offer again what was declined."""
        if self._held and not self._feeding:
            self.feed(b"")

    def drop_input(self) -> None:
        """Forget what is held: nobody will act on it."""
        self._held = b""

    def _consume(self, data: bytes) -> bytes:
        """Hand out what can be handed out; returns the rest."""
        pos, end = 0, len(data)
        if self._passing and end:
            taken = min(self._passing, end)
            if not self.on_piece(data if taken == end else data[:taken]):
                return data
            self._passing -= taken
            pos = taken
            if not self._passing:
                self.on_long_end()
        while end - pos >= 5:
            kind = data[pos]
            # By hand: compiled, this costs less than a call.
            length = data[pos + 1] << 24 | data[pos + 2] << 16 | data[pos + 3] << 8
            length |= data[pos + 4]
            after = pos + 1 + length
            if length < 4 or length > codes.MAX_MESSAGE_LENGTH:
                raise ClientProtocolError(f"invalid message length {length}")
            if not _KNOWN[kind]:
                raise ClientProtocolError(f"invalid frontend message type {kind}")
            if after <= end:
                if not self.on_message(kind, data, pos, after):
                    break
                pos = after
                continue
            if length <= _LONGEST_WHOLE.get(kind, _DEFAULT_WHOLE):
                break
            if kind not in _STREAMED:
                raise ClientProtocolError(
                    f"message type {chr(kind)!r} of {length} bytes is too long"
                )
            if not self.on_long_message(kind, data[pos:], after - end):
                break
            self._passing = after - end
            pos = end
        return data[pos:] if pos else data
