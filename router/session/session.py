"""One client that is logged in: its messages, its server, its place in the queue.

Theory of operation
-------------------
A client holds no server while it is idle. A Query, or a batch that is complete or too long to hold,
is given a route and asks the pool for a server. From then on its messages go to that server,
one segment after another, until a ReadyForQuery says that the transaction is over and nothing else
is on its way: then the server goes back (in session mode: when the client leaves). A
message that has to wait for something is declined, and held by `ClientStream`.

Whatever ends a session goes through `_leave`, which is the one place where the client's server is
given back, abandoned or closed.
"""

from __future__ import annotations

import logging
from enum import Enum
from typing import TYPE_CHECKING, Final

from ..config.model import PoolMode
from ..errors import ClientProtocolError, RouterError, RoutingError, ShuttingDown
from ..pool.server import ServerConnection, ServerState
from ..protocol import codes, marks, messages
from ..protocol.framing import HEADER_SIZE
from ..protocol.frontend import HOLD_LIMIT, ClientStream
from ..protocol.segments import Segment
from ..routing.state import RoutingState
from ..routing.types import RoleChoice, Route
from . import intercept
from .batch_route import batch_route
from .extended import Extended
from .long import LongMessages
from .settings import ClientSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine.link import Output
    from ..engine.loop import Engine
    from ..pool.address_pool import Waiter
    from ..pool.pool import Pool
    from ..protocol.variables import Variables
    from .dropping import PreparedStatement

log = logging.getLogger("router.session")

# So many segments of one client may be on their way at a time.
_MAX_PIPELINE: Final = 2000


class ClientState(Enum):
    """What SHOW CLIENTS says."""

    IDLE = "idle"
    WAITING = "waiting"
    ACTIVE = "active"


class Session(ClientStream):
    """The state of one client.

    Attributes:
        pool: whose servers it uses; looked up again when it is retired.
        server: the one that it holds.
        routing: shard and role that it asked for.
        settings: what it has set, which goes with it from server to server.
        pinned: it keeps its server until it leaves.
        pid, secret: the key of its cancel requests.
    """

    __slots__ = (
        "_await_settings",
        "_draining",
        "_find_pool",
        "_long",
        "_on_end",
        "_pending",
        "_queued_since",
        "_waiter",
        "_xact_started",
        "closed",
        "engine",
        "error_count",
        "extended",
        "link",
        "max_wait",
        "may_pipeline",
        "opened_at",
        "peer",
        "pid",
        "pinned",
        "pool",
        "query_count",
        "routing",
        "secret",
        "server",
        "settings",
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
        super().__init__()
        self.engine: Final = engine
        self.pool = pool
        self.pid: Final = pid
        self.secret: Final = secret
        self.peer: Final = peer
        self.tls: Final = tls
        self._find_pool: Final = find_pool
        self._on_end: Final = on_end
        self.link: Output | None = None
        self.server: ServerConnection | None = None
        self._waiter: Waiter | None = None
        self.routing = RoutingState()
        self.settings: Final = ClientSettings(variables, overlay, self._tell)
        self.extended = Extended(self, renames=_renames(pool))
        self.may_pipeline = pool.router.is_static
        # A whole Query that waits for a server.
        self._pending = b""
        self._await_settings = False
        self._long: Final = LongMessages(self)
        self._draining = False
        self.pinned = False
        self.closed = False
        self.opened_at = engine.now
        self.transaction_count = 0
        self.query_count = 0
        self.error_count = 0
        self.max_wait = 0.0
        self._xact_started = 0.0
        self._queued_since = 0.0

    def __repr__(self) -> str:
        return f"<Session {self.pid} {self.pool.database}/{self.pool.user} {self.state.value}>"

    # --- facts

    @property
    def now(self) -> float:
        """The engine's time."""
        return self.engine.now

    @property
    def state(self) -> ClientState:
        """What it is doing."""
        if self._waiter is not None:
            return ClientState.WAITING
        return ClientState.IDLE if self.server is None else ClientState.ACTIVE

    @property
    def waiting_since(self) -> float | None:
        """When it began to wait for a server, as time.monotonic()."""
        return None if self._waiter is None else self._queued_since

    def longest_wait(self, now: float) -> float:
        """The longest time that it waited for a server, in seconds; it may still be waiting."""
        if self._waiter is None:
            return self.max_wait
        return max(self.max_wait, now - self._queued_since)

    @property
    def label(self) -> str:
        """For SHOW SERVERS."""
        return self.settings.application_name

    @property
    def congested(self) -> bool:
        """Whether the client is slow to take what it asked for."""
        return self.link is not None and self.link.congested

    @property
    def is_waiting(self) -> bool:
        """Whether nothing can be done for the client now."""
        return self.closed or self._waiter is not None or self._await_settings

    @property
    def status(self) -> int:
        """The transaction status that a ReadyForQuery would have now."""
        return codes.IDLE if self.server is None else self.server.status

    # --- from the client's link

    def on_data(self, data: bytes) -> None:
        """Bytes arrived from the client."""
        try:
            # Most of what arrives is one whole Query of a client that does nothing else.
            if (
                len(data) > HEADER_SIZE
                and data[0] == codes.QUERY
                and int.from_bytes(data[1:5]) == len(data) - 1
                and self._can_act
            ):
                if not self._on_query(data, 0, len(data)):
                    self.hold(data)
            else:
                self.feed(data)
        except ClientProtocolError as error:
            log.warning("client %s: %s; closing the connection", self.peer, error.message)
            self.end(messages.error_from(error, severity="FATAL"), error.message)
            return
        if self.held > HOLD_LIMIT and self.link is not None:
            self.link.pause()

    @property
    def _can_act(self) -> bool:
        """Whether nothing stands between a Query and its being acted on."""
        return (
            self._waiter is None
            and not self._await_settings
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
        busy = self._waiter is not None or (self.server is not None and self.server.queue)
        if busy and self.ends_with(messages.TERMINATE):
            return  # as in PostgreSQL, what was sent before the goodbye is still acted on
        self._leave(reason, polite=False)

    def reply(self, data: bytes) -> None:
        """Send bytes to the client."""
        if self.link is not None:
            self.link.write(data)

    def _go_on(self) -> None:
        """Whatever input was declined may be acted on now."""
        if self.closed:
            return
        if self.held:
            self.on_data(b"")
        if self.held <= HOLD_LIMIT and self.link is not None:
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
            return self._on_query(data, start, end)
        if kind in b"PBDECSH":
            return self.extended.on_message(kind, data, start, end)
        if kind in b"dcf":
            return self.on_copy(server, data[start:end])
        if kind == codes.FUNCTION_CALL:
            return self._on_function_call(data[start:end])
        return self._on_terminate(server)

    def _on_query(self, data: bytes, start: int, end: int) -> bool:
        extended = self.extended
        if extended.skipping:
            return True
        if extended.operations:
            self.dispatch_batch(complete=False)
            return self.on_message(codes.QUERY, data, start, end)
        server = self.server
        if server is not None and extended.segment is not None:
            return self.query_in_batch(server, extended.segment, data[start:end])
        sql = data[start + HEADER_SIZE : end - 1]
        if intercept.may_concern(sql):
            handled = intercept.answer(self, sql)
            if handled is not None:
                return handled
        if server is None:
            try:
                route = self.pool.router.route(sql, self.routing)
            except RoutingError as error:
                self.refuse(error)
                return True
            self._pending = data[start:end]
            self.checkout(route)
            return True
        if server.queue and not self.may_pipeline:
            return False
        self.send_query(server, data[start:end], marks.of_text(sql))
        return True

    def send_query(self, server: ServerConnection, message: bytes, found: int) -> None:
        """Send a whole Query or FunctionCall, or its head, and expect its replies."""
        segment = Segment(self)
        segment.started = self.engine.now
        server.queue.append(segment)
        server.marks |= found & ~marks.MAY_COPY
        server.send(message)

    def query_in_batch(
        self, server: ServerConnection, segment: Segment, message: bytes
    ) -> bool:
        """A Query before the batch's Sync: it ends the batch, unless the batch has failed.

        Whether it has failed must be known first, because a failed batch makes the server skip it.
        """
        if segment.failed:
            return True
        steps = segment.steps
        if steps is None or segment.step < len(steps) or server.queue[0] is not segment:
            self.extended.flush(server)
            return False  # `script_done` comes back here
        segment.steps = None
        segment.extended = False
        segment.synced = True
        self.extended.reset()
        server.marks |= marks.of_text(message) & ~marks.MAY_COPY
        # PostgreSQL may say that the transaction is over and fail the next statement with XX000.
        server.marks |= marks.BARRIER
        server.send(message)
        return True

    def on_copy(self, server: ServerConnection | None, message: bytes) -> bool:
        """CopyData, CopyDone or CopyFail: for the server if it is at work, else too late."""
        if self.extended.operations:
            self.dispatch_batch(complete=False)
            return self.on_message(message[0], message, 0, len(message))
        if server is not None and server.queue:
            self.extended.send_pending(server)
            server.send(message)
            if message[0] != codes.COPY_DATA:
                server.queue[-1].copying = False
                server.queue[-1].dones += 1
        return True

    def _on_function_call(self, message: bytes) -> bool:
        server, extended = self.server, self.extended
        if extended.skipping:
            return True
        if extended.operations:
            self.dispatch_batch(complete=False)
            return self.on_message(codes.FUNCTION_CALL, message, 0, len(message))
        if server is not None and extended.segment is not None:
            return self.query_in_batch(server, extended.segment, message)
        if server is None:
            self._pending = message
            self.checkout(self.pool.router.route_unknown(self.routing))
            return True
        if server.queue and not self.may_pipeline:
            return False
        self.send_query(server, message, marks.UNKNOWN)
        return True

    def _on_terminate(self, server: ServerConnection | None) -> bool:
        if server is not None and server.queue and self.extended.segment is None:
            # What was sent before is to be finished, as PostgreSQL would. The same if the
            # client's end of file arrives meanwhile.
            self._leave("client terminated", polite=True)
            return False
        self._leave("client terminated", polite=True)
        return False

    # --- long messages

    def on_long_message(self, kind: int, head: bytes, missing: int) -> bool:
        """Pass on the head of a message that is too long to hold."""
        return self._long.begin(kind, head, missing)

    def on_piece(self, data: bytes) -> bool:
        """Pass on more of it."""
        return not self.closed and self._long.go_on(data)

    def on_long_end(self) -> None:
        """It is complete."""
        self._long.end()

    # --- checkout

    def set_pipelining(self) -> None:
        """Statements may follow each other unanswered if their text has no say in the route."""
        self.may_pipeline = (
            self.pool.router.is_static and self.routing.choice is not RoleChoice.AUTO
        )

    def refuse(self, error: RouterError) -> None:
        """Answer a Query with an error; the session goes on."""
        self.error_count += 1
        log.info("client %s: %s", self.peer, error.message)
        self.reply(messages.error_from(error) + messages.ready_for_query(self.status))

    def dispatch_batch(self, *, complete: bool) -> None:
        """Ask for a server for the operations collected so far."""
        try:
            route = batch_route(
                self.pool.router, self.routing, self.extended.operations, complete=complete
            )
        except RoutingError as error:
            self.checkout_failed(error)
            return
        self.checkout(route)

    def checkout(self, route: Route) -> None:
        """Get a server for a route, or wait for one, or fail."""
        if self.pool.retired and not self._change_pool():
            return
        self._queued_since = self.engine.now
        try:
            outcome = self.pool.checkout(self, route.shard, route.role)
        except RouterError as error:
            self.checkout_failed(error)
            return
        if isinstance(outcome, ServerConnection):
            self._attach(outcome)
        else:
            self._waiter = outcome

    def _change_pool(self) -> bool:
        """The configuration has changed; returns whether there still is a pool."""
        pool = self._find_pool(self.pool.database, self.pool.user)
        if pool is None:
            error = RoutingError(
                f'No pool configured for database: "{self.pool.database}", '
                f'user: "{self.pool.user}"',
                sqlstate="3D000",
            )
            self.end(messages.error_from(error, severity="FATAL"), error.message)
            return False
        self.pool = pool
        self.set_pipelining()
        return True

    def take_server(self, server: ServerConnection) -> bool:
        """A server is free for us; False if we do not want it any more."""
        if self.closed:
            return False
        self._waiter = None
        self.max_wait = max(self.max_wait, self.engine.now - self._queued_since)
        self._attach(server)
        return True

    def _attach(self, server: ServerConnection) -> None:
        self.server = server
        server.attach(self)
        self._xact_started = self.engine.now
        if self.settings.variables is not server.variables and server.apply(
            self.settings.variables
        ):
            self._await_settings = True
            return
        self._start_work(server)

    def _start_work(self, server: ServerConnection) -> None:
        if self._pending:
            message, self._pending = self._pending, b""
            found = (
                marks.UNKNOWN if message[0] == codes.FUNCTION_CALL else marks.of_text(message)
            )
            self.send_query(server, message, found)
        elif self.extended.operations:
            self.extended.replay(server)
        if self.held:
            self._go_on()

    def checkout_failed(self, error: RouterError) -> None:
        """There is no server to be had: the statement fails, the session goes on."""
        self._waiter = None
        self.error_count += 1
        log.info("client %s: %s", self.peer, error.message)
        answer = messages.error_from(error)
        if self._pending:
            self._pending = b""
            self.reply(answer + messages.READY_IDLE)
        elif self.extended.operations:
            synced = self.extended.fail_collected()
            self.reply(answer + (messages.READY_IDLE if synced else b""))
        else:
            self._long.refuse(answer)
        self._go_on()

    def pool_retired(self) -> None:
        """The pool in whose queue we waited is gone: ask the new one."""
        self._waiter = None
        if self._change_pool():
            if self.extended.operations:
                self.dispatch_batch(complete=self.extended.operations[-1].kind == codes.SYNC)
            else:
                text = self._pending[HEADER_SIZE:-1]
                self.checkout(self.pool.router.route(text, self.routing))

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
        if self.settings.has_reports:
            self.settings.adopt(by_client=bool(server.marks & (marks.SET | marks.UNKNOWN)))
        if status == codes.IDLE:
            self.transaction_count += 1
            server.transaction_count += 1
            counters.xact_count += 1
            counters.xact_time += now - self._xact_started
            self._xact_started = now
            self.routing.end_transaction()
            if not server.queue and not self._keeps_server():
                self.server = None
                server.pool.release(server)
        elif self.pool.settings.pool_mode is PoolMode.STATEMENT:
            error = ClientProtocolError(
                "transaction blocks are not allowed in statement pooling mode", sqlstate="0A000"
            )
            self.end(messages.error_from(error, severity="FATAL"), error.message)
            return
        if self._draining and self.server is None:
            self.drain()
        elif self.held:
            self._go_on()

    def _keeps_server(self) -> bool:
        return self.pinned or (
            self.pool.settings.pool_mode is PoolMode.SESSION and not self._draining
        )

    def server_parameter(self, name: str, value: str, swallowed: bool) -> None:
        """The server reports a setting; `swallowed`: because we gave it the client's settings."""
        if not swallowed:
            self.settings.changed(name, value)
        elif self.settings.told(name, self.pool) != value:
            self.settings.report(name, value)

    def _tell(self, name: str, value: str) -> None:
        self.reply(messages.parameter_status(name, value))

    def shared_statement(self, body: bytes) -> PreparedStatement:
        """The statement that stands for the body of a Parse, for this client."""
        return self.pool.statement(body, self.settings.search_path)

    def server_drained(self) -> None:
        """The server takes input again, or has accepted our settings."""
        if self._await_settings and self.server is not None and not self.server.applying:
            self._await_settings = False
            self._start_work(self.server)
        else:
            self._go_on()

    def script_done(self) -> None:
        """All that was sent of an open batch has been answered."""
        if self.held:
            self._go_on()

    def settings_refused(self, fields: dict[str, str]) -> None:
        """The server does not take what the client asked for at start-up."""
        text, code = fields.get("M", "invalid setting"), fields.get("C", "22023")
        log.warning("client %s: %s", self.peer, text)
        self.end(messages.error_response(text, code, severity="FATAL"), text)

    def server_lost(self, error: RouterError) -> None:
        """The server is gone, and with it what the client was doing."""
        server, self.server = self.server, None
        self.error_count += 1
        log.warning("client %s: %s", self.peer, error.message)
        answer = b""
        if server is not None and not server.doomed and not server.mid_message:
            answer = messages.error_from(error, severity="FATAL")
        self.end(answer, error.message)

    # --- cancel, drain, end

    def cancel(self) -> None:
        """The client asks, on another connection, to stop what it is doing."""
        waiter = self._waiter
        if waiter is not None:
            waiter.cancel()
            self.checkout_failed(
                RoutingError("canceling statement due to user request", sqlstate="57014")
            )
        elif self.server is not None and self.server.queue:
            self.server.pool.cancel(self.server)

    def drain(self) -> None:
        """The router is going away: leave as soon as no transaction is open."""
        self._draining = True
        server = self.server
        if server is None and self._waiter is None:
            error = ShuttingDown("terminating connection due to administrator command")
            self.end(messages.error_from(error, severity="FATAL"), error.message)
        elif server is not None and not server.queue and server.status == codes.IDLE:
            self.end(
                messages.error_response(
                    "terminating connection due to administrator command",
                    "57P01",
                    severity="FATAL",
                ),
                "shutting down",
            )

    def end(self, last_words: bytes, reason: str) -> None:
        """Close the connection, with an ErrorResponse if there is one."""
        if self.closed:
            return
        if last_words:
            self.reply(last_words)
        self._leave(reason, polite=False)

    def _leave(self, reason: str, *, polite: bool) -> None:
        if self.closed:
            return
        self.closed = True
        if self._waiter is not None:
            self._waiter.cancel()
            self._waiter = None
        server, self.server = self.server, None
        if server is not None and server.state is not ServerState.CLOSED:
            self._give_back(server, polite=polite)
        self.drop_input()
        link, self.link = self.link, None
        if link is not None:
            link.close()
        self._on_end(self, reason)

    def _give_back(self, server: ServerConnection, *, polite: bool) -> None:
        """Give the server back in whatever state it is."""
        if self.pool.settings.pool_mode is PoolMode.SESSION or self.pinned:
            server.marks |= marks.UNKNOWN
        if self.passing or self._await_settings:
            # It waits for the rest of a message that will never come.
            server.close()
        elif server.queue:
            self.extended.give_up(server)
            server.pool.abandon(server, cancel=not polite)
        else:
            server.pool.release(server)
        self.extended.reset()


def _renames(pool: Pool) -> bool:
    """Whether prepared statements follow their text; in session mode they are the server's own."""
    settings = pool.settings
    return (
        settings.pool_mode is not PoolMode.SESSION
        and settings.prepared_statements_cache_size > 0
    )
