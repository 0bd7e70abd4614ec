"""Prepared statements that follow their text, not their connection.

A client's statement name means something to that client alone. What the servers see is a name
that stands for the statement's text and parameter types, so that clients with the same text
share one server-side statement, and any server can be brought to have it.

The unnamed statement is not shared. PostgreSQL analyses it anew with every Parse, and clients
that never name a statement count on it: tables, types and settings may have changed since
somebody else prepared the same text. So each of its Parses reaches a server, and is known by a
token of its own, which tells whose unnamed statement a server has.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from .columns import Description
    from .marks import Glance

A = TypeVar("A")

# No client may get at a statement by guessing its name: names that begin with this are never
# forwarded from a client. (See `is_reserved`.)
NAME_PREFIX: Final = b"PGCAT_"

_serial = count(1)
_next_token: Final = count(1).__next__

UNCLEAR: Final = -1
"""Stands for the token of a server's unnamed statement when nobody knows what it is."""


def new_token() -> int:
    """What one Parse of an unnamed statement is known by; never 0."""
    return _next_token()


def is_reserved(name: bytes) -> bool:
    """Whether a name that a client chose could be one of ours on a server."""
    return name.startswith(NAME_PREFIX)


# Nobody has looked yet.
UNREAD: Final = object()


class Statement(Generic[A]):
    """One text with its parameter types.

    Attributes:
        name: its name on every server, made once.
        body: what follows the name in Parse: text, NUL, Int16 count, Int32 type oids.
        rest: what follows the name in the PREPARE that makes it, if that is SQL; the body is
            then for those who want to know what it does.
        analysis: what routing found out about the text.
        glance: what a look at the text has told.
        proven: the last server that was asked to parse it did so.
        plan: what its binders have found out about its parameters, if anything.
        approved_by: whoever has nothing against its being used, the last who was asked.
        fingerprint: that of the text, as statistics count it, if they do.
        control: what it does to transactions, if that is all that it is there for; UNREAD until
            somebody has wanted to know.
        description: what clients have been told of it, and all servers that have it by its name
            would tell; None until the first has.
    """

    __slots__ = (
        "analysis",
        "approved_by",
        "body",
        "control",
        "description",
        "fingerprint",
        "glance",
        "name",
        "plan",
        "proven",
        "rest",
    )

    def __init__(
        self,
        body: bytes,
        analysis: A,
        glance: Glance,
        *,
        name: bytes | None = None,
        rest: bytes = b"",
    ) -> None:
        self.rest: Final = rest
        self.name: Final = NAME_PREFIX + b"%d" % next(_serial) if name is None else name
        self.body: Final = body
        self.analysis: Final = analysis
        self.glance: Final = glance
        self.proven = False
        self.plan: object = None
        self.approved_by: object = None
        self.fingerprint: object = None
        self.control: object = UNREAD
        self.description: Description | None = None

    def written(self, body: bytes, rest: bytes) -> Statement[A]:
        """Another one that differs in what does not matter to those who look at it."""
        other = Statement(body, self.analysis, self.glance, rest=rest)
        other.plan, other.fingerprint = self.plan, self.fingerprint
        return other

    def prove(self) -> None:
        """A server has parsed it."""
        self.proven = True

    @property
    def text(self) -> bytes:
        """The SQL."""
        return self.body[: self.body.index(b"\0")]

    def __repr__(self) -> str:
        return f"<Statement {self.name.decode()} {self.text[:40]!r}>"


class StatementRegistry(Generic[A]):
    """The statements of one pool by body, the least recently parsed forgotten first.

    Forgetting one costs only that the next Parse of its text makes another: clients hold
    what they parsed.
    """

    def __init__(
        self,
        capacity: int,
        analyse: Callable[[bytes], tuple[A, Glance]],
        bare: Callable[[bytes], bytes] | None = None,
    ) -> None:
        """Know nothing yet.

        Args:
            capacity: how many are remembered.
            analyse: what routing and a glance find out about a text.
            bare: takes off a body what differs each time and does not matter; such a one is
                remembered without that.
        """
        self.capacity = capacity
        self._analyse = analyse
        self._bare = bare
        # The one that was asked for last is last.
        self._statements: dict[tuple[bytes, str], Statement[A]] = {}
        self._latest: Statement[A] | None = None

    def __len__(self) -> int:
        return len(self._statements)

    def get(self, body: bytes, context: str, rest: bytes = b"") -> Statement[A]:
        """The statement for a body; `context` separates texts that mean different things.

        With a `rest` it is that of a PREPARE, and that is what it is known by.

        The context is that of the client's settings (see `Variables`): under another
        search_path the same text names other tables, in another time zone other moments.
        """
        key = (rest or body, context)  # the one ends in a zero byte, the other has none
        statement = self._statements.get(key)
        if statement is not None:
            if statement is self._latest:
                return statement
            del self._statements[key]  # it goes to the end
        else:
            if self._bare is not None:
                bare = self._bare(body)
                if bare is not body:
                    return self.get(bare, context).written(body, rest)
            statement = self.made(body, rest)
        self._statements[key] = self._latest = statement
        if len(self._statements) > self.capacity:
            del self._statements[next(iter(self._statements))]
        return statement

    def described(
        self, body: bytes, context: str, rest: bytes, description: Description, *, is_news: bool
    ) -> Statement[A]:
        """The statement of which that has been told.

        `is_news`: just now, so that whoever parses the text from here on gets this one.
        """
        statement = self.get(body, context, rest)
        if statement.description is None:
            statement.description = description
        elif not statement.description.is_same(description):
            statement = self.made(body, rest)
            statement.description = description
            if is_news:
                self._statements[rest or body, context] = statement
        return statement

    def made(self, body: bytes, rest: bytes = b"") -> Statement[A]:
        """A new statement for a body, which is not kept here."""
        analysis, glance = self._analyse(body[: body.index(b"\0")])
        return Statement(body, analysis, glance, rest=rest)

    def clear(self) -> None:
        """Forget all: the schema has changed, what is parsed from now on is to be new."""
        self._statements.clear()
        self._latest = None


class StatementCounts:
    """How often a statement was at a server when it was wanted there.

    Attributes:
        hits: it was.
        misses: it had to be prepared first.
        evictions: another one had to go for that.
    """

    __slots__ = ("evictions", "hits", "misses")

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self.evictions = 0

    def take_in(self, other: StatementCounts) -> None:
        """Add what another one has counted."""
        self.hits += other.hits
        self.misses += other.misses
        self.evictions += other.evictions


@dataclass(frozen=True, slots=True)
class PreparedSnapshot:
    """A row of SHOW PREPARED_STATEMENTS: those of one pool.

    Attributes:
        statements: texts that clients share, which are remembered.
        capacity: how many a connection may have.
        prepared: those that all connections have together.
        hits, misses, evictions: of the connections that there are and that there were.
    """

    database: str
    user: str
    statements: int
    capacity: int
    prepared: int
    hits: int
    misses: int
    evictions: int

    @property
    def hit_rate(self) -> str:
        """The part of the uses that found the statement at the server."""
        return f"{self.hits / max(self.hits + self.misses, 1):.3f}"


class ServerStatements(StatementCounts):
    """Names of the statements that one server connection has, least recently used first.

    It counts from when the connection was opened.

    Attributes:
        outdated: those that it has and that are not to be used: it tells of other columns.
    """

    __slots__ = ("_names", "capacity", "outdated")

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self._names: dict[bytes, None] = {}
        self.outdated: list[bytes] = []

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: bytes) -> bool:
        return name in self._names

    def use(self, name: bytes) -> bool:
        """Whether the server has it; marks it as used just now."""
        if self.use_if_there(name):
            return True
        self.misses += 1
        return False

    def use_if_there(self, name: bytes) -> bool:
        """The same for whoever asks again by `use` if the server has not."""
        names = self._names
        if name in names:
            del names[name]
            names[name] = None
            self.hits += 1
            return True
        return False

    def add(self, name: bytes) -> bytes | None:
        """Note that a Parse for it is on its way; returns the name to close for it, if any."""
        self._names[name] = None
        if len(self._names) > self.capacity:
            oldest = next(iter(self._names))
            del self._names[oldest]
            self.evictions += 1
            return oldest
        return None

    def restore(self, name: bytes) -> None:
        """A Close that was sent for it has been skipped: the server still has it."""
        self._names[name] = None

    def discard(self, name: bytes) -> None:
        """Forget a name: its Parse failed, or it was closed."""
        self._names.pop(name, None)
        if name in self.outdated:
            self.outdated.remove(name)

    def retire(self, name: bytes) -> None:
        """What the server has by this name is not what it stands for: it is to be closed."""
        self._names.pop(name, None)
        if name not in self.outdated:
            self.outdated.append(name)

    def clear(self) -> None:
        """Forget all: the server has dropped them (DEALLOCATE ALL, DISCARD ALL)."""
        self._names.clear()
        self.outdated.clear()
