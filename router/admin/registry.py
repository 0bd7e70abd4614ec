"""How commands of the admin database are declared: as functions that are decorated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from . import show
from .replies import Command, Form, Reply, Run, nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .replies import Console
    from .show import Column
    from .statements import Words

S = TypeVar("S")
if TYPE_CHECKING:
    # Finds what becomes the rows of a table, and None for what becomes none.
    Look = Callable[[Console, Words], Iterable[S | None]]

COMMANDS: Final[dict[str, Command]] = {}
"""All of them by their first words, in the order of their declaration."""

BOUNCER: Final[dict[str, Command]] = {}
"""Those that are others in the database `pgbouncer`."""


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
        COMMANDS[name] = Command(name, described, function, form, tag, is_for_all, usage)
        return function

    return register


def table(
    name: str,
    columns: tuple[Column[S], ...],
    form: Form = nothing,
    *,
    among: dict[str, Command] = COMMANDS,
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
