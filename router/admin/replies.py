"""What a command is, what it works on, and what comes of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from ..errors import ClientError
from ..protocol.portals import Answer
from ..records import fields
from . import encoding
from .statements import Words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..pool.planning import ReloadPlan
    from ..snapshots import View
    from .show import ConfigRow, Heading, Row
    from .verbs import Verbs

SLICE: Final = 100
"""So many rows are made at a time. One takes up to some 20 microseconds."""

log = logging.getLogger("router.admin")


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
        who, peer: asks for them, and from where, for the log.
        may_act: may do more than look.
    """

    who: str
    peer: str
    user: str
    database: str
    may_act: bool
    state: State
    view: View
    actions: AdminActions
    settings: Callable[[], list[ConfigRow]]

    def note(
        self,
        command: str,
        text: str = "",
        *args: object,
        level: int = logging.INFO,
        **more: object,
    ) -> None:
        """Log that a command has been carried out, and more of it in words and as fields."""
        known = fields(user=self.user, client=self.peer, command=command, **more)
        log.log(level, f"%s: {command} {text}".rstrip(), self.who, *args, extra=known)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a command answers between RowDescription and CommandComplete.

    Attributes:
        rows: they may be made one by one, as they are asked for; None is none of them, but has
            taken as long as one.
        until: whether the answer may be given; None if it need not wait.
    """

    rows: Iterable[Row | None]
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


class Making:
    """An answer whose rows are made some at a time, for others wait meanwhile."""

    __slots__ = ("_encoded", "_formats", "_headings", "_notice", "_rows", "_tag")

    def __init__(self, command: Command, reply: Reply, formats: Sequence[int]) -> None:
        self._headings: Final = command.headings
        self._tag: Final = command.tag
        self._notice: Final = reply.notice
        self._rows: Final = iter(reply.rows)
        self._formats: Final = formats
        self._encoded: list[bytes] = []

    def make_more(self) -> Answer | None:
        """Make some more rows; returns the answer when it has them all."""
        if self._headings is None:
            return Answer(None, self._tag, self._notice)
        made = 0
        for row in islice(self._rows, SLICE):
            made += 1
            if row is not None:
                self._encoded.append(encoding.data_row(row, self._headings, self._formats))
        if made == SLICE:
            return None
        return Answer(self._encoded, self._tag, self._notice)


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

    def begin(self, console: Console, formats: Sequence[int]) -> Making:
        """Do it; what comes of it is then to be made, each column in its format.

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
        return Making(command, reply, formats)


EMPTY: Final = Order(
    Command("", None, lambda _console, _arguments: Reply([]), is_for_all=True), ()
)
"""The empty query."""
