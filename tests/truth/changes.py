"""Statements made at random that change rows, and the same ones whatever their order is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .queries import Queries, Source

if TYPE_CHECKING:
    from random import Random

    from .schema import Schema, Table
    from .values import Values


class Changes:
    """Makes INSERT, UPDATE, DELETE and MERGE.

    Attributes:
        queries: makes those that stand in them.
    """

    def __init__(self, rng: Random, schema: Schema, values: Values) -> None:
        self._rng = rng
        self._schema = schema
        self._values = values
        self.queries = Queries(rng, schema, values)

    def statement(self) -> str:
        """Make a statement."""
        rng = self._rng
        form = rng.random()
        if form < 0.25:
            return self._of_everywhere(rng.choice(self._schema.everywhere))
        if form < 0.33:
            return self._of_everywhere(rng.choice(self._schema.plain))
        table = rng.choice([*self._schema.sharded, *self._schema.sharded, self._schema.late])
        makers = (
            [self._insert] * 3
            + [self._insert_query, self._update, self._update, self._update_from]
            + [self._delete, self._delete_using, self._merge, self._with]
        )
        return rng.choice(makers)(table)

    # --- tables with keys

    def _rows(self, table: Table, count: int) -> str:
        values = self._values
        rows = []
        for _ in range(count):
            row = [values.key()] if table.key else []
            row += [self._id(), self._number()]
            row.append("DEFAULT" if self._rng.random() < 0.1 else values.text())
            rows.append(f"({', '.join(row)})")
        return ", ".join(rows)

    def _id(self) -> str:
        return self._values.number(60)

    def _number(self) -> str:
        return "NULL" if self._rng.random() < 0.1 else self._values.number()

    def _insert(self, table: Table) -> str:
        rng = self._rng
        count = rng.choice((1, 1, 1, 2, 3, 5))
        if count > 1 and rng.random() < 0.5:
            self._values.refocus()
        rows = self._rows(table, count)
        listed = rng.choice(("", f" ({', '.join(table.columns)})"))
        if count > 2 and rng.random() < 0.3:
            rows += f", ({self._values.any_key()}, {self._id()}, 1, 'far')"
        return (
            f"INSERT INTO {table.name}{listed} VALUES {rows}"
            f"{self._conflict(table)}{self._returning(table)}"
        )

    def _conflict(self, table: Table) -> str:
        if not table.primary or self._rng.random() < 0.4:
            return ""
        target = ", ".join(table.primary)
        return self._rng.choice(
            (
                " ON CONFLICT DO NOTHING",
                f" ON CONFLICT ({target}) DO UPDATE "
                f"SET n = excluded.n, s = {table.name}.s || '+'",
                f" ON CONFLICT ({target}) DO UPDATE SET n = coalesce({table.name}.n, 0) + 1"
                f" WHERE {table.name}.id > 5",
            )
        )

    def _returning(self, table: Table) -> str:
        first = table.columns[0]
        return self._rng.choice(("", "", " RETURNING *", f" RETURNING {first}, n + 1 AS more"))

    def _insert_query(self, table: Table) -> str:
        rng, values = self._rng, self._values
        other = rng.choice(self._schema.tables)
        key = other.key if other.key and rng.random() < 0.6 else values.key()
        where = ""
        if rng.random() < 0.9:
            where = f" WHERE {other.key} = {values.key()}" if other.key else " WHERE id < 3"
        return (
            f"INSERT INTO {table.name} ({', '.join(table.columns)}) "
            f"SELECT {key}, id + {rng.randint(100, 900)}, n, s FROM {other.name}{where}"
            f"{rng.choice(('', ' ON CONFLICT DO NOTHING'))}"
        )

    def _update(self, table: Table) -> str:
        changed = self._assignments(table)
        condition = self._condition(table)
        return f"UPDATE {table.name} SET {changed} WHERE {condition}{self._returning(table)}"

    def _assignments(self, table: Table) -> str:
        chosen = [
            f"n = coalesce({table.name}.n, 0) + {{number}}",
            "s = {text}",
            f"s = {table.name}.s || 'x', n = NULL",
            "n = DEFAULT",
            "(n, s) = ({number}, {text})",
        ]
        if table.key:
            chosen += [
                "n = (SELECT max(id) FROM o0 WHERE id < 6)",
                f"{table.key} = {table.key}, n = 1",
                f"{table.key} = {{key}}",
            ]
        return self._values.filled(self._rng.choice(chosen))

    def _condition(self, table: Table) -> str:
        if self._rng.random() < 0.05:
            return "true"
        return self.queries.conditions([Source(table.name, table.key)], [], 1) or "true"

    def _update_from(self, table: Table) -> str:
        inner, source = self.queries.source(1, keyed=self._rng.random() < 0.7)
        own = Source(table.name, table.key)
        where = self._joined(own, source)
        return f"UPDATE {table.name} SET n = {self._values.number()} FROM {inner} WHERE {where}"

    def _joined(self, own: Source, source: Source) -> str:
        rng = self._rng
        if own.key and source.key and rng.random() < 0.85:
            on = f"{own.alias}.{own.key} = {source.alias}.{source.key}"
        else:
            on = f"{own.alias}.id = {source.alias}.id"
        condition = self.queries.conditions([own, source], [], 0)
        return f"{on} AND {condition}" if condition else on

    def _delete(self, table: Table) -> str:
        where = f"{self._condition(table)} AND {table.name}.id % 5 = {self._rng.randrange(5)}"
        return f"DELETE FROM {table.name} WHERE {where}{self._returning(table)}"

    def _delete_using(self, table: Table) -> str:
        inner, source = self.queries.source(1, keyed=self._rng.random() < 0.7)
        where = self._joined(Source(table.name, table.key), source)
        return (
            f"DELETE FROM {table.name} USING {inner} WHERE {where} AND {table.name}.id % 7 = 3"
        )

    def _merge(self, table: Table) -> str:
        rng, values = self._rng, self._values
        key = values.key()
        if rng.random() < 0.5:
            rows = f"(SELECT {key}::{self._schema.key_type} AS k, {rng.randrange(60)} AS id)"
        else:
            other = rng.choice(self._schema.sharded)
            rows = (
                f"(SELECT {other.key} AS k, max(id) AS id FROM {other.name} "
                f"WHERE {other.key} = {key} GROUP BY 1)"
            )
        whens = [
            "WHEN MATCHED AND m.n > 5 THEN DELETE",
            f"WHEN MATCHED THEN UPDATE SET n = {rng.randrange(8)}",
            f"WHEN NOT MATCHED THEN INSERT ({', '.join(table.columns)}) "
            "VALUES (x.k, x.id, 2, 'm')",
        ]
        chosen = " ".join(whens[i] for i in sorted(rng.sample(range(3), rng.randint(1, 3))))
        return (
            f"MERGE INTO {table.name} m USING {rows} x ON m.{table.key} = x.k "
            f"AND m.id = x.id {chosen}"
        )

    def _with(self, table: Table) -> str:
        rng, values = self._rng, self._values
        other = rng.choice(self._schema.sharded)
        moved = (
            f"DELETE FROM {other.name} WHERE {other.key} = {values.key()} AND id % 4 = 1 "
            "RETURNING *"
        )
        ends = (
            "SELECT count(*), max(s) FROM moved",
            f"INSERT INTO {table.name} ({', '.join(table.columns)}) "
            f"SELECT {other.key}, id + {rng.randint(1000, 9000)}, n, s FROM moved",
            f"UPDATE {table.name} SET s = 'w' FROM moved m WHERE {table.name}.{table.key} = "
            f"m.{other.key}",
        )
        return f"WITH moved AS ({moved}) {rng.choice(ends)}"

    # --- tables that every shard has

    def _of_everywhere(self, table: Table) -> str:
        rng, values = self._rng, self._values
        other = rng.choice([*self._schema.everywhere, *self._schema.plain])
        form = rng.random()
        if form < 0.4:
            count = rng.choice((1, 1, 2, 4))
            rows = self._rows(table, count)
            listed = rng.choice(("", " (id, n, s)"))
            return (
                f"INSERT INTO {table.name}{listed} VALUES {rows}"
                f"{self._conflict(table)}{self._returning(table)}"
            )
        if form < 0.6:
            changed = self._assignments(table)
            return (
                f"UPDATE {table.name} SET {changed} WHERE id = {values.number(60)}"
                f"{self._returning(table)}"
            )
        if form < 0.75:
            where = f"id = {values.number(60)}"
            return f"DELETE FROM {table.name} WHERE {where}{self._returning(table)}"
        if form < 0.83:
            return (
                f"INSERT INTO {table.name} (id, n, s) SELECT id + {rng.randint(60, 999)}, n, s "
                f"FROM {other.name} WHERE id = {values.number()}"
            )
        if form < 0.9:
            return (
                f"MERGE INTO {table.name} USING {other.name} x ON {table.name}.id = x.id "
                "AND x.n = 3 WHEN MATCHED THEN UPDATE SET s = 'merged'"
            )
        sharded = rng.choice(self._schema.sharded)
        odd = rng.choice(
            (
                f"UPDATE {table.name} SET n = 1 WHERE id IN (SELECT id FROM {sharded.name})",
                f"DELETE FROM {table.name} WHERE id < random() - 5",
                f"UPDATE {table.name} SET n = (SELECT count(*) FROM {sharded.name} "
                f"WHERE {sharded.key} = {{key}})",
                f"INSERT INTO {table.name} VALUES (nextval('nothing'), 1, 'x')",
                f"UPDATE {table.name} SET s = upper(s) "
                f"WHERE n = (SELECT max(n) FROM {other.name})",
                f"WITH x AS (SELECT max(id) AS id FROM {other.name}) "
                f"DELETE FROM {table.name} USING x WHERE {table.name}.id = x.id",
            )
        )
        return values.filled(odd)
