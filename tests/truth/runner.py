"""Runs programs in both places, and compares what is answered and what is there afterwards."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from tests.support.router import PoolText, primary_of
from tests.support.wire import WireClient, query, rows

from . import schema as schemas
from .outcomes import Outcome, ask, outcome_of
from .programs import Program, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from tests.support.cluster.server import Server
    from tests.support.router import RouterProcess

    from .schema import Schema

REQUESTS: Final = 12
SETTINGS: Final = {"max_prepared_transactions": "50", "fsync": "off"}
_TABLES: Final = """
SELECT c.relname,
 string_agg(a.attname || ' ' || a.atttypid::regtype::text, ',' ORDER BY a.attnum)
 FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
 WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relnamespace = 'public'::regnamespace
 AND NOT c.relispartition AND c.relkind IN ('r', 'p', 'v') GROUP BY 1 ORDER BY 1
"""


class Untrue(AssertionError):
    """The two have not done the same."""


@dataclass
class Tally:
    """What has become of statements.

    Attributes:
        same: what was done, and was the same.
        failed: what failed in both places alike.
        reasons: why others were refused.
    """

    same: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def refused(self) -> int:
        """How many were refused."""
        return self.reasons.total()

    @property
    def total(self) -> int:
        """How many there were."""
        return self.same + self.failed + self.refused

    def lines(self) -> Iterable[str]:
        """Tell it in words."""
        total = max(self.total, 1)
        yield f"{self.total} statements: {self.same} the same, {self.failed} failed alike"
        yield f"{self.refused} refused ({100 * self.refused / total:.1f} %):"
        for reason, count in self.reasons.most_common():
            yield f"{count:7} {100 * count / total:5.1f} %  {reason}"


class World:
    """Databases with one schema: those of shards behind a router, and one with everything."""

    def __init__(
        self,
        server: Server,
        start_router: Callable[[dict[str, PoolText]], RouterProcess],
        seed: int,
        shards: int,
    ) -> None:
        """Make them."""
        self._server = server
        self._rng = random.Random(seed * 10 + shards)
        self.seed = seed
        self.schema: Schema = schemas.make(self._rng, shards)
        self.names = [f"truth_{seed}_{shards}_{n}" for n in range(shards)]
        self.whole = f"truth_{seed}_{shards}_whole"
        self._places: dict[str, int] = {}
        self._make()
        self._router = start_router(
            {
                "truth": PoolText(
                    shards=[primary_of(server)] * shards,
                    databases=self.names,
                    shard_options=self.schema.shard_options(),
                    pool_size=3,
                    options=self.schema.options(),
                )
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._router.stop()
        for name in (*self.names, self.whole):
            self._server.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def run(self, programs: int, tally: Tally) -> None:
        """Run some programs.

        Raises:
            Untrue: one of them has done another thing on the shards.
        """
        for number in range(programs):
            story: list[str] = []
            try:
                self._run_program(tally, story)
                self._compare_data()
            except AssertionError as error:
                told = "\n  ".join((self.schema.create(None), *story))
                raise Untrue(
                    f"seed {self.seed}, {self.schema.shards} shards, "
                    f"program {number}: {error}\n{self.schema.options()}\n{told}"
                ) from error

    def _run_program(self, tally: Tally, story: list[str]) -> None:
        program = Program(self._rng, self.schema)
        with (
            WireClient.login(self._router.port, "truth") as routed,
            WireClient.login(self._server.port, self.whole) as whole,
        ):
            was = "I"
            for request in program.requests(REQUESTS):
                story.append(request.texts)
                found = _compare(request, routed, whole, tally, story, was)
                was = found.status
                if found.has_failed:
                    program.forget(request.name)
            for client in (routed, whole):
                client.ask(query("ROLLBACK"))

    # --- the data

    def _make(self) -> None:
        for name in (*self.names, self.whole):
            self._server.execute(f"CREATE DATABASE {name}")
        self._server.execute(self.schema.create(None), database=self.whole)
        for shard, name in enumerate(self.names):
            self._server.execute(self.schema.create(shard), database=name)
        for table, made in self.schema.rows(self._rng):
            insert = f"INSERT INTO {table.name} VALUES {{}} ON CONFLICT DO NOTHING"
            self._server.execute(insert.format(", ".join(made)), database=self.whole)
            if not table.key:
                for name in self.names if table.is_everywhere else self.names[:1]:
                    self._server.execute(insert.format(", ".join(made)), database=name)
                continue
            for number, row in enumerate(made):
                key = self.schema.keys[number % len(self.schema.keys)]
                self._server.execute(insert.format(row), database=self.names[self.place(key)])

    def place(self, key: str) -> int:
        """The shard of a key."""
        if key not in self._places:
            self._places[key] = self.schema.place(key, self._hashed)
        return self._places[key]

    def _hashed(self, key: str) -> int:
        kind, count = self.schema.key_type, self.schema.shards
        if not self._places:
            self._server.execute(
                "CREATE SCHEMA oracle "
                f"CREATE TABLE hashed (key {kind}) PARTITION BY HASH (key)",
                database=self.whole,
            )
        [(place,)] = self._server.execute(
            f"SELECT g FROM generate_series(0, {count - 1}) g WHERE satisfies_hash_partition("
            f"'oracle.hashed'::regclass, {count}, g, {schemas.literal(key)}::{kind})",
            database=self.whole,
        )
        return int(place)

    def _compare_data(self) -> None:
        with WireClient.login(self._server.port, self.whole) as whole:
            tables = _described(whole)
            expected = {name: _rows(whole, name) for name in tables}
        everywhere = {table.name for table in self.schema.everywhere}
        plain = {table.name for table in self.schema.plain}
        keyed = {table.name for table in (*self.schema.sharded, self.schema.late)}
        found: dict[str, Counter[bytes]] = {name: Counter() for name in tables}
        for shard, database in enumerate(self.names):
            with WireClient.login(self._server.port, database) as client:
                described = _described(client)
                assert described == tables, (
                    f"shard {shard} has other tables: {described}, {tables}"
                )
                for name in tables:
                    there = _rows(client, name)
                    if name in everywhere or (name in plain and not shard):
                        assert there == expected[name], f"{name} of shard {shard} is another"
                    elif name in plain:
                        assert not there, f"{name} has rows on shard {shard}"
                    elif name in keyed:
                        self._check_places(client, name, shard)
                        found[name] += there
        for name in keyed & set(tables):
            assert found[name] == expected[name], (
                f"{name} has on the shards {found[name] - expected[name]}, "
                f"and lacks {expected[name] - found[name]}"
            )

    def _check_places(self, client: WireClient, name: str, shard: int) -> None:
        [key] = {
            table.key
            for table in (*self.schema.sharded, self.schema.late)
            if table.name == name
        }
        for (value,) in client.query(f"SELECT DISTINCT {key}::text FROM {name}"):
            assert value is not None
            there = self.place(value.decode())
            assert there == shard, f"the key {value!r} of {name} is on {shard}, not on {there}"


def _compare(
    request: Request,
    routed: WireClient,
    whole: WireClient,
    tally: Tally,
    story: list[str],
    was: str,
) -> Outcome:
    """Have a request answered in both places; returns the answer of the shards."""
    found = ask(routed, request.data, is_ordered=request.is_ordered)
    assert found.status, f"the connection has ended: {found.parts} {found.message}"
    if found.refused:
        story[-1] += f"\n    refused: {found.refused}"
        tally.reasons[found.refused] += request.count
        _follow(whole, was, found.status)
        return found
    expected = ask(whole, request.data, is_ordered=request.is_ordered)
    if not _are_alike(found, expected):
        raise Untrue(
            f"\nthe shards say {found.parts} {found.status} {found.message}\n"
            f"the whole says {expected.parts} {expected.status} {expected.message}"
        )
    if found.has_failed:
        story[-1] += f"\n    failed: {found.message}"
        tally.failed += request.count
    else:
        tally.same += request.count
    return found


def _are_alike(found: Outcome, expected: Outcome) -> bool:
    """Whether two have the same meaning: what came before an error has none."""
    if found.has_failed and expected.has_failed:
        codes = [
            [str(code) for kind, code in each.parts if kind == "E"]
            for each in (found, expected)
        ]
        # Of several constraints that rows violate, each shard has its own first.
        is_same = codes[0] == codes[1] or {each[0][:2] for each in codes} == {"23"}
        return is_same and found.status == expected.status
    return (found.parts, found.status) == (expected.parts, expected.status)


def _follow(whole: WireClient, was: str, status: str) -> None:
    """Bring a transaction to where one is of which a statement has been refused."""
    if status == "E":
        if was == "I":
            whole.ask(query("BEGIN"))
        found = outcome_of(whole.ask(query("SELECT 1 / 0")), is_ordered=False)
        assert found.status == "E"
    elif was != "I":
        assert status == "I", f"refused, and the transaction is {status}"
        whole.ask(query("ROLLBACK"))


def _described(client: WireClient) -> dict[str, bytes | None]:
    return {
        (name or b"").decode(): columns for name, columns in rows(client.ask(query(_TABLES)))
    }


def _rows(client: WireClient, name: str) -> Counter[bytes]:
    return Counter(row or b"" for (row,) in client.query(f"SELECT x::text FROM {name} x"))
