"""A tour of the running demo: what to ask the router, and what the right answer is.

What is right is worked out past the router: from the cluster's ports, and by asking PostgreSQL.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .account import ClusterError
from .installation import INSTALL_HINT
from .server import HOST
from .shards import ADMIN, DATABASE, PASSWORD, TABLE, USER, shard_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import psycopg
    from psycopg.rows import TupleRow

    from .cluster import Cluster
    from .ports import Ports
    from .progress import Progress

KEY = 1234
NEW_KEY = 1_000_001
OTHER_KEY = 1  # of another shard than KEY
MADE = "tour_notes"
NO_PARTITION = "23514"
NO_SINGLE_SHARD = "0A000"
METRICS_SECONDS = 60.0
METRICS_SHOWN = 6


@dataclass(frozen=True, slots=True)
class TourAnswer:
    """What came back for the last statement: rows, or an error."""

    columns: tuple[str, ...] = ()
    rows: tuple[tuple[object, ...], ...] = ()
    sqlstate: str = ""
    message: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """One thing to see: statements on one connection, and what the last one must answer.

    Attributes:
        autocommit: each statement is a transaction; else all are one, as by default in Python.
        rows: what the last statement, which is a COPY, reads.
    """

    title: str
    statements: tuple[str, ...]
    expected: str
    is_right: Callable[[TourAnswer], bool]
    database: str = DATABASE
    autocommit: bool = True
    rows: str = ""

    @property
    def commands(self) -> tuple[str, ...]:
        """The statements for psql, which begins no transactions by itself."""
        return self.statements if self.autocommit else ("BEGIN", *self.statements, "COMMIT")


class Tour:
    """The stops of the tour, for one running demo."""

    def __init__(self, cluster: Cluster, ports: Ports) -> None:
        self._cluster = cluster
        self._ports = ports

    @property
    def metrics_url(self) -> str:
        """Where Prometheus finds the router."""
        return f"http://{HOST}:{self._ports.metrics}/metrics"

    def dsn(self, database: str) -> str:
        """Return the address to connect to, as psql takes it."""
        user, password = (ADMIN, ADMIN) if database == "pgcat" else (USER, PASSWORD)
        return f"postgresql://{user}:{password}@{HOST}:{self._ports.router}/{database}"

    def stops(self) -> list[Stop]:
        """Return the stops in order, each with the answer that this cluster must give."""
        return [
            self._read_by_key(),
            self._read_by_literal(),
            self._read_on_replica(),
            self._write_on_primary(),
            self._write_on_wrong_shard(),
            self._transaction(),
            self._definition(),
            self._copy(),
            _refusal(),
            _pools(),
        ]

    def show(self, progress: Progress) -> None:
        """Print the stops as commands to paste."""
        bundled = self._cluster.primary.installation.bin_dir / "psql"
        psql = "psql" if shutil.which("psql") else str(bundled)
        for stop in self.stops():
            commands = (f"-c {_quoted(statement)}" for statement in stop.commands)
            progress.line(f"# {stop.title}: {stop.expected}", style="dim")
            rows = stop.rows.replace("\n", "\\n")
            source = f"printf {shlex.quote(rows)} | " if rows else ""
            progress.line(source + " ".join([psql, self.dsn(stop.database), *commands]))
        progress.line("# metrics, for Prometheus", style="dim")
        progress.line(f"curl -s {self.metrics_url}")

    def run(self, progress: Progress) -> bool:
        """Make the tour: ask, print the answers, and tell whether every one was right."""
        verdicts = [self._run_stop(stop, progress) for stop in self.stops()]
        verdicts.append(self._run_metrics(progress))
        progress.line()
        progress.verdict(
            f"{sum(verdicts)} of {len(verdicts)} answers right", is_right=all(verdicts)
        )
        return all(verdicts)

    def _run_stop(self, stop: Stop, progress: Progress) -> bool:
        progress.heading(stop.title)
        for statement in stop.commands:
            progress.line(f"  {stop.database}=> {statement};", style="cyan")
        for row in stop.rows.splitlines():
            progress.line(f"  {row}", style="cyan")
        answer = ask(
            self.dsn(stop.database),
            stop.statements,
            autocommit=stop.autocommit,
            rows=stop.rows,
        )
        if answer.columns:
            progress.table(answer.columns, answer.rows)
        else:
            progress.line(f"  {answer.sqlstate} {answer.message}".rstrip())
            if answer.hint:
                progress.line(f"  HINT:  {answer.hint}")
        is_right = stop.is_right(answer)
        progress.verdict(stop.expected, is_right=is_right)
        return is_right

    def _run_metrics(self, progress: Progress) -> bool:
        progress.heading("Metrics")
        progress.line(f"  GET {self.metrics_url}", style="cyan")
        try:
            with urllib.request.urlopen(self.metrics_url, timeout=METRICS_SECONDS) as response:
                lines = response.read().decode().splitlines()
        except OSError as error:
            lines = [str(error)]
        samples = [line for line in lines if line.startswith("pgcat_pools_")]
        for line in samples[:METRICS_SHOWN] or lines[:METRICS_SHOWN]:
            progress.line(f"  {line}")
        is_right = any(f'pool="{DATABASE}"' in line for line in samples)
        progress.verdict(f"the pool {DATABASE} is measured", is_right=is_right)
        return is_right

    def _read_by_key(self) -> Stop:
        number = shard_of(self._cluster, KEY)
        replicas = {replica.port for replica in self._cluster.shards[number].replicas}
        rows = self._rows_of(number)
        return Stop(
            "A sharding key chooses the shard",
            (
                f"SET SHARDING KEY TO '{KEY}'",
                f"SELECT count(*), max(id) FILTER (WHERE id = {KEY}) AS key,"
                f" inet_server_port() AS port FROM {TABLE}",
            ),
            f"key {KEY} lives on shard {number} with {rows:,} rows; a replica of it answers",
            lambda answer: any(answer.rows == ((rows, KEY, port),) for port in replicas),
        )

    def _read_by_literal(self) -> Stop:
        number = shard_of(self._cluster, KEY)
        replicas = {replica.port for replica in self._cluster.shards[number].replicas}
        return Stop(
            "The key is found in the SQL, too",
            (f"SELECT id, inet_server_port() AS port FROM {TABLE} WHERE id = {KEY}",),
            f"one row, from a replica of shard {number}",
            lambda answer: any(answer.rows == ((KEY, port),) for port in replicas),
        )

    def _read_on_replica(self) -> Stop:
        replicas = {
            replica.port for shard in self._cluster.shards for replica in shard.replicas
        }
        return Stop(
            "A read goes to a replica",
            ("SELECT pg_is_in_recovery(), inet_server_port()",),
            f"in recovery, on one of the replicas' ports: {_listed(replicas)}",
            lambda answer: any(answer.rows == ((True, port),) for port in replicas),
        )

    def _write_on_primary(self) -> Stop:
        number = shard_of(self._cluster, NEW_KEY)
        port = self._cluster.shards[number].primary.port
        return Stop(
            "A write goes to the primary of its shard",
            (
                f"SET SHARDING KEY TO '{NEW_KEY}'",
                f"INSERT INTO {TABLE} (id, kind) VALUES ({NEW_KEY}, 'tour')"
                " ON CONFLICT (id) DO UPDATE SET kind = 'tour'"
                " RETURNING id, inet_server_port() AS port",
            ),
            f"key {NEW_KEY} is written to shard {number}, port {port}",
            lambda answer: answer.rows == ((NEW_KEY, port),),
        )

    def _write_on_wrong_shard(self) -> Stop:
        wrong = (shard_of(self._cluster, NEW_KEY) + 1) % len(self._cluster.shards)
        return Stop(
            "PostgreSQL itself refuses a row on the wrong shard",
            (
                f"SET SHARD TO '{wrong}'",
                f"INSERT INTO {TABLE} SELECT {NEW_KEY}, 'stray', now()",
            ),
            f"shard {wrong} has no partition for key {NEW_KEY}: error {NO_PARTITION}",
            lambda answer: answer.sqlstate == NO_PARTITION,
        )

    def _transaction(self) -> Stop:
        number = shard_of(self._cluster, OTHER_KEY)
        port = self._cluster.shards[number].primary.port
        return Stop(
            "A transaction that a driver begins goes where its first key belongs",
            (
                f"UPDATE {TABLE} SET kind = 'seen' WHERE id = {OTHER_KEY}",
                f"SELECT kind, inet_server_port() AS port FROM {TABLE} WHERE id = {OTHER_KEY}",
            ),
            f"it reads what it has written on shard {number}, port {port}",
            lambda answer: answer.rows == (("seen", port),),
            autocommit=False,
        )

    def _definition(self) -> Stop:
        last = len(self._cluster.shards) - 1
        port = self._cluster.shards[last].primary.port
        return Stop(
            "A definition reaches all shards, or none",
            (
                f"DROP TABLE IF EXISTS {MADE}",
                f"CREATE TABLE {MADE} (id bigint)",
                f"SET SHARD TO '{last}'",
                "SET SERVER ROLE TO 'primary'",
                f"SELECT to_regclass('{MADE}')::text AS made, inet_server_port() AS port",
            ),
            f"the table is on shard {last}, too, port {port}",
            lambda answer: answer.rows == ((MADE, port),),
        )

    def _copy(self) -> Stop:
        count = len(self._cluster.shards)
        keys: list[int] = []
        for number in range(count):
            key = NEW_KEY + 1
            while shard_of(self._cluster, key) != number:
                key += 1
            keys.append(key)
        deletions = (f"DELETE FROM {TABLE} WHERE id = {key}" for key in keys)
        return Stop(
            "The rows of a COPY go to their shards, all of them or none",
            (*deletions, f"COPY {TABLE} (id, kind) FROM STDIN WITH CSV"),
            f"{count} rows, one for each shard",
            lambda answer: answer.message == f"COPY {count}",
            rows="".join(f"{key},copied\n" for key in keys),
        )

    def _rows_of(self, number: int) -> int:
        [(count,)] = self._cluster.shards[number].primary.execute(
            f"SELECT count(*) FROM {TABLE}", database=DATABASE
        )
        assert isinstance(count, int)
        return count


def _quoted(statement: str) -> str:
    """Quote SQL for a shell; it is full of single quotes, so rather with double ones."""
    return shlex.quote(statement) if set(statement) & set('"$`\\!') else f'"{statement}"'


def _refusal() -> Stop:
    return Stop(
        "What would see a part of the rows is refused, and says what to do",
        (f"SELECT count(*) FROM {TABLE}",),
        f"error {NO_SINGLE_SHARD}, with a hint",
        lambda answer: answer.sqlstate == NO_SINGLE_SHARD and "sharding key" in answer.message,
    )


def _pools() -> Stop:
    return Stop(
        "The admin database shows the pools",
        ("SHOW POOLS",),
        f"a line for the pool {DATABASE} in transaction mode",
        lambda answer: _has_pool(answer.columns, answer.rows),
        database="pgcat",
    )


def _has_pool(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> bool:
    lines = [dict(zip(columns, row, strict=True)) for row in rows]
    wanted = {"database": DATABASE, "user": USER, "pool_mode": "transaction"}
    return any(wanted.items() <= line.items() for line in lines)


def ask(
    dsn: str, statements: Sequence[str], *, autocommit: bool = True, rows: str = ""
) -> TourAnswer:
    """Run statements on a new connection, one by one; return what the last one answered.

    If there are rows, that is a COPY, which reads them.
    """
    try:
        import psycopg
    except ImportError:
        raise ClusterError("psycopg is not installed: " + INSTALL_HINT) from None
    answer = TourAnswer()
    try:
        with contextlib.closing(
            psycopg.connect(dsn, autocommit=autocommit, connect_timeout=60)
        ) as connection:
            for statement in statements[: -1 if rows else None]:
                answer = _answer(connection.execute(statement.encode()))
            if rows:
                cursor = connection.cursor()
                with cursor.copy(statements[-1].encode()) as copy:
                    copy.write(rows)
                answer = _answer(cursor)
            connection.commit()
    except psycopg.Error as error:
        first_line, _, _ = str(error).partition("\n")
        hint = error.diag.message_hint or ""
        return TourAnswer(sqlstate=error.sqlstate or "", message=first_line, hint=hint)
    return answer


def _answer(cursor: psycopg.Cursor[TupleRow]) -> TourAnswer:
    if cursor.description is None:
        return TourAnswer(message=cursor.statusmessage or "")
    columns = tuple(column.name for column in cursor.description)
    return TourAnswer(columns, tuple(cursor.fetchall()))


def _listed(ports: set[int]) -> str:
    return ", ".join(str(port) for port in sorted(ports))
