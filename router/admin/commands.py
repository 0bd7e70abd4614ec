"""The commands of the admin database: write a function, decorate it, and it is there.

A command is found by its first word, the SHOW ones by their first two. What may follow is
part of its declaration, nothing if that does not say; anything else is an error, never ignored.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ..errors import ClientError, ConfigError
from ..pool.control import Selection
from ..printable import printable
from ..protocol import messages
from ..records import fields
from . import assignments, bans, plans, show, shows
from .courtesies import courtesy
from .registry import BOUNCER, COMMANDS, command, table
from .replies import Order, Reply
from .statements import keyword, name
from .verbs import listed, named

if TYPE_CHECKING:
    from ..pool.health import ServerHealth
    from ..snapshots import BanSnapshot
    from .replies import Console
    from .statements import ConsoleStatement, Words

log = logging.getLogger("router.admin")

_PAUSE: Final = "PAUSE [database [, user]]"
_PAUSE_SERVER: Final = "PAUSE SERVER host[:port]"
_RESUME: Final = "RESUME [database [, user]]"
_RESUME_SERVER: Final = "RESUME SERVER host[:port]"
_WAITS: Final = ("WAIT_FOR_SERVERS", "WAIT_FOR_CLIENTS", "IMMEDIATE")


def find(statement: ConsoleStatement, database: str = "pgcat") -> Order:
    """What a statement asks for, in one of the two admin databases.

    Raises:
        ClientError: it is no command, or not in the form of it.
    """
    first, *rest = statement.words
    command_name = keyword(first)
    if [keyword(word) for word in rest] == ["DRY", "RUN"]:
        command_name, rest = f"{command_name} DRY RUN", []
    if command_name == "SHOW" and rest:
        command_name = f"SHOW {keyword(name(rest.pop(0)) or '')}"
    found = COMMANDS.get(command_name)
    if database == "pgbouncer":
        found = BOUNCER.get(command_name, found)
    if found is not None and found.form(tuple(rest)):
        return Order(found, tuple(rest))
    if found is not None and found.usage:
        raise ClientError(f"usage: {found.usage}", hint="SHOW HELP lists the commands.")
    order = courtesy(statement)
    if order is None:
        raise statement.invalid()
    return order


@command("SHOW HELP", is_for_all=True)
def _help(_console: Console, _arguments: Words) -> Reply:
    usage = (
        *shows.USAGE,
        "SET key = arg",
        "RELOAD [DRY RUN]",
        _PAUSE,
        _PAUSE_SERVER,
        _RESUME,
        _RESUME_SERVER,
        "RECONNECT [database [, user]]",
        "WAIT_CLOSE [database [, user]]",
        "KILL [database [, user]]",
        "KILL_CLIENT client_id",
        "BAN host[:port] seconds|FOREVER",
        "UNBAN host[:port]",
        "DISABLE database",
        "ENABLE database",
        "RESET STATS",
        "SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS|IMMEDIATE]",
    )
    detail = "".join(f"\n\t{line}" for line in usage)
    return Reply([], messages.notice_response("Console usage", detail=detail))


# --- doing


@command("SET", assignments.is_assignment, is_for_all=True)
def _set(_console: Console, arguments: Words) -> Reply:
    assignments.check(arguments)
    return Reply([], messages.notice_response("SET ignored"))


@command("RELOAD")
def _reload(console: Console, _arguments: Words) -> Reply:
    console.note("RELOAD")
    try:
        console.actions.reload()
    except ConfigError as error:
        more = fields(user=console.user, client=console.peer, sqlstate=error.sqlstate)
        log.error("reload failed, the old configuration stays: %s", error.line, extra=more)
        raise
    return Reply([])


@table("RELOAD DRY RUN", plans.COLUMNS, is_for_all=True)
def _dry_run(console: Console, _arguments: Words) -> list[plans.PlanRow]:
    return plans.rows(console.actions.plan(), console.view)


def _is_shutdown(arguments: Words) -> bool:
    return not arguments or (len(arguments) == 1 and keyword(arguments[0]) in _WAITS)


@command("SUSPEND")
def _suspend(_console: Console, _arguments: Words) -> Reply:
    raise ClientError(
        "SUSPEND is not supported",
        sqlstate="0A000",
        hint="The signal SIGUSR2 restarts the router without losing a client; PAUSE closes the"
        " connections to servers and lets clients wait.",
    )


@table("SHUTDOWN", show.SHUTDOWN, _is_shutdown)
def _shutdown(console: Console, arguments: Words) -> list[bool]:
    wait_for = keyword(arguments[0]) if arguments else ""
    console.note("SHUTDOWN", "%s", wait_for)
    console.actions.shutdown(wait_for)
    return [True]


# --- servers


@command("BAN", bans.is_ban, usage=bans.BAN_USAGE, columns=bans.ADDRESSES)
def _ban(console: Console, arguments: Words) -> Reply:
    server, seconds = bans.server(arguments), bans.duration(arguments)
    news = console.actions.verbs.ban(server, seconds)
    console.note(
        "BAN", "of %s for %g s", printable(server), seconds, server=server, seconds=seconds
    )
    told = b"" if news else _told("it was banned already; the ban counts from now on")
    return Reply(show.rows(bans.ADDRESSES, _bans_of(console, news)), told)


@command("UNBAN", bans.is_server, usage=bans.UNBAN_USAGE, columns=bans.ADDRESSES)
def _unban(console: Console, arguments: Words) -> Reply:
    server, verbs = bans.server(arguments), console.actions.verbs
    found = _bans_of(console, verbs.banned(server))
    verbs.unban(server)
    console.note("UNBAN", "of %s", printable(server), server=server)
    told = b"" if found else _told("it was not banned")
    return Reply(show.rows(bans.ADDRESSES, found), told)


def _bans_of(console: Console, servers: list[ServerHealth]) -> list[BanSnapshot]:
    names = {(server.host, server.port) for server in servers}
    return [ban for ban in console.view.bans() if (ban.host, ban.port) in names]


# --- pools, clients and servers


def _is_selection(arguments: Words) -> bool:
    """Whether it is nothing, a database, or a database and a user."""
    return not arguments or _is_database(arguments) or _is_pool(arguments)


def _is_database(arguments: Words) -> bool:
    return len(arguments) == 1 and name(arguments[0]) is not None


def _is_pool(arguments: Words) -> bool:
    match arguments:
        case (database, ",", user):
            return name(database) is not None and name(user) is not None
    return False


def _selection(arguments: Words) -> Selection:
    return Selection(*(name(word) for word in arguments if word != ","))


def _told(text: str) -> bytes:
    return messages.notice_response(text)


def _is_pausable(arguments: Words) -> bool:
    return _is_selection(arguments) or _is_named_server(arguments)


def _is_named_server(arguments: Words) -> bool:
    """Whether it is the word SERVER and a server."""
    return (
        len(arguments) == 2
        and keyword(arguments[0]) == "SERVER"
        and bans.is_server(arguments[1:])
    )


def _pause_server(console: Console, server: str) -> Reply:
    servers = console.actions.verbs.pause_server(server)
    console.note("PAUSE", "of the server %s", printable(server), server=server)
    told = _told(f"paused now: {printable(named(servers))}")
    return Reply([], told, lambda: all(health.is_drained for health in servers))


@command("PAUSE", _is_pausable, usage=f"{_PAUSE} or {_PAUSE_SERVER}")
def _pause(console: Console, arguments: Words) -> Reply:
    if _is_named_server(arguments):
        return _pause_server(console, bans.server(arguments[1:]))
    control, selection = console.actions.verbs.control, _selection(arguments)
    pools = listed(control.pause(selection))
    console.note("PAUSE", "of %s", pools)
    return Reply([], _told(f"paused now: {pools}"), lambda: control.is_drained(selection))


@command("RESUME", _is_pausable, usage=f"{_RESUME} or {_RESUME_SERVER}")
def _resume(console: Console, arguments: Words) -> Reply:
    verbs = console.actions.verbs
    if _is_named_server(arguments):
        resumed = named(verbs.resume_server(bans.server(arguments[1:])))
    else:
        selection = _selection(arguments)
        resumed = listed(verbs.control.resume(selection))
        servers = verbs.resume_servers() if selection.is_all else []
        if servers:
            resumed = f"{resumed}; servers: {named(servers)}"
    console.note("RESUME", "of %s", printable(resumed))
    return Reply([], _told(f"resumed now: {printable(resumed)}"))


@command("RECONNECT", _is_selection, usage="RECONNECT [database [, user]]")
def _reconnect(console: Console, arguments: Words) -> Reply:
    pools = listed(console.actions.verbs.control.reconnect(_selection(arguments)))
    console.note("RECONNECT", "of %s", pools)
    return Reply([], _told(f"connections are replaced: {pools}"))


@command("WAIT_CLOSE", _is_selection, usage="WAIT_CLOSE [database [, user]]", is_for_all=True)
def _wait_close(console: Console, arguments: Words) -> Reply:
    control, selection = console.actions.verbs.control, _selection(arguments)
    control.select(selection)
    return Reply([], until=lambda: control.is_renewed(selection))


@command("KILL", _is_selection, usage="KILL [database [, user]]")
def _kill(console: Console, arguments: Words) -> Reply:
    selection = _selection(arguments)
    clients, servers = console.actions.verbs.kill(selection)
    console.note(
        "KILL",
        "ended %d clients, %d connections to servers",
        clients,
        servers,
        level=logging.WARNING,
    )
    return Reply([], _told(f"ended: {clients} clients, {servers} connections to servers"))


def _is_client(arguments: Words) -> bool:
    return len(arguments) == 1 and _client_id(arguments) is not None


def _client_id(arguments: Words) -> int | None:
    """The number of a client, as SHOW CLIENTS has it, or in decimal."""
    text = arguments[0].strip("'")
    try:
        return int(text, 16 if text[:2] in ("0x", "0X") else 10)
    except ValueError:
        return None


@command("KILL_CLIENT", _is_client, usage="KILL_CLIENT client_id")
def _kill_client(console: Console, arguments: Words) -> Reply:
    number = _client_id(arguments)
    assert number is not None
    console.actions.verbs.kill_client(number)
    client_id = f"0x{number:08X}"
    console.note("KILL_CLIENT", client_id, client_id=client_id, level=logging.WARNING)
    return Reply([])


@command("DISABLE", _is_database, usage="DISABLE database")
def _disable(console: Console, arguments: Words) -> Reply:
    database = name(arguments[0]) or ""
    is_news = console.actions.verbs.control.disable(database)
    console.note("DISABLE", "of %s", database, database=database)
    return Reply([], b"" if is_news else _told(f"database {database} is disabled already"))


@command("ENABLE", _is_database, usage="ENABLE database")
def _enable(console: Console, arguments: Words) -> Reply:
    database = name(arguments[0]) or ""
    is_news = console.actions.verbs.control.enable(database)
    console.note("ENABLE", "of %s", database, database=database)
    return Reply([], b"" if is_news else _told(f"database {database} is not disabled"))


def _is_stats(arguments: Words) -> bool:
    return len(arguments) == 1 and keyword(arguments[0]) == "STATS"


@command("RESET", _is_stats)
def _reset(console: Console, _arguments: Words) -> Reply:
    console.actions.verbs.reset_stats()
    console.note("RESET STATS")
    return Reply([])
