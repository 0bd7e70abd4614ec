"""One client that is logged in: its messages, its server, its place in the queue.

A session has a byte stream (`stream`), a hold on a server (`lease`), a say in where its
statements go (`routing`), and the batch that it is sending (`batch`). A Query, or a batch that
is complete or too long to hold, is given a route and asks the pool for a server. If none is
idle, the message stays where it is, declined. The client's messages go to that server until a
ReadyForQuery says that the transaction is over and nothing is on its way: then it goes back.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ..errors import ClientProtocolError, RouterError, RoutingError, ShuttingDown
from ..pool import calls
from ..pool.contracts import PoolClient
from ..protocol import codes, marks, messages
from ..protocol.frontend import LONG_MESSAGE, MESSAGE, NOTHING, ClientStream
from . import slow
from .batch import Batch
from .client_routing import ClientRouting
from .client_settings import ClientSettings
from .deferral import leave
from .entrance import Entrance
from .failures import Failures
from .keeping import Keeping
from .lease import Lease
from .long import LongMessages
from .resend import Resend, last_words
from .shared import SharedReads
from .simple import SimpleProtocol
from .timeouts import ClientWatch, HeldWatch, TransactionWatch
from .whole_batch import WholeBatches

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine.loop import Engine
    from ..pool.contracts import Loss
    from ..pool.leftovers import Leftovers
    from ..pool.pool import Pool
    from ..pool.server import ServerConnection
    from ..protocol.naming import Change
    from ..protocol.segments import Segment
    from ..protocol.variables import Variables
    from .answered import PreparedStatement
    from .client import Client

log = logging.getLogger("router.session")

_MAX_PIPELINE: Final = 2000  # segments on their way of one client; it goes on at half of them


class Session(PoolClient):
    """The session of one client.

    Attributes:
        client: its link, its key, its counts.
        settings: what it has set, and what it was told of that.
        lease, routing, batch, stream: see above.
        whole: sends the batches that are here in one piece.
        simple, long: act on the messages that are not those of a batch, or too long to hold.
    """

    __slots__ = (
        "_client_watch",
        "_engine",
        "_failures",
        "_held",
        "_is_working",
        "_keeping",
        "_on_end",
        "_shared",
        "_transaction_watch",
        "batch",
        "client",
        "entrance",
        "lease",
        "long",
        "resend",
        "routing",
        "settings",
        "simple",
        "stream",
        "whole",
    )

    def __init__(
        self,
        engine: Engine,
        pool: Pool,
        client: Client,
        *,
        variables: Variables,
        overlay: dict[str, str],
        find_pool: Callable[[str, str], Pool | None],
        on_end: Callable[[Session, str], None],
    ) -> None:
        self._engine: Final = engine
        self._on_end: Final = on_end
        self.client: Final = client
        client.ledger = pool.ledger
        self.settings: Final = ClientSettings(variables, overlay, self._tell)
        self.lease: Final = Lease(engine, self, pool, self.settings, find_pool)
        self._keeping: Final = Keeping(self.lease)
        self.routing: Final = ClientRouting(self.lease)
        self.batch: Final = Batch(self.client, self.routing)
        self.whole: Final = WholeBatches(self.routing, self.batch)
        self.long: Final = LongMessages(self.client, self.routing, self.batch)
        self.simple: Final = SimpleProtocol(self.client, self.routing, self.batch, self.long)
        self.resend: Final = Resend(self.client, self.routing, self.batch)
        self.stream: Final = ClientStream()
        self._shared: Final = SharedReads(
            self.stream, self.lease, self.batch, self.resend, self.send_again
        )
        self._is_working = False
        self._held: Final = HeldWatch(engine, self._send_held)
        self._failures: Final = Failures(self.client, self.lease)
        self.entrance: Final = Entrance(self.routing, self._failures)
        self._transaction_watch: Final = TransactionWatch(self.lease, self.end_with, self.expel)
        self._client_watch: Final = ClientWatch.of(self.lease, self.end_with)

    def __repr__(self) -> str:
        return f"<Session {self.client.number} {self.lease.pool!r} {self.lease.state.value}>"

    @property
    def congested(self) -> bool:
        """Whether the client is slow to take what it asked for."""
        return self.client.congested

    @property
    def startup(self) -> Variables:
        """What the client has asked for at start-up."""
        return self.settings.startup

    @property
    def label(self) -> str:
        """For SHOW SERVERS."""
        return self.settings.application_name

    @property
    def sharer(self) -> SharedReads:
        """What it may share a server for."""
        return self._shared

    def reply(self, data: bytes) -> None:
        """Send bytes to the client."""
        link = self.client.link
        if link is not None:
            link.write(data)

    # --- from the client's link

    def on_data(self, data: bytes) -> None:
        """Bytes arrived from the client; none if this is the turn that was asked for."""
        if self._client_watch is not None:
            self._client_watch.heard()
        self.stream.receive(data)
        self._work()

    def on_drained(self) -> None:
        """The client takes output again."""
        self.lease.client_drained()

    def on_eof(self) -> bool:
        """The client sends no more; what it sent before a goodbye is still answered."""
        return self.lease.is_busy and self.stream.holds_goodbye and not self.entrance.is_shut

    def on_closed(self, reason: str) -> None:
        """The client has gone."""
        self.client.link = None
        if self.on_eof():
            self.lease.client_drained()  # nobody has to take the answers any more
        else:
            self._leave(reason, polite=False)

    # --- the work

    def _work(self) -> None:
        """Act on what the client has sent, as far as that is possible now."""
        if self._is_working:
            return  # the loop below is at it
        self._is_working = True
        try:
            self._act_on_all()
        except ClientProtocolError as error:
            self.end_with(error)
        except Exception:
            calls.give_up(self)
        finally:
            self._is_working = False
        link, stream = self.client.link, self.stream
        if link is None:
            if stream.wants_turn:
                self._engine.call_later(0.0, lambda: self.on_data(b""))
            return
        if stream.wants_turn:
            link.defer()
        elif stream.is_full:
            link.pause()
        elif stream.kind != codes.QUERY and self.batch.is_holding:
            self._held.more_may_come()
        if self.lease.deferred is not None:
            self._transaction_watch.heard()
        elif self.lease.draining:
            self._leave_if_idle()

    def _act_on_all(self) -> None:
        stream, client = self.stream, self.client
        if self.lease.pool.retired and not self._has_pool():
            return
        while not client.closed:
            found = stream.next()
            if found == NOTHING:
                return
            try:
                if not self._act(found):
                    stream.decline()
                    return
            except ClientProtocolError:
                raise
            except RouterError as error:
                self._failed(error)
                continue
            stream.take()
            if found != MESSAGE:
                self._passed_on(found)

    def _act(self, found: int) -> bool:
        """Act on what the stream has found; False declines it for now.

        Raises:
            ClientProtocolError: the connection cannot go on.
            RouterError: there is no server for it; see `_failed`.
        """
        stream, lease = self.stream, self.lease
        kind, data, start, end = stream.kind, stream.data, stream.start, stream.end
        if found == MESSAGE:
            if lease.waiter is not None or lease.awaits_settings or lease.asks:
                return lease.feed(stream)
            if self.resend.waiting:
                return False
            server = lease.server
            if server is None:
                if lease.pins.loss is not None and kind in b"QPBDEF":
                    self.batch.refuse(lease.pins.tell_loss(), ends=kind in b"QF")
                    return True
            else:
                is_shared = server.client is not self and not lease.has_come
                if is_shared or server.congested or len(server.queue) > _MAX_PIPELINE:
                    return False
                if server.is_cancelled and not server.shield():
                    return False
                if server.queue and server.queue[-1].copying and kind not in b"dcfX":
                    self.simple.interrupt_copy(server, kind)
                    return True
            if kind == codes.QUERY:
                return self.simple.query(data, start, end)
            if kind == codes.BIND and self.whole.take(stream):
                return True
            if kind in b"PBDECSH":
                return self.batch.on_message(kind, data, start, end)
            if kind in b"dcf":
                return self.simple.copy(data[start:end])
            if kind == codes.FUNCTION_CALL:
                return self.simple.function_call(data[start:end])
            if lease.awaits_answers:
                return False  # Terminate, acted on when all before it is, as in PostgreSQL
            self._leave("client terminated", polite=True)
            return True
        if found == LONG_MESSAGE:
            if self.resend.waiting or lease.waiter is not None:
                return lease.feed(stream)
            return self.simple.long_message(kind, data[start:end], stream.missing)
        return lease.feed(stream) if stream.is_copied else self.long.pass_on(data[start:end])

    def _failed(self, error: RouterError) -> None:
        """There is no server for what the client asks: that fails, and the session goes on."""
        stream, batch, last = self.stream, self.batch, None
        self.lease.has_come = False
        self.lease.fail()
        self.routing.router.tallies.refuse(error)
        if self.resend.waiting:
            last = self.resend.refuse(error)
        elif batch.operations:
            batch.fail(error)
            if stream.kind in b"PBDECSH" and not stream.missing and self._is_working:
                stream.take()  # the last of them; any other message follows the batch
        else:
            self.simple.fail(stream, error)
        self.routing.end_transaction()
        last = self._failures.note(error) or last
        if last is not None:
            self.end_with(last)

    def _resume(self) -> None:
        """Whatever input was declined may be acted on now."""
        if self.client.closed:
            return
        if self.stream.has_declined:
            self.on_data(b"")
        if (link := self.client.link) is not None and not self.stream.is_full:
            link.resume()

    def _send_held(self) -> None:
        """Send what there is of a batch: its errors may be what the client waits for."""
        if self.client.closed or (self.lease.pool.retired and not self._has_pool()):
            return
        try:
            self.batch.send_held()
        except RouterError as error:
            self._failed(error)
        except Exception:
            calls.give_up(self)

    def _has_pool(self) -> bool:
        """See to it that the pool is one that serves; without one, the session ends."""
        lease = self.lease
        if lease.server is not None or lease.waiter is not None:
            return True
        try:
            if lease.renew_pool():
                self.client.ledger = lease.pool.ledger
                self.routing.set_pipelining()
                self.batch.names.renames |= lease.pool.renames_statements
                self.batch.rebind()
        except RoutingError as error:
            self.end_with(error)
            return False
        return True

    def _passed_on(self, found: int) -> None:
        """The head of a long message, or more of it, has been acted on."""
        if self.stream.passing:
            if found == LONG_MESSAGE and not self.stream.is_copied:
                self.long.begun()
            return
        self.long.end()
        server = self.lease.server
        if server is not None and not server.queue and server.status == codes.IDLE:
            self._let_go(server)  # a COPY failed before all of its data was here

    # --- from the pool

    def take_server(self, server: ServerConnection) -> bool:
        """The server that we waited for is there; False if we do not want it any more."""
        if self.client.closed or not self.lease.admits(server):
            return False
        if self.lease.take(server):
            self._start(server)
        return True

    def settings_accepted(self) -> None:
        """The server has the client's settings."""
        self.lease.awaits_settings = False
        server = self.lease.server
        if server is not None:
            self._start(server)

    def _start(self, server: ServerConnection) -> None:
        """The server is ready: send it what waited for it."""
        if self.entrance.is_shut:
            self.entrance.open(server)
            if self.lease.draining:
                self._leave_if_idle()
        elif self.resend.waiting:
            self.resend.send(server)
        elif self.batch.operations:
            self.lease.has_come = False
            self.batch.script.trust()
            self.batch.replay(server)
        elif self.lease.has_come:
            self.batch.script.trust()
        self._resume()

    def settings_refused(self, fields: dict[str, str]) -> None:
        """The server does not take what the client asked for at start-up."""
        error = RouterError(fields.get("M", "bad setting"), sqlstate=fields.get("C", "22023"))
        self.end_with(error)

    def checkout_failed(self, error: RouterError) -> None:
        """There is no server to be had: the statement fails, the session goes on."""
        self.lease.waiter = None
        if self.entrance.bars(error):
            self.expel(error)
            return
        self._failed(error)
        self.send_again()

    def ask_anew(self) -> None:
        """The pool in whose queue we waited is gone, or the wait for a replica is over."""
        self.lease.give_place_up()
        if self._has_pool() and not self.entrance.ask():
            self._ask_again()

    def _ask_again(self) -> None:
        """Ask for a server for what has waited for one."""
        if self.batch.operations:
            try:
                self.batch.dispatch()
            except RouterError as error:
                self._failed(error)
        self.send_again()

    def send_again(self) -> None:
        """Ask for a server for the first that is sent again, if there is any, or go on."""
        while self.resend.waiting and not (self.client.closed or self.lease.asks):
            if self.lease.pool.retired and not self._has_pool():
                return
            try:
                self.resend.ask()
                return
            except RouterError as error:
                self._failed(error)
        if self.lease.deferred is not None:
            self._transaction_watch.heard()
        self._resume()

    # --- from the server

    def segment_done(self, segment: Segment, status: int) -> None:
        """A segment has been answered in full."""
        lease, client = self.lease, self.client
        server = lease.server
        assert server is not None
        client.query_count += 1
        if lease.waited:
            segment.waited, lease.waited = lease.waited, 0.0
        if self._engine.now - segment.started + segment.waited >= lease.pool.heed_after:
            slow.heed(client, lease, self.batch.names, segment, self._engine.now)
        server.count(segment, self._engine.now)
        if lease.deferred is not None and leave(lease, server, segment):
            self.send_again()
            return
        xact_time = lease.transaction_time(segment, status)
        server.marks |= marks.PREPARE if segment.changes else 0  # it may have happened untold
        if segment.failed:
            client.error_count += 1
            lease.drops = 0
            self.batch.names.parse_failed(segment.opening)
        routing = self.routing
        if segment.resets_all or routing.was_reset:
            routing.settle_reset(has_failed=segment.failed)
        if self.settings.has_reports:
            is_kept = status != codes.IDLE or lease.keeps_server
            if lease.adopt_settings(server, is_kept=is_kept):
                self.batch.rebind()
        if status == codes.IDLE:
            client.transaction_count += 1
            server.count_transaction(xact_time)
            lease.route = None
            if routing.is_moving or routing.state.has_local or lease.writes is not None:
                routing.end_transaction()
            lease.is_altered &= bool(server.queue)
            self._let_go(server)
        elif lease.pool.is_statement_mode:
            text = "transaction blocks are not allowed in statement pooling mode"
            self.end_with(ClientProtocolError(text, sqlstate="0A000"))
            return
        elif not server.queue:
            self._transaction_watch.heard()
        if self.resend.waiting:
            self.send_again()
        elif lease.draining and lease.server is None:
            self._leave_if_idle()
        elif self.stream.has_declined and len(server.queue) <= _MAX_PIPELINE // 2:
            self._resume()

    def withholds(self, segment: Segment, error: bytes) -> bool:
        """Whether the first error of a segment need not be the last word."""
        return self.resend.withholds(segment, error)

    def segment_withheld(self, segment: Segment, status: int) -> None:
        """A statement of ours has other columns than before: make it anew, and run it."""
        server = self.lease.server
        assert server is not None
        self._keeping.release(server)  # which finds out what else is out of date
        self.resend.prepare_anew(server, segment)
        self.send_again()

    def _let_go(self, server: ServerConnection) -> None:
        """Give the server back if nothing is on its way any more."""
        lease = self.lease
        is_plain = lease.causality is None and not (server.marks or lease.drops)
        is_back = lease.release(server) if is_plain else self._keeping.release(server)
        if is_back and self.routing.state.prepared:
            self.routing.state.prepared.clear()  # what follows the client is known by `Names`

    def leftovers_told(self, server: ServerConnection, found: Leftovers | None) -> None:
        """The server has told what the client has left there."""
        if self._keeping.told(server, found):
            self.batch.rebind()
        if self._keeping.settle(server, found):
            self.routing.state.prepared.clear()
        if self.lease.draining:
            self._leave_if_idle()
        self.send_again()

    def server_parameter(self, name: str, value: str, swallowed: bool) -> None:
        """The server reports a setting; `swallowed`: because we gave it the client's."""
        if self.lease.note_parameter(name, value, swallowed=swallowed):
            self.client.log_setting(log, name, value)

    def statement_named(self, change: Change) -> PreparedStatement | None:
        """SQL has changed what a name means."""
        return self.batch.names.changed(change)

    def settings_reset(self, *, everything: bool) -> None:
        """A RESET has succeeded: it brings settings, or all, to the client's defaults."""
        self.settings.reset(everything=everything)
        self.routing.was_reset = everything

    def _tell(self, name: str, value: str) -> None:
        """Report a setting to the client."""
        self.routing.state.note_setting(name, value)
        if not self.entrance.is_shut:  # else it is told with all the others
            self.reply(messages.parameter_status(name, value))

    def server_ready(self) -> None:
        """The server takes input again, or has answered something of the router's own."""
        self._resume()

    def batch_answered(self) -> None:
        """All that was sent of an open batch has been answered."""
        self.batch.on_answered()
        if self.stream.has_declined:
            self._resume()

    def server_lost(self, error: RouterError, loss: Loss, *, can_tell: bool) -> None:
        """The server is gone, and with it what the client was doing."""
        is_resent = self.resend.take(error, loss) or self._keeping.loses_nothing(loss)
        self.lease.lose()
        if is_resent:
            self._ask_again()
            return
        self.client.error_count += 1
        self.client.log_loss(log, error, loss.server)
        self._end(error, last_words(error, loss, can_tell=can_tell))

    # --- cancel and drain

    def cancel(self) -> None:
        """The client asks, on another connection, to stop what it is doing."""
        self._shared.cancel()

    def drain(self) -> None:
        """The router is going away: leave as soon as no transaction is open."""
        self.lease.draining = True
        self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        if self.lease.is_free and not (self.resend.waiting or self.batch.is_begun):
            self.end_with(ShuttingDown())

    def transaction(self, now: float) -> tuple[float, str]:
        """For how long its transaction has been open, and what it has run last in it."""
        return self.lease.transaction_age(now), self.lease.last_kind

    def expel(self, error: RouterError | None = None) -> None:
        """Send the client away, whatever it is doing; by default the router is going away."""
        server, error = self.lease.server, error or ShuttingDown()
        # In the middle of a message nothing can be said.
        can_tell = server is None or not (server.mid_message or server.doomed)
        self._end(error, messages.error_from(error, severity="FATAL") if can_tell else b"")

    def give_up(self) -> None:
        """Its code has failed: nobody knows what its server has been sent."""
        if self.lease.server is not None:
            calls.close(self.lease.server, self)
        self._leave("internal error", polite=False)

    def end_with(self, error: RouterError) -> None:
        """Close the connection with an error."""
        self.client.log_end(log, error)
        self._end(error, messages.error_from(error, severity="FATAL"))

    def _end(self, error: RouterError, last_words: bytes) -> None:
        """Close the connection, with last words if anything can be said."""
        if not self.client.closed:
            self.client.note(error)
            self.reply(last_words)
            self._leave(error.message, polite=False)

    def _leave(self, reason: str, *, polite: bool) -> None:
        """End the session, all ways of it; a `polite` client lets its server finish."""
        client = self.client
        if client.closed:
            return
        client.closed = True
        if self._client_watch is not None:
            self._client_watch.stop()
        self.routing.leave_others()
        if (server := self.lease.end()) is not None:
            self.batch.script.give_back(server, polite=polite)
        self.stream.drop()
        link, client.link = client.link, None
        if link is not None:
            link.close()
        self._on_end(self, reason)
