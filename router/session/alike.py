"""Changes of tables that every shard has: what keeps them from being the same everywhere.

What the text tells has been seen to. Here the servers are asked what else gives values to new
rows, in the very transaction, so that nothing that has been learned can be outdated; and what
they answer to the change itself is compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..protocol.binds import Parameters
from ..protocol.variables import quote_relation
from ..routing.fingerprint import UnknownLexeme, short_fingerprint_of
from ..routing.limits import TooComplex
from ..routing.refusals import only_one_copy
from ..routing.sameness import literals_vary, varies
from ..routing.tokens import fold, statements_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..errors import RouterError
    from ..pool.participant import Participant
    from ..routing.types import TableChange

_TABLE: Final = """\
WITH it AS (SELECT oid, relkind FROM pg_catalog.pg_class
 WHERE oid = pg_catalog.to_regclass({}))
"""
# For the table by its name: "kind" if it is none; the names of its triggers and rules; and its
# columns that are filled in, with how: i for an identity, else d. A domain may have a default.
_HINDRANCES: Final = """\
SELECT 'kind', '', '' FROM it WHERE relkind NOT IN ('r', 'p')
UNION ALL SELECT 'trigger', tgname, '' FROM it JOIN pg_catalog.pg_trigger ON tgrelid = it.oid
 WHERE NOT tgisinternal AND tgenabled <> 'D'
UNION ALL SELECT 'rule', rulename, '' FROM it JOIN pg_catalog.pg_rewrite ON ev_class = it.oid
 WHERE ev_type <> '1'
UNION ALL SELECT 'column', attname, CASE WHEN attidentity <> '' THEN 'identity' ELSE
 coalesce(pg_catalog.pg_get_expr(adbin, adrelid), typdefault, '') END
 FROM it JOIN pg_catalog.pg_attribute a ON attrelid = it.oid
 JOIN pg_catalog.pg_type t ON t.oid = atttypid
 LEFT JOIN pg_catalog.pg_attrdef ON adrelid = it.oid AND adnum = attnum
 WHERE attnum > 0 AND NOT attisdropped AND attgenerated = ''"""

# The columns that COPY fills, in their order; and those among them for which a word may stand
# for the time, for all that is known of their types.
_COLUMNS: Final = """\
SELECT 'order', pg_catalog.string_agg(attname, ',' ORDER BY attnum), '' FROM it
 JOIN pg_catalog.pg_attribute ON attrelid = it.oid
 WHERE attnum > 0 AND NOT attisdropped AND attgenerated = ''
UNION ALL SELECT 'time', attname, '' FROM it
 JOIN pg_catalog.pg_attribute ON attrelid = it.oid
 JOIN pg_catalog.pg_type t ON t.oid = atttypid
 LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
 WHERE attnum > 0 AND NOT attisdropped AND attgenerated = ''
 AND (coalesce(e.typcategory, t.typcategory) IN ('A', 'C', 'D', 'P', 'R', 'X')
 OR coalesce(e.typnamespace, t.typnamespace) <> 'pg_catalog'::pg_catalog.regnamespace
 AND coalesce(e.typcategory, t.typcategory) = 'U')
UNION ALL """

# Longer values stand for no time.
_LONGEST_TIME: Final = 40


def question(change: TableChange) -> bytes:
    """What a server is asked before a change."""
    name = quote_relation(change.schema, change.table)
    return (_TABLE + _HINDRANCES).format(name).encode()


def question_of_rows(change: TableChange) -> bytes:
    """The same before rows are copied."""
    name = quote_relation(change.schema, change.table)
    return (_TABLE + _COLUMNS + _HINDRANCES).format(name).encode()


def objection(
    change: TableChange, rows: Sequence[tuple[str | None, ...]]
) -> RouterError | None:
    """Why a change might not be the same everywhere, by the answer to its question."""
    for kind, name, default in rows:
        if kind == "kind":
            return only_one_copy(change.table, "it is none of the kind that has rows itself")
        if kind in ("trigger", "rule"):
            return only_one_copy(change.table, f"{kind} {name} may do anything")
        is_filled_in = change.has_default or (change.makes_rows and name not in change.columns)
        if kind == "column" and is_filled_in and default and _may_vary(default):
            why = f"the default of column {name} is another on each shard ({default})"
            return only_one_copy(change.table, why)
    return None


def _may_vary(default: str) -> bool:
    """Whether an expression may give another value on each shard."""
    if default == "identity":
        return True
    try:
        fingerprint, literals = short_fingerprint_of(f"SELECT {default}".encode())
        pieces = statements_of(fold(fingerprint))
    except (UnknownLexeme, TooComplex, UnicodeDecodeError):
        return True
    return any(varies(tokens) for _, tokens in pieces) or bool(literals_vary(literals))


def values_vary(change: TableChange, bind: bytes) -> RouterError | None:
    """Why the values of a Bind might not be the same everywhere: one may stand for the time."""
    values = Parameters(bind)
    while values.advance():
        why = literals_vary([b"'%b'" % values.value[:_LONGEST_TIME]])
        if why:
            return only_one_copy(change.table, why)
    return None


def difference(change: TableChange, participants: Sequence[Participant]) -> RouterError | None:
    """Why shards differ, by what they have answered to the change."""
    answers = {(each.affected, each.digest) for each in participants}
    if len(answers) < 2:
        return None
    counts = ", ".join(f"{each.affected} on shard {each.shard}" for each in participants)
    return differs(change.table, counts)


def differs(table: str, counts: str) -> RouterError:
    """Make the error for shards whose rows are not the same."""
    return only_one_copy(
        table, f"it is not the same now, for it has changed these rows: {counts}"
    )
