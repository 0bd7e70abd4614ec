"""One connection to a PostgreSQL server, as the data plane sees it."""

from __future__ import annotations

import logging
import math
import secrets
from typing import TYPE_CHECKING, Final

from ..errors import RouterError, ServerLost, ServerProtocolError
from ..printable import printable
from ..protocol import codes, marks, messages, naming
from ..protocol.backend import BackendStream
from ..protocol.framing import HEADER_SIZE
from ..protocol.prepared import ServerStatements
from ..protocol.segments import Segment
from ..protocol.variables import EMPTY, Variables
from . import calls, sharing
from .contracts import Ear, Loss, PoolClient
from .states import ServerState

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine.link import Output
    from ..protocol.prepared import Statement
    from ..routing.types import Analysis
    from ..stats import Counters
    from .address_pool import AddressPool
    from .instances import Instance

log = logging.getLogger("router.server")

# A statement must not run without the settings of its client, and it may be on its way already:
# if one of them is refused, PostgreSQL ends the connection.
_OR_ELSE: Final = b"SET LOCAL exit_on_error TO on;"
_MANY: Final = 256  # statements on their way keep it busy while its link rests


class ServerConnection(BackendStream):
    """The server's end of the data plane.

    Attributes:
        pool: the address pool that it belongs to.
        serial: its id in SHOW SERVERS.
        client: who holds it alone; None while nobody does, or several share it.
        ear: the same client, if another connection listens for it as well.
        pid, secret: its key for cancel requests.
        first: what a client has asked for that it was opened with; RESET ALL goes back to that.
        statements: the prepared statements that it has.
        named: those that it has by names that clients gave them, for their SQL.
        variables: the client's settings that were last applied.
        marks: what its client may have left behind.
        may_reset_all: of a statement that the router keeps no record of, a RESET may be of all.
        needs_barrier: a cancel request may still arrive, and must hit nobody.
        columns_changed: prepared statements may return other columns than before.
        catalogue_changed: tables and functions may be other ones than before.
        is_pinned: its client keeps it for what is there, and can be nowhere else.
        is_cancelled: its client has had something cancelled; see `shield`.
        told_of_cancels: called when no cancel request is on its way any more.
        cancels: cancel requests that are on their way to it.
        doomed: it may not serve another client.
        asked_at: when somebody began to open it.
        began_at: when what it is doing now can have begun at the earliest: the last answer.
        ip: the address that it is connected to; "" for a Unix socket.
        instance: the standby that it has told it leads to, or None.
        sent_before, answered_before: bytes sent and queries answered when its client got it.
    """

    def __init__(
        self,
        pool: AddressPool,
        *,
        pid: int,
        secret: bytes,
        parameters: dict[str, str],
        statement_capacity: int,
        now: float,
        startup: Variables | None = None,
    ) -> None:
        super().__init__()
        self.pool: Final = pool
        self.pid: Final = pid
        self.secret: Final = secret
        self.parameters.update(parameters)
        self.baseline: Final = dict(parameters)
        self.statements: Final = ServerStatements(statement_capacity)
        self.named: Final[dict[bytes, Statement[Analysis | None]]] = {}
        self.serial: Final = secrets.randbits(31)
        self.link: Output | None = None
        self.state = ServerState.LOGIN
        self.client: PoolClient | None = None
        self.ear: Ear | None = None
        self.first: Final[Variables] = EMPTY if startup is None else startup
        self.variables: Variables = self.first
        self.marks = 0
        self.may_reset_all = False
        self.needs_barrier = False
        self.columns_changed = self.catalogue_changed = False
        self.is_pinned = False
        self.cancels = 0
        self.is_cancelled = False
        self.told_of_cancels: list[Callable[[], None]] = []
        # One for replication serves the client that it has been opened for.
        self.doomed = bool(self.first.replication)
        self.opened_at: Final = now
        self.asked_at = now
        self.used_at = now
        self.began_at = 0.0
        self.expires_at = now
        self.transaction_count = self.query_count = 0
        self.tls = ""
        self.ip = ""
        self.instance: Instance | None = None
        self.sent_before = self.answered_before = 0
        self._applying: Variables | None = None
        self._paused = False
        self._paused_at = 0.0
        # The client wants cancelled what is behind a query of the router's own.
        self._cancel_is_due = False

    def __repr__(self) -> str:
        return f"<ServerConnection {self.pool.address.name} pid={self.pid} {self.state.value}>"

    def fields(self, **more: object) -> dict[str, object]:
        """What it is, and `more`, for the `extra` of a log call about it."""
        user = self.pool.settings.user
        return self.pool.address.fields(user, server_pid=self.pid, **more)

    @property
    def is_wanted(self) -> bool:
        """Whether it is to come back as soon as its client is in no transaction."""
        return self.pool.is_wanted or self.expires_at == -math.inf

    # --- from the client

    def send(self, data: bytes) -> None:
        """Queue bytes for the server."""
        if self.link is not None:
            self.pool.counters.sent += len(data)
            self.link.write(data)

    def send_query(self, sql: bytes) -> Segment:
        """Send a statement of the router's own, whose replies are swallowed."""
        segment = Segment(None)
        self.queue.append(segment)
        self.unnamed = 0
        self.send(messages.query(sql))
        return segment

    def apply(self, variables: Variables) -> bool:
        """Give the connection a client's settings; returns whether it must be waited for."""
        if variables is self.variables:
            return False
        sql = variables.change_from(self.variables)
        is_plain = variables.is_plain and self.variables.is_plain
        self.variables = variables
        if not sql:
            return False
        if variables.proven:
            self.send_query(sql if is_plain else _OR_ELSE + sql)
            return False
        self.send_query(sql)
        self._applying = variables
        return True

    # --- what it knows by names of its client's

    def forget_statements(self) -> None:
        """It has dropped all that was prepared."""
        self.statements.clear()
        self.named.clear()

    def forget_named(self, names: list[bytes]) -> None:
        """Have it drop statements that are another client's; no error can come of that."""
        self.queue.append(Segment.own_batch())
        for name in names:
            del self.named[name]
        closes = [messages.close_statement(name) for name in names]
        self.send(b"".join(closes) + messages.SYNC)

    def forget_variables(self) -> None:
        """A RESET ALL is on its way: the settings of the last client are gone."""
        self.variables = self.first

    # --- what its client has left

    def pin(self) -> None:
        """The client keeps it; what it has done to the schema, others can tell by now."""
        self.is_pinned = True
        is_due, self.catalogue_changed = self.catalogue_changed, False
        if is_due and self.pool.catalogue is not None:
            self.pool.catalogue.refresh(self.pool.address.shard)

    def tell_changes(self) -> None:
        """A transaction is over: what is prepared from now on may mean something else."""
        if self.columns_changed:
            self.columns_changed = False
            if self.pool.on_schema_change is not None:
                self.pool.on_schema_change()

    @property
    def is_altered(self) -> bool:
        """Whether its client may mean something else by a text than others do."""
        return self.columns_changed or self.catalogue_changed or bool(self.marks & marks.TEMP)

    def cancel(self) -> None:
        """The client wants cancelled what it has sent, and not what is our own before that."""
        if self.queue[0].sink is self.client:
            self.pool.cancel(self)
        else:
            self._cancel_is_due = True

    @property
    def is_cancelling(self) -> bool:
        """Whether a cancel request is on its way, or will be."""
        return self.cancels > 0 or self._cancel_is_due

    def shield(self) -> bool:
        """See that a cancel request for what its client sent before cannot hit what comes next.

        That waits until the request has been delivered, and what it was for is over. Even then
        it may act late: a Sync of our own takes the blow, which fails nothing.

        Returns:
            Whether the client's next message may go on its way.
        """
        last = self.queue[-1] if self.queue else None
        if not self.is_cancelled:
            return True
        if last is not None and (last.is_open or last.copying):
            return True  # more of what is to be cancelled
        if self.cancels or last is not None:
            return False
        self.is_cancelled = False
        segment = Segment.own_batch()
        segment.orphan()
        self.queue.append(segment)
        self.send(messages.SYNC)
        return True

    def cancel_done(self) -> None:
        """No cancel request is on its way any more."""
        waiting, self.told_of_cancels = self.told_of_cancels, []
        for tell in waiting:
            tell()
        if self.client is not None:
            self.client.server_ready()

    def end_own(self) -> None:
        """A query of the router's own has been answered."""
        is_due, self._cancel_is_due = self._cancel_is_due, False
        if is_due and self.queue and self.client is not None:
            self.cancel()

    @property
    def congested(self) -> bool:
        """Whether the server's unsent input is above the high-water mark."""
        return self.link is not None and self.link.congested

    # --- from the link

    def on_data(self, data: bytes) -> None:
        """Bytes arrived from the server."""
        self.pool.counters.received += len(data)
        try:
            self.feed(data)
        except ServerProtocolError as error:
            text, more = (
                "%r: %s; giving the connection up",
                self.fields(sqlstate=error.sqlstate),
            )
            log.error(text, self, error.line, extra=more)
            self.fail(error)
            return
        link = self.link
        if link is None:
            return
        if self.doomed and self.queue and self.queue[0].withheld:
            # It has said its last word, which nobody has been told.
            name = self.pool.address.label
            self.fail(ServerLost(f"server connection to {name} was ended by the server"))
            return
        if self.wants_turn:
            link.defer()
        elif len(self.queue) > _MANY:
            link.rest()  # each answer by itself would cost a read, a send and a wake-up
        listener = self._listener
        if listener is not None and listener.congested:
            link.pause()
            if not self._paused:
                self._paused, self._paused_at = True, self.pool.engine.now
            if self.client is None and len(self.queue) > 1:
                sharing.move(self, 1)

    def on_drained(self) -> None:
        """The server takes input again."""
        if self.client is not None:
            self.client.server_ready()

    def on_eof(self) -> bool:
        """The server ends the connection."""
        return False

    def on_closed(self, reason: str) -> None:
        """The server or the network ended the connection."""
        self.pool.health.doubt()
        self.fail(
            ServerLost(f"server connection to {self.pool.address.label} was lost: {reason}")
        )

    def client_drained(self) -> None:
        """The client takes output again."""
        if self._paused and self.queue:
            self.queue[0].stalled += self.pool.engine.now - self._paused_at
        self._paused = False
        if self.link is not None:
            self.link.resume()

    # --- from the stream

    @property
    def _listener(self) -> PoolClient | None:
        """Whom it concerns what the server says now.

        That is the client of the segment that is being answered, whoever holds the connection;
        between segments, and in those of the router's own, the one that holds it.
        """
        sink = self.queue[0].sink if self.queue else None
        if sink is None or sink is self.client:
            return self.client
        return sink if isinstance(sink, PoolClient) else None

    def on_segment_done(self, segment: Segment) -> None:
        """A segment is over; those of the router itself are acted on here."""
        if segment.sink is not None:
            return
        if segment.changes is not None:
            self.marks |= marks.PARSE  # its client has left
        self.end_own()
        if self._applying is not None:
            applied, self._applying = self._applying, None
            if segment.error is not None:
                self.doomed = True
                if self.client is not None:
                    self.client.settings_refused(segment.error)
                return
            applied.proven = True
            if self.client is not None:
                self.client.settings_accepted()
            return
        if segment.error is not None and not segment.orphaned:
            reason = printable(segment.error.get("M", ""))
            self.doomed = True
            if self.client is not None:
                self._refuse_settings(segment.error)
                return
            more = self.fields(sqlstate=segment.error.get("C", ""))
            log.warning("%r: a clean-up failed: %s", self, reason, extra=more)
        if self.client is not None:
            self.client.server_ready()
        else:
            self.pool.settled(self)

    def _refuse_settings(self, fields: dict[str, str]) -> None:
        """The client's settings are not as it wants them: nothing of its may be answered."""
        client = self.client
        self.close()
        if client is not None:
            client.settings_refused(fields)

    def on_parameter(self, name: str, value: str, swallowed: bool) -> None:
        """Pass a ParameterStatus on to the client, who decides what to do with it."""
        listener = self._listener
        if listener is not None:
            listener.server_parameter(name, value, swallowed)

    def on_tag(self, tag: bytes) -> None:
        """Note what a command has left on the connection."""
        segment = self.queue[0]
        if tag in naming.TAGS:
            self._on_naming(segment, tag)
            if tag != naming.DISCARD_ALL:
                return
        if segment.sink is not None or segment.orphaned:
            if not (segment.is_set_local and tag == b"SET"):
                self.marks |= marks.of_tag(tag)
            if marks.changes_catalogue(tag):
                self.catalogue_changed = True
            if marks.changes_columns(tag):
                self.columns_changed = True
            if self.columns_changed and self.pool.catalogue is not None:
                self.pool.catalogue.forget(self.pool.address.shard)
            elif tag in marks.CHANGES_FUNCTIONS and self.pool.catalogue is not None:
                self.pool.catalogue.forget_functions(self.pool.address.shard)
            if tag in (b"RESET", b"DISCARD ALL"):
                # To the client's defaults, it thinks; but they may be set as values.
                self.marks |= marks.SET
                self.variables = self.first
                listener = self._listener
                if listener is not None:
                    is_all = segment.resets_all or self.may_reset_all or tag != b"RESET"
                    listener.settings_reset(everything=is_all)

    def _on_naming(self, segment: Segment, tag: bytes) -> None:
        """A command has changed what names of statements mean: the client's, if we know it."""
        if tag in (naming.DEALLOCATE_ALL, naming.DISCARD_ALL):
            self.forget_statements()
        if self.swallows(segment):
            return
        if segment.orphaned:
            self.marks |= marks.PARSE
        if segment.sink is None:
            return
        change = segment.changes.popleft() if segment.changes else None
        listener = self._listener
        if change is None or change.tag != tag or listener is None:
            segment.changes = None
            if tag == naming.PREPARE:
                self.marks |= marks.PREPARE
            elif tag == naming.DEALLOCATE:
                self.marks |= marks.PARSE
            return
        statement = listener.statement_named(change)
        if tag == naming.DEALLOCATE:
            self.named.pop(change.name, None)
        elif tag == naming.PREPARE:
            if statement is None:
                self.marks |= marks.PREPARE
            else:
                self.named[change.name] = statement

    def on_error(self, sqlstate: bytes, head: bytes) -> None:
        """Learn from an error what it says about our picture of the connection."""
        self._count_error(sqlstate)
        if sqlstate == b"26000" and self.queue and self.queue[0].awaits_error:
            return  # provoked by the router
        if sqlstate == b"26000" or messages.is_of_stale_plan(sqlstate, head):
            # Let all be prepared anew. What is stale stays: others are to be told of it, too.
            self.marks |= marks.PARSE if sqlstate == b"26000" else 0
            self.columns_changed = True
        elif sqlstate == b"25006" and self.pool.is_primary:
            self.pool.health.doubt()  # a write, and it is read-only: is it still a primary?
        elif messages.is_last(head):
            self.doomed = True
            own = self.queue[0].error if self.queue else None
            if own is not None and self.client is not None:
                self._refuse_settings(own)
                return
            self.pool.health.doubt()
            if self.client is None:
                fields = messages.parse_error_fields(head)
                reason = printable(fields.get("M", ""))
                more = self.fields(sqlstate=sqlstate.decode("ascii", "replace"))
                log.info("%r was ended by the server: %s", self, reason, extra=more)
            if self.state is ServerState.IDLE:
                self.close()  # its end of file may come too late for the next client

    def _count_error(self, sqlstate: bytes) -> None:
        """A client is answered with an error, be it one of ours."""
        ledger, segment = self.pool.counters.ledger, self.queue[0] if self.queue else None
        if ledger is None or segment is None:
            return
        if not isinstance(segment.sink, PoolClient) or segment.withheld:
            return
        if segment.instead:
            fields = messages.parse_error_fields(segment.instead[HEADER_SIZE:])
            ledger.note_message(fields.get("C", ""), fields.get("M", ""))
        else:
            ledger.note_of_server(sqlstate)

    def on_script_done(self) -> None:
        """A client may wait for this to know how its batch goes."""
        segment = self.queue[0]
        if segment.failed and segment.owes_sync:
            segment.sync(keep_script=True)
            self.send(messages.SYNC)
        listener = self._listener
        if listener is not None:
            listener.batch_answered()

    def on_orphaned_copy(self, segment: Segment) -> None:
        """Nobody will send the data: end the copy."""
        segment.end_copy()
        self.send(messages.copy_fail("client disconnected"))
        if segment.is_open:
            segment.sync(keep_script=True)
            self.send(messages.SYNC)

    def on_async(self, data: bytes) -> None:
        """Notices and notifications between queries go to the client, if there is one."""
        ear = self.ear
        is_notification = data[0] == codes.NOTIFICATION_RESPONSE
        if is_notification and ear is not None and not ear.hears(self, data):
            return
        if self.state is ServerState.IDLE and messages.is_farewell(data):
            self.pool.health.doubt()
            self.close()  # as above
            return
        listener = self._listener
        if listener is not None:
            listener.reply(data)

    def hears(self, notification: bytes) -> bool:
        """Ask the client whether it is to be told, if it listens elsewhere as well."""
        ear = self.ear
        if ear is None or not isinstance(self.queue[0].sink, PoolClient):
            return True  # the router's own: they come back by `on_async`
        return ear.hears(self, notification)

    def count(self, segment: Segment, now: float) -> Counters:
        """A segment of a client has been answered; returns what else there is to count."""
        counters = self.pool.counters
        # What was sent behind another statement was begun when that was over.
        served = now - max(self.began_at, segment.started)
        self.began_at = now
        self.query_count += 1
        counters.query_count += 1
        counters.query_time += now - segment.started
        if counters.place is not None and (segment.fingerprint is not None or segment.sqlstate):
            counters.place.note(segment, served, now, is_primary=self.pool.is_primary)
        return counters

    def count_transaction(self, seconds: float) -> None:
        """A transaction of a client is over, and has taken so long."""
        counters = self.pool.counters
        self.transaction_count += 1
        counters.xact_count += 1
        counters.xact_time += seconds
        if counters.place is not None:
            counters.place.note_transaction(seconds)

    # --- ending

    def attach(self, client: PoolClient) -> None:
        """Give the connection to a client."""
        self.client = client
        self.answered_before = self.query_count
        if self.link is not None:
            self.sent_before = self.link.sent

    def detach(self) -> None:
        """Take the connection from its client."""
        self.client = self.ear = None
        self.is_pinned = self._cancel_is_due = self.is_cancelled = False
        if self._paused:
            self.client_drained()

    def fail(self, error: RouterError) -> None:
        """Give the connection up, and tell each client what has become of its own."""
        affected: list[PoolClient] = []
        for segment in self.queue:
            sink = segment.sink
            if isinstance(sink, PoolClient) and sink not in affected:
                affected.append(sink)
        if self.client is not None and self.client not in affected:
            affected.append(self.client)
        # In the middle of a message nothing can be said, and a server that has said FATAL has
        # said it all; both concern the client that is being answered.
        heard_all = self.doomed or self.mid_message
        listener = self._listener
        is_unsent = self.link is not None and self.link.sent == self.sent_before
        unanswered = list(self.queue)
        self.close()
        for client in affected:
            segments = [segment for segment in unanswered if segment.sink is client]
            loss = Loss(self, segments, is_unsent=is_unsent)
            can_tell = client is not listener or not heard_all
            calls.lose(client, error, loss, can_tell=can_tell)

    def close(self) -> None:
        """Close the connection, politely if it is idle; harmless when closed already."""
        if self.state is ServerState.CLOSED:
            return
        self.client = None
        if self.pool.counters.place is not None:
            self.pool.counters.place.closed.take_in(self.statements)
        self.pool.remove(self)
        self.queue.clear()
        link, self.link = self.link, None
        if link is not None and not link.closed:
            link.write(messages.TERMINATE)
            link.close()

    @property
    def is_clean(self) -> bool:
        """Whether the next client would find nothing of the last one."""
        return (
            not self.queue
            and self.status == codes.IDLE
            and not self.marks
            and not self.needs_barrier
            and not self.columns_changed
            and not self.catalogue_changed
            and not self.cancels
            and not self.doomed
        )
