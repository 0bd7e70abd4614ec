"""The commands of the admin database: write a function, decorate it, and it is there.

A command is found by its first word, the SHOW ones by their first two. What may follow is
part of its declaration, nothing if that does not say; anything else is an error, never ignored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from .. import __version__
from ..errors import ConfigError, RouterError
from ..protocol import messages
from ..protocol.portals import Answer
from . import assignments, encoding, show
from .statements import Statement, Words, keyword, name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..stats import (
        AddressSnapshot,
        ClientSnapshot,
        HealthSnapshot,
        PoolSnapshot,
        RoutingSnapshot,
        ServerSnapshot,
        ShardedSnapshot,
        View,
    )
    from .show import Column, ConfigRow, Heading, ListRow, Row

log = logging.getLogger("router.admin")

S = TypeVar("S")


class AdminActions(Protocol):
    """What an administrator can have done."""

    def reload(self) -> None:
        """Read the configuration file again.

        Raises:
            ConfigError: the file cannot be used, and nothing has changed.
        """

    def shutdown(self) -> None:
        """Begin to stop: let clients finish what they are at. Returns at once."""


@dataclass(frozen=True, slots=True)
class Console:
    """What commands work on; `who` asks for them."""

    who: str
    view: View
    actions: AdminActions
    settings: Callable[[], list[ConfigRow]]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a command answers between RowDescription and CommandComplete."""

    rows: list[Row]
    notice: bytes = b""


_Run = Callable[[Console, Words], Reply]
_Form = Callable[[Words], bool]


def nothing(arguments: Words) -> bool:
    """The form of a command that stands for itself."""
    return not arguments


def anything(_arguments: Words) -> bool:
    """The form of a command that takes whatever comes."""
    return True


@dataclass(frozen=True, slots=True)
class Command:
    """A command.

    Attributes:
        headings: None if it never returns rows, so Describe need not run it.
        form: whether some words may stand behind the name.
    """

    name: str
    headings: tuple[Heading, ...] | None
    run: _Run
    form: _Form = nothing

    @property
    def tag(self) -> str:
        """The tag of CommandComplete."""
        return self.name.partition(" ")[0]


@dataclass(frozen=True, slots=True)
class Order:
    """A command with what stands behind its name."""

    command: Command
    arguments: Words

    def run(self, console: Console) -> Reply:
        """Do it.

        Raises:
            RouterError: it cannot be done; the session goes on.
        """
        return self.command.run(console, self.arguments)

    @property
    def columns(self) -> tuple[Heading, ...]:
        """Those of its rows; none if it never has any."""
        return self.command.headings or ()

    @property
    def types(self) -> tuple[int, ...]:
        """Those of its parameters: no command takes any."""
        return ()

    def answer(self, console: Console, formats: Sequence[int]) -> Answer:
        """Do it, and encode what comes of it, each column in its format.

        Raises:
            RouterError: it cannot be done; the session goes on.
        """
        reply, command = self.run(console), self.command
        if command.headings is None:
            return Answer(None, command.tag, reply.notice)
        rows = [encoding.data_row(row, command.headings, formats) for row in reply.rows]
        return Answer(rows, command.tag, reply.notice)


EMPTY: Final = Order(Command("", None, lambda _console, _arguments: Reply([])), ())
"""The empty query."""

_COMMANDS: Final[dict[str, Command]] = {}


def command(name: str, form: _Form = nothing) -> Callable[[_Run], _Run]:
    """Make a function the command `name`, which returns no rows."""

    def register(function: _Run) -> _Run:
        _COMMANDS[name] = Command(name, None, function, form)
        return function

    return register


def table(
    name: str, columns: tuple[Column[S], ...]
) -> Callable[
    [Callable[[Console, Words], Iterable[S]]], Callable[[Console, Words], Iterable[S]]
]:
    """Make a function the command `name`, whose rows come of the snapshots that it returns."""

    def register(
        function: Callable[[Console, Words], Iterable[S]],
    ) -> Callable[[Console, Words], Iterable[S]]:
        def run(console: Console, words: Words) -> Reply:
            return Reply(show.rows(columns, function(console, words)))

        _COMMANDS[name] = Command(name, show.headings(columns), run)
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
    if found is None or not found.form(tuple(rest)):
        raise statement.invalid()
    return Order(found, tuple(rest))


def all_commands() -> list[Command]:
    """All of them, in the order of their declaration."""
    return list(_COMMANDS.values())


# --- looking


@command("SHOW HELP")
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
    return [f"PgCat {__version__}"]


@table("SHOW LISTS", show.LISTS)
def _lists(console: Console, _arguments: Words) -> list[ListRow]:
    view = console.view
    return show.lists(view.pools(), view.addresses(), view.clients())


@table("SHOW STATS", show.STATS)
def _stats(console: Console, _arguments: Words) -> list[AddressSnapshot]:
    return console.view.addresses()


# --- doing


@command("SET", assignments.is_assignment)
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
