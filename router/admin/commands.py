"""The commands of the admin database: write a function, decorate it, and it is there.

A command is found by its first word, the SHOW ones by their first two. What may follow is
part of its declaration, nothing if that does not say; anything else is an error, never ignored.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, TypeVar

from ..errors import ConfigError, RouterError
from ..protocol import messages
from . import assignments, show
from .courtesies import courtesy
from .replies import Command, Form, Order, Reply, Run, anything, nothing
from .statements import keyword, name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..stats import (
        AddressSnapshot,
        ClientSnapshot,
        HealthSnapshot,
        PoolSnapshot,
        RoutingSnapshot,
        ServerSnapshot,
        ShardedSnapshot,
    )
    from .replies import Console
    from .show import Column, ConfigRow, ListRow
    from .statements import Statement, Words

log = logging.getLogger("router.admin")

S = TypeVar("S")


_COMMANDS: Final[dict[str, Command]] = {}


def command(
    name: str, form: Form = nothing, *, is_for_all: bool = False
) -> Callable[[Run], Run]:
    """Make a function the command `name`, which returns no rows."""

    def register(function: Run) -> Run:
        tag = name.partition(" ")[0]
        _COMMANDS[name] = Command(name, None, function, form, tag, is_for_all)
        return function

    return register


def table(
    name: str, columns: tuple[Column[S], ...], form: Form = nothing
) -> Callable[
    [Callable[[Console, Words], Iterable[S]]], Callable[[Console, Words], Iterable[S]]
]:
    """Make a function the command `name`, whose rows come of the snapshots that it returns."""

    def register(
        function: Callable[[Console, Words], Iterable[S]],
    ) -> Callable[[Console, Words], Iterable[S]]:
        def run(console: Console, words: Words) -> Reply:
            return Reply(show.rows(columns, function(console, words)))

        tag = name.partition(" ")[0]
        _COMMANDS[name] = Command(
            name, show.headings(columns), run, form, tag, is_for_all=tag == "SHOW"
        )
        return function

    return register


def find(statement: Statement) -> Order:
    """What a statement asks for.

    Raises:
        ClientError: it is no command, or not in the form of it.
    """
    first, *rest = statement.words
    command_name = keyword(first)
    if command_name == "SHOW" and rest:
        command_name = f"SHOW {keyword(name(rest.pop(0)) or '')}"
    found = _COMMANDS.get(command_name)
    if found is not None and found.form(tuple(rest)):
        return Order(found, tuple(rest))
    order = courtesy(statement)
    if order is None:
        raise statement.invalid()
    return order


def all_commands() -> list[Command]:
    """All of them, in the order of their declaration."""
    return list(_COMMANDS.values())


# --- looking


@command("SHOW HELP", is_for_all=True)
def _help(_console: Console, _arguments: Words) -> Reply:
    usage = (
        "SHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION",
        "SHOW LISTS",
        "SHOW HEALTH|ROUTING|SHARDED_TABLES",
        "SHOW STATS",
        "SET key = arg",
        "RELOAD",
        "SHUTDOWN",
    )
    detail = "".join(f"\n\t{line}" for line in usage)
    return Reply([], messages.notice_response("Console usage", detail=detail))


@table("SHOW CONFIG", show.CONFIG)
def _config(console: Console, _arguments: Words) -> list[ConfigRow]:
    return console.settings()


@table("SHOW DATABASES", show.DATABASES)
def _databases(console: Console, _arguments: Words) -> list[AddressSnapshot]:
    return console.view.addresses()


@table("SHOW POOLS", show.POOLS)
def _pools(console: Console, _arguments: Words) -> list[PoolSnapshot]:
    return console.view.pools()


@table("SHOW CLIENTS", show.CLIENTS)
def _clients(console: Console, _arguments: Words) -> list[ClientSnapshot]:
    return console.view.clients()


@table("SHOW SERVERS", show.SERVERS)
def _servers(console: Console, _arguments: Words) -> list[ServerSnapshot]:
    return console.view.servers()


@table("SHOW HEALTH", show.HEALTH)
def _health(console: Console, _arguments: Words) -> list[HealthSnapshot]:
    return console.view.health()


@table("SHOW ROUTING", show.ROUTING)
def _routing(console: Console, _arguments: Words) -> list[RoutingSnapshot]:
    return console.view.routing()


@table("SHOW SHARDED_TABLES", show.SHARDED_TABLES)
def _sharded(console: Console, _arguments: Words) -> list[ShardedSnapshot]:
    return console.view.sharded()


@table("SHOW USERS", show.USERS)
def _users(console: Console, _arguments: Words) -> list[PoolSnapshot]:
    return console.view.pools()


@table("SHOW VERSION", show.VERSION)
def _version(_console: Console, _arguments: Words) -> list[str]:
    return [show.PRODUCT]


@table("SHOW LISTS", show.LISTS)
def _lists(console: Console, _arguments: Words) -> list[ListRow]:
    view = console.view
    return show.lists(view.pools(), view.addresses(), view.clients())


@table("SHOW STATS", show.STATS)
def _stats(console: Console, _arguments: Words) -> list[AddressSnapshot]:
    return console.view.addresses()


# --- doing


@command("SET", assignments.is_assignment, is_for_all=True)
def _set(_console: Console, arguments: Words) -> Reply:
    assignments.check(arguments)
    return Reply([], messages.notice_response("SET ignored"))


@command("RELOAD")
def _reload(console: Console, _arguments: Words) -> Reply:
    log.info("%s: RELOAD", console.who)
    try:
        console.actions.reload()
    except ConfigError as error:
        log.error("reload failed, the old configuration stays: %s", error.line)
        raise
    return Reply([])


@table("SHUTDOWN", show.SHUTDOWN)
def _shutdown(console: Console, _arguments: Words) -> list[bool]:
    log.info("%s: SHUTDOWN", console.who)
    console.actions.shutdown()
    return [True]


def _not_yet(future: str) -> None:
    @command(future, anything)
    def refuse(_console: Console, _arguments: Words) -> Reply:
        raise RouterError(f"{future} is not supported yet", sqlstate="0A000")


for _name in ("PAUSE", "RESUME", "BAN", "UNBAN", "SHOW BANS"):
    _not_yet(_name)
