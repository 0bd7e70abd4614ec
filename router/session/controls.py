"""BEGIN, COMMIT and their kin, as statements that the router answers for want of a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..config.values import Deferring
from ..errors import RoutingError
from ..protocol import messages
from ..protocol.portals import Answer
from ..protocol.prepared import UNREAD
from ..routing import transactions
from ..routing.transactions import TransactionKind, TransactionStatement
from .answered import AnsweredStatement
from .transaction import Deferred, transaction_failed

if TYPE_CHECKING:
    from .answered import AnsweredPortal, PreparedStatement
    from .client_routing import ClientRouting
    from .lease import Lease

# More savepoints than that are the business of a server.
_MOST_SAVEPOINTS: Final = 50

# What is allowed in a transaction that has failed.
ENDS: Final = (
    TransactionKind.COMMIT,
    TransactionKind.ROLLBACK,
    TransactionKind.ROLLBACK_TO,
    TransactionKind.NOTHING,
)
_NO_TYPES: Final = b"\0\0\0"

_OFF: Final = Deferring.OFF  # looked up once: it is asked for with every Parse


class TransactionControl(AnsweredStatement):
    """A statement that begins or ends a transaction of which no server knows."""

    __slots__ = ("_wanted",)

    def __init__(self, wanted: TransactionStatement) -> None:
        super().__init__()
        self._wanted: Final = wanted

    @property
    def ends_failed(self) -> bool:
        """Whether it is one of those that are allowed in a transaction that has failed."""
        # An empty one can be prepared there, but not bound.
        return self._wanted.control in ENDS and not self.is_empty

    @property
    def is_empty(self) -> bool:
        """Whether it does nothing."""
        return self._wanted.control is TransactionKind.NOTHING

    def applies(self, routing: ClientRouting) -> bool:
        """Whether it needs no server now; else it is like any other."""
        lease, wanted = routing.lease, self._wanted
        if lease.server is not None:
            return False
        deferred = lease.deferred
        if deferred is None:
            return wanted.control is TransactionKind.BEGIN and self._may_be_deferred(routing)
        if deferred.has_failed:
            return True
        if wanted.chains and deferred.has_modes:
            return False  # what the next one inherits is not for us to say
        if wanted.control is TransactionKind.SAVEPOINT:
            return len(deferred.savepoints) < _MOST_SAVEPOINTS
        # In a savepoint it is not for us to say which modes can still be changed.
        return not (deferred.savepoints and wanted.has_modes)

    def _may_be_deferred(self, routing: ClientRouting) -> bool:
        wanted, pool = self._wanted, routing.lease.pool
        if wanted.has_comment and routing.router.reads_comments:
            return False  # the comment says where it goes
        if pool.deferring is Deferring.READ_ONLY:
            lease = routing.lease
            deferred = Deferred(wanted, routing.state, lease.engine.now)
            return deferred.fits_replicas(lease.settings.variables.values)
        return pool.deferring is Deferring.ALL

    def run(self, routing: ClientRouting, portal: AnsweredPortal) -> Answer:
        lease, wanted = routing.lease, self._wanted
        deferred, control = lease.deferred, wanted.control
        if not self.applies(routing):
            raise RoutingError("the portal was bound in another transaction", sqlstate="55000")
        if deferred is None:
            lease.deferred = Deferred(wanted, routing.state, lease.engine.now)
            routing.state.is_under_way = True
            return Answer(None, wanted.tag)
        if deferred.has_failed and control not in ENDS:
            raise transaction_failed()
        if control in (TransactionKind.COMMIT, TransactionKind.ROLLBACK):
            tag = "ROLLBACK" if deferred.has_failed else wanted.tag
            if wanted.chains:
                deferred.begin_anew(lease.engine.now)
            else:
                lease.deferred = None
                if lease.listening is not None:
                    lease.listening.flush()
                routing.end_transaction()
            return Answer(None, tag)
        if control in (TransactionKind.BEGIN, TransactionKind.SET):
            deferred.set_modes(wanted)
            return Answer(None, wanted.tag, _warning(routing, control))
        if control is TransactionKind.SAVEPOINT:
            deferred.savepoints.append(wanted.name)
        elif control is not TransactionKind.NOTHING:
            _go_back(deferred, wanted)
        return Answer(None, wanted.tag)


def _warning(routing: ClientRouting, control: TransactionKind) -> bytes:
    values = routing.lease.settings.variables.values
    if (
        control is TransactionKind.SET
        or values.get("client_min_messages", "").lower() in _SILENT
    ):
        return b""
    text = "there is already a transaction in progress"
    return messages.notice_response(text, "25001", severity="WARNING")


# The values of client_min_messages that keep warnings from a client.
_SILENT: Final = ("error", "fatal", "panic")


def _go_back(deferred: Deferred, wanted: TransactionStatement) -> None:
    """RELEASE or ROLLBACK TO.

    Raises:
        RoutingError: there is no such savepoint.
    """
    savepoints = deferred.savepoints
    if wanted.name not in savepoints:
        name = wanted.name.strip('"')
        raise RoutingError(f'savepoint "{name}" does not exist', sqlstate="3B001")
    while savepoints[-1] != wanted.name:
        savepoints.pop()
    if wanted.control is TransactionKind.RELEASE:
        savepoints.pop()
    else:
        deferred.has_failed = False


def may_answer(lease: Lease) -> bool:
    """Whether there can be a statement of these that needs no server now.

    A transaction that has begun goes on so, whatever a reload has made of its pool.
    """
    return lease.server is None and (
        lease.deferred is not None or lease.pool.deferring is not _OFF
    )


def control_in(routing: ClientRouting, sql: bytes) -> TransactionControl | None:
    """The text of a Query, if it is one of these and needs no server now."""
    if not may_answer(routing.lease):
        return None
    wanted = transactions.read(sql)
    if wanted is None:
        return None
    control = TransactionControl(wanted)
    return control if control.applies(routing) else None


def control_of(statement: PreparedStatement) -> TransactionStatement | None:
    """What a prepared statement does to transactions, if it is there for that."""
    if statement.control is UNREAD:
        has_types = not statement.body.endswith(_NO_TYPES)
        is_one = not (has_types or isinstance(statement, AnsweredStatement) or statement.rest)
        statement.control = transactions.read(statement.text) if is_one else None
    found = statement.control
    return found if isinstance(found, TransactionStatement) else None
