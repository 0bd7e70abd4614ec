"""What a pool's servers tell about tables and functions, for the routers of the pool.

One catalogue serves the pools of all users of a database, since they have the same tables. Each
shard is asked: by the first connection to it, before that is used; after a reload and after the
shard could not be reached; and by a connection that has changed the schema, before its next
client gets it. Then the columns are unknown from the change on until they have been read. A
replica, which may not know of a change yet, is believed only if the primary has not been asked.

Only what no shard contradicts is known. A table's name without a schema stands for all tables
of that name, as clients may have search paths of their own: if their columns differ, they are
unknown. What cannot be read is unknown, too, and logged.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from ..errors import ServerProtocolError
from ..printable import printable
from ..protocol import codes, messages
from ..protocol.segments import Segment
from ..protocol.variables import quote_literal
from ..records import fields
from ..routing.bodies import Body
from ..routing.derived import KINDS, Relation
from ..routing.learned import Bodies
from ..routing.limits import MAX_BODY
from .answer import CollectedAnswer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..routing.columns import KeyColumn
    from .address import Address
    from .query import LoginQueries, Row
    from .server import ServerConnection

log = logging.getLogger("router.pool")

Columns = dict[str, tuple[str, ...]]
Functions = dict[str, Bodies]

# More columns or functions than that are not read.
_MOST_ROWS: Final = 50_000
_ENCODING: Final = ("client_encoding", "UTF8")
# Marks the columns of tables that have one name and are not alike.
_DIFFERENT: Final[tuple[str, ...]] = ()

_COLUMNS: Final = """\
SELECT 'c', n.nspname, c.relname, a.attname FROM pg_catalog.pg_attribute a
 JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'f', 'v') AND a.attnum > 0 AND NOT a.attisdropped
 AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND ({wanted})
 ORDER BY c.oid, a.attnum LIMIT {limit};
"""
_HAS_COLUMN: Final = """\
EXISTS (SELECT FROM pg_catalog.pg_attribute k WHERE k.attrelid = c.oid AND NOT k.attisdropped
 AND k.attname = {column})"""
# A function's name may also be one of PostgreSQL's own; then that one's nature decides.
_FUNCTIONS: Final = """\
SELECT 'f', p.proname FROM pg_catalog.pg_proc p
 JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND NOT EXISTS (
 SELECT FROM pg_catalog.pg_proc q WHERE q.proname = p.proname
 AND q.pronamespace = 'pg_catalog'::pg_catalog.regnamespace)
 GROUP BY p.proname
 HAVING pg_catalog.bool_and(p.prokind IN ('f', 'w') AND p.provolatile IN ('i', 's'))
 ORDER BY 2 LIMIT {limit};
"""
# Those that are declared volatile, as all are about which nobody has said anything: if they are
# written in SQL or PL/pgSQL, their bodies tell. A body that is no string is in its definition,
# and that of an aggregate is made here: it calls the functions that it consists of. Those of
# PostgreSQL's own modules are known by where they are. What the SET clause of a function may be
# is what a standby lets it be.
_BODIES: Final = """\
WITH own AS MATERIALIZED (
 SELECT p.proname, p.prokind IN ('f', 'w') AND p.provolatile IN ('i', 's') AS reads,
 p.prokind = 'a' OR p.prokind IN ('f', 'w') AND (
 p.provolatile IN ('i', 's') OR l.lanname IN ('sql', 'plpgsql', 'c') AND NOT EXISTS (
 SELECT FROM pg_catalog.unnest(p.proconfig) c (set) WHERE c.set !~* '^({settings})=')) AS known,
 CASE WHEN p.prokind = 'a' THEN 'sql' WHEN p.prosrc = '' THEN 'atomic'
 ELSE l.lanname::pg_catalog.text END AS language,
 CASE WHEN p.prokind = 'a' THEN (
 SELECT 'SELECT ' || COALESCE(pg_catalog.string_agg(
 pg_catalog.quote_ident(m.nspname) || '.' || pg_catalog.quote_ident(f.proname) || '()',
 ', '), '1')
 FROM pg_catalog.pg_aggregate a JOIN pg_catalog.pg_proc f ON f.oid IN (
 a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn,
 a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)
 JOIN pg_catalog.pg_namespace m ON m.oid = f.pronamespace
 WHERE a.aggfnoid = p.oid AND (m.nspname <> 'pg_catalog' OR f.provolatile = 'v'))
 WHEN p.provolatile IN ('i', 's') OR p.prokind NOT IN ('f', 'w') THEN ''
 WHEN l.lanname = 'c' THEN pg_catalog.concat(p.probin, ' ', p.prosrc)
 WHEN p.prosrc = '' THEN pg_catalog.pg_get_functiondef(p.oid) ELSE p.prosrc END AS text
 FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 JOIN pg_catalog.pg_language l ON l.oid = p.prolang
 WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND NOT EXISTS (
 SELECT FROM pg_catalog.pg_proc q WHERE q.proname = p.proname
 AND q.pronamespace = 'pg_catalog'::pg_catalog.regnamespace)
), named AS (
 SELECT proname, pg_catalog.sum(pg_catalog.octet_length(text)) AS size FROM own GROUP BY proname
 HAVING pg_catalog.bool_and(known AND pg_catalog.octet_length(text) <= {longest})
 AND NOT pg_catalog.bool_and(reads)
), chosen AS (
 SELECT proname, pg_catalog.sum(size) OVER (ORDER BY proname) AS before FROM named
)
SELECT 'b', o.proname, o.language, o.text FROM own o JOIN chosen c USING (proname)
 WHERE NOT o.reads AND c.before <= {most} ORDER BY 2 LIMIT {limit};
"""
# More bytes of bodies than that are not read.
_MOST_BODIES: Final = 1 << 20
_SETTINGS: Final = (
    "search_path|timezone|datestyle|intervalstyle|extra_float_digits|bytea_output|row_security"
    "|statement_timeout|lock_timeout|client_min_messages|work_mem|plan_cache_mode|jit"
    "|enable_[a-z_]+|plpgsql[.][a-z_]+"
)


# Tables with keys, their partitions and children, and what uses any of them: views and rules by
# their dependencies, functions by these or because the name is somewhere in their text.
_RELATIONS: Final = """\
WITH RECURSIVE keyed (oid, root) AS (
 SELECT c.oid, c.oid FROM pg_catalog.pg_class c
 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'f')
 AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND ({wanted})
 UNION SELECT i.inhrelid, k.root FROM keyed k
 JOIN pg_catalog.pg_inherits i ON i.inhparent = k.oid
), made (class, oid) AS (
 SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, k.oid FROM keyed k
 UNION SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid, p.oid
 FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 JOIN pg_catalog.pg_language l ON l.oid = p.prolang
 WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
 AND l.lanname NOT IN ('internal', 'c') AND p.prosrc ~* (
 SELECT '\\m(' || pg_catalog.string_agg(
 pg_catalog.regexp_replace(c.relname, '(\\W)', '\\\\\\1', 'g'), '|') || ')\\M'
 FROM keyed k JOIN pg_catalog.pg_class c ON c.oid = k.oid)
 UNION SELECT d.class, d.oid FROM made m JOIN LATERAL (
 SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, r.ev_class
 FROM pg_catalog.pg_depend d
 JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
 WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
 AND d.refclassid = m.class AND d.refobjid = m.oid AND r.ev_class <> m.oid
 UNION ALL
 SELECT d.classid, d.objid FROM pg_catalog.pg_depend d
 WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
 AND d.refclassid = m.class AND d.refobjid = m.oid
 ) d (class, oid) ON true
)
SELECT 's', n.nspname, c.relname, c.relkind::pg_catalog.text, o.nspname, t.relname
 FROM (SELECT DISTINCT oid FROM made
 WHERE class = 'pg_catalog.pg_class'::pg_catalog.regclass) m
 JOIN pg_catalog.pg_class c ON c.oid = m.oid
 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 LEFT JOIN keyed k ON k.oid = m.oid
 LEFT JOIN pg_catalog.pg_class t ON t.oid = k.root
 LEFT JOIN pg_catalog.pg_namespace o ON o.oid = t.relnamespace
UNION ALL
SELECT DISTINCT 's', n.nspname, p.proname, 'function', NULL, NULL
 FROM made m JOIN pg_catalog.pg_proc p ON p.oid = m.oid
 JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 WHERE m.class = 'pg_catalog.pg_proc'::pg_catalog.regclass
 AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc q WHERE q.proname = p.proname
 AND q.pronamespace = 'pg_catalog'::pg_catalog.regnamespace)
 LIMIT {limit};
"""


# Tables that no setting names, and views of them; those of extensions are the same everywhere.
_PLAIN: Final = """\
WITH RECURSIVE keyed (oid) AS (
 SELECT c.oid FROM pg_catalog.pg_class c WHERE {wanted}
 UNION SELECT i.inhrelid FROM keyed k JOIN pg_catalog.pg_inherits i ON i.inhparent = k.oid
), plain (oid) AS (
 SELECT c.oid FROM pg_catalog.pg_class c
 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
 AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
 AND NOT ({everywhere}) AND NOT EXISTS (SELECT FROM keyed k WHERE k.oid = c.oid)
 AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'
 AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass)
 UNION SELECT r.ev_class FROM plain p
 JOIN pg_catalog.pg_depend d ON d.refobjid = p.oid
 AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
 AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
 JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid AND r.ev_class <> p.oid
)
SELECT 's', n.nspname, c.relname, 'plain', NULL, NULL FROM plain p
 JOIN pg_catalog.pg_class c ON c.oid = p.oid
 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LIMIT {limit};
"""


class Member(Protocol):
    """A pool whose router goes by the catalogue."""

    @property
    def retired(self) -> bool:
        """Whether it is of no interest any more."""

    def learn(
        self, columns: Mapping[str, tuple[str, ...]], functions: Mapping[str, Bodies]
    ) -> None:
        """Take in the columns of tables, and what is known of functions; see `Learned`."""

    def learn_relations(self, relations: frozenset[Relation]) -> None:
        """Take in what is made of sharded tables."""

    def is_changing(self, shard: int) -> bool:
        """Whether a client may be about to change the schema of a shard."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the routers of a pool need to know.

    Attributes:
        keys: the columns with sharding keys; the tables with them are wanted.
        functions: whether functions are to be learned.
        everywhere: (schema or "", name) of the tables that every shard has, if those are wanted
            that have no key and are not among them.
    """

    keys: tuple[KeyColumn, ...] = ()
    functions: bool = False
    everywhere: tuple[tuple[str, str], ...] | None = None

    def __bool__(self) -> bool:
        return bool(self.keys) or self.functions

    @property
    def sql(self) -> bytes:
        """The query that asks for it, in ASCII whatever the names."""
        limit = _MOST_ROWS + 1
        text = ""
        if self.keys:
            conditions = sorted({_condition(key) for key in self.keys})
            text += _COLUMNS.format(wanted=" OR ".join(conditions), limit=limit)
            text += _RELATIONS.format(wanted=" OR ".join(conditions), limit=limit)
            if self.everywhere is not None:
                text += _PLAIN.format(
                    wanted=" OR ".join(conditions),
                    everywhere=" OR ".join(map(_is_named, self.everywhere)) or "false",
                    limit=limit,
                )
        if self.functions:
            text += _FUNCTIONS.format(limit=limit)
            text += _BODIES.format(
                settings=_SETTINGS, longest=MAX_BODY, most=_MOST_BODIES, limit=limit
            )
        return text.encode("ascii")


def _is_named(table: tuple[str, str]) -> str:
    schema, name = table
    is_named = f"c.relname = {quote_literal(name)}"
    return f"({is_named} AND n.nspname = {quote_literal(schema)})" if schema else is_named


def _condition(key: KeyColumn) -> str:
    if not key.table:
        return _HAS_COLUMN.format(column=quote_literal(key.column))
    # The schema is of no importance: whoever leaves it out may mean any.
    return f"c.relname = {quote_literal(key.table)}"


@dataclass(frozen=True, slots=True)
class _Told:
    """What one shard has told."""

    columns: Columns
    functions: Functions


class Catalogue:
    """The knowledge about one database.

    Attributes:
        wanted: what is asked for.
    """

    def __init__(
        self, database: str, servers: Sequence[Sequence[Address]], wanted: Wanted
    ) -> None:
        """Begin with nothing; `servers` are those of each shard."""
        self._database: Final = database
        self.wanted: Final = wanted
        self._members: list[Member] = []
        # By shard; None: it was asked, or told, and what it would say now is unknown.
        self._told: dict[int, _Told | None] = {}
        # What a shard has said last about relations counts until it says something else: to
        # take one for sharded that is not any more is an error, the other way round is none.
        self._relations: dict[int, frozenset[Relation]] = {}
        self._due: Final = set(range(len(servers)))
        self._shard_count: Final = len(servers)
        self._with_primary: Final = {
            number
            for number, shard in enumerate(servers)
            if any(address.is_primary for address in shard)
        }
        # Questions are numbered: an answer that is older than one that was taken is outdated,
        # since two connections need not answer in the order in which they were asked.
        self._asked = 0
        self._taken: Final[dict[int, int]] = {}
        # The last complaint about each shard, so that it is logged once.
        self._complaints: Final[dict[int, str]] = {}

    def join(self, member: Member) -> None:
        """Serve one more pool; it is told at once what is known."""
        self._members = [other for other in self._members if not other.retired]
        self._members.append(member)
        self._tell([member])

    def inherit(self, old: Catalogue) -> None:
        """Begin with what another one of the same servers knows, until they have been asked."""
        self._told = dict(old._told)
        self._relations = dict(old._relations)

    # --- when

    @property
    def is_complete(self) -> bool:
        """Whether all shards have been asked."""
        return len(self._told) == self._shard_count

    def is_due(self, address: Address, *, is_first: bool = False) -> bool:
        """Whether a connection should ask before it is used; `is_first`: there is no other.

        The first connection of all may find another server than the last one did.
        """
        if not self._is_authority(address):
            return address.shard not in self._told
        return is_first or address.shard in self._due

    def _is_authority(self, address: Address) -> bool:
        return address.is_primary or address.shard not in self._with_primary

    def refresh(self, shard: int | None = None) -> None:
        """Have the shard, or all of them, asked again by the next connection."""
        self._due.update(range(self._shard_count) if shard is None else (shard,))

    def forget(self, shard: int) -> None:
        """The schema of a shard is being changed: nothing is known of any table for now."""
        self._due.add(shard)
        if self._told.get(shard) is not None:
            self._told[shard] = None
            self._tell(self._members)

    def forget_functions(self, shard: int) -> None:
        """A function of a shard may be another one now: nothing is known of any for now."""
        self._due.add(shard)
        told = self._told.get(shard)
        if told is not None and told.functions:
            self._told[shard] = replace(told, functions={})
            self._tell(self._members)

    # --- asking

    async def ask_during_login(self, address: Address, queries: LoginQueries) -> None:
        """Ask on a connection that is logging in.

        Raises:
            ServerProtocolError: the answer is none.
            WireClosed: the server has gone.
        """
        number = self._next_number()
        result = await queries.run(self.wanted.sql.decode())
        if result.status != codes.IDLE:
            raise ServerProtocolError("a query of the catalogue has opened a transaction")
        if result.error is not None:
            self.fail(address, result.error.get("M", "no reason given"))
        else:
            self.take(address, result.rows, is_whole=result.is_whole, number=number)

    def ask(self, server: ServerConnection) -> None:
        """Ask on a connection that is nobody's; `AddressPool.settled` goes on with it."""
        # Whatever encoding a client has set, or begun with.
        is_utf8 = server.baseline.get("client_encoding") == "UTF8"
        server.apply(server.first if is_utf8 else server.first.replaced(*_ENCODING))
        number = self._next_number()

        def learn(rows: list[Row], error: dict[str, str] | None, is_whole: bool) -> None:
            if error is None:
                self.take(server.pool.address, rows, is_whole=is_whole, number=number)
            else:
                self.fail(server.pool.address, error.get("M", "no reason given"))
            server.pool.settled(server)

        server.queue.append(Segment(CollectedAnswer(learn)))
        server.unnamed = 0
        server.send(messages.query(self.wanted.sql))

    def _next_number(self) -> int:
        self._asked += 1
        return self._asked

    # --- answers

    def take(
        self,
        address: Address,
        rows: Sequence[Row],
        *,
        is_whole: bool,
        number: int | None = None,
    ) -> None:
        """Learn from a server's answer to the question of that number, else to a new one."""
        shard = address.shard
        if shard in self._told and not self._is_authority(address):
            return
        number = self._next_number() if number is None else number
        if number < self._taken.get(shard, 0):
            return
        if any(member.is_changing(shard) for member in self._members):
            return  # it may be outdated in a moment; who changes the schema asks again
        if not is_whole or len(rows) > _MOST_ROWS:
            self.fail(address, "there are too many columns or functions")
            return
        self._answered(address)
        self._taken[shard] = number
        self._complaints.pop(shard, None)
        self._told[shard] = _Told(
            _columns(row[1:] for row in rows if row[0] == "c"), functions_of(rows)
        )
        self._relations[shard] = frozenset(_relation(row[1:]) for row in rows if row[0] == "s")
        self._tell(self._members)

    def fail(self, address: Address, why: str) -> None:
        """A server could not be asked: what it would have said is unknown."""
        shard = address.shard
        if shard in self._told and not self._is_authority(address):
            return
        if self._complaints.get(shard) != why:
            self._complaints[shard] = why
            log.warning(
                "[%s] cannot read the catalogue of shard %d: %s",
                self._database,
                shard,
                printable(why),
                extra=fields(database=self._database, shard=shard),
            )
        self._answered(address)
        self._told[shard] = None
        self._tell(self._members)

    def _answered(self, address: Address) -> None:
        if self._is_authority(address):
            self._due.discard(address.shard)

    def _tell(self, members: Iterable[Member]) -> None:
        told = [one for one in self._told.values() if one is not None]
        if len(told) < len(self._told):
            told = []
        columns: Columns = {}
        for name in {name for one in told for name in one.columns}:
            versions = {one.columns[name] for one in told if name in one.columns}
            if len(versions) == 1 and _DIFFERENT not in versions:
                columns[name] = versions.pop()
        functions = _common([one.functions for one in told])
        relations = frozenset(one for each in self._relations.values() for one in each)
        for member in members:
            if not member.retired:
                member.learn_relations(relations)
                member.learn(columns, functions)


def _relation(row: Row) -> Relation:
    """Read (schema, name, kind, schema and name of the root)."""
    schema, name, kind, *root = (str(value) for value in row if value is not None)
    return Relation(schema, name, KINDS.get(kind, kind), (root[0], root[1]) if root else None)


def functions_of(rows: Iterable[Row]) -> Functions:
    """Gather bodies by name; the rows are ("f", name) and ("b", name, language, text)."""
    found: dict[str, Bodies] = {}
    for kind, *values in rows:
        if kind == "f":
            found[str(values[0])] = frozenset()
        elif kind == "b":
            name, language, text = map(str, values)
            found[name] = found.get(name, frozenset()) | {Body(language, text)}
    return found


def _common(told: Sequence[Functions]) -> Functions:
    """Put together what shards say about the functions that all of them know."""
    if not told:
        return {}
    names = set(told[0]).intersection(*told)
    return {name: frozenset().union(*(one[name] for one in told)) for name in names}


def _columns(rows: Iterable[Row]) -> Columns:
    """Gather columns by table; the rows are (schema, table, column) in the columns' order."""
    tables: dict[tuple[str, str], list[str]] = {}
    for schema, table, column in rows:
        tables.setdefault((str(schema), str(table)), []).append(str(column))
    found: Columns = {}
    for (schema, table), names in tables.items():
        columns = tuple(names)
        for name in (f"{schema}.{table}", table):
            if found.setdefault(name, columns) != columns:
                found[name] = _DIFFERENT
    return found
