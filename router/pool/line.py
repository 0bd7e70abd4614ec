"""A connection to a server that listens, and does nothing else."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from ..errors import ServerProtocolError
from ..printable import printable
from ..protocol import codes, messages
from ..protocol.backend import BackendStream
from ..protocol.segments import Segment

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine.link import Output

    Done = Callable[[dict[str, str] | None], None]

log = logging.getLogger("router.server")


class Line(BackendStream):
    """One such connection.

    Attributes:
        label: the server's, for messages.
        pid: of its process there.
        ip: the address of its host that the connection is to, or "".
        link: None as soon as it is closed.
        on_notification: is given each NotificationResponse as it comes.
        on_lost: is told why the connection is over, unless it was closed here.
    """

    def __init__(self, label: str, pid: int, ip: str = "") -> None:
        super().__init__()
        self.label: Final = label
        self.pid: Final = pid
        self.ip: Final = ip
        self.link: Output | None = None
        self.on_notification: Callable[[bytes], None] | None = None
        self.on_lost: Callable[[str], None] | None = None
        self._asked: deque[Done] = deque()
        self._last_words = ""

    def __repr__(self) -> str:
        return f"<Line {self.label} pid={self.pid}{'' if self.link else ' closed'}>"

    def ask(self, sql: bytes, done: Done) -> None:
        """Send a Query; `done` is given the fields of its error, or None."""
        if self.link is None:
            return
        self._asked.append(done)
        self.queue.append(Segment(None))
        self.link.write(messages.query(sql))

    def close(self) -> None:
        """Close the connection; harmless when closed already."""
        link, self.link = self.link, None
        if link is not None:
            link.write(messages.TERMINATE)
            link.close()

    # --- from the link

    def on_data(self, data: bytes) -> None:
        """Bytes arrived; none if this is the turn that was asked for."""
        try:
            self.feed(data)
        except ServerProtocolError as error:
            log.error("%r: %s; giving the connection up", self, error.line)
            self.close()
            self.on_closed(error.message)
            return
        if self.wants_turn and self.link is not None:
            self.link.defer()

    def on_drained(self) -> None:
        """It takes output again; there never is so much of it."""

    def on_eof(self) -> bool:
        """The server ends the connection."""
        return False

    def on_closed(self, reason: str) -> None:
        """The server or the network ended the connection."""
        self.link = None
        if self.on_lost is not None:
            self.on_lost(self._last_words or reason)

    # --- from the stream

    def on_segment_done(self, segment: Segment) -> None:
        """A Query has been answered."""
        self._asked.popleft()(segment.error)

    def on_error(self, sqlstate: bytes, head: bytes) -> None:
        """Note why the server ends the connection, if that is what it says."""
        if messages.is_last(head):
            self._last_words = printable(messages.parse_error_fields(head).get("M", ""))

    def on_async(self, data: bytes) -> None:
        """Give on what this is all about."""
        if data[0] == codes.NOTIFICATION_RESPONSE and self.on_notification is not None:
            self.on_notification(data)
