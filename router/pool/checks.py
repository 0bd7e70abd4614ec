"""Asking each server how it is, on a connection of its own. Control plane: a task a server.

A check connects, logs in, asks and leaves: so it costs the server no connection that stays, and
finds out whether new ones can be had. What comes of it is `ServerHealth`'s affair.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from ..errors import RouterError
from ..protocol import messages
from . import refusals
from .connect import connect_to, deliver_cancel, explained, log_in
from .facts import QUESTION, facts_of
from .query import LoginQueries

if TYPE_CHECKING:
    from ..engine.loop import Engine
    from .address_pool import AddressPool
    from .facts import Facts
    from .health import Healths, ServerHealth

log = logging.getLogger("router.pool")

# What servers see in pg_stat_activity.
NAME: Final = "pgcat check"


async def watch(engine: Engine, healths: Healths) -> None:
    """Check all servers, each on its own schedule, for ever."""
    async with trio.open_nursery() as nursery:
        watched: set[ServerHealth] = set()
        while True:
            news = healths.news
            for health in healths:
                if health not in watched:
                    watched.add(health)
                    nursery.start_soon(_watch, engine, health, watched)
            await news.wait()


async def _watch(engine: Engine, health: ServerHealth, watched: set[ServerHealth]) -> None:
    """Check one server until nobody uses it."""
    try:
        while health.parts:
            with trio.move_on_after(health.pause()):
                await health.wanted.wait()
            if not health.parts:
                break
            await check(engine, health)
            await trio.sleep(health.least_pause)
    finally:
        watched.discard(health)


async def check(engine: Engine, health: ServerHealth) -> None:
    """Ask a server once, and tell its health what came of it."""
    part = _spokesman(health)
    heard, began = health.begin_check(), engine.now
    failure: RouterError | None = None
    facts: Facts | None = None
    try:
        facts = await _ask(part)
    except RouterError as error:
        if refusals.is_of_server(error):
            failure = error
        # Else it wants nothing of this user, which is an answer.
    except Exception:
        log.exception("cannot check %s", health.name)
    took = engine.now - began

    def tell() -> None:
        if failure is None:
            health.answered(facts, took)
        else:
            health.unanswered(failure, heard, took)

    engine.run_in_round(tell)


def _spokesman(health: ServerHealth) -> AddressPool:
    """Whose credentials to use: those that work, else others each time."""
    parts = [part for part in health.parts if not part.retired] or health.parts
    known = next((part for part in parts if part.servers()), None)
    return known or parts[health.checks % len(parts)]


async def _ask(part: AddressPool) -> Facts | None:
    """Connect, log in, ask, leave.

    Raises:
        ServerError: see `open_server`.
    """
    limit = part.settings.healthcheck_timeout
    with explained(part), trio.fail_after(limit):
        wire = await connect_to(part)
        try:
            key, _ = await log_in(part, wire, NAME)
            cancel = partial(deliver_cancel, part, *key, wire.ip)
            answer = await LoginQueries(wire, time_limit=limit, cancel=cancel).run(QUESTION)
            wire.send_at_once(messages.TERMINATE)
            return facts_of(answer.rows)
        finally:
            wire.close()
