"""Why the keys of a text alone give it no single shard: who reads all of a sharded table, say.

What is found here is refused, or goes to default_shard, as sharding_without_key has it. A query
is judged by its syntax tree. Of other statements a word that is the name of a sharded table
counts, whatever it stands for: a false alarm is an error that says how to go on, whereas a
change that reaches one shard only is noticed by nobody.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ..errors import ForEveryShard
from .copy_text import is_copy_in
from .everywhere import Manner, manner_of
from .execution import execute_in
from .for_all import ChangeForAll, CopyForAll, CopyForSeveral
from .refusals import (
    beside_plain,
    for_all,
    for_every_shard,
    no_key,
    not_alone,
    not_together,
    renames,
    too_complex,
    unreadable,
)
from .tokens import calls, closing, is_word, unquoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..errors import NoSingleShard
    from .columns import ShardedTables
    from .sql.reader import Reading
    from .types import TableChange
    from .verdicts import Judgement

# Commands without the name of any table; that of something else may be the same.
_TRANSACTION: Final = ("begin", "start", "commit", "end", "rollback", "abort", "savepoint")
_SESSION: Final = ("set", "reset", "show", "discard", "deallocate", "listen", "unlisten")
_OTHERS: Final = (
    "release",
    "notify",
    "execute",
    "fetch",
    "move",
    "close",
    "checkpoint",
    "load",
)
_WITHOUT_TABLES: Final = frozenset((*_TRANSACTION, *_SESSION, *_OTHERS))
# Of these without a table all are meant.
_OPTIONS: Final = frozenset(("full", "freeze", "verbose", "analyze", "analyse"))
_MAINTENANCE: Final = frozenset(("vacuum", "analyze", "analyse", "cluster"))
_ALL_OF: Final = frozenset(
    (
        ("drop", "schema"),
        ("drop", "owned"),
        ("reassign", "owned"),
        ("reindex", "database"),
        ("reindex", "system"),
        ("reindex", "schema"),
    )
)
_COLUMN: Final = frozenset(("column", "if", "exists"))
_AT_CURSOR: Final = ["where", "current", "of"]
_ESCAPED_NAME: Final = re.compile(rb'[uU]&"')


class Obstacles:
    """Looks at the statements of a text, one after the other.

    Attributes:
        plain: the first table that they use and no setting names, or "".
    """

    def __init__(self, tables: ShardedTables | None, *, is_alone: bool) -> None:
        """Begin with nothing; `is_alone` if there is one statement only."""
        self._is_alone: Final = is_alone
        self._tables: Final = tables if tables is not None and tables.keys else None
        self._first: NoSingleShard | None = None
        self._manners: set[Manner | None] = set()
        self.plain = ""

    def first(self, *, has_keys: bool) -> NoSingleShard | None:
        """What the first of them has that stands in the way; `has_keys` if any has a key."""
        first = self._first
        if first is None and has_keys and self.plain:
            return beside_plain(self.plain)
        if not isinstance(first, ForEveryShard) or self._is_alone:
            return first
        # Of several, all have to be of the kind that is run in one transaction.
        return first if self._manners == {Manner.TOGETHER} else not_together(first)

    def add(
        self,
        judgement: Judgement,
        reading: Reading | None,
        tokens: list[str],
        limit: str = "",
        change: TableChange | None = None,
    ) -> None:
        """Look at a statement.

        Args:
            judgement, reading: of it.
            tokens: its.
            limit: what there was too much of to read it, if so.
            change: what it changes of a table that every shard has, and alike.
        """
        if self._tables is None:
            return
        self.plain = self.plain or plain_table(self._tables, judgement, reading, tokens)
        manner = manner_of(tokens)
        if judgement.is_query or judgement.inner or judgement.tables:
            manner = None  # what it makes of rows is another thing on each shard
        if change is not None:
            self._first = self._first or _of_change(judgement, tokens, change)
        self._manners.add(manner)
        first = self._first
        if first is None or (isinstance(first, ForEveryShard) and not first.is_of_sharded):
            found = self._of_statement(self._tables, judgement, reading, tokens, limit, manner)
            self._first = first if found is None else found

    def _of_statement(
        self,
        tables: ShardedTables,
        judgement: Judgement,
        reading: Reading | None,
        tokens: list[str],
        limit: str,
        manner: Manner | None,
    ) -> NoSingleShard | None:
        is_execute = bool(execute_in(tokens, judgement))
        if (is_execute or (tokens[0] == "prepare" and judgement.inner)) and not self._is_alone:
            return not_alone(judgement.statement.kind)
        if judgement.is_query or (judgement.inner and not is_execute):
            return self._of_query(tables, judgement, reading, tokens, limit)
        return self._of_command(tables, judgement, tokens, manner)

    def _of_query(
        self,
        tables: ShardedTables,
        judgement: Judgement,
        reading: Reading | None,
        tokens: list[str],
        limit: str,
    ) -> NoSingleShard | None:
        kind = judgement.statement.kind
        for table in judgement.tables:  # that is made of the query
            schema, _, name = table.rpartition(".")
            if tables.is_sharded(schema, name):
                return for_all(kind, name)
        if reading is None or not reading.is_query:
            if _is_at_cursor(tables, tokens):
                return None
            table = mentioned(tables, tokens)
            if not table and tables.are_known:
                return None
            return too_complex(limit) if limit else unreadable(table)
        if reading.keys.limit and (mentioned(tables, tokens) or not tables.are_known):
            return too_complex(reading.keys.limit)
        function = called(tables, tokens)
        if function:
            return no_key(function, "")
        for name in reading.keys.unkeyed:
            if not name:
                return unreadable("")
            wildcard, _, column = name.rpartition(".")
            if wildcard:
                return no_key(name, column)
            return no_key(name, tables.key_of("", name)[0])
        return None

    def _of_command(
        self,
        tables: ShardedTables,
        judgement: Judgement,
        tokens: list[str],
        manner: Manner | None,
    ) -> NoSingleShard | None:
        kind = judgement.statement.kind
        if tokens[0] in _WITHOUT_TABLES or kind == "PREPARE TRANSACTION":
            return None
        if tokens[0] == "do":
            return unreadable("")
        function = called(tables, tokens) if tokens[0] == "call" else ""
        if function:
            return no_key(function, "")
        table = mentioned(tables, tokens)
        if manner is not None and kind == "ALTER TABLE" and table and _renames(tables, tokens):
            return renames(table)
        if manner is not None:
            return for_every_shard(kind, table, in_turn=manner is Manner.IN_TURN)
        if table or _concerns_all(tokens):
            for name in judgement.tables:
                schema, _, copied = name.rpartition(".")
                if tables.is_sharded(schema, copied) and is_copy_in(tokens):
                    return CopyForSeveral(copied)
            return for_all(kind, table)
        return None


def _of_change(
    judgement: Judgement, tokens: Sequence[str], change: TableChange
) -> ForEveryShard:
    if tokens[0] == "copy":
        return CopyForAll(change)
    return ChangeForAll(judgement.statement.kind, change)


def mentioned(tables: ShardedTables, tokens: Sequence[str]) -> str:
    """Return the first word that is the name of a sharded table, or ""."""
    names = tables.names
    for token in tokens:
        if is_word(token) and unquoted(token) in names:
            return unquoted(token)
    return ""


def _is_at_cursor(tables: ShardedTables, tokens: Sequence[str]) -> bool:
    """Say whether it changes one row, of a cursor that is where the statement is sent."""
    words = list(tokens)
    count = sum(is_word(token) and unquoted(token) in tables.names for token in words)
    is_at_cursor = any(words[i : i + 3] == _AT_CURSOR for i in range(len(words)))
    return is_at_cursor and count == 1 and "select" not in words


def called(tables: ShardedTables, tokens: list[str]) -> str:
    """Return the name of the first function called that uses sharded tables, or ""."""
    if tables.functions:
        for call in calls(tokens):
            if call.name in tables.functions and call.schema != "pg_catalog":
                return call.name
    return ""


def obstacle_of_text(tables: ShardedTables, text: bytes, limit: str) -> NoSingleShard | None:
    """Say what is in the way of a text that nobody has read, by the names in it.

    Args:
        tables: those of the pool.
        text: all of it.
        limit: what it has too much of to be read, or "".
    """
    if tables.are_known and not _ESCAPED_NAME.search(text):
        known = sorted(tables.names | tables.functions)
        # To look for a name takes a tenth of the time that the expression does for one.
        low = text.lower()
        written = (name.replace('"', '""').encode().lower() for name in known)
        names = [re.escape(name) for name in written if name in low]
        pattern = rb"(?<![\w\x80-\xff])(?:%s)(?![\w\x80-\xff])" % b"|".join(names)
        if not names or not re.search(pattern, low):
            return None
    return too_complex(limit) if limit else unreadable("")


def plain_table(
    tables: ShardedTables,
    judgement: Judgement,
    reading: Reading | None,
    tokens: Sequence[str],
) -> str:
    """Return the first table that a statement uses and no setting names, or "".

    Of a COPY any word counts that is the name of one.
    """
    if not tables.plain:
        return ""
    names = judgement.tables
    if reading is not None:
        names += reading.tables
    elif tokens[0] == "copy":
        names += tuple(unquoted(token) for token in tokens if is_word(token))
    for name in names:
        schema, _, table = name.rpartition(".")
        if tables.is_plain(schema, table):
            return table
    return ""


def _renames(tables: ShardedTables, tokens: Sequence[str]) -> bool:
    """Say whether an ALTER TABLE takes the name from a table or from its key."""
    columns = {key.column for key in tables.keys}
    for number, token in enumerate(tokens[2:], 2):
        following = [word for word in tokens[number + 1 :] if word not in _COLUMN][:1]
        if token == "set" and following == ["schema"]:
            return True
        if token == "rename" and following == ["to"]:
            return True
        if token in ("rename", "drop") and following and unquoted(following[0]) in columns:
            return True
    return False


def _concerns_all(tokens: Sequence[str]) -> bool:
    """Say whether a command is about all tables, or about all of some kind."""
    if tokens[0] in _MAINTENANCE:
        rest = list(tokens[1:])
        if rest[:1] == ["("]:
            rest = rest[closing(rest, 0) + 1 :]
        return all(token in _OPTIONS for token in rest)
    if tokens[0] in ("grant", "revoke"):
        text = " ".join(tokens)
        return " all tables in schema " in text
    return tuple(tokens[:2]) in _ALL_OF
