"""Statements made at random, over two tables with sharding keys and one that is everywhere.

Every query returns two columns, k and n, so that queries can stand for tables in other queries.
Most of what is made is valid SQL; what PostgreSQL refuses is left out by those who use it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

KEYS: Final = ("users.id", "orders.user_id")
LARGEST_KEY: Final = 12

Scope = list["Source"]


@dataclass(frozen=True, slots=True)
class Source:
    """Something in a FROM: what it is called, its two columns, and whether it is a table."""

    alias: str
    k: str
    n: str
    is_plain: bool = False


@dataclass(slots=True)
class Generator:
    """Makes statements."""

    rng: Random
    made: list[str] = field(default_factory=list)
    count: int = 0
    favourite: int = 1

    def statement(self) -> str:
        """Make a statement."""
        makers: list[Callable[[], str]] = [self._read] * 6
        makers += [self._update, self._delete, self._insert, self._merge]
        self.made = []
        self.count = 0
        self.favourite = self.rng.randint(1, LARGEST_KEY)
        return self.rng.choice(makers)()

    # --- values and conditions

    def literal(self) -> str:
        """Write a key in one of the many ways."""
        number = self._number()
        forms = ["{}"] * 8 + [
            "'{}'",
            "{}::bigint",
            "'{}'::bigint",
            "CAST({} AS int)",
            "bigint '{}'",
            "({})",
            "- -{}",
            "-(-{})",
            "+{}",
            "{}.0",
            "abs(-{})",
            "@{}",
            "E'{}'",
            "U&'{}'",
            "$${}$$",
            "{} + 0",
            "(SELECT {})",
            "NULLIF({}, 3)",
            "/* 3 */ {}",
        ]
        return self.rng.choice(forms).format(number)

    def _number(self) -> int:
        # With one key for most of a statement there is a shard to be found.
        if self.rng.random() < 0.9:
            return self.favourite
        return self.rng.randint(1, LARGEST_KEY)

    def condition(self, scope: Scope, outer: Scope, depth: int) -> str:
        """Make a condition."""
        rng = self.rng
        if depth and rng.random() < 0.45:
            one = self.condition(scope, outer, depth - 1)
            other = self.condition(scope, outer, depth - 1)
            return rng.choice(
                [
                    f"{one} AND {other}",
                    f"({one} AND {other})",
                    f"({one} OR {other})",
                    f"{one} AND ({other})",
                    f"NOT ({one})",
                    f"({one}) IS NOT TRUE",
                    f"({one}) IS TRUE",
                    f"CASE WHEN {one} THEN {other} ELSE true END",
                ]
            )
        if depth and rng.random() < 0.2:
            return self._sub_condition(scope, outer, depth - 1)
        return self._comparison(scope, outer)

    def _column(self, scope: Scope) -> str:
        source = self.rng.choice(scope)
        same = [other for other in scope if other.k == source.k]
        is_bare = source.is_plain and len(same) == 1 and self.rng.random() < 0.4
        return source.k if is_bare else f"{source.alias}.{source.k}"

    def _comparison(self, scope: Scope, outer: Scope) -> str:
        rng = self.rng
        k = self._column(scope)
        source = rng.choice(scope)
        n = f"{source.alias}.{source.n}"
        other = self._column([*scope, *outer])
        one, two = self.literal(), self.literal()
        numbers = f"{self._number()},{self._number()}"
        return rng.choice(
            [f"{k} = {one}"] * 6
            + [f"{k} = {other}"] * 6
            + [
                f"{one} = {k}",
                f"({k}) = ({one})",
                f"{k}::bigint = {one}",
                f"{k} IN ({one})",
                f"{k} IN ({one}, {two})",
                f"{k} NOT IN ({one}, {two})",
                f"{k} = ANY (ARRAY[{numbers}])",
                f"{k} = ANY ('{{{numbers}}}')",
                f"{k} = ALL (ARRAY[{numbers}])",
                f"({k}, {n}) = ({one}, 1)",
                f"({n}, {k}) IN ((1, {one}), (2, {two}))",
                f"ROW({k}, {n}) = ROW({one}, 2)",
                f"{k} IS NOT DISTINCT FROM {one}",
                f"{k} IS NOT DISTINCT FROM {other}",
                f"{k} IS DISTINCT FROM {one}",
                f"{k} <> {one}",
                f"{k} > {one}",
                f"{k} BETWEEN {one} AND {two}",
                f"{k} + 0 = {one}",
                f"-{k} = {one}",
                f"{k} IS NULL",
                f"NOT {k} = {one}",
                f"{k} = {one} IS NOT FALSE",
                f"coalesce({k}, 1) = {one}",
                f"{n} = 1",
                f"{n} > 1",
                "true",
            ]
        )

    def _sub_condition(self, scope: Scope, outer: Scope, depth: int) -> str:
        rng = self.rng
        k = self._column(scope)
        visible = [*scope, *outer]
        query = self.query(visible, depth)
        return rng.choice(
            [
                f"EXISTS ({query})",
                f"NOT EXISTS ({query})",
                f"{k} IN (SELECT k FROM ({query}) q)",
                f"{k} IN (SELECT q.k FROM ({query}) q LIMIT 40)",
                f"{k} NOT IN (SELECT k FROM ({query}) q)",
                f"{k} = ANY (SELECT k FROM ({query}) q)",
                f"{k} = (SELECT max(k) FROM ({query}) q)",
                f"({k}, 1) IN ({query})",
            ]
        )

    # --- queries

    def _name(self) -> str:
        self.count += 1
        return f"x{self.count}"

    def source(
        self, outer: Scope, depth: int, *, is_lateral: bool = False
    ) -> tuple[str, Source]:
        """Make an item of FROM."""
        rng = self.rng
        if depth and rng.random() < 0.25:
            name = self._name()
            query = self.query(outer, depth - 1)
            keyword = "LATERAL " if is_lateral else ""
            if rng.random() < 0.3:
                return f"{keyword}({query}) AS {name} (a, b)", Source(name, "a", "b")
            return f"{keyword}({query}) {name}", Source(name, "k", "n")
        if self.made and rng.random() < 0.3:
            name = self._name()
            return f"{rng.choice(self.made)} {name}", Source(name, "k", "n")
        if rng.random() < 0.08:
            name = self._name()
            rows = ", ".join(f"({self.literal()}, 1)" for _ in range(rng.randint(1, 2)))
            return f"(VALUES {rows}) AS {name} (k, n)", Source(name, "k", "n")
        table, key = rng.choice([("users", "id"), ("orders", "user_id"), ("things", "k")])
        if rng.random() < 0.1:
            name = self._name()
            renamed = {"users": "id2, n2", "orders": "oid, k2, n2", "things": "k3, n2"}[table]
            column = renamed.split(", ")[-2]
            return f"{table} AS {name} ({renamed})", Source(name, column, "n2")
        name = self._name()
        spelled = rng.choice([table, table.upper(), f'"{table}"'])
        return f"{spelled} {name}", Source(name, key, "n", is_plain=True)

    def _from(self, outer: Scope, depth: int) -> tuple[str, Scope]:
        rng = self.rng
        sql, first = self.source(outer, depth)
        scope = [first]
        while len(scope) < 4 and rng.random() < 0.45:
            is_lateral = rng.random() < 0.2
            seen = [*scope, *outer] if is_lateral else outer
            right, source = self.source(seen, depth, is_lateral=is_lateral)
            joined = [*scope, source]
            kind = rng.choice(
                ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", ",", "CROSS JOIN"]
            )
            if is_lateral and kind in ("RIGHT JOIN", "FULL JOIN"):
                kind = "LEFT JOIN"
            if kind in (",", "CROSS JOIN"):
                sql = f"{sql} {kind} {right}"
            elif kind != "FULL JOIN" and rng.random() < 0.8:
                left = rng.choice(scope)
                on = f"{left.alias}.{left.k} = {source.alias}.{source.k}"
                if rng.random() < 0.4:
                    on = f"{on} AND {self.condition(joined, outer, 1)}"
                elif rng.random() < 0.2:
                    on = self.condition(joined, outer, 1)
                sql = f"{sql} {kind} {right} ON {on}"
            else:
                left = rng.choice(scope)
                on = f"{left.alias}.{left.k} = {source.alias}.{source.k}"
                sql = f"{sql} {kind} {right} ON {on}"
            scope = joined
        return sql, scope

    def query(self, outer: Scope, depth: int) -> str:
        """Make a query."""
        rng = self.rng
        if depth and rng.random() < 0.12:
            kind = rng.choice(["UNION", "UNION ALL", "INTERSECT", "EXCEPT"])
            return f"({self.query(outer, depth - 1)}) {kind} ({self.query(outer, depth - 1)})"
        sources, scope = self._from(outer, depth)
        where = ""
        if rng.random() < 0.85:
            where = f" WHERE {self._where(scope, outer)}"
        chosen = rng.choice(scope)
        k, n = f"{chosen.alias}.{chosen.k}", f"{chosen.alias}.{chosen.n}"
        if rng.random() < 0.1:
            k = self.literal()
        form = rng.random()
        if form < 0.08:
            return f"SELECT {k} AS k, count(*) AS n FROM {sources}{where} GROUP BY {k}"
        if form < 0.12:
            return f"SELECT max({k}) AS k, count(*) AS n FROM {sources}{where}"
        if form < 0.2:
            return f"SELECT {k} AS k, {n} AS n FROM {sources}{where} ORDER BY 2, 1 LIMIT 2"
        if form < 0.24:
            rank = f"rank() OVER (ORDER BY {k})"
            return f"SELECT {k} AS k, {rank} AS n FROM {sources}{where}"
        if form < 0.28:
            order = f"ORDER BY {n}, {k}"
            return f"SELECT DISTINCT ON ({n}) {k} AS k, {n} AS n FROM {sources}{where} {order}"
        if len(scope) == 1 and chosen.k == "k" and chosen.n == "n" and form < 0.5:
            return f"SELECT {rng.choice(['*', chosen.alias + '.*'])} FROM {sources}{where}"
        distinct = "DISTINCT " if form > 0.9 else ""
        return f"SELECT {distinct}{k} AS k, {n} AS n FROM {sources}{where}"

    def _where(self, scope: Scope, outer: Scope) -> str:
        condition = self.condition(scope, outer, 2)
        if self.rng.random() < 0.5:
            return f"{self._column(scope)} = {self.literal()} AND {condition}"
        return condition

    def _with(self) -> str:
        rng = self.rng
        if rng.random() < 0.7:
            return ""
        parts: list[str] = []
        for _ in range(rng.randint(1, 2)):
            name = f"c{len(parts)}"
            columns = rng.choice(["", " (k, n)"])
            parts.append(f"{name}{columns} AS ({self.query([], 1)})")
            self.made = [*self.made, name]
        return f"WITH {', '.join(parts)} "

    def _read(self) -> str:
        return self._with() + self.query([], 2)

    # --- changes

    def _target(self) -> tuple[str, Source, str]:
        table, key = self.rng.choice([("users", "id"), ("orders", "user_id")])
        if self.rng.random() < 0.5:
            return table, Source(table, key, "n", is_plain=True), table
        name = self._name()
        return f"{table} AS {name}", Source(name, key, "n", is_plain=True), table

    def _update(self) -> str:
        head = self._with()
        target, source, _ = self._target()
        scope, more = [source], ""
        if self.rng.random() < 0.4:
            more, others = self._from([], 1)
            scope, more = [source, *others], f" FROM {more}"
        condition = self._where(scope, [])
        return f"{head}UPDATE {target} SET n = {source.alias}.n + 100{more} WHERE {condition}"

    def _delete(self) -> str:
        head = self._with()
        target, source, _ = self._target()
        scope, more = [source], ""
        if self.rng.random() < 0.4:
            more, others = self._from([], 1)
            scope, more = [source, *others], f" USING {more}"
        return f"{head}DELETE FROM {target}{more} WHERE {self._where(scope, [])}"

    def _insert(self) -> str:
        rng = self.rng
        head = self._with()
        columns = "user_id, oid, n"
        if rng.random() < 0.4:
            rows = (f"({self.literal()}, 1, 7)" for _ in range(rng.randint(1, 2)))
            return f"{head}INSERT INTO orders ({columns}) VALUES {', '.join(rows)}"
        query = self.query([], 1)
        if rng.random() < 0.3:
            return f"{head}INSERT INTO orders (user_id, n) {query}"
        return f"{head}INSERT INTO orders ({columns}) SELECT q.k, 1, q.n FROM ({query}) q"

    def _merge(self) -> str:
        rng = self.rng
        source, other = self.source([], 1)
        target = Source("orders", "user_id", "n", is_plain=True)
        on = f"orders.user_id = {other.alias}.{other.k}"
        if rng.random() < 0.5:
            on = f"{on} AND {self.condition([target, other], [], 1)}"
        whens = [
            "WHEN MATCHED THEN DELETE",
            f"WHEN MATCHED AND {other.alias}.{other.n} > 1 THEN DELETE",
            f"WHEN NOT MATCHED THEN INSERT (user_id, n) VALUES ({other.alias}.{other.k}, 9)",
        ]
        chosen = " ".join(rng.sample(whens, rng.randint(1, 2)))
        return f"MERGE INTO orders USING {source} ON {on} {chosen}"
