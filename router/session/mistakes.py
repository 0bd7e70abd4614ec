"""What can be wrong with a client's messages about statements, and how many it may have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import ClientProtocolError
from ..protocol import portals

if TYPE_CHECKING:
    from ..errors import RouterError

# What one client may have prepared at a time.
MAX_STATEMENTS: Final = 20_000
MAX_STATEMENT_BYTES: Final = 64 << 20
# And so many portals of the router's own statements.
MAX_PORTALS: Final = 1000


def exists(name: bytes) -> RouterError:
    """What PostgreSQL says of a name that is taken."""
    text = name.decode("utf-8", "replace")
    return ClientProtocolError(f'prepared statement "{text}" already exists', sqlstate="42P05")


def unknown_statement(name: bytes) -> ClientProtocolError:
    """What PostgreSQL says of a name that nobody has prepared."""
    text = name.decode("utf-8", "replace")
    return ClientProtocolError(f'prepared statement "{text}" does not exist', sqlstate="26000")


def too_many_portals() -> RouterError:
    """There is no room for another portal."""
    return portals.too_many_portals(MAX_PORTALS)


def too_many() -> RouterError:
    """There is no room for another statement."""
    return ClientProtocolError(
        f"too many prepared statements: a client may have {MAX_STATEMENTS} of them "
        f"and {MAX_STATEMENT_BYTES >> 20} MB of text",
        sqlstate="54000",
        hint="Close statements that are not needed any more.",
    )
