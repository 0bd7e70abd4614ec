"""Values that the routing layer takes in and hands out."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from .limits import DEFAULT_LENGTH, MAX_PARSED
from .tally import Tally

if TYPE_CHECKING:
    from ..errors import NoSingleShard, RoutingError

KeyValue = int | str | UUID
"""A sharding key."""

Constant = tuple[str, tuple["int | Constant", ...]]
"""An operator and its operands, which are expressions or the numbers of literals."""


class KeyType(Enum):
    """What the sharding keys of a pool are."""

    BIGINT = "bigint"
    """Integers of 64 bits; columns of type integer and smallint will do."""
    UUID = "uuid"
    """The type uuid."""
    TEXT = "text"
    """The types text and varchar, in UTF-8."""


class Role(Enum):
    """What a server is to its shard."""

    PRIMARY = "primary"
    """Takes reads and writes."""
    REPLICA = "replica"
    """A hot standby: takes reads only."""

    # Members are singletons; Enum would hash their names, in Python code, for every query.
    __hash__ = object.__hash__


class ServerRole(Enum):
    """Whom a client wants to talk to, in the words of ``SET SERVER ROLE``."""

    PRIMARY = "primary"
    """The primary, whatever the statement."""
    REPLICA = "replica"
    """A replica, whatever the statement."""
    ANY = "any"
    """Any server; statements are not looked at."""
    AUTO = "auto"
    """Each statement decides."""
    DEFAULT = "default"
    """What the pool's settings say."""


class Verdict(Enum):
    """What a statement may do to the data."""

    READ = "read"
    """Proven to run on a hot standby."""
    WRITE = "write"
    """Everything else, the unknown included."""


@dataclass(frozen=True, slots=True)
class ShardKeys:
    """The sharding keys of one shard, for the functions ``list`` and ``range``.

    Attributes:
        values: the keys themselves.
        ranges: from and to, as PostgreSQL has them: the latter is not in the range. None is
            MINVALUE in the first place, MAXVALUE in the second.
        is_default: whether it has all the keys that no shard names.
    """

    values: tuple[KeyValue, ...] = ()
    ranges: tuple[tuple[KeyValue | None, KeyValue | None], ...] = ()
    is_default: bool = False


class Pattern(Protocol):
    """A regular expression that takes time in proportion to the text, whatever it is."""

    def find(self, text: bytes, start: int, end: int) -> tuple[int, int] | None:
        """Where group 1 of the first match within the bounds is; (-1, -1) if it has no part."""


@dataclass(frozen=True, slots=True)
class RouterOptions:
    """The settings of one pool that decide where its statements go.

    One that is called like a key of the configuration is that key, and has its default.

    Attributes:
        shard_count: configured shards, at least 1.
        default_role: where statements go that nobody inspects; None is any server.
        query_parser_enabled: whether statements are inspected at all.
        query_parser_read_write_splitting: whether the verdict on a statement decides its role.
        primary_reads_enabled: whether the primary takes its share of the reads.
        query_parser_max_length: longest text in bytes that is inspected.
        query_parser_max_tokens: most tokens of a text that are given to the parser.
        sharding_function: ``pg_bigint_hash``, ``pg_uuid_hash``, ``pg_text_hash``, ``sha1``,
            ``list`` or ``range``.
        sharding_key_type: a value of `KeyType`; None leaves it to the function.
        shard_keys: the keys of each shard, for ``list`` and ``range``.
        default_shard: ``shard_N``, ``random`` or ``random_healthy``.
        shard_id_regex: finds a shard number in a statement, as its group 1.
        sharding_key_regex: finds a sharding key in a statement, as its group 1.
        regex_search_limit: how many bytes of a text these two look at.
        automatic_sharding_key: ``table.column``, ``schema.table.column`` or ``*.column``, or
            several of these.
        omnisharded_tables: ``table`` or ``schema.table``, of which every shard has a copy.
        sharding_key_policy: ``strict`` or ``sticky``.
        refuses_without_key: whether statements on sharded tables that no single shard is found
            for are refused, instead of going to default_shard.
        read_functions: names of functions that the operator declares harmless.
        write_functions: names of functions that the operator declares to be writes.
        cache_entries: how many texts, and as many fingerprints, are remembered.
        cache_bytes: bound on the bytes of the remembered texts.
    """

    shard_count: int = 1
    default_role: Role | None = None
    query_parser_enabled: bool = False
    query_parser_read_write_splitting: bool = False
    primary_reads_enabled: bool = False
    query_parser_max_length: int = DEFAULT_LENGTH
    query_parser_max_tokens: int = MAX_PARSED
    sharding_function: str = "pg_bigint_hash"
    sharding_key_type: str | None = None
    shard_keys: tuple[ShardKeys, ...] = ()
    default_shard: str = "shard_0"
    shard_id_regex: Pattern | None = None
    sharding_key_regex: Pattern | None = None
    regex_search_limit: int = 1000
    automatic_sharding_key: str | tuple[str, ...] | None = None
    omnisharded_tables: tuple[str, ...] = ()
    sharding_key_policy: str = "strict"
    refuses_without_key: bool = False
    read_functions: tuple[str, ...] = ()
    write_functions: tuple[str, ...] = ()
    cache_entries: int = 5000
    cache_bytes: int = 8 << 20


@dataclass(frozen=True, slots=True)
class Route:
    """Where a statement is to run.

    Attributes:
        role: the kind of server; None is any.
        shard: the shard's number; None leaves it to the pool (``random``, ``random_healthy``).
        reason: why, for logs and for people.
        is_chosen: whether the client has chosen the shard, by command or comment.
        is_read: whether the role is what the statement needs, and not what somebody has chosen:
            a read that goes to a replica could go to the primary as well.
        tally: counts those that go this way by the same rule.
        is_proven: whether all that goes this way is known to only read.
    """

    role: Role | None
    shard: int | None
    reason: str
    is_chosen: bool = False
    is_read: bool = False
    tally: Tally = field(default_factory=Tally, compare=False, repr=False)
    is_proven: bool = field(default=False, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class StatementVerdict:
    """What one statement of a text may do to the data.

    Attributes:
        kind: its command in capitals ("SELECT", "CREATE TABLE"), or "" if it has none.
        verdict: whether a hot standby can run it.
        reason: why.
    """

    kind: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class KeyTerm:
    """One place in a statement that gives a sharding key.

    Attributes:
        key: the value, once it is known.
        parameters: each n of the parameters ``$n``, each of which is such a key.
        literal: index of a literal of the statement's fingerprint, or -1.
        negative: whether a minus sign stands before it.
        escaped: whether the literal is of the form E'..'.
        is_array: whether it is an array, each member of which is a key.
        is_compared: whether a row must have this value to matter, so that NULL stands for no
            row at all; else it is the value of a row.
        constant: the value as an expression of literals, instead of a literal; see `constants`.
        keys: the values of a list, once they are known; None in it stands for an unknown one.
    """

    key: KeyValue | None = None
    parameters: tuple[int, ...] | range = ()
    literal: int = -1
    negative: bool = False
    escaped: bool = False
    is_array: bool = False
    is_compared: bool = False
    constant: Constant | None = None
    keys: tuple[KeyValue | None, ...] | None = None


KeyTerms = tuple[KeyTerm, ...]
"""Alternatives: the sharding key is one of these."""

KeyConditions = tuple[KeyTerms, ...]
"""What must hold for the sharding key of one table, all of it."""


@dataclass(frozen=True, slots=True)
class TableChange:
    """What one statement changes of a table.

    Attributes:
        schema, table: its name; the schema is "" if the text does not tell.
        makes_rows: whether there may be new ones.
        columns: those that new rows are given, as far as the text lists them.
        has_default: whether DEFAULT stands in it, for the value of a column.
    """

    schema: str
    table: str
    makes_rows: bool = False
    columns: tuple[str, ...] = ()
    has_default: bool = False


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is known about one SQL text.

    Attributes:
        statements: the statements in their order; empty for an empty text.
        verdict: WRITE unless every statement is a read.
        reason: why, in the words of the statement that decided.
        self_contained: a single SELECT, INSERT, UPDATE, DELETE, MERGE, VALUES or TABLE that
            leaves nothing behind in the session when it runs outside a transaction block.
        tables: names of the relations used, as written, lower-cased unless quoted, with the
            schema where the text has one; names of CTEs are left out. Long statements, and
            those that the parser does not know, name none.
        tables_known: whether these are all of them, but for those of commands that are not
            parsed, such as CALL.
        keys: for each use of a table whose automatic sharding key the text tells, what it says.
        unkeyed: names of the tables that have such a key and are used without it; "" stands for
            a statement that was too long or not understood.
        untyped: numbers of key parameters that are used elsewhere, too, so that their type need
            not be the key's.
        is_everywhere: whether it does nothing but read tables that every shard has.
        comment_shard: the shard that a comment asks for.
        comment_key: the sharding key that a comment gives.
        comment_error: why what a comment says cannot be followed.
        error: why the text belongs to no shard, unless somebody chooses one for it.
        obstacle: why no single shard can be found for it by its keys alone: it goes to
            default_shard, or nowhere if that is refused.
        is_read_through: whether somebody has looked at all of it.
        prepares: the name that a lone PREPARE gives to its statement, or "".
        executes: the name of what an EXECUTE runs, or "".
        is_rows: an INSERT of rows of VALUES with their keys into a sharded table, and no more.
        runs_only: of an EXECUTE, whether it does nothing but what that does.
        arguments: those of the EXECUTE; None is one that is not known.
        limit: what there is too much of for all of it to be analysed (see `limits`), or "".
        plain: a table that it uses and no setting names, or "": its rows are those of
            default_shard.
    """

    statements: tuple[StatementVerdict, ...]
    verdict: Verdict
    reason: str
    self_contained: bool = False
    tables: tuple[str, ...] = ()
    tables_known: bool = False
    keys: tuple[KeyConditions, ...] = ()
    unkeyed: tuple[str, ...] = ()
    untyped: frozenset[int] = frozenset()
    is_everywhere: bool = False
    comment_shard: int | None = None
    comment_key: KeyValue | None = None
    comment_error: RoutingError | None = None
    error: RoutingError | None = None
    obstacle: NoSingleShard | None = None
    is_read_through: bool = True
    prepares: str = ""
    executes: str = ""
    is_rows: bool = False
    runs_only: bool = False
    arguments: tuple[KeyTerm | None, ...] = ()
    limit: str = ""
    plain: str = ""

    @classmethod
    def unknown(cls, reason: str) -> Analysis:
        """Make the analysis of a text that defies analysis: a write."""
        statement = StatementVerdict("", Verdict.WRITE, reason)
        return cls((statement,), Verdict.WRITE, reason, is_read_through=False)

    @property
    def key_parameters(self) -> tuple[int, ...]:
        """Numbers n of those parameters ``$n`` that are sharding keys, ascending."""
        terms = (term for table in self.keys for condition in table for term in condition)
        return tuple(sorted({number for term in terms for number in term.parameters}))

    @property
    def has_comment(self) -> bool:
        """Whether a comment says where the text is to go."""
        return self.comment_shard is not None or self.comment_key is not None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The commands of the statements, in their order."""
        return tuple(statement.kind for statement in self.statements)

    @property
    def is_read(self) -> bool:
        """Whether a hot standby can run the whole text."""
        return self.verdict is Verdict.READ


@dataclass(frozen=True, slots=True)
class CommandReply:
    """How a routing command is answered.

    Attributes:
        tag: of the CommandComplete message.
        column: name of the single text column of a SHOW, or None for a SET.
        value: the single row's value of a SHOW, or None for a SET.
    """

    tag: str
    column: str | None = None
    value: str | None = None
