"""The commands of the admin database: write a function, decorate it, and it is there.

A command is found by its first word, the SHOW ones by their first two; more words are the
command's to read or to ignore.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from .. import __version__
from ..errors import ClientError, ConfigError, RouterError
from ..protocol import messages
from . import show
from .statements import Words

if TYPE_CHECKING:
    from ..stats import (
        AddressSnapshot,
        ClientSnapshot,
        PoolSnapshot,
        RoutingSnapshot,
        ServerSnapshot,
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


@dataclass(frozen=True, slots=True)
class Command:
    """A command; `headings` is None if it never returns rows, so Describe need not run it."""

    name: str
    headings: tuple[Heading, ...] | None
    run: _Run

    @property
    def tag(self) -> str:
        """The tag of CommandComplete."""
        return self.name.split()[0]


_COMMANDS: Final[dict[str, Command]] = {}


def command(name: str) -> Callable[[_Run], _Run]:
    """Make a function the command `name`, which returns no rows."""

    def register(function: _Run) -> _Run:
        _COMMANDS[name] = Command(name, None, function)
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


def find(words: Words) -> Command:
    """The command that some words ask for.

    Raises:
        ClientError: there is none.
    """
    first = words[0].upper()
    name = f"SHOW {words[1].upper() if len(words) > 1 else ''}" if first == "SHOW" else first
    found = _COMMANDS.get(name)
    if found is None:
        raise unsupported("SHOW " if first == "SHOW" else "")
    return found


def unsupported(kind: str = "") -> ClientError:
    """The error for what is no command; `kind` is "SHOW " if it looks like one of these."""
    return ClientError(
        f"Unsupported {kind}query against the admin database",
        sqlstate="42601",
        hint="SHOW HELP lists the commands.",
    )


def all_commands() -> list[Command]:
    """All of them, in the order of their declaration."""
    return list(_COMMANDS.values())


# --- looking


@command("SHOW HELP")
def _help(_console: Console, _words: Words) -> Reply:
    usage = (
        "SHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION",
        "SHOW LISTS",
        "SHOW ROUTING",
        "SHOW STATS",
        "SET key = arg",
        "RELOAD",
        "SHUTDOWN",
    )
    detail = "".join(f"\n\t{line}" for line in usage)
    return Reply([], messages.notice_response("Console usage", detail=detail))


@table("SHOW CONFIG", show.CONFIG)
def _config(console: Console, _words: Words) -> list[ConfigRow]:
    return console.settings()


@table("SHOW DATABASES", show.DATABASES)
def _databases(console: Console, _words: Words) -> list[AddressSnapshot]:
    return console.view.addresses()


@table("SHOW POOLS", show.POOLS)
def _pools(console: Console, _words: Words) -> list[PoolSnapshot]:
    return console.view.pools()


@table("SHOW CLIENTS", show.CLIENTS)
def _clients(console: Console, _words: Words) -> list[ClientSnapshot]:
    return console.view.clients()


@table("SHOW SERVERS", show.SERVERS)
def _servers(console: Console, _words: Words) -> list[ServerSnapshot]:
    return console.view.servers()


@table("SHOW ROUTING", show.ROUTING)
def _routing(console: Console, _words: Words) -> list[RoutingSnapshot]:
    return console.view.routing()


@table("SHOW USERS", show.USERS)
def _users(console: Console, _words: Words) -> list[PoolSnapshot]:
    return console.view.pools()


@table("SHOW VERSION", show.VERSION)
def _version(_console: Console, _words: Words) -> list[str]:
    return [f"PgCat {__version__}"]


@table("SHOW LISTS", show.LISTS)
def _lists(console: Console, _words: Words) -> list[ListRow]:
    view = console.view
    return show.lists(view.pools(), view.addresses(), view.clients())


@table("SHOW STATS", show.STATS)
def _stats(console: Console, _words: Words) -> list[AddressSnapshot]:
    return console.view.addresses()


# --- doing


@command("SET")
def _set(_console: Console, _words: Words) -> Reply:
    # Drivers set this and that when they connect; nothing here depends on it.
    return Reply([])


@command("RELOAD")
def _reload(console: Console, _words: Words) -> Reply:
    log.info("%s: RELOAD", console.who)
    try:
        console.actions.reload()
    except ConfigError as error:
        log.error("reload failed, the old configuration stays: %s", error.line)
        raise
    return Reply([])


@table("SHUTDOWN", show.SHUTDOWN)
def _shutdown(console: Console, _words: Words) -> list[bool]:
    log.info("%s: SHUTDOWN", console.who)
    console.actions.shutdown()
    return [True]


def _not_yet(name: str) -> None:
    @command(name)
    def refuse(_console: Console, _words: Words) -> Reply:
        raise RouterError(f"{name} is not supported yet", sqlstate="0A000")


for _name in ("PAUSE", "RESUME", "BAN", "UNBAN", "SHOW BANS"):
    _not_yet(_name)
