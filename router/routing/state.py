"""What one client has asked of the router with ``SET SHARD``, ``SET SERVER ROLE`` and so on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import InvalidShard
from .commands import COLUMNS, ClientCommand, Verb
from .sharding import Sharder, check_plain
from .types import CommandReply, Role, RouterOptions, ServerRole

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

Override = tuple[int | None, ServerRole, bool | None]
"""Shard, role and primary_reads."""

Overrides = tuple[Override, Override, bool, bool]
"""What holds now, what holds after the transaction; `has_local` and `is_stuck`."""

PLAIN_SETTINGS: Final = {
    "client_encoding": ("UTF8", "SQL_ASCII"),
    "standard_conforming_strings": ("on",),
}
"""What the client's settings must be for its strings to be what they look like, in UTF-8."""

MAX_PREPARED: Final = 200
"""Of so many names what they stand for is known; others are not executed on sharded tables."""
MAX_TEXTS: Final = 8
"""So many texts can a name stand for."""
LONGEST: Final = 8 << 10
"""So long can such a text be."""

_ROLES: Final = {ServerRole.PRIMARY: Role.PRIMARY, ServerRole.REPLICA: Role.REPLICA}


def _unknown(name: str) -> tuple[bytes, bytes] | None:
    return None


class RoutingState:
    """What one client has set over the settings of its pool, until it changes that.

    SET LOCAL lasts until the session calls `end_transaction`.

    Attributes:
        shard: the shard chosen, or None.
        choice: whom the client wants to talk to.
        primary_reads: override of primary_reads_enabled, or None.
        is_default: whether nothing is chosen, so that the pool's settings decide alone.
        is_stuck: whether the shard is that of an earlier statement, which nobody chose.
        has_local: whether some of it holds for one transaction only.
        is_under_way: that transaction has begun.
        has_odd_text: strings that the client writes may not be what they look like here.
        prepared: the texts of what it has prepared by PREPARE on the server that it holds, by
            name: all that the name may stand for.
        prepared_as: tells the PREPARE, and the query in it, for a name that is known to stand
            for one statement.
    """

    __slots__ = (
        "_kept_choice",
        "_kept_primary_reads",
        "_kept_shard",
        "choice",
        "has_local",
        "has_odd_text",
        "is_default",
        "is_stuck",
        "is_under_way",
        "prepared",
        "prepared_as",
        "primary_reads",
        "shard",
    )

    def __init__(self, *, has_odd_text: bool = False) -> None:
        self.has_odd_text = has_odd_text
        self.prepared: dict[str, tuple[bytes, ...]] = {}
        self.prepared_as: Callable[[str], tuple[bytes, bytes] | None] = _unknown
        self.reset()

    def __repr__(self) -> str:
        shard = "unset" if self.shard is None else self.shard
        return f"<RoutingState shard={shard} role={self.choice.value}>"

    def reset(self) -> None:
        """Take back all that the client has set."""
        self.shard: int | None = None
        self.choice = ServerRole.DEFAULT
        self.primary_reads: bool | None = None
        self.is_default = True
        self.is_stuck = False
        self.has_local = False
        self.is_under_way = True
        self._keep()

    def texts_of(self, name: str) -> tuple[bytes, ...]:
        """The PREPAREs that an EXECUTE of this name may mean."""
        found = self.prepared_as(name)
        if found is None:
            return self.prepared.get(name, ())
        return found[:1] if len(found[0]) <= LONGEST else ()

    def note_prepared(self, name: str, text: bytes) -> None:
        """A PREPARE is sent; whether it succeeds does not matter."""
        known = self.prepared.get(name, ())
        if text in known:
            return
        if (
            len(known) < MAX_TEXTS
            and len(text) <= LONGEST
            and len(self.prepared) < MAX_PREPARED
        ):
            self.prepared[name] = (*known, text)
        else:
            self.prepared.pop(name, None)

    def note_setting(self, name: str, value: str) -> None:
        """Take notice of a setting of the client's that changes what its strings mean.

        Whoever has had such a setting once may still have statements prepared under it.
        """
        if PLAIN_SETTINGS.get(name.lower(), (value,)).count(value) == 0:
            self.has_odd_text = True

    @property
    def role(self) -> Role | None:
        """The role that the client has fixed for all its statements, or None."""
        return _ROLES.get(self.choice)

    @property
    def parser(self) -> bool | None:
        """Whether the client's choice turns the query parser on or off; None leaves it be."""
        if self.choice is ServerRole.DEFAULT:
            return None
        return self.choice is ServerRole.AUTO

    def end_transaction(self) -> None:
        """Drop what SET LOCAL chose; the session must call this at each return to idle.

        Not if `is_under_way` has been set to False: then nothing has run that it was meant for.
        """
        if not self.is_under_way:
            self.is_under_way = True
        elif self.has_local:
            self.shard = self._kept_shard
            self.choice = self._kept_choice
            self.primary_reads = self._kept_primary_reads
            self.has_local = False
            self._settle()

    @property
    def overrides(self) -> Overrides:
        """All that is chosen now, and what comes back after SET LOCAL."""
        return (
            (self.shard, self.choice, self.primary_reads),
            (self._kept_shard, self._kept_choice, self._kept_primary_reads),
            self.has_local,
            self.is_stuck,
        )

    def restore(self, overrides: Overrides) -> None:
        """Bring back what `overrides` returned earlier."""
        now, kept, self.has_local, self.is_stuck = overrides
        self.shard, self.choice, self.primary_reads = now
        self._kept_shard, self._kept_choice, self._kept_primary_reads = kept
        self._settle()

    def execute(
        self,
        command: ClientCommand,
        options: RouterOptions,
        rng: Random,
        sharder: Sharder | None = None,
    ) -> CommandReply:
        """Carry out a routing command and say how to answer it.

        Args:
            command: what to do.
            options: those of the pool.
            rng: for ANY shard.
            sharder: that of the options, if there is one already.

        Raises:
            RoutingError: there is no such shard, or none for the key; nothing has changed.
        """
        verb = command.verb
        if verb is Verb.SET_READ_POSITION:
            return CommandReply(command.tag)  # it is the session's
        column = COLUMNS.get(verb)
        if column is not None:
            return CommandReply("SELECT 1", column, self._shown(verb, options))
        if verb is Verb.SET_SERVER_ROLE:
            self.choice = command.role
        elif verb is Verb.SET_PRIMARY_READS:
            self.primary_reads = command.switch
        else:
            is_unset = command.is_unset
            self.shard = None if is_unset else self._shard(command, options, rng, sharder)
            self.is_stuck = False
        self._changed(command)
        return CommandReply(command.tag)

    def stick(self, shard: int) -> None:
        """Make the shard of a statement that of the statements after it."""
        self.shard = self._kept_shard = shard
        self.is_stuck = True
        self._settle()

    def _shown(self, verb: Verb, options: RouterOptions) -> str:
        if verb is Verb.SHOW_SHARD:
            return "unset" if self.shard is None else str(self.shard)
        if verb is Verb.SHOW_SERVER_ROLE:
            return self._server_role(options)
        if verb is Verb.SHOW_READ_POSITION:
            return ""
        return "on" if self.reads_from_primary(options) else "off"

    def reads_from_primary(self, options: RouterOptions) -> bool:
        """Whether the primary takes its share of this client's reads."""
        return (
            options.primary_reads_enabled if self.primary_reads is None else self.primary_reads
        )

    def _server_role(self, options: RouterOptions) -> str:
        if self.choice is not ServerRole.DEFAULT:
            return str(self.choice.value)
        role = options.default_role
        if options.query_parser_enabled and (
            options.query_parser_read_write_splitting or role is None
        ):
            return "auto"
        return "any" if role is None else role.value

    def _shard(
        self,
        command: ClientCommand,
        options: RouterOptions,
        rng: Random,
        sharder: Sharder | None,
    ) -> int:
        count, number = options.shard_count, command.number
        key = number if command.key is None else command.key
        if key is None:
            return rng.randrange(count)
        if number is None or command.verb is Verb.SET_SHARDING_KEY:
            if self.has_odd_text:
                check_plain(key)
            return (sharder or Sharder(options)).shard(key)
        if number >= count:
            stay = "unset" if self.shard is None else self.shard
            raise InvalidShard(
                f"shard {number} is not configured, staying on shard {stay}",
                hint=f"Shards are numbered from 0 to {count - 1}.",
            )
        return number

    def _changed(self, command: ClientCommand) -> None:
        if command.local:
            self.has_local = True
        elif command.verb is Verb.SET_SERVER_ROLE:
            self._kept_choice = self.choice
        elif command.verb is Verb.SET_PRIMARY_READS:
            self._kept_primary_reads = self.primary_reads
        else:
            self._kept_shard = self.shard
        self._settle()

    def _keep(self) -> None:
        self._kept_shard = self.shard
        self._kept_choice = self.choice
        self._kept_primary_reads = self.primary_reads

    def _settle(self) -> None:
        self.is_default = (
            self.shard is None
            and self.choice is ServerRole.DEFAULT
            and self.primary_reads is None
        )
