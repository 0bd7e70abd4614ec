"""Runs the queries of a session on a hot standby, too, and notes what it says.

This file also runs by itself, in the process of an ORM's suite:
``python shadow.py LOG STANDBY_PORT SCRIPT [argument ...]`` runs the script with psycopg's
cursors watched. So it imports nothing of this project.
"""

from __future__ import annotations

import json
import re
import runpy
import sys
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq

if TYPE_CHECKING:
    from collections.abc import Callable

_CANDIDATE = re.compile(
    rb"(?:\s|--[^\n]*\n|/\*.*?\*/)*(?:\(|(?:select|with|values|table|show|explain|copy)(?!\w))",
    re.IGNORECASE | re.DOTALL,
)
TIMEOUT = "SET statement_timeout = '5s'"


def is_candidate(sql: bytes) -> bool:
    """Say whether a statement begins as queries do."""
    return _CANDIDATE.match(sql) is not None


class Shadow:
    """A session on a standby in which everything is undone."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.pgconn = connection.pgconn
        self._connection = connection
        self.pgconn.exec_(TIMEOUT.encode())

    def try_out(self, run: Callable[[pq.abc.PGconn], pq.abc.PGresult]) -> str:
        """Run something; return the SQLSTATE of the refusal, or ""."""
        self.pgconn.exec_(b"BEGIN")
        try:
            return outcome_of(self.pgconn, run(self.pgconn))
        finally:
            self.pgconn.exec_(b"ROLLBACK")


def outcome_of(pgconn: pq.abc.PGconn, result: pq.abc.PGresult) -> str:
    """Read a result to its end; return the SQLSTATE of the failure, or ""."""
    if result.status == pq.ExecStatus.COPY_OUT:
        while pgconn.get_copy_data(0)[0] > 0:
            pass
    elif result.status == pq.ExecStatus.COPY_IN:
        pgconn.put_copy_end(b"nobody has data")
    while (following := pgconn.get_result()) is not None:
        result = following
    if result.status in (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE):
        state = result.error_field(pq.DiagnosticField.SQLSTATE)
        return "XXXXX" if state is None else state.decode()
    return ""


class Watch:
    """Notes the queries that psycopg's cursors send, and the standby's answers."""

    def __init__(self, log: str, port: int) -> None:
        self._log = open(log, "a")  # noqa: SIM115
        self._port = port
        self._seen: set[bytes] = set()
        self._shadows: dict[str, Shadow] = {}

    def install(self) -> None:
        """Have every cursor tell of what it has executed."""
        original = psycopg.Cursor.execute

        def execute(cursor: psycopg.Cursor[Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            outcome: str | None = ""
            try:
                return original(cursor, *args, **kwargs)
            except psycopg.Error as error:
                outcome = error.sqlstate
                raise
            finally:
                self._note(cursor, outcome)

        psycopg.Cursor.execute = execute  # type: ignore[method-assign, assignment]

    def _note(self, cursor: psycopg.Cursor[Any], primary: str | None) -> None:
        query = cursor._query
        if query is None or not query.query or not is_candidate(query.query):
            return
        if query.query in self._seen:
            return

        def run(pgconn: pq.abc.PGconn) -> pq.abc.PGresult:
            # What a cursor has put into the text itself has no types.
            if not query.params or not query.types:
                return pgconn.exec_(query.query)
            return pgconn.exec_params(query.query, query.params, query.types, query.formats)

        try:
            standby = self._shadow(cursor.connection.info.dbname).try_out(run)
        except psycopg.Error:
            self._shadows.clear()
            return
        if standby == "":
            self._seen.add(query.query)
        sql = query.query.decode("utf-8", "replace")
        self._log.write(json.dumps({"sql": sql, "standby": standby, "primary": primary}) + "\n")
        self._log.flush()

    def _shadow(self, database: str) -> Shadow:
        if database not in self._shadows:
            connection = psycopg.connect(
                host="127.0.0.1",
                port=self._port,
                dbname=database,
                user="postgres",
                autocommit=True,
            )
            self._shadows[database] = Shadow(connection)
        return self._shadows[database]


if __name__ == "__main__":
    _, log, port, script, *arguments = sys.argv
    Watch(log, int(port)).install()
    sys.argv = [script, *arguments]
    if script.endswith(".py"):
        sys.path.insert(0, script.rpartition("/")[0])
        runpy.run_path(script, run_name="__main__")
    else:
        runpy.run_module(script, run_name="__main__", alter_sys=True)
