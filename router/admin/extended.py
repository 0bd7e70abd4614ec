"""The extended query protocol of the admin database: prepared statements and portals.

No command takes parameters. A Sync ends all portals unless the client has opened a transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import ClientError
from ..protocol import binds, codes, messages
from ..protocol.framing import HEADER_SIZE
from ..protocol.portals import Answer, Portals, bound, described_statement
from .commands import find
from .replies import EMPTY, Console, Making, Order
from .statements import split

if TYPE_CHECKING:
    from collections.abc import Callable

# Prepared statements that a session may have, and portals.
NAMES_LIMIT: Final = 500


class Extended:
    """Answers Parse, Bind, Describe, Execute and Close."""

    def __init__(self, console: Console) -> None:
        self._console: Final = console
        self._statements: dict[bytes, Order] = {}
        self._portals: Final[Portals[Order]] = Portals(NAMES_LIMIT)
        self._answers: Final[dict[int, Callable[[bytes], bytes]]] = {
            codes.PARSE: self._parse,
            codes.BIND: self._bind,
            codes.DESCRIBE: self._describe,
            codes.CLOSE: self._close,
        }

    def answer(self, kind: int, message: bytes) -> bytes:
        """The reply to one of these messages; an Execute is not among them.

        Raises:
            RouterError: to be told to the client, who then is ignored until its next Sync.
        """
        return self._answers[kind](message)

    def sync(self) -> None:
        """End the portals, which end with their transaction."""
        if not self._console.state.in_block:
            self._portals.clear()

    def forget_unnamed(self) -> None:
        """A simple query ends the unnamed statement, and portals as a Sync does."""
        self._statements.pop(b"", None)
        self.sync()

    def _parse(self, message: bytes) -> bytes:
        name_end, text_end = binds.parse_ends(message, 0, len(message))
        name = message[HEADER_SIZE:name_end]
        # Types for parameters that the statement does not have: of no consequence.
        binds.declared_types(message[name_end + 1 :])
        if not name:
            self._statements.pop(name, None)  # even if this one fails, as in PostgreSQL
        found = split(message[name_end + 1 : text_end].decode("utf-8", "replace"))
        if len(found) > 1:
            raise ClientError(
                "cannot insert multiple commands into a prepared statement", sqlstate="42601"
            )
        order = find(found[0], self._console.database) if found else EMPTY
        if name in self._statements:
            raise ClientError(
                f'prepared statement "{_shown(name)}" already exists', sqlstate="42P05"
            )
        if len(self._statements) >= NAMES_LIMIT:
            raise ClientError(
                f"too many prepared statements: a client may have {NAMES_LIMIT} of them",
                sqlstate="54000",
                hint="Close statements that are not needed any more.",
            )
        self._statements[name] = order
        return messages.PARSE_COMPLETE

    def _bind(self, message: bytes) -> bytes:
        portal_end, name_end = binds.bind_ends(message, 0, len(message))
        portal, name = message[HEADER_SIZE:portal_end], message[portal_end + 1 : name_end]
        order = self._statement(name)
        self._portals.open(bound(order, name, portal, message[name_end + 1 :]))
        return messages.BIND_COMPLETE

    def _describe(self, message: bytes) -> bytes:
        kind, name = binds.target(message, 0, len(message))
        if kind == binds.STATEMENT:
            return described_statement(self._statement(name))
        if kind == binds.PORTAL:
            return self._portals.get(name).described()
        raise binds.no_target(codes.DESCRIBE, kind)

    def execution(self, message: bytes) -> tuple[Making | None, Callable[[Answer], bytes]]:
        """Begin with an Execute.

        Returns:
            The answer that is to be made, unless the portal has it; and what makes the reply
            of it.

        Raises:
            RouterError: as `answer`.
        """
        name, limit = binds.execution(message, 0, len(message))
        portal = self._portals.get(name)
        making = None
        if not portal.has_run:
            portal.check_formats()
            making = portal.statement.begin(self._console, portal.formats)
        return making, lambda answer: portal.execute(limit, lambda: answer)

    def _close(self, message: bytes) -> bytes:
        kind, name = binds.target(message, 0, len(message))
        if kind == binds.STATEMENT:
            self._statements.pop(name, None)
        elif kind == binds.PORTAL:
            self._portals.close(name)
        else:
            raise binds.no_target(codes.CLOSE, kind)
        return messages.CLOSE_COMPLETE

    def _statement(self, name: bytes) -> Order:
        order = self._statements.get(name)
        if order is None:
            named = (
                f'prepared statement "{_shown(name)}"' if name else "unnamed prepared statement"
            )
            raise ClientError(f"{named} does not exist", sqlstate="26000")
        return order


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "replace")
