"""Asking each server how it is, on a connection of its own. Control plane: a task a server.

A check connects, logs in, asks and leaves: so it costs the server no connection that stays, and
finds out whether new ones can be had. What comes of it is `ServerHealth`'s affair.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from ..engine.dial import resolve
from ..errors import RouterError
from ..protocol import messages
from . import refusals
from .connect import Guide, connect_to, deliver_cancel, explained, is_spread, log_in
from .facts import QUESTION, facts_of
from .names import is_name
from .query import LoginQueries

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..engine.loop import Engine
    from .address_pool import AddressPool
    from .facts import Facts
    from .health import Healths, ServerHealth

    Outcome = Facts | RouterError | None

log = logging.getLogger("router.pool")

# What servers see in pg_stat_activity.
NAME: Final = "pgcat check"
# How many of a host's addresses are asked at a time.
_MOST_AT_A_TIME: Final = 8


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
            try:
                await check(engine, health)
            except Exception:
                log.exception("cannot check %s", health.name)
            await trio.sleep(health.least_pause)
    finally:
        watched.discard(health)


async def check(engine: Engine, health: ServerHealth) -> None:
    """Ask a server once, and tell its health what came of it."""
    part = _spokesman(health)
    addresses = await _addresses(part)
    heard, began = health.begin_check(), engine.now
    heard_at = {ip: health.heard_at(ip) for ip in addresses}
    outcomes: dict[str, Outcome] = {}
    places = trio.CapacityLimiter(_MOST_AT_A_TIME)

    async def ask(ip: str) -> None:
        async with places:
            outcomes[ip] = await _outcome(part, ip)

    async with trio.open_nursery() as nursery:
        for ip in addresses or [""]:
            nursery.start_soon(ask, ip)
    took = engine.now - began

    def tell() -> None:
        failures = {ip: each for ip, each in outcomes.items() if isinstance(each, RouterError)}
        if len(failures) == len(outcomes):
            health.unanswered(next(iter(failures.values())), heard, took)
            return
        health.answered(_facts_of_all(outcomes.values()), took)
        for ip, heard_there in heard_at.items():
            if ip in failures:
                health.unanswered_at(ip, failures[ip], heard_there)
            else:
                health.answered_at(ip)

    engine.run_in_round(tell)


async def _addresses(part: AddressPool) -> list[str]:
    """The addresses of a host that are to be asked each; none if one will do for all."""
    host, port = part.address.host, part.address.port
    if not is_spread(part) or not is_name(host):
        return []
    found: list[str] = []
    with trio.move_on_after(part.settings.healthcheck_timeout), suppress(OSError, UnicodeError):
        found = list(await resolve(host, port))
    if len(found) < 2:
        return []
    part.health.addresses.note(found)
    return found


async def _outcome(part: AddressPool, ip: str) -> Outcome:
    """What a server tells, or what is the matter with it; None if it does not tell."""
    try:
        return await _ask(part, ip)
    except RouterError as error:
        if refusals.is_of_server(error):
            return error
        # Else it wants nothing of this user, which is an answer.
    except Exception:
        log.exception("cannot check %s", part.health.name)
    return None


def _facts_of_all(outcomes: Iterable[Outcome]) -> Facts | None:
    """Of several servers behind one name, those of the one that is furthest behind."""
    told = [each for each in outcomes if each is not None and not isinstance(each, RouterError)]
    return min(told, key=lambda facts: (not facts.is_standby, facts.position), default=None)


def _spokesman(health: ServerHealth) -> AddressPool:
    """Whose credentials to use: those that work, else others each time."""
    parts = [part for part in health.parts if not part.retired] or health.parts
    known = next((part for part in parts if part.servers()), None)
    return known or parts[health.checks % len(parts)]


async def _ask(part: AddressPool, ip: str) -> Facts | None:
    """Connect, log in, ask, leave.

    Raises:
        ServerError: see `open_server`.
    """
    limit = part.settings.healthcheck_timeout
    with explained(part), Guide(part) as guide, trio.fail_after(limit):
        wire = await connect_to(part, ip or guide)
        try:
            key, _ = await log_in(part, wire, NAME)
            cancel = partial(deliver_cancel, part, *key, wire.ip)
            answer = await LoginQueries(wire, time_limit=limit, cancel=cancel).run(QUESTION)
            wire.send_at_once(messages.TERMINATE)
            return facts_of(answer.rows)
        finally:
            wire.close()
