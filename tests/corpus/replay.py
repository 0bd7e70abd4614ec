"""Runs scripts on a primary, and each of their queries on its standby first."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import pq

from router.pool.catalogue import Wanted, functions_of
from router.routing.fingerprint import UnknownLexeme, fingerprint_of
from router.routing.learned import Learned
from router.routing.tokens import Call, calls, fold, statements_of
from router.routing.verdicts import FunctionRules

from .records import Record
from .scripts import Command, Script
from .shadow import TIMEOUT, Shadow, is_candidate, outcome_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from router.pool.query import Row
    from tests.support.cluster.cluster import Shard

_FROM_FILE: Final = re.compile(
    r"(\s*copy\b.*\bfrom\s+)'(/[^']+)'(.*)", re.IGNORECASE | re.DOTALL
)
_SETTING: Final = re.compile(
    r"\s*(set|reset)\s+(?!(local|transaction|constraints|session\s+characteristics)\b)",
    re.IGNORECASE,
)
_CHANGES_FUNCTIONS: Final = re.compile(
    r"\s*(create|alter|drop)\b.*\b(function|extension|schema|type|domain|procedure)\b",
    re.IGNORECASE | re.DOTALL,
)


_OWN_FUNCTIONS: Final = """\
SELECT DISTINCT proname FROM pg_proc WHERE pronamespace <> 'pg_catalog'::regnamespace
"""
_BUILT_IN: Final = FunctionRules()


class Replay:
    """Sessions on a primary and on its standby that do the same."""

    def __init__(self, shard: Shard, database: str, environment: Mapping[str, str]) -> None:
        self._shard = shard
        self._database = database
        self._environment = environment
        self._catalogue = shard.primary.connect(database)
        self._known: tuple[FunctionRules, set[str]] | None = None

    def records(self, source: str, scripts: Sequence[Path]) -> Iterator[Record]:
        """Run scripts; tell of each query."""
        for path in scripts:
            self._connect()
            for command in Script(path, self._environment):
                try:
                    yield from self._run(source, command)
                except psycopg.OperationalError:
                    self._connect()
            self._primary.close()
            self._standby.close()

    def _connect(self) -> None:
        self._primary = self._shard.primary.connect(self._database)
        self._standby = self._shard.replicas[0].connect(self._database)
        self._primary.pgconn.exec_(TIMEOUT.encode())
        self._shadow = Shadow(self._standby)

    def _run(self, source: str, command: Command) -> Iterator[Record]:
        sql = command.sql.encode()
        if is_candidate(sql) and command.data is None and not _FROM_FILE.match(command.sql):
            standby = self._shadow.try_out(lambda pgconn: pgconn.exec_(sql))
            learned, own = self._functions_in(sql)
            primary = self._on_primary(command)
            yield Record(source, command.sql, standby, primary, learned, own)
            return
        self._on_primary(command)
        if _SETTING.match(command.sql):
            self._shadow.pgconn.exec_(sql)
        elif _CHANGES_FUNCTIONS.match(command.sql):
            self._known = None

    def _on_primary(self, command: Command) -> str:
        sql, data = command.sql, command.data
        match = _FROM_FILE.match(sql)
        if match is not None:
            try:
                with open(match[2], encoding="latin-1") as file:
                    data = file.read()
            except OSError:
                return "58P01"
            sql = f"{match[1]}STDIN{match[3]}"
        pgconn = self._primary.pgconn
        result = pgconn.exec_(sql.encode())
        if result.status == pq.ExecStatus.COPY_IN and data is not None:
            pgconn.put_copy_data(data.encode("latin-1", "replace"))
            pgconn.put_copy_end()
            result = pgconn.get_result() or result
        if pgconn.status != pq.ConnStatus.OK:
            raise psycopg.OperationalError("the primary has ended the session")
        return outcome_of(pgconn, result)

    def _functions_in(self, sql: bytes) -> tuple[list[str], list[str]]:
        """Name the functions of the database in a statement: that only read, and others."""
        try:
            statements = statements_of(fold(fingerprint_of(sql)[0]))
        except (UnknownLexeme, UnicodeDecodeError):
            return [], []
        called = (call for _, tokens in statements for call in calls(tokens))
        names = {call.name for call in called if not _BUILT_IN.is_harmless(call)}
        if not names:
            return [], []
        if self._known is None:
            self._known = self._catalogue_now()
        rules, own = self._known
        learned = {name for name in names if rules.is_harmless(Call("", name))}
        return sorted(learned), sorted(names & own - learned)

    def _catalogue_now(self) -> tuple[FunctionRules, set[str]]:
        """What a router would know of functions, and the names of all the database's own."""
        cursor = self._catalogue.execute(Wanted(functions=True).sql)
        rows: list[Row] = list(cursor.fetchall())
        while cursor.nextset():
            rows += cursor.fetchall()
        every = self._catalogue.execute(_OWN_FUNCTIONS).fetchall()
        bodies = functions_of(rows)
        return FunctionRules(learned=Learned(bodies)), {str(row[0]) for row in every}
