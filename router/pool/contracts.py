"""What pools and server connections need of others: their clients, and who does the I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from ..compiling import mypyc_attr
from ..protocol.segments import ReplySink
from ..protocol.variables import EMPTY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..errors import RouterError
    from ..protocol.frontend import ClientStream
    from ..protocol.naming import Change
    from ..protocol.prepared import Statement
    from ..protocol.segments import Segment
    from ..protocol.variables import Variables
    from ..routing.types import Analysis, Role
    from .address_pool import AddressPool
    from .leftovers import Leftovers
    from .line import Line
    from .server import ServerConnection


class Loss:
    """What a client has lost with a server connection.

    Attributes:
        server: the connection, which is closed.
        segments: those of the client that have not been answered in full.
        is_unsent: of all that was for the server since a client got it, nothing was sent.
    """

    __slots__ = ("is_unsent", "segments", "server")

    def __init__(
        self, server: ServerConnection, segments: list[Segment], *, is_unsent: bool
    ) -> None:
        self.server: Final = server
        self.segments: Final = segments
        self.is_unsent: Final = is_unsent


@mypyc_attr(allow_interpreted_subclasses=True)
class PoolClient(ReplySink):
    """A client as those see it that it waits for and that work for it.

    A class and not a Protocol, so that compiled code calls it directly.
    """

    __slots__ = ()

    # --- while it waits

    @property
    def startup(self) -> Variables:
        """The start-up parameters of a connection that is for one session."""
        return EMPTY

    def take_server(self, server: ServerConnection) -> bool:
        """Take a connection, or refuse it because it is not wanted any more."""
        raise NotImplementedError

    def checkout_failed(self, error: RouterError) -> None:
        """There will be no connection."""
        raise NotImplementedError

    def ask_anew(self) -> None:
        """Its place is gone: another pool may be there now, or what it waited for."""
        raise NotImplementedError

    # --- while a connection works for it

    @property
    def congested(self) -> bool:
        """Whether the client's output is above its high-water mark."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """The client's application_name."""
        raise NotImplementedError

    def server_parameter(self, name: str, value: str, swallowed: bool) -> None:
        """The server has reported a setting; `swallowed`: in answer to the router's own SET."""
        raise NotImplementedError

    def statement_named(self, change: Change) -> Statement[Analysis | None] | None:
        """Its SQL has changed what a name means; returns what that means now, if anything.

        None after a PREPARE: the statement cannot follow the client.
        """
        raise NotImplementedError

    def settings_reset(self, *, everything: bool) -> None:
        """The client's statement has brought settings, or all, to the server's defaults."""
        raise NotImplementedError

    def batch_answered(self) -> None:
        """All that was sent of an open batch is answered, or the server reads CopyData."""
        raise NotImplementedError

    def server_lost(self, error: RouterError, loss: Loss, *, can_tell: bool) -> None:
        """The server connection is gone, and with it what the client was doing.

        `can_tell`: the client is not in the middle of a message.
        """
        raise NotImplementedError

    # --- while others may use the connection as well

    @property
    def sharer(self) -> Sharer | None:
        """Who answers for what it shares; None: it lets nobody in, and goes behind nobody."""
        return None

    # --- while it holds a connection alone

    def transaction(self, now: float) -> tuple[float, str]:
        """How long the client's transaction has been open, in seconds; 0 without one.

        And the first word of what it has run last in it, or "".
        """
        raise NotImplementedError

    def expel(self, error: RouterError | None = None) -> None:
        """Send the client away, whatever it is doing; by default for a shutdown."""
        raise NotImplementedError

    def give_up(self) -> None:
        """Its code has raised what it must not: it ends, and so does its connection."""
        raise NotImplementedError

    def server_ready(self) -> None:
        """The server takes input again, or has answered something of the router's own."""
        raise NotImplementedError

    def settings_accepted(self) -> None:
        """The server has accepted the client's settings."""
        raise NotImplementedError

    def settings_refused(self, fields: dict[str, str]) -> None:
        """The server did not accept the client's settings; here is its ErrorResponse."""
        raise NotImplementedError

    def leftovers_told(self, server: ServerConnection, found: Leftovers | None) -> None:
        """The server has told what the client has left there; None: it could not.

        Or it has told, with None as well, where it is in the log.
        """
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Sharer:
    """What a client may share a connection for, as those see it who work for it.

    A class and not a Protocol, so that compiled code calls it directly.
    """

    __slots__ = ()

    @property
    def variables(self) -> Variables:
        """The settings that its statements need."""
        raise NotImplementedError

    def why_alone(self) -> str:
        """Why what it waits to send needs a connection alone; "" if it does not."""
        raise NotImplementedError

    def lets_in(self, server: ServerConnection) -> bool:
        """Whether others may use the connection that it has alone, behind what it has sent."""
        raise NotImplementedError

    def send_elsewhere(self, segment: Segment) -> None:
        """What it has sent there runs for nobody any more, and is to be sent once more."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Ear:
    """A client that listens to channels, as those know it who hear notifications.

    A class and not a Protocol, so that compiled code calls it directly.
    """

    __slots__ = ()

    def hears(self, server: ServerConnection, data: bytes) -> bool:
        """The client's server has a NotificationResponse: whether to pass it on."""
        raise NotImplementedError

    def notified(self, shard: int, name: bytes, data: bytes) -> bool:
        """The line of a shard has one; returns False if the client is not told."""
        raise NotImplementedError

    def line_lost(self, shard: int) -> None:
        """The line of a shard hears nothing any more."""
        raise NotImplementedError

    def missed(self, shard: int, notice: bytes) -> None:
        """The line is there again; a NoticeResponse says what may have been missed."""
        raise NotImplementedError

    def may_share(self) -> None:
        """The line is there, for what the client listens to at its own server."""
        raise NotImplementedError

    def dismissed(self, error: RouterError) -> None:
        """There is nothing to listen to any more."""
        raise NotImplementedError


class Connector(Protocol):
    """Who does the I/O, in tasks of its own."""

    def open(self, pool: AddressPool, startup: Variables | None) -> None:
        """Open a connection, then call `opened` or `open_failed`.

        It begins with a client's start-up parameters, or with the router's own if None.
        """

    def listen(
        self,
        pool: AddressPool,
        opened: Callable[[Line], None],
        failed: Callable[[RouterError], None],
    ) -> None:
        """Open a connection that listens, then call one of these."""

    def cancel(self, server: ServerConnection) -> None:
        """Send a cancel request for what the connection is doing, then call `cancel_done`."""


class PluginAnswer(Protocol):
    """What a statement is answered with that no server gets to see."""

    @property
    def columns(self) -> tuple[tuple[str, int], ...]:
        """Name and type oid of each column."""

    @property
    def parameters(self) -> int:
        """How many parameters the statement has."""

    def rows(self, formats: Sequence[int]) -> Sequence[bytes]:
        """The DataRows, each column in its format."""


class Inspector(Protocol):
    """Looks at the texts of statements before anything is done with them: plugins."""

    def note(self, sql: bytes) -> None:
        """A text is about to be run or prepared, or refused."""

    def answer(self, sql: bytes) -> PluginAnswer | None:
        """The answer to a text that is not for a server, or None."""

    def objection(self, sql: bytes, encoding: str) -> RouterError | None:
        """Why a text in the client's encoding must not reach a server, or None."""

    def objection_to_long(self) -> RouterError | None:
        """The same for a text that is too long to be looked at."""


class Waiter:
    """A client's place in the queue.

    Attributes:
        others: address pools to try if this one's server cannot be reached.
        fallback: the one to try if none of these is well, or None.
        role, is_read: what the client has asked for, see `Pool.checkout`.
        since, deadline: time.monotonic().
        is_served: it is no wait any more: what the client sends is acted on, see `feed`.
    """

    __slots__ = (
        "client",
        "deadline",
        "fallback",
        "is_read",
        "is_served",
        "others",
        "pool",
        "role",
        "since",
    )

    def __init__(
        self,
        client: PoolClient,
        others: list[AddressPool],
        since: float,
        deadline: float,
    ) -> None:
        self.client: Final = client
        self.others = others
        self.fallback: AddressPool | None = None
        self.role: Role | None = None
        self.is_read = False
        self.since: Final = since
        self.deadline = deadline
        self.pool: AddressPool | None = None
        self.is_served = False

    def feed(self, stream: ClientStream) -> bool:
        """Act on what a stream has found of its client's; False declines it."""
        return False

    def cancel(self) -> bool:
        """Leave the queue; False if the wait goes on, and its end will be told."""
        if self.pool is not None:
            self.pool.waiters.remove(self)
            self.pool = None
        return True
