"""Every error that the router raises, classed by who is at fault.

RouterError
├─ ConfigError                 the operator's: names every key that is wrong
├─ ClientError                 the client's
│  ├─ ClientProtocolError      08P01
│  ├─ AuthenticationError      28P01
│  └─ ClientTimeout            57P05
├─ OutdatedPlan                0A000, nobody's: the columns have changed
├─ RefusedByShard              one shard's own ErrorResponse to what is for all of them
├─ ServerError                 a PostgreSQL server's
│  ├─ ServerProtocolError      08P01
│  ├─ ServerRefused            a server's own ErrorResponse during login
│  │  └─ StartupRefused        the same, for what one client has asked for
│  ├─ ServerUnavailable        57P03
│  │  └─ ServerTimeout         57P03
│  │     └─ LoginTimeout       57P03
│  └─ ServerLost               08006
├─ PoolError                   a limit of ours
│  ├─ PoolTimeout              53300
│  └─ ShuttingDown             57P01
└─ RoutingError                the query's
   ├─ InvalidShard             22023
   ├─ InvalidShardingKey       22023
   ├─ RowRefused               a row of a COPY that is split, in PostgreSQL's words
   └─ NoSingleShard            0A000
      └─ AmbiguousShard        0A000

A server's ErrorResponse to a query is data, forwarded untouched, never an exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PROBLEMS_LIMIT: Final = 4096


class RouterError(Exception):
    """Base of all; carries what an ErrorResponse needs.

    Attributes:
        message: one line for the person who reads it.
        sqlstate: the five characters of PostgreSQL's error code table.
        hint: what to do next, or "".
        detail: what else there is to know, on as many lines as it takes, or "".
        routine: of PostgreSQL's that says the same, where drivers go by that, or "".
    """

    default_sqlstate = "XX000"
    routine = ""

    def __init__(
        self, message: str, *, sqlstate: str | None = None, hint: str = "", detail: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.sqlstate = self.default_sqlstate if sqlstate is None else sqlstate
        self.hint = hint
        self.detail = detail

    @property
    def line(self) -> str:
        """The message for a log, which may have a peer's words in it."""
        return printable(self.message)


class ConfigError(RouterError):
    """The configuration cannot be used.

    Attributes:
        summary: what cannot be used.
        problems: one line per mistake, each beginning with its key path.
    """

    default_sqlstate = "F0000"

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message, detail="\n".join(problems))
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  {problem}" for problem in self.problems)])

    @property
    def line(self) -> str:
        """All mistakes; they are the operator's own words, so there is room for many."""
        return printable("; ".join([self.message, *self.problems]), _PROBLEMS_LIMIT)


class ClientError(RouterError):
    """The client broke a rule."""

    default_sqlstate = "08P01"


class ClientProtocolError(ClientError):
    """What the client sent is not the PostgreSQL protocol."""


class AuthenticationError(ClientError):
    """The client could not prove who it is.

    Attributes:
        flaw: what the client must not know and the operator should, or "".
    """

    default_sqlstate = "28P01"
    flaw = ""

    @property
    def line(self) -> str:
        """The message, and what is behind it."""
        return f"{super().line}: {printable(self.flaw)}" if self.flaw else super().line


class ClientTimeout(ClientError):
    """The client took too long."""

    default_sqlstate = "57P05"


class OutdatedPlan(RouterError):
    """A statement does not return the columns any more that its client was told of."""

    default_sqlstate = "0A000"
    routine = "RevalidateCachedQuery"

    def __init__(self) -> None:
        super().__init__("cached plan must not change result type")


class RefusedByShard(RouterError):
    """What one shard has said to something that is done on all of them, or on none.

    Attributes:
        fields: all of its ErrorResponse, by field code.
    """

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__(
            fields.get("M", ""),
            sqlstate=fields.get("C"),
            hint=fields.get("H", ""),
            detail=fields.get("D", ""),
        )
        self.fields = fields


class ServerError(RouterError):
    """A PostgreSQL server failed us."""

    default_sqlstate = "08006"


class ServerProtocolError(ServerError):
    """What the server sent does not fit what it was asked."""

    default_sqlstate = "08P01"


class ServerRefused(ServerError):
    """The server answered our login with an ErrorResponse, whose code and text these are."""


class StartupRefused(ServerRefused):
    """The server does not take one client's start-up parameters; these are its words."""


class ServerUnavailable(ServerError):
    """No server for this query can be reached."""

    default_sqlstate = "57P03"


class ServerTimeout(ServerUnavailable):
    """A server says neither yes nor no."""


class LoginTimeout(ServerTimeout):
    """It has taken the connection, and does not come to the end of the login."""


class ServerLost(ServerError):
    """The server connection ended while it was in use."""


class PoolError(RouterError):
    """A limit of the router itself."""

    default_sqlstate = "53300"


class PoolTimeout(PoolError):
    """No server connection became free in time."""


class ShuttingDown(PoolError):
    """The router is going away."""

    default_sqlstate = "57P01"

    def __init__(self) -> None:
        super().__init__("terminating connection due to administrator command")


class RoutingError(RouterError):
    """The query cannot be given a place to run."""

    default_sqlstate = "0A000"


class InvalidShard(RoutingError):
    """A shard number that is not configured."""

    default_sqlstate = "22023"


class InvalidShardingKey(RoutingError):
    """A sharding key that is not a value of the key's type."""

    default_sqlstate = "22023"


class RowRefused(RoutingError):
    """A row of a COPY that belongs to no shard.

    Attributes:
        number: that of its line, as PostgreSQL counts them.
        where: which it is, as PostgreSQL tells it.
    """

    def __init__(
        self, message: str, *, sqlstate: str, hint: str = "", number: int, where: str
    ) -> None:
        super().__init__(message, sqlstate=sqlstate, hint=hint)
        self.number = number
        self.where = where


class NoSingleShard(RoutingError):
    """A statement on sharded tables that no single shard can be found for.

    Attributes:
        kind: the reason in a few words, as SHOW ROUTING counts it.
    """

    default_kind = "no key"

    def __init__(self, message: str, *, kind: str | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.kind = self.default_kind if kind is None else kind

    def __eq__(self, other: object) -> bool:
        """What is found out about a text twice is the same."""
        if not isinstance(other, NoSingleShard):
            return NotImplemented
        return (self.kind, self.message, self.hint) == (other.kind, other.message, other.hint)

    def __hash__(self) -> int:
        return hash((self.kind, self.message))


class ForEveryShard(NoSingleShard):
    """A command that means the same on every shard, and so can be brought to all.

    Attributes:
        in_turn: to one shard after the other, and not in a transaction.
        is_of_sharded: it names a table that is sharded.
    """

    def __init__(
        self, message: str, *, kind: str, hint: str, in_turn: bool, is_of_sharded: bool
    ) -> None:
        super().__init__(message, kind=kind, hint=hint)
        self.in_turn = in_turn
        self.is_of_sharded = is_of_sharded


class AmbiguousShard(NoSingleShard):
    """A statement that belongs to more than one shard."""

    default_kind = "several shards"
