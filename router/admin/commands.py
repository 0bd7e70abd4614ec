"""The commands of the admin database: write a function, decorate it, and it is there.

A command is found by its first word, the SHOW ones by their first two. What may follow is
part of its declaration, nothing if that does not say; anything else is an error, never ignored.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, TypeVar

from ..errors import ClientError, ConfigError
from ..pool.control import Selection
from ..printable import printable
from ..protocol import messages
from ..records import fields
from . import activity, assignments, bans, bouncer, plans, show
from .courtesies import courtesy
from .replies import Command, Form, Order, Reply, Run, nothing
from .statements import keyword, name
from .verbs import listed, named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..hosts import HostSnapshot, PatroniSnapshot
    from ..listeners import ListenerSnapshot
    from ..multiplexing import MultiplexingSnapshot
    from ..pool.health import ServerHealth
    from ..protocol.features import FeatureSnapshot
    from ..protocol.prepared import PreparedSnapshot
    from ..snapshots import (
        AddressSnapshot,
        BanSnapshot,
        ClientSnapshot,
        ErrorSnapshot,
        HealthSnapshot,
        LimitSnapshot,
        PoolSnapshot,
        QuerySnapshot,
        RoutingSnapshot,
        ServerSnapshot,
        ShardedSnapshot,
        TimeoutSnapshot,
        TransactionSnapshot,
    )
    from ..two_phase import TwoPhaseSnapshot
    from .replies import Console
    from .show import Column, ConfigRow, ListRow
    from .statements import ConsoleStatement, Words

log = logging.getLogger("router.admin")

S = TypeVar("S")
if TYPE_CHECKING:
    # Finds what becomes the rows of a table, and None for what becomes none.
    Look = Callable[[Console, Words], Iterable[S | None]]

_PAUSE: Final = "PAUSE [database [, user]]"
_PAUSE_SERVER: Final = "PAUSE SERVER host[:port]"
_RESUME: Final = "RESUME [database [, user]]"
_RESUME_SERVER: Final = "RESUME SERVER host[:port]"
_WAITS: Final = ("WAIT_FOR_SERVERS", "WAIT_FOR_CLIENTS", "IMMEDIATE")


_COMMANDS: Final[dict[str, Command]] = {}
# Those that are others in the database `pgbouncer`.
_BOUNCER: Final[dict[str, Command]] = {}


def command(
    name: str,
    form: Form = nothing,
    *,
    is_for_all: bool = False,
    usage: str = "",
    columns: tuple[Column[S], ...] | None = None,
) -> Callable[[Run], Run]:
    """Make a function the command `name`; its rows have the `columns`, if it returns any."""
    described = None if columns is None else show.headings(columns)

    def register(function: Run) -> Run:
        tag = name.partition(" ")[0]
        _COMMANDS[name] = Command(name, described, function, form, tag, is_for_all, usage)
        return function

    return register


def table(
    name: str,
    columns: tuple[Column[S], ...],
    form: Form = nothing,
    *,
    among: dict[str, Command] = _COMMANDS,
    is_for_all: bool | None = None,
) -> Callable[[Look[S]], Look[S]]:
    """Make a function the command `name`, whose rows come of the snapshots that it returns."""

    def register(function: Look[S]) -> Look[S]:
        def run(console: Console, words: Words) -> Reply:
            return Reply(show.rows(columns, function(console, words)))

        tag = name.partition(" ")[0]
        for_all = tag == "SHOW" if is_for_all is None else is_for_all
        among[name] = Command(name, show.headings(columns), run, form, tag, for_all)
        return function

    return register


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
    found = _COMMANDS.get(command_name)
    if database == "pgbouncer":
        found = _BOUNCER.get(command_name, found)
    if found is not None and found.form(tuple(rest)):
        return Order(found, tuple(rest))
    if found is not None and found.usage:
        raise ClientError(f"usage: {found.usage}", hint="SHOW HELP lists the commands.")
    order = courtesy(statement)
    if order is None:
        raise statement.invalid()
    return order


def all_commands() -> list[Command]:
    """All of them, in the order of their declaration."""
    return list(_COMMANDS.values())


def bouncer_commands() -> list[Command]:
    """Those that are others in the database `pgbouncer`."""
    return list(_BOUNCER.values())


# --- looking


@command("SHOW HELP", is_for_all=True)
def _help(_console: Console, _arguments: Words) -> Reply:
    usage = (
        "SHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION",
        "SHOW LISTS|LISTENERS",
        "SHOW HEALTH|PATRONI|BANS|LIMITS|TIMEOUTS|ROUTING|MULTIPLEXING|SHARDED_TABLES",
        "SHOW TWO_PHASE|QUERIES|TRANSACTIONS|ERRORS|SESSION_FEATURES|PREPARED_STATEMENTS",
        "SHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS",
        "SHOW SOCKETS|ACTIVE_SOCKETS|FDS|STATE|MEM",
        "SHOW PEERS|PEER_POOLS|DNS_HOSTS|DNS_ZONES",
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
def _clients(console: Console, _arguments: Words) -> Iterator[ClientSnapshot]:
    return console.view.each_client()


@table("SHOW SERVERS", show.SERVERS)
def _servers(console: Console, _arguments: Words) -> list[ServerSnapshot]:
    return console.view.servers()


@table("SHOW HEALTH", show.HEALTH)
def _health(console: Console, _arguments: Words) -> list[HealthSnapshot]:
    return console.view.health()


@table("SHOW PATRONI", show.PATRONI)
def _patroni(console: Console, _arguments: Words) -> list[PatroniSnapshot]:
    return console.view.patroni()


@table("SHOW TWO_PHASE", show.TWO_PHASE)
def _two_phase(console: Console, _arguments: Words) -> list[TwoPhaseSnapshot]:
    return console.view.two_phase()


@table("SHOW BANS", bans.BANS)
def _show_bans(console: Console, _arguments: Words) -> list[BanSnapshot]:
    return console.view.bans()


@table("SHOW LIMITS", show.LIMITS)
def _limits(console: Console, _arguments: Words) -> list[LimitSnapshot]:
    return console.view.limits()


@table("SHOW PREPARED_STATEMENTS", show.PREPARED)
def _prepared(console: Console, _arguments: Words) -> list[PreparedSnapshot]:
    return console.view.prepared()


@table("SHOW SESSION_FEATURES", show.SESSION_FEATURES)
def _features(console: Console, _arguments: Words) -> list[FeatureSnapshot]:
    return console.view.features()


@table("SHOW LISTENERS", show.LISTENERS)
def _listeners(console: Console, _arguments: Words) -> list[ListenerSnapshot]:
    return console.view.listeners()


@table("SHOW TIMEOUTS", show.TIMEOUTS)
def _timeouts(console: Console, _arguments: Words) -> list[TimeoutSnapshot]:
    return console.view.timeouts()


@table("SHOW ROUTING", show.ROUTING)
def _routing(console: Console, _arguments: Words) -> list[RoutingSnapshot]:
    return console.view.routing()


@table("SHOW MULTIPLEXING", show.MULTIPLEXING)
def _multiplexing(console: Console, _arguments: Words) -> list[MultiplexingSnapshot]:
    return console.view.multiplexing()


@table("SHOW TRANSACTIONS", activity.TRANSACTIONS)
def _transactions(console: Console, _arguments: Words) -> list[TransactionSnapshot]:
    return console.view.transactions()


@table("SHOW ERRORS", activity.ERRORS)
def _errors(console: Console, _arguments: Words) -> list[ErrorSnapshot]:
    return console.view.errors()


@table("SHOW QUERIES", activity.QUERIES)
def _queries(console: Console, _arguments: Words) -> Iterator[QuerySnapshot]:
    return console.view.queries()


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
def _lists(console: Console, _arguments: Words) -> Iterator[ListRow | None]:
    return show.lists(console.view)


@table("SHOW STATS", show.STATS)
def _stats(console: Console, _arguments: Words) -> list[AddressSnapshot]:
    return console.view.addresses()


# --- looking, as in PgBouncer


@table("SHOW STATS", bouncer.STATS, among=_BOUNCER)
@table("SHOW STATS_TOTALS", bouncer.STATS_TOTALS)
@table("SHOW STATS_AVERAGES", bouncer.STATS_AVERAGES)
def _bouncer_stats(console: Console, _arguments: Words) -> list[bouncer.Stats]:
    return bouncer.stats(console.view)


@table("SHOW TOTALS", bouncer.TOTALS)
def _totals(console: Console, _arguments: Words) -> list[bouncer.Figure]:
    return bouncer.totals(console.view)


@table("SHOW POOLS", bouncer.POOLS, among=_BOUNCER)
def _bouncer_pools(console: Console, _arguments: Words) -> list[PoolSnapshot]:
    return console.view.pools()


@table("SHOW DATABASES", bouncer.DATABASES, among=_BOUNCER)
def _bouncer_databases(
    console: Console, _arguments: Words
) -> Iterator[bouncer.Database | None]:
    return bouncer.databases(console.view, console.actions.verbs.control.is_disabled)


@table("SHOW USERS", bouncer.USERS, among=_BOUNCER)
def _bouncer_users(console: Console, _arguments: Words) -> Iterator[bouncer.User | None]:
    return bouncer.users(console.view)


@table("SHOW LISTS", show.LISTS, among=_BOUNCER)
def _bouncer_lists(console: Console, _arguments: Words) -> Iterator[ListRow | None]:
    return bouncer.lists(console.view)


@table("SHOW CLIENTS", bouncer.SOCKETS, among=_BOUNCER)
def _bouncer_clients(console: Console, _arguments: Words) -> Iterator[bouncer.Socket]:
    return map(bouncer.client_socket, console.view.each_client())


@table("SHOW SERVERS", bouncer.SOCKETS, among=_BOUNCER)
def _bouncer_servers(console: Console, _arguments: Words) -> list[bouncer.Socket]:
    return [bouncer.server_socket(server) for server in console.view.servers()]


@table("SHOW SOCKETS", bouncer.SOCKETS)
def _sockets(console: Console, _arguments: Words) -> Iterator[bouncer.Socket | None]:
    return bouncer.sockets(console.view)


@table("SHOW ACTIVE_SOCKETS", bouncer.SOCKETS)
def _active_sockets(console: Console, _arguments: Words) -> Iterator[bouncer.Socket | None]:
    return bouncer.sockets(console.view, active=True)


@table("SHOW FDS", bouncer.FDS)
def _fds(console: Console, _arguments: Words) -> Iterator[bouncer.Descriptor | None]:
    return bouncer.descriptors(console.view)


@table("SHOW STATE", bouncer.STATE)
def _state(console: Console, _arguments: Words) -> list[bouncer.Setting]:
    return bouncer.state(console.view.pools())


@table("SHOW MEM", bouncer.MEM)
def _mem(console: Console, _arguments: Words) -> list[bouncer.Memory]:
    return bouncer.memory(console.view)


@table("SHOW DNS_HOSTS", bouncer.DNS_HOSTS, among=_BOUNCER)
@table("SHOW DNS_HOSTS", bouncer.MORE_OF_HOSTS)
def _hosts(console: Console, _arguments: Words) -> list[HostSnapshot]:
    return console.view.hosts()


@table("SHOW PEERS", bouncer.PEERS)
@table("SHOW PEER_POOLS", bouncer.PEER_POOLS)
@table("SHOW DNS_ZONES", bouncer.DNS_ZONES)
def _none(_console: Console, _arguments: Words) -> list[None]:
    return []


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
