"""What a command is, what it works on, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from ..errors import ClientError
from ..protocol.portals import Answer
from . import encoding
from .statements import Words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..pool.planning import ReloadPlan
    from ..stats import View
    from .show import ConfigRow, Heading, Row
    from .verbs import Verbs


class AdminActions(Protocol):
    """What an administrator can have done."""

    def reload(self) -> None:
        """Read the configuration file again.

        Raises:
            ConfigError: the file cannot be used, and nothing has changed.
        """

    def plan(self) -> ReloadPlan:
        """What a reload would do.

        Raises:
            ConfigError: the file cannot be used.
        """

    @property
    def verbs(self) -> Verbs:
        """What can be done to pools, clients and servers."""

    def shutdown(self, wait_for: str = "") -> None:
        """Begin to stop, and wait for what the word behind SHUTDOWN says. Returns at once."""


class State:
    """What commands change of the session that they are given in.

    Attributes:
        in_block: the client believes to have a transaction open.
        has_changed: a command of that has done something.
        until: set by a command whose answer has to wait: whether it may be given.
    """

    __slots__ = ("has_changed", "in_block", "until")

    def __init__(self) -> None:
        self.in_block = False
        self.has_changed = False
        self.until: Callable[[], bool] | None = None


@dataclass(frozen=True, slots=True)
class Console:
    """What commands work on.

    Attributes:
        who: asks for them, for the log.
        may_act: may do more than look.
    """

    who: str
    user: str
    database: str
    may_act: bool
    state: State
    view: View
    actions: AdminActions
    settings: Callable[[], list[ConfigRow]]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a command answers between RowDescription and CommandComplete.

    Attributes:
        until: whether the answer may be given; None if it need not wait.
    """

    rows: list[Row]
    notice: bytes = b""
    until: Callable[[], bool] | None = None


Run = Callable[[Console, Words], Reply]
Form = Callable[[Words], bool]


def nothing(arguments: Words) -> bool:
    """The form of a command that stands for itself."""
    return not arguments


@dataclass(frozen=True, slots=True)
class Command:
    """A command.

    Attributes:
        headings: None if it never returns rows, so Describe need not run it.
        form: whether some words may stand behind the name.
        tag: of CommandComplete.
        is_for_all: whether those may use it who may only look.
        usage: how to write it, for those who do not.
    """

    name: str
    headings: tuple[Heading, ...] | None
    run: Run
    form: Form = nothing
    tag: str = ""
    is_for_all: bool = False
    usage: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """A command with what stands behind its name."""

    command: Command
    arguments: Words

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
        command = self.command
        if not command.is_for_all:
            if not console.may_act:
                raise ClientError("admin access needed", sqlstate="42501")
            console.state.has_changed = True
        reply = command.run(console, self.arguments)
        console.state.until = reply.until
        if command.headings is None:
            return Answer(None, command.tag, reply.notice)
        rows = [encoding.data_row(row, command.headings, formats) for row in reply.rows]
        return Answer(rows, command.tag, reply.notice)


EMPTY: Final = Order(
    Command("", None, lambda _console, _arguments: Reply([]), is_for_all=True), ()
)
"""The empty query."""
