"""What a COPY that is split costs, beside the same rows into one shard, through the router.

Rows are made before, and sent as fast as they are taken. The two take turns, so that whatever
else the machine does hurts both.
"""

from __future__ import annotations

import contextlib
import struct
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from router.demo.server import free_port
from tests.support.cluster.cluster import Cluster
from tests.support.wire import COPY_DONE, WireClient, copy_data, query, sqlstates

from .processes import cpu_time
from .targets import BenchmarkError, Options, router_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

SHARDS: Final = 3
_POOL: Final = "rows"
_BLOCK: Final = 64 * 1024  # of a CopyData
_BINARY_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_FIELD: Final = struct.Struct("!hiqi")


def _in_binary(key: int) -> bytes:
    body = b"row %d" % key
    return _FIELD.pack(2, 8, key, len(body)) + body


@dataclass(frozen=True, slots=True)
class Kind:
    """Rows of one kind.

    Attributes:
        row: a row, by its number.
        options: of the COPY.
        head: what comes before the first row.
        is_indexed: the table has an index on its key.
    """

    row: Callable[[int], bytes]
    options: str = ""
    head: bytes = b""
    is_indexed: bool = False


_CSV: Final = "(FORMAT csv)"
KINDS: Final = {
    "text, index": Kind(lambda key: b"%d\trow %d\n" % (key, key), is_indexed=True),
    "text": Kind(lambda key: b"%d\trow %d\n" % (key, key)),
    "text, 1,000 keys": Kind(lambda key: b"%d\trow %d\n" % (key % 1000, key)),
    "text, 100 bytes": Kind(lambda key: b"%d\t%d%b\n" % (key, key, b"x" * 80)),
    "CSV": Kind(lambda key: b"%d,row %d\n" % (key, key), _CSV),
    "CSV, a quoted field": Kind(lambda key: b'%d,"row, %d"\n' % (key, key), _CSV),
    "CSV, all quoted": Kind(lambda key: b'"%d","row %d"\n' % (key, key), _CSV),
    "binary": Kind(_in_binary, "(FORMAT binary)", _BINARY_HEADER),
}


@dataclass(frozen=True, slots=True)
class Copied:
    """How fast rows of one kind were, medians of the rounds.

    Attributes:
        split, single: rows per second, over all shards and into one of them.
        ratio: the median of their ratios within each round.
        cpu_split, cpu_single: processor time of the router for a row, in microseconds.
    """

    kind: str
    split: float
    single: float
    ratio: float
    cpu_split: float
    cpu_single: float


def measure(
    kinds: Sequence[str], rows: int, rounds: int, options: Options, bin_dir: Path | None
) -> Iterator[Copied]:
    """Measure kinds of rows, in turns of so many."""
    settings = {
        "max_connections": "60",
        "max_prepared_transactions": "20",
        "shared_buffers": "256MB",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "1h",
        "autovacuum": "off",
    }
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(
            Cluster(shards=1, replicas=0, settings=settings, bin_dir=bin_dir)
        )
        server = cluster.primary
        for number in range(SHARDS):
            server.execute(f"CREATE DATABASE shard_{number}")
        port = free_port()
        text = _config(port, server.port)
        target = stack.enter_context(router_with(server, options, port, text, _POOL))
        assert target.pid is not None
        client = stack.enter_context(WireClient.login(port, user="postgres", database=_POOL))
        for name in kinds:
            kind = KINDS[name]
            data = _messages(kind, rows)
            index = "PRIMARY KEY" if kind.is_indexed else ""
            _ask(client, f"CREATE TABLE rows (id bigint {index}, body text)")
            # What a connection is told of the table for the first time is not of the rows.
            runs: dict[str, list[tuple[float, float]]] = {"all": [], "0": []}
            for number in range(rounds + 1):
                for place, found in runs.items():
                    one = _run(client, kind, data, place, target.pid)
                    if number:
                        found.append(one)
                    _ask(client, "TRUNCATE rows")
            _ask(client, "DROP TABLE rows")
            yield _summary(name, rows, runs["all"], runs["0"])


def _summary(
    kind: str, rows: int, split: list[tuple[float, float]], single: list[tuple[float, float]]
) -> Copied:
    return Copied(
        kind,
        split=rows / median(seconds for seconds, _ in split),
        single=rows / median(seconds for seconds, _ in single),
        ratio=median(one[0] / all_[0] for all_, one in zip(split, single, strict=True)),
        cpu_split=median(cpu for _, cpu in split) / rows * 1e6,
        cpu_single=median(cpu for _, cpu in single) / rows * 1e6,
    )


def _messages(kind: Kind, rows: int) -> bytes:
    data = kind.head + b"".join(kind.row(key) for key in range(rows))
    blocks = [data[at : at + _BLOCK] for at in range(0, len(data), _BLOCK)]
    return b"".join(copy_data(block) for block in blocks) + COPY_DONE


def _run(
    client: WireClient, kind: Kind, data: bytes, place: str, pid: int
) -> tuple[float, float]:
    """Copy all rows; seconds, and those of the router's processor."""
    if place != "all":
        _ask(client, f"SET SHARD TO '{place}'")
    before, began = cpu_time(pid).total, time.perf_counter()
    client.send(query(f"COPY rows FROM STDIN {kind.options}"))
    answer = client.read_message()
    if answer.kind != "G":
        raise BenchmarkError(f"COPY is refused: {answer.fields}")
    client.send(data)
    failed = sqlstates(client.read_until("Z"))
    found = time.perf_counter() - began, cpu_time(pid).total - before
    if failed:
        raise BenchmarkError(f"COPY has failed: {failed}")
    if place != "all":
        _ask(client, "SET SHARD TO DEFAULT")
    return found


def _ask(client: WireClient, sql: str) -> None:
    errors = [message.fields for message in client.ask(query(sql)) if message.kind == "E"]
    if errors:
        raise BenchmarkError(f"{sql}: {errors[0]['M']}")


def _config(port: int, server_port: int) -> str:
    shards = "".join(
        f"""
[pools.{_POOL}.shards.{number}]
database = "shard_{number}"
servers = [["127.0.0.1", {server_port}, "primary"]]
"""
        for number in range(SHARDS)
    )
    return f"""\
[general]
host = "127.0.0.1"
port = {port}
admin_username = "admin"
admin_password = "admin"

[pools.{_POOL}]
query_parser_enabled = true
automatic_sharding_key = "rows.id"

[pools.{_POOL}.users.0]
username = "postgres"
password = "unused"
auth_type = "trust"
pool_size = 4
{shards}"""
