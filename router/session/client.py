"""One client as those see it who answer it: its link, its key, its counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..protocol import messages
from ..records import fields

if TYPE_CHECKING:
    import logging

    from ..engine.link import Output
    from ..errors import RouterError
    from ..faults import Ledger
    from ..pool.server import ServerConnection


class Client:
    """A client that is logged in.

    Attributes:
        number: what it is called in the admin database, which is its alone.
        pid, secret: the key of its cancel requests; in session mode `pid` may be its server's,
            and in a group of processes it tells which of them.
        peer: its address, for the log.
        tls: the version that it speaks, or "".
        opened_at: when it logged in, as time.monotonic().
        link: where to send; None as soon as it has gone.
        closed: its session is over.
        transaction_count, query_count, error_count: for SHOW CLIENTS.
        ledger: where errors that it is answered with are noted.
    """

    __slots__ = (
        "closed",
        "error_count",
        "ledger",
        "link",
        "number",
        "opened_at",
        "peer",
        "pid",
        "query_count",
        "secret",
        "tls",
        "transaction_count",
    )

    def __init__(
        self,
        *,
        pid: int,
        secret: bytes,
        peer: str,
        tls: str,
        opened_at: float,
        number: int = 0,
    ) -> None:
        self.number: Final = number or pid
        self.pid = pid
        self.secret = secret
        self.peer: Final = peer
        self.tls: Final = tls
        self.opened_at: Final = opened_at
        self.link: Output | None = None
        self.closed = False
        self.transaction_count = 0
        self.query_count = 0
        self.error_count = 0
        self.ledger: Ledger | None = None

    @property
    def congested(self) -> bool:
        """Whether it is slow to take what it asked for."""
        return self.link is not None and self.link.congested

    def reply(self, data: bytes) -> None:
        """Send bytes."""
        if self.link is not None:
            self.link.write(data)

    def note(self, error: RouterError) -> None:
        """It is told of an error."""
        if self.ledger is not None:
            self.ledger.note_own(error)

    def fields(self, **more: object) -> dict[str, object]:
        """Who it is, and `more`, for the `extra` of a log call about it."""
        ledger = self.ledger
        return fields(
            database=None if ledger is None else ledger.database,
            user=None if ledger is None else ledger.user,
            **self.names(),
            **more,
        )

    def log_refusal(self, log: logging.Logger, error: RouterError) -> None:
        """Log that a statement of its has been refused."""
        more = self.fields(sqlstate=error.sqlstate)
        log.info("client %s: %s", self.peer, error.line, extra=more)

    def log_setting(self, log: logging.Logger, name: str, value: str) -> None:
        """Log that it has changed a setting."""
        text, more = "client %s: %.64s is now %.256s", self.fields()
        log.info(text, self.peer, name, value, extra=more)

    def log_loss(
        self, log: logging.Logger, error: RouterError, server: ServerConnection
    ) -> None:
        """Log that its session ends with its server."""
        more = server.fields(**self.names(), sqlstate=error.sqlstate)
        log.warning("client %s: %s", self.peer, error.line, extra=more)

    def log_end(self, log: logging.Logger, error: RouterError) -> None:
        """Log why its session ends."""
        if error.sqlstate != "57P01":  # a shutdown is logged once, for all
            text = "client %s: %s; closing the connection"
            more = self.fields(sqlstate=error.sqlstate)
            log.warning(text, self.peer, error.line, extra=more)

    def names(self) -> dict[str, object]:
        """What it is called in the admin database, and where it is, as such fields."""
        return {"client_id": f"0x{self.number:08X}", "client": self.peer}

    def refuse(self, error: RouterError, end: bytes = b"") -> None:
        """Answer with an error, after which the session goes on; `end` comes behind it."""
        self.error_count += 1
        self.note(error)
        self.reply(messages.error_from(error) + end)
