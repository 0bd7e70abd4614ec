"""Sharding keys, followed from table to table through a statement."""

from __future__ import annotations

import pytest

from router.routing.classify import ClassifierOptions, classify
from router.routing.columns import ShardedTables
from router.routing.types import KeyTerm

SHOP = ShardedTables.of(["users.id", "orders.user_id", '"Data"."ID"'])


def shop(sql: str) -> tuple[set[object], tuple[str, ...]]:
    """Return the keys that users and orders have in common, and the tables without one."""
    analysis = classify(sql, ClassifierOptions(sharded=SHOP))
    uses: list[set[object]] = [
        {*set.intersection(*({term.key for term in terms} for terms in conditions))}
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
        "SELECT * FROM users WHERE U&\"!0069d\" UESCAPE '!' = 5 AND id = 5",
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


@pytest.mark.parametrize(
    ("sql", "untyped"),
    [
        ("SELECT * FROM users WHERE id = $1", set()),
        ("SELECT * FROM users u, orders o WHERE u.id = $1 AND o.user_id = $1::bigint", set()),
        ("SELECT * FROM users WHERE id IN ($1, $2) AND $2 = id", set()),
        ("SELECT * FROM users WHERE name = $1 AND id = $1::bigint", {1}),
        ("SELECT * FROM users WHERE id = $1 AND n = $2 AND x = $2", set()),
        ("SELECT $1::text FROM users WHERE id = $1", {1}),
        ("INSERT INTO users (id, n) VALUES ($1, $1)", {1}),
    ],
)
def test_a_parameter_that_is_used_elsewhere_has_no_type_of_its_own(
    sql: str, untyped: set[int]
) -> None:
    assert classify(sql, ClassifierOptions(sharded=SHOP)).untyped == untyped
