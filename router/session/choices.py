"""Carrying out the routing commands of a session: what they may change, and when.

A choice holds from the next statement that asks for a server. A session that holds one (in a
transaction, in a batch, or for good in session mode) cannot be given another. So a choice that
this server would not do for is refused; it is never silently put off.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ..errors import RoutingError
from ..protocol import codes
from ..routing.commands import Verb
from ..routing.types import Role, RoleChoice

if TYPE_CHECKING:
    from ..pool.server import ServerConnection
    from ..routing.commands import Command, Wording
    from ..routing.state import RoutingState
    from ..routing.types import CommandReply, RouterOptions
    from .session import Session

_random: Final = random.Random()


def in_transaction(command: str) -> RoutingError:
    """Why a command cannot be run now."""
    return RoutingError(
        f"{command} cannot run inside a transaction block",
        sqlstate="25001",
        hint="Send it before BEGIN or after the transaction.",
    )


def choose(session: Session, wording: Wording, value: str | None = None) -> CommandReply:
    """Carry out a routing command; `value` is that of its parameter.

    Raises:
        RoutingError: it cannot be; nothing has changed.
    """
    options, state, server = session.pool.router.options, session.routing, session.server
    sharder = session.pool.router.sharder
    command = wording.command(value, shards=options.shard_count, sharder=sharder)
    if wording.is_show:
        return state.execute(command, options, _random, sharder)
    before = state.choices
    is_any = command.verb is Verb.SET_SHARD and command.number is None
    if server is not None and is_any and not command.is_unset:
        # Any shard will do, so the one in use does.
        command = replace(command, number=server.pool.address.shard)
    reply = state.execute(command, options, _random, sharder)
    if server is not None:
        error = _objection(session, server, command, changed=state.choices != before)
        if error is not None:
            state.restore(before)
            raise error
        if command.is_unset and state.choices != before:
            session.is_moving = True
    session.set_pipelining()
    return reply


def _objection(
    session: Session, server: ServerConnection, command: Command, *, changed: bool
) -> RoutingError | None:
    """Why the choice, which has been made, cannot stand while the session has this server."""
    if not changed:
        return None
    is_excluded = _excludes(session.routing, session.pool.router.options, server)
    if server.status != codes.IDLE:
        is_shard = command.verb in (Verb.SET_SHARD, Verb.SET_SHARDING_KEY)
        if is_excluded or not is_shard:
            return in_transaction(command.words)
        return None
    if not is_excluded:
        return None
    if session.pool.is_session_mode or session.pinned:
        address = server.pool.address
        role = Role.PRIMARY if address.is_primary else Role.REPLICA
        return RoutingError(
            f"{command.words} cannot take effect: the session keeps its server, "
            f"the {role.value} of shard {address.shard}, until it ends",
            sqlstate="55006",
            hint="Choose before the session's first statement, use another connection, "
            'or pool_mode = "transaction".',
        )
    # In a batch of which a part has been sent: what is left of it follows.
    return RoutingError(
        f"{command.words} cannot run behind other statements of its batch",
        sqlstate="25001",
        hint="Send a Sync before it.",
    )


def _excludes(state: RoutingState, options: RouterOptions, server: ServerConnection) -> bool:
    """Whether the choices forbid the server; its statements may forbid it besides."""
    address = server.pool.address
    if options.shard_count > 1 and state.shard not in (None, address.shard):
        return True
    role = state.role
    if (
        role is None
        and state.choice is RoleChoice.DEFAULT
        and not (options.parser_enabled and options.read_write_splitting)
    ):
        role = options.default_role
    return role is not None and (role is Role.PRIMARY) is not address.is_primary
