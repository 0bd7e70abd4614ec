"""Where a server connection is, and what may follow what."""

from __future__ import annotations

from enum import Enum


class ServerState(Enum):
    """Where a server connection is; LOGIN and CLOSED are outside of its pool."""

    successors: tuple[ServerState, ...]

    LOGIN = "login"
    """Not yet given to its pool."""
    IDLE = "idle"
    """Logged in, clean, nobody's."""
    ACTIVE = "active"
    """Attached to a client."""
    TESTED = "tested"
    """Being cleaned or checked before the next client may have it."""
    CLOSED = "closed"
    """Gone."""


# What may follow what; identity decides, so that a look-up costs no hashing.
ServerState.IDLE.successors = (ServerState.ACTIVE, ServerState.TESTED, ServerState.CLOSED)
ServerState.ACTIVE.successors = (ServerState.IDLE, ServerState.TESTED, ServerState.CLOSED)
ServerState.TESTED.successors = (ServerState.IDLE, ServerState.ACTIVE, ServerState.CLOSED)
ServerState.LOGIN.successors = (ServerState.ACTIVE, ServerState.CLOSED)
ServerState.CLOSED.successors = ()
