"""Queries made at random, whose rows depend on nothing but the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

    from .schema import Schema, Table
    from .values import Values


@dataclass(frozen=True)
class Source:
    """Something in a FROM.

    Attributes:
        alias: what it is called.
        key: its column with keys, or "".
        has_n: whether it has the column n; id and s are always there.
    """

    alias: str
    key: str
    has_n: bool = True

    @property
    def number(self) -> str:
        """A column with numbers."""
        return f"{self.alias}.{'n' if self.has_n else 'id'}"

    @property
    def columns(self) -> list[str]:
        """All of its columns."""
        names = ([self.key] if self.key else []) + ["id", "s"] + (["n"] if self.has_n else [])
        return [f"{self.alias}.{name}" for name in names]


class Queries:
    """Makes queries."""

    def __init__(self, rng: Random, schema: Schema, values: Values) -> None:
        self._rng = rng
        self._schema = schema
        self._values = values
        self._count = 0
        self._ctes: list[Source] = []

    def statement(self) -> tuple[str, bool]:
        """Make a query, and say whether its rows are in order."""
        rng = self._rng
        self._count = 0
        self._ctes = []
        form = rng.random()
        if form < 0.1:
            return self._common(), False
        if form < 0.16:
            kind = rng.choice(("UNION", "UNION ALL", "INTERSECT", "EXCEPT"))
            return f"({self.pair()}) {kind} ({self.pair()})", False
        if form < 0.19:
            return self._recursive(), False
        if form < 0.22:
            return self._odd(), False
        return self.query(2, [])

    # --- whole queries

    def query(self, depth: int, outer: list[Source]) -> tuple[str, bool]:
        """Make a SELECT, and say whether its rows are in order."""
        rng = self._rng
        sql, sources = self.sources(depth, outer)
        where = self.where(sources, outer, depth)
        form = rng.random()
        if form < 0.2:
            return f"SELECT {self._aggregates(sources)} FROM {sql}{where}", False
        if form < 0.36:
            return self._grouped(sql, sources, where), False
        if form < 0.44:
            return f"SELECT {self._windows(sources)} FROM {sql}{where}", False
        outputs = self._outputs(sources, depth, outer)
        positions = ", ".join(str(i + 1) for i in range(len(outputs)))
        listed = ", ".join(outputs)
        if form < 0.54:
            return f"SELECT DISTINCT {listed} FROM {sql}{where}", False
        if form < 0.64:
            limit = f" LIMIT {rng.randint(0, 4)}" + rng.choice(
                ("", f" OFFSET {rng.randint(0, 2)}")
            )
            return f"SELECT {listed} FROM {sql}{where} ORDER BY {positions}{limit}", True
        if form < 0.68:
            return (
                f"SELECT DISTINCT ON (1) {listed} FROM {sql}{where} ORDER BY {positions}",
                True,
            )
        if form < 0.72 and len(sources) == 1:
            return f"SELECT * FROM {sql}{where}", False
        if form < 0.75 and len(sources) == 1:
            return f"SELECT {listed} FROM {sql}{where} FOR UPDATE", False
        if form < 0.85:
            return (
                f"SELECT {listed} FROM {sql}{where} ORDER BY {positions} DESC NULLS LAST",
                True,
            )
        return f"SELECT {listed} FROM {sql}{where}", False

    def pair(self, *, depth: int = 1) -> str:
        """Make a query with a number and a text as its columns."""
        sql, sources = self.sources(depth, [])
        source = self._rng.choice(sources)
        where = self.where(sources, [], depth)
        return f"SELECT {source.number} AS n, {source.alias}.s AS s FROM {sql}{where}"

    def _common(self) -> str:
        rng = self._rng
        parts = []
        for _ in range(rng.randint(1, 2)):
            inner, source = self._inner("c", keyed=rng.random() < 0.8)
            how = rng.choice(("", "", " MATERIALIZED", " NOT MATERIALIZED"))
            parts.append(f"{source.alias} AS{how} ({inner})")
            self._ctes.append(source)
        sql, _ = self.query(1, [])
        return f"WITH {', '.join(parts)} {sql}"

    def _recursive(self) -> str:
        table = self._table()
        key = table.key
        where = f" WHERE {key} = {self._values.key()}" if self._rng.random() < 0.9 else ""
        step = self._rng.choice(
            (
                "SELECT k, i + 1 FROM r WHERE i < 3",
                f"SELECT x.{key}, i + 1 FROM r JOIN {table.name} x ON x.{key} = r.k "
                "AND x.id = r.i WHERE i < 4",
                f"SELECT x.{key}, i + 1 FROM r JOIN {table.name} x ON x.id = r.i WHERE i < 3",
            )
        )
        return (
            f"WITH RECURSIVE r (k, i) AS (SELECT {key}, 1 FROM {table.name}{where} "
            f"UNION {step}) SELECT count(*), max(i) FROM r"
        )

    def _odd(self) -> str:
        table, values = self._table(), self._values
        form = self._rng.choice(
            (
                "SELECT counted()",
                f"TABLE {table.name}",
                "TABLE o0",
                "SELECT * FROM seen",
                "SELECT doubled({number})",
                "VALUES (1, 'x'), (2, 'y')",
                f"SELECT count(*) FROM {table.name} TABLESAMPLE SYSTEM (100)",
                f"SELECT (SELECT count(*) FROM {table.name}), 1",
                f"SELECT doubled(n) FROM {table.name} WHERE {table.key} = {{key}}",
                f"SELECT max(id) FROM {table.name} x WHERE {{key}} = x.{table.key}",
                "SELECT relname FROM pg_class WHERE relname = 'nothing'",
                "SELECT 1 AS one",
            )
        )
        return values.filled(form)

    def _grouped(self, sql: str, sources: list[Source], where: str) -> str:
        rng = self._rng
        column = rng.choice(rng.choice(sources).columns)
        having = rng.choice(("", "", f" HAVING count(*) > {rng.randint(0, 2)}"))
        how = rng.choice(("{}", "{}", "{}", "ROLLUP ({})", "GROUPING SETS (({}), ())"))
        return (
            f"SELECT {column}, {self._aggregates(sources)} FROM {sql}{where} "
            f"GROUP BY {how.format(column)}{having}"
        )

    def _aggregates(self, sources: list[Source]) -> str:
        rng = self._rng
        one = rng.choice(sources)
        return ", ".join(
            rng.sample(
                (
                    "count(*)",
                    f"count(DISTINCT {one.number})",
                    f"sum({one.number})",
                    f"avg({one.number})",
                    f"max({one.alias}.s)",
                    f"min({one.number}) FILTER (WHERE {one.alias}.id > 3)",
                    f"string_agg({one.alias}.s, ',' ORDER BY {one.alias}.s)",
                    f"array_agg({one.number} ORDER BY {one.number})",
                    f"percentile_disc(0.5) WITHIN GROUP (ORDER BY {one.number})",
                    f"bool_or({one.number} > 2)",
                ),
                rng.randint(1, 3),
            )
        )

    def _windows(self, sources: list[Source]) -> str:
        rng = self._rng
        one = rng.choice(sources)
        by = rng.choice(one.columns)
        return ", ".join(
            [
                rng.choice(one.columns),
                *rng.sample(
                    (
                        f"rank() OVER (ORDER BY {one.number})",
                        f"sum({one.number}) OVER (PARTITION BY {by})",
                        "count(*) OVER ()",
                        f"dense_rank() OVER (PARTITION BY {by} ORDER BY {one.alias}.s)",
                        f"max({one.number}) OVER (ORDER BY {one.alias}.s)",
                    ),
                    rng.randint(1, 2),
                ),
            ]
        )

    def _outputs(self, sources: list[Source], depth: int, outer: list[Source]) -> list[str]:
        rng = self._rng
        found = [rng.choice(rng.choice(sources).columns) for _ in range(rng.randint(1, 3))]
        if rng.random() < 0.15:
            found.append(f"coalesce({rng.choice(sources).number}, 0) * 2")
        if depth and rng.random() < 0.1:
            found.append(f"({self._scalar([*sources, *outer])})")
        return found

    # --- FROM

    def _table(self) -> Table:
        return self._rng.choice(self._schema.sharded)

    def _alias(self) -> str:
        self._count += 1
        return f"x{self._count}"

    def _inner(self, prefix: str, *, keyed: bool) -> tuple[str, Source]:
        """Make a query whose columns are id, n, s and perhaps k, and what it is then."""
        rng = self._rng
        self._count += 1
        alias = f"{prefix}{self._count}"
        table = self._table() if keyed else rng.choice(self._schema.everywhere)
        where = ""
        if table.key and rng.random() < 0.7:
            where = f" WHERE {table.key} = {self._values.key()}"
        elif rng.random() < 0.4:
            where = f" WHERE id > {self._values.number()}"
        k = f"{table.key} AS k, " if table.key else ""
        if rng.random() < 0.25:
            group = f" GROUP BY {table.key}" if table.key else ""
            return (
                f"SELECT {k}count(*)::int AS id, max(n) AS n, max(s) AS s "
                f"FROM {table.name}{where}{group}",
                Source(alias, "k" if table.key else ""),
            )
        return (
            f"SELECT {k}id, n, s FROM {table.name}{where}",
            Source(alias, "k" if table.key else ""),
        )

    def source(self, depth: int, *, keyed: bool) -> tuple[str, Source]:
        """Make one item of FROM."""
        rng = self._rng
        form = rng.random()
        if self._ctes and form < 0.4:
            cte = rng.choice(self._ctes)
            alias = self._alias()
            return f"{cte.alias} AS {alias}", Source(alias, cte.key, cte.has_n)
        alias = self._alias()
        if depth and form < 0.55 and form > 0.43:
            inner, source = self._inner("q", keyed=keyed)
            return f"({inner}) AS {source.alias}", source
        if form > 0.97:
            first = self._schema.sharded[0]
            if rng.random() < 0.5:
                return f"summed {alias}", Source(alias, first.key, has_n=False)
            return f"seen {alias}", Source(alias, first.key)
        if not keyed:
            if form > 0.9:
                return f"known AS {alias}", Source(alias, "", has_n=False)
            if form > 0.85:
                made = "(SELECT g AS id, g % 3 AS n, 'x' AS s FROM generate_series(1, 4) g)"
                return f"{made} {alias}", Source(alias, "")
            table = rng.choice([*self._schema.everywhere * 2, *self._schema.plain])
        else:
            table = self._table()
        name = rng.choice((table.name, table.name, table.name.upper(), f'"{table.name}"'))
        schema = rng.choice(("", "", "", "public."))
        return f"{schema}{name} {alias}", Source(alias, table.key)

    def sources(self, depth: int, outer: list[Source]) -> tuple[str, list[Source]]:
        """Make a FROM."""
        rng = self._rng
        sql, first = self.source(depth, keyed=rng.random() < 0.75)
        found = [first]
        while len(found) < 3 and rng.random() < 0.4:
            right, source = self.source(depth, keyed=rng.random() < 0.65)
            kind = rng.choice(
                ("JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN")
            )
            keyed = [one for one in found if one.key and source.key]
            if kind == "CROSS JOIN":
                sql = f"{sql} CROSS JOIN {right}"
            elif keyed and rng.random() < 0.85:
                left = rng.choice(keyed)
                on = f"{left.alias}.{left.key} = {source.alias}.{source.key}"
                if rng.random() < 0.3:
                    on += f" AND {left.number} = {source.number}"
                sql = f"{sql} {kind} {right} ON {on}"
            else:
                sql = f"{sql} {kind} {right} ON {rng.choice(found).number} = {source.number}"
            found.append(source)
        if rng.random() < 0.05 and found[0].key:
            inner, source = self._inner("l", keyed=True)
            joined = (
                f"SELECT * FROM ({inner}) y WHERE y.{source.key} = {first.alias}.{first.key}"
            )
            if source.key:
                sql = f"{sql}, LATERAL ({joined}) {source.alias}"
                found.append(source)
        return sql, found

    # --- conditions

    def where(self, sources: list[Source], outer: list[Source], depth: int) -> str:
        """Make a WHERE, or nothing."""
        made = self.conditions(sources, outer, depth)
        return f" WHERE {made}" if made else ""

    def conditions(self, sources: list[Source], outer: list[Source], depth: int) -> str:
        """Make conditions, or nothing."""
        rng = self._rng
        parts = [
            self.keyed(f"{source.alias}.{source.key}")
            for source in sources
            if source.key and rng.random() < (0.9 if source is sources[0] else 0.6)
        ]
        if outer and sources[0].key and rng.random() < 0.6:
            one = rng.choice(outer)
            if one.key:
                parts.append(f"{sources[0].alias}.{sources[0].key} = {one.alias}.{one.key}")
        if rng.random() < 0.4:
            parts.append(self.condition(sources, outer, depth))
        if not parts:
            return ""
        rng.shuffle(parts)
        if len(parts) > 1 and rng.random() < 0.05:
            return f"({' OR '.join(parts)})"
        return " AND ".join(parts)

    def keyed(self, column: str) -> str:
        """Make a condition about a key."""
        rng, values = self._rng, self._values
        form = rng.random()
        if form < 0.7:
            return f"{column} = {values.key()}"
        if form < 0.76:
            return f"{values.key()} = {column}"
        if form < 0.84:
            return f"{column} IN ({values.key()}, {values.key()})"
        if form < 0.88:
            listed = f"{values.key()}, {values.key()}"
            return f"{column} = ANY (ARRAY[{listed}]::{self._schema.key_type}[])"
        if form < 0.91:
            return f"({column} = {values.key()} OR {column} = {values.key()})"
        if form < 0.93:
            return f"{column} > {values.any_key()}"
        if form < 0.95:
            return f"{column} IN ({values.key()}, {values.any_key()})"
        if form < 0.97:
            return f"NOT {column} = {values.key()}"
        return values.filled(
            rng.choice(
                (
                    f"{column} IS NOT DISTINCT FROM {{key}}",
                    f"{column} = NULL",
                    f"{column} IN ({{key}}, NULL)",
                    f"{column} BETWEEN {{key}} AND {{key}}",
                    f"{column} <> {{key}}",
                )
            )
        )

    def condition(self, sources: list[Source], outer: list[Source], depth: int) -> str:
        """Make a condition about anything."""
        rng, values = self._rng, self._values
        one = rng.choice(sources)
        if depth and rng.random() < 0.35:
            return self._sub_condition(sources, outer)
        form = rng.choice(
            (
                f"{one.number} = {{number}}",
                f"{one.number} > {{number}}",
                f"{one.alias}.s = {{text}}",
                f"{one.alias}.s LIKE 'a%'",
                f"{one.number} IS NULL",
                f"{one.number} IN ({{number}}, {{number}})",
                f"{one.alias}.id % 2 = 0",
                f"coalesce({one.number}, 1) < 5",
            )
        )
        return values.filled(form)

    def _sub_condition(self, sources: list[Source], outer: list[Source]) -> str:
        rng = self._rng
        one = rng.choice(sources)
        visible = [*sources, *outer]
        sql, inner = self.sources(0, visible)
        where = self.where(inner, visible, 0)
        first = inner[0]
        number = f"SELECT {first.number} FROM {sql}{where}"
        return rng.choice(
            (
                f"EXISTS (SELECT 1 FROM {sql}{where})",
                f"NOT EXISTS (SELECT 1 FROM {sql}{where})",
                f"{one.number} IN ({number})",
                f"{one.number} NOT IN ({number})",
                f"{one.number} > ALL ({number})",
                f"{one.number} = (SELECT max(n) FROM ({number}) z (n))",
            )
        )

    def _scalar(self, outer: list[Source]) -> str:
        sql, inner = self.sources(0, outer)
        return f"SELECT count(*) FROM {sql}{self.where(inner, outer, 0)}"
