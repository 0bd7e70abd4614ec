"""The automatic sharding key in statements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.errors import ConfigError
from router.routing.classify import ClassifierOptions, classify
from router.routing.columns import KeyColumn, ShardedTables
from router.routing.types import KeyTerm

if TYPE_CHECKING:
    from router.routing.types import Analysis

TABLE = KeyColumn.of("data.id")
ANY_TABLE = KeyColumn.of("*.id")

Found = tuple[tuple[tuple[object, ...], ...], ...]


def analyse(sql: str, key: KeyColumn = TABLE) -> Analysis:
    return classify(sql, ClassifierOptions(sharded=ShardedTables((key,))))


def found(sql: str, key: KeyColumn = TABLE) -> Found:
    """Return the terms found, per table and condition: a value, or the name of a parameter."""
    return tuple(
        tuple(
            tuple(f"${t.parameter}" if t.parameter else t.key for t in terms)
            for terms in conditions
        )
        for conditions in analyse(sql, key).keys
    )


FIVE: Found = (((5,),),)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM data WHERE id = 5",
        "SELECT * FROM data WHERE 5 = id",
        "SELECT * FROM data WHERE data.id = 5",
        "SELECT * FROM DATA WHERE ID = 5",
        'SELECT * FROM "data" WHERE "data"."id" = 5',
        "SELECT * FROM public.data WHERE public.data.id = 5",
        "SELECT * FROM data AS d WHERE d.id = 5",
        "SELECT * FROM data d WHERE id = 5",
        "SELECT * FROM ONLY data WHERE id = 5",
        "SELECT * FROM data WHERE id = '5'",
        "SELECT * FROM data WHERE id = $$5$$",
        "SELECT * FROM data WHERE id = 5::bigint",
        "SELECT * FROM data WHERE id = '5'::int8",
        "SELECT * FROM data WHERE id = CAST(5 AS integer)",
        "SELECT * FROM data WHERE id::bigint = 5",
        "SELECT * FROM data WHERE id = (5)",
        "SELECT * FROM data WHERE (((id)) = ((5)))",
        "SELECT * FROM data WHERE id = - -5",
        "SELECT * FROM data WHERE id = +5",
        "SELECT * FROM data WHERE id IN (5)",
        "SELECT * FROM data WHERE id = ANY (ARRAY[5])",
        "SELECT * FROM data WHERE name = 'x' AND id = 5 AND a > 1",
        "SELECT * FROM data WHERE (name = 'x' OR a = 2) AND id = 5",
        "SELECT * FROM data WHERE (name = 'x' AND id = 5)",
        "SELECT * FROM data WHERE id = 5 ORDER BY id LIMIT 7 OFFSET 9",
        "SELECT * FROM data WHERE id = 5 FOR UPDATE",
        "SELECT 7, * FROM data WHERE id = 5 GROUP BY id HAVING count(*) > 1",
        "SELECT * FROM o JOIN data ON data.id = 5",
        "SELECT * FROM o LEFT JOIN data ON data.id = 5 AND o.x = 7",
        "SELECT * FROM o JOIN data d USING (id) WHERE d.id = 5 AND o.x = 7",
        "SELECT * FROM data a JOIN data b USING (id) WHERE id = 5",
        "SELECT * FROM data WHERE id IN (SELECT 5)",
        "SELECT * FROM data WHERE id = ANY ('{5}')",
        "SELECT * FROM data WHERE id = ANY ('{5}'::bigint[])",
        "SELECT * FROM o, data WHERE data.id = 5",
        "SELECT * FROM (o JOIN data ON data.o = o.id) WHERE data.id = 5",
        "SELECT * FROM o WHERE EXISTS (SELECT 1 FROM data WHERE data.id = 5)",
        "SELECT * FROM o WHERE x IN (SELECT x FROM data WHERE id = 5)",
        "SELECT (SELECT x FROM data WHERE id = 5)",
        "SELECT * FROM (SELECT * FROM data WHERE id = 5) x",
        "SELECT * FROM (SELECT * FROM data) x WHERE x.id = 5",
        "SELECT * FROM (SELECT id, a FROM data) x WHERE id = 5",
        "SELECT * FROM (SELECT * FROM (SELECT * FROM data) y) x WHERE id = 5",
        "WITH x AS (SELECT * FROM data WHERE id = 5) SELECT * FROM x",
        "WITH x AS (SELECT * FROM data) SELECT * FROM x WHERE id = 5",
        "WITH x AS (DELETE FROM data WHERE id = 5 RETURNING *) SELECT * FROM x",
        "SELECT * FROM o UNION SELECT * FROM data WHERE id = 5",
        "TABLE o; SELECT * FROM data WHERE id = 5",
        "INSERT INTO data (id, name) VALUES (5, 'x')",
        "INSERT INTO data (name, id) VALUES ('x', 5)",
        "INSERT INTO public.data (name, ID) VALUES ('x', '5') RETURNING id",
        "INSERT INTO data (id) VALUES (5) ON CONFLICT (id) DO NOTHING",
        "INSERT INTO data (id, n) VALUES (5, 1) ON CONFLICT (id) DO UPDATE SET n = 2",
        "INSERT INTO data (id, name) SELECT 5, name FROM o",
        "UPDATE data SET name = 'x' WHERE id = 5",
        "UPDATE data AS d SET name = 'x' FROM o WHERE d.id = 5 AND o.id = 7",
        "UPDATE o SET x = 1 FROM data WHERE data.id = 5",
        "DELETE FROM data WHERE id = 5",
        "DELETE FROM ONLY data WHERE id = 5",
        "DELETE FROM data AS d USING o WHERE d.id = 5 AND o.id = 7",
        "DELETE FROM o USING data WHERE data.id = 5",
        "MERGE INTO data USING o ON data.id = 5 WHEN MATCHED THEN DELETE",
        "EXPLAIN SELECT * FROM data WHERE id = 5",
        "EXPLAIN (ANALYZE, COSTS OFF) SELECT * FROM data WHERE id = 5",
        "COPY (SELECT * FROM data WHERE id = 5) TO STDOUT",
    ],
)
def test_a_key_is_found(sql: str) -> None:
    assert found(sql) == FIVE


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM data",
        "SELECT * FROM other WHERE id = 5",
        "SELECT * FROM other WHERE other.id = 5",
        "SELECT * FROM other.table WHERE data.id = 5",
        "SELECT * FROM data WHERE other_id = 5",
        "SELECT * FROM data d WHERE data.id = 5",
        "SELECT * FROM data WHERE id <> 5",
        "SELECT * FROM data WHERE id > 5",
        "SELECT * FROM data WHERE NOT id = 5",
        "SELECT * FROM data WHERE NOT (id = 5)",
        "SELECT * FROM data WHERE id NOT IN (5)",
        "SELECT * FROM data WHERE (id = 5) IS NOT TRUE",
        "SELECT * FROM data WHERE id = 5 OR name = 'x'",
        "SELECT * FROM data WHERE id = 5 OR id > 7",
        "SELECT * FROM data WHERE id BETWEEN 5 AND 6",
        "SELECT * FROM data WHERE id IN (5, other)",
        "SELECT * FROM data WHERE id = ALL (ARRAY[5])",
        "SELECT * FROM data WHERE id = 5 + 1",
        "SELECT * FROM data WHERE id + 1 = 5",
        "SELECT * FROM data WHERE id = NULL",
        "SELECT * FROM data WHERE id IS NULL",
        "SELECT * FROM data WHERE id = other",
        "SELECT * FROM data WHERE id = .5",
        "SELECT * FROM data WHERE id = X'5'",
        "SELECT * FROM data WHERE id = -$1",
        "SELECT id = 5 FROM data",
        "SELECT * FROM data GROUP BY id HAVING id = 5",
        "SELECT CASE WHEN id = 5 THEN 1 END FROM data",
        "SELECT * FROM (SELECT other AS id FROM data) x WHERE x.id = 5",
        "SELECT * FROM (SELECT id FROM other) x WHERE x.id = 5",
        "WITH data AS (SELECT * FROM other) SELECT * FROM data WHERE id = 5",
        "INSERT INTO data VALUES (5, 'x')",
        "INSERT INTO other (id) VALUES (5)",
        "INSERT INTO data (name) VALUES (5)",
        "INSERT INTO data (id) VALUES (nextval('s'))",
        "INSERT INTO data (id) SELECT x FROM other",
        "INSERT INTO data (id, name) SELECT * FROM other",
        "INSERT INTO data DEFAULT VALUES",
        "UPDATE other SET id = 5",
        "COPY data TO STDOUT",
        "SET id = 5",
        "SELECT * FROM data WHERE id = (",
    ],
)
def test_what_is_no_key_is_not_taken_for_one(sql: str) -> None:
    assert found(sql) == ()


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM data WHERE id = -5", (((-5,),),)),
        ("SELECT * FROM data WHERE id = '-5'", (((-5,),),)),
        ("SELECT * FROM data WHERE id = -9223372036854775808", (((-(1 << 63),),),)),
        ("SELECT * FROM data WHERE id = 9223372036854775808", (((None,),),)),
        ("SELECT * FROM data WHERE id = 5.0", (((None,),),)),
        ("SELECT * FROM data WHERE id = 'x'", (((None,),),)),
        ("SELECT * FROM data WHERE id = ANY ('{{5}}')", (((None,),),)),
        ("SELECT * FROM data WHERE id = ANY ('{5,\"-6\", NULL, 7}')", (((5, -6, 7),),)),
        ("SELECT * FROM data WHERE id = ANY ($1)", ((("$1",),),)),
        ("SELECT * FROM data WHERE id = ANY ($1::bigint[])", ((("$1",),),)),
        ("SELECT * FROM data WHERE id IN (5, -6, '7', $1)", (((5, -6, 7, "$1"),),)),
        ("SELECT * FROM data WHERE id = 5 OR id = 6 OR id IN (7)", (((5, 6, 7),),)),
        ("SELECT * FROM data WHERE id = 5 AND id = 6", (((5,), (6,)),)),
        ("SELECT * FROM data WHERE id = 5 AND (id = 6 OR id = 7)", (((5,), (6, 7)),)),
        ("SELECT * FROM data WHERE (id = 5 AND a = 1) OR (id = 6 AND a = 2)", (((5, 6),),)),
        ("SELECT * FROM data WHERE id = $1", ((("$1",),),)),
        ("SELECT * FROM data WHERE $2 = id AND name = $1", ((("$2",),),)),
        ("SELECT * FROM data WHERE id = $1::bigint", ((("$1",),),)),
        ("INSERT INTO data (id) VALUES (5), ($1), (-7)", (((5, "$1", -7),),)),
        ("SELECT * FROM data a, data b WHERE a.id = 5 AND b.id = 6", (((5,),), ((6,),))),
        (
            "SELECT * FROM data WHERE id = 5 UNION SELECT * FROM data WHERE id = 6",
            (((5,),), ((6,),)),
        ),
        ("DELETE FROM data WHERE id = 5; DELETE FROM data WHERE id = 6", (((5,),), ((6,),))),
    ],
)
def test_keys_are_put_together(sql: str, expected: Found) -> None:
    assert sorted(map(repr, found(sql))) == sorted(map(repr, expected))


def test_the_column_of_any_table_counts_if_the_setting_says_so() -> None:
    assert found("SELECT * FROM what WHERE id = 5", ANY_TABLE) == FIVE
    assert found("SELECT * FROM what w WHERE w.id = 5", ANY_TABLE) == FIVE
    assert found("SELECT * FROM a JOIN b USING (id) WHERE id = 5", ANY_TABLE) == FIVE
    assert found("INSERT INTO what (id) VALUES (5)", ANY_TABLE) == FIVE
    two = found("SELECT * FROM a, b WHERE a.id = 5 AND b.id = 6", ANY_TABLE)
    assert two == (((5,),), ((6,),))


def test_a_schema_in_the_setting_counts_where_the_text_has_one() -> None:
    key = KeyColumn.of("app.data.id")
    assert found("SELECT * FROM data WHERE id = 5", key) == FIVE
    assert found("SELECT * FROM app.data WHERE id = 5", key) == FIVE
    assert found("SELECT * FROM other.data WHERE id = 5", key) == ()


@pytest.mark.parametrize(
    ("sql", "key"),
    [
        ("UPDATE data SET id = 6 WHERE id = 5", TABLE),
        ("UPDATE data SET name = 'x', ID = $1", TABLE),
        ("UPDATE data SET (name, id) = ('x', 6)", TABLE),
        ("UPDATE what SET id = 6", ANY_TABLE),
        ("INSERT INTO data (id) VALUES (5) ON CONFLICT (id) DO UPDATE SET id = 6", TABLE),
        (
            "MERGE INTO data USING o ON data.id = o.id WHEN MATCHED THEN UPDATE SET id = 6",
            TABLE,
        ),
        ("WITH x AS (UPDATE data SET id = 6 RETURNING *) SELECT * FROM x", TABLE),
    ],
)
def test_a_change_of_the_key_is_an_error(sql: str, key: KeyColumn) -> None:
    error = analyse(sql, key).error
    assert error is not None
    assert error.message == 'sharding key "id" cannot be updated'


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE other SET id = 6",
        "UPDATE data SET name = 'x' WHERE id = 5",
        "INSERT INTO other (id) VALUES (5) ON CONFLICT (id) DO UPDATE SET id = 6",
        "MERGE INTO o USING data ON data.id = o.id WHEN MATCHED THEN UPDATE SET id = 6",
    ],
)
def test_other_changes_are_no_error(sql: str) -> None:
    assert analyse(sql).error is None


# --- several keys, and how they are followed from table to table

SHOP = ShardedTables.of(["users.id", "orders.user_id", '"Data"."ID"'])


def shop(sql: str) -> tuple[set[int | None], tuple[str, ...]]:
    """Return the keys that users and orders have in common, and the tables without one."""
    analysis = classify(sql, ClassifierOptions(sharded=SHOP))
    uses = [
        set.intersection(*({term.key for term in terms} for terms in conditions))
        for conditions in analysis.keys
    ]
    return set().union(*uses), analysis.unkeyed


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = 5",
        "SELECT * FROM users u JOIN orders o ON o.user_id = u.id WHERE user_id = 5",
        "SELECT * FROM users u, orders o WHERE u.id = o.user_id AND 5 = o.user_id",
        "SELECT * FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE u.id = 5",
        "SELECT * FROM orders o RIGHT JOIN users u ON o.user_id = u.id WHERE u.id = 5",
        "SELECT * FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE o.user_id = 5",
        "SELECT * FROM users u FULL JOIN orders o ON o.user_id = u.id WHERE u.id = 5",
        "SELECT * FROM users u LEFT JOIN (orders o JOIN things t ON t.k = o.k)"
        " ON o.user_id = u.id WHERE u.id = 5",
        "SELECT * FROM things t JOIN users u ON u.id = t.k JOIN orders o ON o.user_id = t.k"
        " WHERE t.k = 5",
        "SELECT * FROM users u WHERE u.id = 5 AND EXISTS"
        " (SELECT 1 FROM orders o WHERE o.user_id = u.id)",
        "SELECT * FROM users WHERE id = 5 AND NOT EXISTS"
        " (SELECT 1 FROM orders WHERE user_id = users.id)",
        "SELECT (SELECT count(*) FROM orders o WHERE o.user_id = u.id) FROM users u"
        " WHERE u.id = 5",
        "SELECT * FROM users WHERE id = 5 AND id IN (SELECT user_id FROM orders)",
        "SELECT * FROM users u, LATERAL (SELECT * FROM orders o WHERE o.user_id = u.id"
        " ORDER BY 1 LIMIT 3) x WHERE u.id = 5",
        "SELECT * FROM (SELECT user_id, count(*) FROM orders GROUP BY user_id) x"
        " JOIN users u ON u.id = x.user_id WHERE u.id = 5",
        "SELECT * FROM (SELECT id FROM users UNION ALL SELECT user_id FROM orders) x"
        " WHERE id = 5",
        "WITH x (k) AS (SELECT id FROM users) SELECT * FROM x JOIN orders ON user_id = k"
        " WHERE k = 5",
        "WITH RECURSIVE r AS (SELECT id, n FROM users WHERE id = 5 UNION ALL"
        " SELECT u.id, r.n FROM users u JOIN r ON u.id = r.id) SELECT * FROM r",
        "WITH x AS (DELETE FROM users WHERE id = 5 RETURNING id)"
        " DELETE FROM orders USING x WHERE user_id = x.id",
        "WITH x AS (INSERT INTO users (id) VALUES (5) RETURNING id)"
        " INSERT INTO orders (user_id) SELECT id FROM x",
        "INSERT INTO orders (n, user_id) SELECT n, id FROM users WHERE id = 5",
        "INSERT INTO orders (user_id) SELECT 5 UNION ALL SELECT 5",
        "UPDATE orders SET n = 1 FROM users u WHERE u.id = orders.user_id AND u.id = 5",
        "UPDATE orders o SET n = v.n FROM (VALUES (5, 1), (5, 2)) AS v (k, n)"
        " WHERE o.user_id = v.k",
        "DELETE FROM orders USING users WHERE user_id = id AND id = 5",
        "MERGE INTO orders o USING (SELECT 5 AS k) s ON o.user_id = s.k WHEN MATCHED THEN"
        " DELETE WHEN NOT MATCHED THEN INSERT (user_id) VALUES (s.k)",
        'SELECT * FROM "Data" WHERE "ID" = 5',
        'SELECT * FROM x."Data" AS "D" WHERE "D"."ID" = 5',
        "SELECT * FROM users WHERE (id, n) = (5, 6)",
        "SELECT * FROM users WHERE (n, id) IN ((1, 5), (2, 5))",
        "SELECT * FROM users WHERE id IS NOT DISTINCT FROM 5",
        "SELECT * FROM users WHERE id = E'5'",
        "SELECT * FROM users WHERE id = bigint '5'",
    ],
)
def test_a_key_is_followed_from_table_to_table(sql: str) -> None:
    assert shop(sql) == ({5}, ())


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM users u LEFT JOIN orders o ON o.user_id = u.id AND u.id = 5",
        "SELECT * FROM users u FULL JOIN orders o ON o.user_id = u.id AND o.user_id = 5",
        "SELECT * FROM users, orders LEFT JOIN things t ON user_id = t.k AND t.k = 5",
        "SELECT * FROM (SELECT * FROM users LIMIT 10) x WHERE id = 5",
        "SELECT * FROM (SELECT *, rank() OVER (ORDER BY n) FROM users) x WHERE id = 5",
        "SELECT * FROM (SELECT DISTINCT ON (n) * FROM users) x WHERE id = 5",
        "SELECT * FROM (SELECT max(id) AS id FROM users) x WHERE id = 5",
        "WITH x AS (DELETE FROM users RETURNING *) SELECT * FROM x WHERE id = 5",
        "WITH x AS (SELECT * FROM users) SELECT * FROM x",
        "WITH RECURSIVE r AS (SELECT id, n FROM users UNION ALL SELECT r.id, u.n FROM users u"
        " JOIN r ON u.n = r.n) SELECT * FROM r WHERE id = 5",
        "SELECT * FROM users WHERE id NOT IN (SELECT user_id FROM orders)",
        "SELECT * FROM users WHERE NOT EXISTS (SELECT 1 FROM things t WHERE users.id = 5)",
        "SELECT * FROM users AS u (a, b) WHERE u.id = 5",
        'SELECT * FROM "Users" WHERE "Users".id = 5',
        "SELECT * FROM data WHERE id = 5",
        'SELECT * FROM "Data" WHERE id = 5',
        "SELECT * FROM users WHERE id = @5",
        "SELECT * FROM users WHERE id =@ 5",
        'SELECT * FROM users WHERE U&"id" = 5 AND id = 5',
        "SELECT * FROM users WHERE id <=> 5",
        "SELECT * FROM users WHERE id = U&'5'",
        "SELECT * FROM users WHERE id = '5' '6'",
        "SELECT * FROM users WHERE id = 5::text::bigint",
        "SELECT * FROM users WHERE id OPERATOR(pg_catalog.=) 5",
    ],
)
def test_a_key_is_not_followed_where_others_count_too(sql: str) -> None:
    keys, unkeyed = shop(sql)
    assert keys == set()
    assert unkeyed or "data" in sql.lower() or "Users" in sql


@pytest.mark.parametrize(
    ("sql", "unkeyed"),
    [
        ("SELECT * FROM users u JOIN orders o ON o.x = u.x WHERE u.id = 5", ("orders",)),
        (
            "WITH x AS (TABLE users) SELECT * FROM x WHERE id = 5 UNION SELECT * FROM x",
            ("users",),
        ),
        (
            "WITH x AS (DELETE FROM users RETURNING *) SELECT * FROM x JOIN orders ON x.id ="
            " user_id WHERE user_id = 5",
            ("users",),
        ),
        ("INSERT INTO orders (user_id) SELECT id FROM users WHERE id = 5 LIMIT 1", ()),
        ("INSERT INTO orders (n) SELECT id FROM users WHERE id = 5", ("orders",)),
        ("SELECT * FROM users LEFT JOIN orders ON orders.user_id = 5", ("users",)),
        (
            "SELECT * FROM users, things x RIGHT JOIN orders o ON x.k = o.user_id"
            " WHERE users.id = 5 AND o.n = users.n",
            ("orders",),
        ),
        (
            "MERGE INTO orders o USING users u ON o.user_id = u.id AND o.user_id = 5"
            " WHEN NOT MATCHED THEN INSERT (user_id) VALUES (u.id)",
            ("users", "orders"),
        ),
    ],
)
def test_tables_without_a_key_beside_others_are_named(
    sql: str, unkeyed: tuple[str, ...]
) -> None:
    keys, found = shop(sql)
    assert keys == {5}
    assert found == unkeyed


def test_columns_that_are_known_say_where_a_bare_name_belongs() -> None:
    known = {"users": ("n", "id"), "things": ("k", "user_id"), "orders": ("oid", "user_id")}
    tables = ShardedTables(SHOP.keys, columns=known)

    def keys(sql: str) -> list[object]:
        return [*classify(sql, ClassifierOptions(sharded=tables)).keys]

    assert keys("INSERT INTO users VALUES (1, 5)") == [((KeyTerm(key=5),),)]
    assert len(keys("INSERT INTO users SELECT * FROM things WHERE user_id = 5")) == 1
    assert len(keys("SELECT * FROM users AS u (a, b) WHERE b = 5")) == 1
    assert len(keys("INSERT INTO users SELECT t.*, 5 FROM things t")) == 0
    wildcard = ShardedTables.of("*.user_id")
    found = classify(
        "SELECT * FROM users, orders WHERE user_id = 5",
        ClassifierOptions(sharded=ShardedTables(wildcard.keys, columns=known)),
    )
    assert len(found.keys) == 1
    assert found.unkeyed == ()


def test_a_table_that_is_known_to_lack_the_column_of_any_table_has_no_key() -> None:
    known = {"users": ("id",), "orders": ("id", "tenant")}
    keys = ShardedTables.of("*.tenant").keys
    options = ClassifierOptions(sharded=ShardedTables(keys, columns=known))
    sql = "SELECT * FROM orders JOIN users ON users.id = orders.id WHERE orders.tenant = 5"
    assert classify(sql, options).unkeyed == ()
    two = "SELECT * FROM orders a JOIN orders b ON a.id = b.id WHERE a.tenant = 5"
    assert classify(two, options).unkeyed == ("orders",)


def test_a_statement_of_very_many_queries_names_no_key() -> None:
    parts = ["x0 AS (SELECT * FROM users)"]
    parts += [f"x{n} AS (SELECT a.* FROM x{n - 1} a, x{n - 1} b)" for n in range(1, 25)]
    sql = f"WITH {', '.join(parts)} SELECT * FROM x24 JOIN users u ON u.id = 5"
    keys, unkeyed = shop(sql)
    assert keys == set()
    assert unkeyed == ("users",)


def test_without_a_setting_no_keys_are_looked_for() -> None:
    analysis = classify("SELECT * FROM data WHERE id = 5")
    assert analysis.keys == ()
    assert classify("UPDATE data SET id = 6").error is None


def test_long_lists_are_read_for_their_keys() -> None:
    rows = ", ".join(f"({n}, 'x')" for n in range(3000))
    [[terms]] = found(f"INSERT INTO data (id, name) VALUES {rows}")
    assert terms == tuple(range(3000))
    ors = " OR ".join(f"id = {n}" for n in range(500))
    [[terms]] = found(f"SELECT * FROM data WHERE {ors}")
    assert terms == tuple(range(500))


@pytest.mark.parametrize("setting", ["id", "", ".id", "data.", "a.b.c.d", "data..id"])
def test_a_setting_that_names_no_column_is_the_operators_error(setting: str) -> None:
    with pytest.raises(ConfigError, match="automatic_sharding_key"):
        KeyColumn.of(setting)


def test_names_in_the_setting_are_folded_unless_quoted() -> None:
    assert KeyColumn.of("Data.ID") == KeyColumn.of('"data".id') == TABLE
    assert KeyColumn.of('"Data"."I""D"') == KeyColumn("Data", 'I"D')
    assert KeyColumn.of('app."a.b".c') == KeyColumn("a.b", "c", "app")
    assert KeyColumn.of("*.id").table == ""
