"""One client that is logged in: its messages, its server, its place in the queue.

Theory of operation
-------------------
A client holds no server while it is idle. A Query, or a batch that is complete or too long to
hold, is given a route and asks the pool for a server. From then on its messages go to that
server, one segment after another, until a ReadyForQuery says that the transaction is over and
nothing else is on its way: then the server goes back (in session mode: when the client leaves).
A message that has to wait for something is declined, and held by `ClientStream`.

How a session ends is the business of `departure`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ..errors import ClientProtocolError, PoolError, RouterError, RoutingError, ServerError
from ..protocol import codes, marks, messages
from ..protocol.framing import HEADER_SIZE, string_in
from . import departure, limits, simple
from .attachment import Attachment
from .extended import Extended
from .long import LongMessages
from .settings import ClientSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine.link import Output
    from ..engine.loop import Engine
    from ..pool.pool import Pool
    from ..pool.server import ServerConnection
    from ..protocol.segments import Segment
    from ..protocol.variables import Variables

log = logging.getLogger("router.session")

# So long is a batch held to see what else belongs to it, in seconds. What is split between two
# packets comes sooner.
_HOLD_TIME: Final = 0.005

# So many segments of one client may be on their way at a time.
_MAX_PIPELINE: Final = 2000


class Session(Attachment):
    """The state of one client.

    Attributes:
        extended: what it has prepared, and the batch that it is sending.
        failures: checkouts that have failed since the last one that did not.
        idle_since: when the client last had all its answers in an open transaction.
        is_watched: a timer will look whether that is too long ago.
        is_held_for_more: a timer will send what there is of a batch.
        pinned: it keeps its server until it leaves.
        pid, secret: the key of its cancel requests.
    """

    __slots__ = (
        "draining",
        "error_count",
        "extended",
        "failures",
        "idle_since",
        "is_held_for_more",
        "is_watched",
        "link",
        "long",
        "on_end",
        "opened_at",
        "peer",
        "pid",
        "pinned",
        "query_count",
        "secret",
        "tls",
        "transaction_count",
    )

    def __init__(
        self,
        engine: Engine,
        pool: Pool,
        *,
        pid: int,
        secret: bytes,
        peer: str,
        tls: str,
        variables: Variables,
        overlay: dict[str, str],
        find_pool: Callable[[str, str], Pool | None],
        on_end: Callable[[Session, str], None],
    ) -> None:
        super().__init__(
            engine, pool, ClientSettings(variables, overlay, self._tell), find_pool
        )
        self.pid: Final = pid
        self.secret: Final = secret
        self.peer: Final = peer
        self.tls: Final = tls
        self.on_end: Final = on_end
        self.link: Output | None = None
        self.extended: Final = Extended(self, renames=pool.renames_statements)
        self.long: Final = LongMessages(self)
        self.draining = False
        self.is_held_for_more = False
        self.failures = 0
        self.idle_since = 0.0
        self.is_watched = False
        self.pinned = False
        self.opened_at: Final = engine.now
        self.transaction_count = 0
        self.query_count = 0
        self.error_count = 0

    def __repr__(self) -> str:
        return f"<Session {self.pid} {self.pool.database}/{self.pool.user} {self.state.value}>"

    # --- facts

    @property
    def congested(self) -> bool:
        """Whether the client is slow to take what it asked for."""
        return self.link is not None and self.link.congested

    # --- from the client's link

    def on_data(self, data: bytes) -> None:
        """Bytes arrived from the client."""
        try:
            # Most of what arrives is one whole short Query of a client that does nothing else.
            if (
                len(data) > HEADER_SIZE
                and data[0] == codes.QUERY
                and data[1] == 0 == data[2]
                and (data[3] << 8 | data[4]) == len(data) - 1
                and self._can_act
            ):
                if simple.on_query(self, data, 0, len(data)):
                    return
                self.hold(data)
            else:
                self.feed(data)
        except ClientProtocolError as error:
            self.end_with(error)
            return
        if self.link is None:
            return
        if self.wants_turn:
            self.link.defer()
        elif self.is_full:
            self.link.pause()
        elif self.extended.is_holding:
            self._limit_holding()

    def _limit_holding(self) -> None:
        """PostgreSQL acts on each message at once: do not let it wait for a Sync for long."""
        if not self.is_held_for_more:
            self.is_held_for_more = True
            self.engine.call_later(_HOLD_TIME, self._send_held)

    def _send_held(self) -> None:
        """Send what there is of a batch: its errors may be what the client waits for."""
        self.is_held_for_more = False
        if self.closed or not self.extended.is_holding:
            return
        if self.server is None:
            self.extended.collected.dispatch()
        elif not self.awaits_settings:
            self.extended.send_pending(self.server)

    @property
    def _can_act(self) -> bool:
        """Whether nothing stands between a Query and its being acted on."""
        return (
            self.waiter is None
            and not self.awaits_settings
            and self.is_quiet
            and not self.extended.is_busy
            and (self.server is None or not self.server.congested)
        )

    def on_drained(self) -> None:
        """The client takes output again."""
        if self.server is not None:
            self.server.client_drained()

    def on_closed(self, reason: str) -> None:
        """The client has gone without a word."""
        self.link = None
        busy = self.waiter is not None or (self.server is not None and self.server.queue)
        if busy and self.holds_goodbye:
            return  # as in PostgreSQL, what was sent before the goodbye is still acted on
        departure.leave(self, reason, polite=False)

    def reply(self, data: bytes) -> None:
        """Send bytes to the client."""
        if self.link is not None:
            self.link.write(data)

    def _go_on(self) -> None:
        """Whatever input was declined may be acted on now."""
        if self.closed:
            return
        if self.has_declined:
            self.on_data(b"")
        if self.link is not None and not self.is_full:
            self.link.resume()

    # --- messages

    def on_message(self, kind: int, data: bytes, start: int, end: int) -> bool:
        """Act on one whole message; False holds it back."""
        if self.is_waiting:
            return False
        server = self.server
        if server is not None and (server.congested or len(server.queue) > _MAX_PIPELINE):
            return False
        if kind == codes.QUERY:
            return simple.on_query(self, data, start, end)
        if kind in b"PBDECSH":
            return self.extended.on_message(kind, data, start, end)
        if kind in b"dcf":
            return simple.on_copy(self, server, data[start:end])
        if kind == codes.FUNCTION_CALL:
            return simple.on_function_call(self, data[start:end])
        # Terminate: what was sent before it is finished, as PostgreSQL would.
        departure.leave(self, "client terminated", polite=True)
        return False

    # --- long messages

    def on_long_message(self, kind: int, head: bytes, missing: int) -> bool:
        """Pass on the head of a message that is too long to hold."""
        return self.long.begin(kind, head, missing)

    def on_piece(self, data: bytes) -> bool:
        """Pass on more of it."""
        return not self.closed and self.long.go_on(data)

    def on_long_end(self) -> None:
        """It is complete."""
        self.long.end()
        server = self.server
        if server is not None and not server.queue and server.status == codes.IDLE:
            self._let_go(server)  # a COPY failed before all of its data was here

    # --- checkout

    def attached(self, server: ServerConnection) -> None:
        """There is a server: be its client."""
        server.attach(self)
        self.failures = 0

    def start_work(self, server: ServerConnection) -> None:
        self.extended.attached()
        if self._pending:
            message, self._pending = self._pending, b""
            glance = (
                marks.UNREAD if message[0] == codes.FUNCTION_CALL else marks.of_text(message)
            )
            simple.send_query(self, server, message, glance)
        elif self.extended.collected.operations:
            self.extended.replay(server)
        if self.has_declined:
            self._go_on()

    def checkout_failed(self, error: RouterError) -> None:
        """There is no server to be had: the statement fails, the session goes on."""
        self.waiter = None
        self.error_count += 1
        self.pool.router.tallies.refuse(error)
        limits.log_failure(self, error)
        answer = messages.error_from(error)
        if self._pending:
            self._pending = b""
            self.reply(answer + messages.READY_IDLE)
        elif self.extended.collected.operations:
            synced = self.extended.fail_collected()
            self.reply(answer + (messages.READY_IDLE if synced else b""))
        else:
            self.long.refuse(answer)
        self.end_transaction()
        if isinstance(error, PoolError | ServerError) and limits.fails_too_often(self):
            return
        self._go_on()

    def pool_retired(self) -> None:
        """The pool in whose queue we waited is gone: ask the new one."""
        self.waiter = None
        message = self._pending
        if self.extended.collected.operations:
            self.extended.collected.dispatch()
        elif message and message[0] == codes.QUERY:
            self.dispatch(message, string_in(message, 0, len(message)))
        else:
            self.dispatch(message)

    def pool_changed(self) -> None:
        """Look the statements up anew: they may go elsewhere than before."""
        self.extended.collected.rebind()
        self.extended.names.renames |= self.pool.renames_statements

    # --- from the server

    def segment_done(self, segment: Segment, status: int) -> None:
        """A segment has been answered in full."""
        server = self.server
        assert server is not None
        now = self.engine.now
        counters = server.pool.counters
        self.query_count += 1
        server.query_count += 1
        counters.query_count += 1
        counters.query_time += now - segment.started
        if segment.failed:
            self.error_count += 1
            self.extended.names.parse_failed(segment.opening)
        if segment.resets_all or self._was_reset:
            self._end_reset(failed=segment.failed)
        if self.settings.has_reports:
            self._adopt_settings(server, is_kept=status != codes.IDLE or self.keeps_server)
        if status == codes.IDLE:
            self.transaction_count += 1
            server.transaction_count += 1
            counters.xact_count += 1
            counters.xact_time += now - self._xact_started
            self._xact_started = now
            self.end_transaction()
            self._let_go(server)
        elif self.pool.is_statement_mode:
            limits.refuse_transaction(self)
            return
        elif not server.queue and self.pool.settings.idle_client_in_transaction_timeout:
            limits.watch_idleness(self)
        if self.draining and self.server is None:
            departure.leave_if_idle(self)
        elif self.has_declined:
            self._go_on()

    def _let_go(self, server: ServerConnection) -> None:
        """Give the server back if nothing is on its way any more."""
        if not server.queue and not self.keeps_server:
            self.server = None
            if self.routing.prepared:
                self.routing.prepared.clear()  # the server drops them before its next client
            server.pool.release(server)

    def may_follow(self, server: ServerConnection) -> bool:
        """Whether a statement may be sent behind one that is not answered.

        Not while others wait for a server that this client would give back after its answer:
        else a client that never lets the queue run dry would keep it from them for good.
        """
        return self.may_pipeline and (
            not server.pool.waiters or server.status != codes.IDLE or self.keeps_server
        )

    @property
    def keeps_server(self) -> bool:
        """Whether it keeps its server between transactions."""
        return (
            self.pinned
            or self.long.is_under_way
            or (self.pool.is_session_mode and not self.draining)
        )

    def server_parameter(self, name: str, value: str, swallowed: bool) -> None:
        """The server reports a setting; `swallowed`: because we gave it the client's."""
        if not swallowed:
            self.settings.changed(name, value)
            if self.pool.settings.log_client_parameter_status_changes:
                log.info("client %s: %.64s is now %.256s", self.peer, name, value)
        elif self.settings.told(name, self.pool) != value:
            self.settings.report(name, value)

    def _tell(self, name: str, value: str) -> None:
        self.routing.note_setting(name, value)
        self.reply(messages.parameter_status(name, value))

    def server_drained(self) -> None:
        """The server takes input again, or has accepted our settings."""
        if self.awaits_settings and self.server is not None and not self.server.applying:
            self.awaits_settings = False
            self.start_work(self.server)
        else:
            self._go_on()

    def script_done(self) -> None:
        """All that was sent of an open batch has been answered."""
        if self.has_declined:
            self._go_on()

    def settings_refused(self, fields: dict[str, str]) -> None:
        """The server does not take what the client asked for at start-up."""
        error = RouterError(fields.get("M", "bad setting"), sqlstate=fields.get("C", "22023"))
        self.end_with(error)

    def server_lost(self, error: RouterError) -> None:
        """The server is gone, and with it what the client was doing."""
        server, self.server = self.server, None
        self.error_count += 1
        log.warning("client %s: %s", self.peer, error.line)
        answer = b""
        if server is not None and not server.doomed and not server.mid_message:
            answer = messages.error_from(error, severity="FATAL")
        self.end(answer, error.message)

    # --- cancel, drain, end

    def cancel(self) -> None:
        """The client asks, on another connection, to stop what it is doing."""
        waiter = self.waiter
        if waiter is not None:
            waiter.cancel()
            self.checkout_failed(
                RoutingError("canceling statement due to user request", sqlstate="57014")
            )
        elif self.server is not None and self.server.queue:
            self.server.pool.cancel(self.server)

    def end_with(self, error: RouterError) -> None:
        """Close the connection with an error."""
        if error.sqlstate != "57P01":  # a shutdown is logged once, for all
            log.warning("client %s: %s; closing the connection", self.peer, error.line)
        self.end(messages.error_from(error, severity="FATAL"), error.message)

    def end(self, last_words: bytes, reason: str) -> None:
        """Close the connection, with an ErrorResponse if there is one."""
        if not self.closed:
            if last_words:
                self.reply(last_words)
            departure.leave(self, reason, polite=False)

    def drain(self) -> None:
        """The router is going away: leave as soon as no transaction is open."""
        self.draining = True
        departure.leave_if_idle(self)
