"""Where a client waits that is not let in before it has its server, and is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import RouterError, StartupRefused
from ..routing.types import Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..pool.server import ServerConnection
    from .client_routing import ClientRouting
    from .failures import Failures


class Entrance:
    """The entrance of one session.

    Attributes:
        is_shut: the client has not been let in yet.
        route: to its server, if that is known by something else than where statements go.
    """

    __slots__ = ("_failures", "_let_in", "_routing", "is_shut", "route")

    def __init__(self, routing: ClientRouting, failures: Failures) -> None:
        self._routing: Final = routing
        self._failures: Final = failures
        self._let_in: Callable[[ServerConnection], None] | None = None
        self.is_shut = False
        self.route: Route | None = None

    def shut(self, let_in: Callable[[ServerConnection], None]) -> None:
        """Have the client wait until there is a server; `let_in` is told of that."""
        self.is_shut, self._let_in = True, let_in

    def ask(self) -> bool:
        """Ask for a server, before anybody knows what for; False if the client is in."""
        if not self.is_shut:
            return False
        lease, router = self._routing.lease, self._routing.router
        try:
            found = self.route or router.route_unknown(self._routing.state)
            # Not counted: it is no statement.
            server = lease.request(Route(found.role, found.shard, found.reason))
        except RouterError as error:
            lease.holder.checkout_failed(error)
            return True
        if server is not None:
            lease.holder.settings_accepted()
        return True

    def open(self, server: ServerConnection) -> None:
        """The server is there: let the client in."""
        lease = self._routing.lease
        self.is_shut = lease.has_come = False
        if self._let_in is not None:
            self._let_in(server)
        if not lease.keeps_server:
            lease.release(server)  # the router is going away, or the pool is another one now

    def bars(self, error: RouterError) -> bool:
        """Whether a client that gets no server is sent away for it."""
        if self.is_shut or isinstance(error, StartupRefused):
            self._failures.note(error)
            return True
        return False
