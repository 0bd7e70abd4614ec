"""Programs made at random: what a client sends between its login and its leaving."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.support.wire import (
    COPY_DONE,
    SYNC,
    bind,
    close,
    copy_data,
    describe,
    execute,
    parse,
    query,
)

from .changes import Changes
from .definitions import Definitions
from .values import Values

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from .schema import Schema


@dataclass(frozen=True)
class Request:
    """What is sent for one ReadyForQuery.

    Attributes:
        texts: the statements, for people.
        data: the messages: see `outcomes.ask`.
        is_ordered: whether the order of the rows counts.
        count: how many statements there are.
        name: what it prepares.
    """

    texts: str
    data: tuple[bytes, ...]
    is_ordered: bool = False
    count: int = 1
    name: str = ""


@dataclass
class Program:
    """Makes the requests of one program."""

    rng: Random
    schema: Schema
    values: Values = field(init=False)
    named: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Choose what it is about."""
        self.values = Values(self.rng, self.schema)
        self.changes = Changes(self.rng, self.schema, self.values)
        self.definitions = Definitions(self.rng, self.schema, self.values)

    def requests(self, count: int) -> Iterator[Request]:
        """Make some requests, that end outside of a transaction."""
        rng = self.rng
        while count > 0:
            if rng.random() < 0.5:
                self.values.refocus()
                yield self._request()
                count -= 1
                continue
            self.values.refocus()
            length = rng.randint(1, 5)
            yield from self._transaction(length)
            count -= length

    def forget(self, name: str) -> None:
        """Nothing may have been prepared by this name."""
        self.named.pop(name, None)

    def _transaction(self, length: int) -> Iterator[Request]:
        rng = self.rng
        begin = rng.choice(
            ("BEGIN",) * 4
            + ("START TRANSACTION ISOLATION LEVEL REPEATABLE READ", "BEGIN READ ONLY")
        )
        yield self._plain(begin)
        points = 0
        defines = rng.random() < 0.2
        for _ in range(length):
            if rng.random() < 0.1:
                points += 1
                yield self._plain(f"SAVEPOINT s_{points}")
            if rng.random() < 0.08:
                yield self._plain("SET LOCAL work_mem TO '1MB'")
            yield self._request(defines=defines)
            if points and rng.random() < 0.3:
                yield self._plain(f"ROLLBACK TO s_{points}")
        yield self._plain(rng.choice(("COMMIT", "COMMIT", "COMMIT", "ROLLBACK")))

    def _plain(self, sql: str) -> Request:
        if self.rng.random() < 0.5:
            return Request(sql, (query(sql),))
        data = parse(sql) + bind() + describe() + execute() + SYNC
        return Request(f"{sql} -- bound", (data,))

    def _request(self, *, defines: bool = False) -> Request:
        rng = self.rng
        form = rng.random()
        if defines and form < 0.7:
            return self._plain(self.definitions.make(in_transaction=True))
        if form < 0.03:
            return self._plain(self.definitions.make(in_transaction=False))
        if form < 0.06:
            return self._copy()
        if form < 0.4:
            sql, is_ordered = self.statement(binds=False)
            return Request(sql, (query(sql),), is_ordered)
        if form < 0.46:
            texts = [self.statement(binds=False)[0] for _ in range(rng.randint(2, 3))]
            sql = "; ".join(texts)
            return Request(sql, (query(sql),), count=len(texts))
        if form < 0.58:
            return self._named()
        count = 1 if rng.random() < 0.85 else rng.randint(2, 3)
        return self._batch(count)

    def statement(self, *, binds: bool) -> tuple[str, bool]:
        """Make a statement, and say whether its rows are in order."""
        self.values.begin(binds=binds)
        if self.rng.random() < 0.6:
            return self.changes.queries.statement()
        return self.changes.statement(), False

    def _batch(self, count: int) -> Request:
        rng = self.rng
        texts, data = [], b""
        is_ordered = count == 1
        for _ in range(count):
            sql, in_order = self.statement(binds=True)
            is_ordered = is_ordered and in_order
            data += parse(sql) + bind(*map(str.encode, self.values.bound)) + describe()
            if rng.random() < 0.1:
                data += execute(limit=2)
                is_ordered = False
                texts.append(f"{sql} -- {self.values.bound}, two rows")
                if not in_order:
                    # Which rows come first is nobody's promise.
                    data = data.removesuffix(execute(limit=2)) + execute()
                continue
            texts.append(f"{sql} -- {self.values.bound}")
            data += execute()
        return Request("; ".join(texts), (data + SYNC,), is_ordered, count)

    def _named(self) -> Request:
        rng = self.rng
        if self.named and rng.random() < 0.6:
            name = rng.choice(sorted(self.named))
            sql, kinds = self.named[name]
            values = [self.values.another(kind) for kind in kinds]
            data = b""
        else:
            name = f"p{rng.randrange(4)}"
            sql, _ = self.statement(binds=True)
            values = self.values.bound
            self.named[name] = sql, tuple(self.values.kinds)
            data = close("S", name) + parse(sql, name)
            if rng.random() < 0.3:
                data += describe("S", name)
        data += bind(*map(str.encode, values), name=name) + describe() + execute() + SYNC
        return Request(f"{name}: {sql} -- {values}", (data,), name=name)

    def _copy(self) -> Request:
        rng = self.rng
        table = rng.choice([*self.schema.sharded, *self.schema.everywhere])
        if rng.random() < 0.5:
            self.values.begin(binds=False)
            query_text = f"SELECT * FROM {table.name}"
            if table.key:
                query_text += f" WHERE {table.key} = {self.values.key()}"
            sql = f"COPY {rng.choice((table.name, f'({query_text})'))} TO STDOUT"
            return Request(sql, (query(sql),))
        columns = ", ".join(table.columns)
        sql = f"COPY {table.name} ({columns}) FROM STDIN"
        lines = []
        for _ in range(rng.randint(0, 4)):
            values = [str(rng.randrange(90, 190)), "\\N", _escaped(self.values.word())]
            if table.key:
                values.insert(0, _escaped(self.values.raw_key()))
            lines.append("\t".join(values) + "\n")
        data = copy_data("".join(lines).encode()) + COPY_DONE
        return Request(f"{sql} -- {lines}", (query(sql), data))


_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n"})


def _escaped(value: str) -> str:
    return value.translate(_ESCAPES)
