"""The automatic sharding key in statements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.errors import ConfigError
from router.routing.cache import keys_of
from router.routing.classify import ClassifierOptions, classify
from router.routing.columns import KeyColumn, ShardedTables
from router.routing.sharding import BIGINTS

if TYPE_CHECKING:
    from router.routing.types import Analysis, KeyTerm

TABLE = KeyColumn.of("data.id")
ANY_TABLE = KeyColumn.of("*.id")

Found = tuple[tuple[tuple[object, ...], ...], ...]


def analyse(sql: str, key: KeyColumn = TABLE) -> Analysis:
    return classify(sql, ClassifierOptions(sharded=ShardedTables((key,))))


def found(sql: str, key: KeyColumn = TABLE) -> Found:
    """Return the terms found, per table and condition: a value, or the name of a parameter."""
    return tuple(
        tuple(tuple(key for term in terms for key in keys_in(term)) for terms in conditions)
        for conditions in analyse(sql, key).keys
    )


def keys_in(term: KeyTerm) -> list[object]:
    values, numbers = keys_of(term, (), BIGINTS.literal, BIGINTS.budget())
    return [*values, *(f"${number}" for number in numbers)]


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
        "SELECT * FROM data WHERE id = 5 + other",
        "SELECT * FROM data WHERE id + 1 = 5",
        "SELECT * FROM data WHERE id IS NOT DISTINCT FROM NULL",
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
        ("SELECT * FROM data WHERE id = 5.5", (((None,),),)),
        ("SELECT * FROM data WHERE id = 5.0", (((5,),),)),
        ("SELECT * FROM data WHERE id = 5 + 1", (((6,),),)),
        ("SELECT * FROM data WHERE id = NULL", (((),),)),
        ("SELECT * FROM data WHERE id IN (5, NULL)", (((5,),),)),
        ("SELECT * FROM data WHERE id = 'x'", (((None,),),)),
        ("SELECT * FROM data WHERE id = ANY ('{{5}}')", (((None,),),)),
        ("SELECT * FROM data WHERE id = ANY ('{5,\"-6\", NULL, 7}')", (((5, -6, 7),),)),
        ("SELECT * FROM data WHERE id = ANY ($1)", ((("$1",),),)),
        ("SELECT * FROM data WHERE id = ANY ($1::bigint[])", ((("$1",),),)),
        ("SELECT * FROM data WHERE id IN (5, -6, '7', $1)", ((("$1", 5, -6, 7),),)),
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


def test_without_a_setting_no_keys_are_looked_for() -> None:
    analysis = classify("SELECT * FROM data WHERE id = 5")
    assert analysis.keys == ()
    assert classify("UPDATE data SET id = 6").error is None


def test_long_lists_are_read_for_their_keys() -> None:
    rows = ", ".join(f"({n}, 'x')" for n in range(3000))
    [[terms]] = found(f"INSERT INTO data (id, name) VALUES {rows}")
    assert terms == tuple(range(3000))
    ors = " OR ".join(f"id = {n}" for n in range(200))
    [[terms]] = found(f"SELECT * FROM data WHERE {ors}")
    assert terms == tuple(range(200))


@pytest.mark.parametrize("setting", ["id", "", ".id", "data.", "a.b.c.d", "data..id"])
def test_a_setting_that_names_no_column_is_the_operators_error(setting: str) -> None:
    with pytest.raises(ConfigError, match="automatic_sharding_key"):
        KeyColumn.of(setting)


def test_names_in_the_setting_are_folded_unless_quoted() -> None:
    assert KeyColumn.of("Data.ID") == KeyColumn.of('"data".id') == TABLE
    assert KeyColumn.of('"Data"."I""D"') == KeyColumn("Data", 'I"D')
    assert KeyColumn.of('app."a.b".c') == KeyColumn("a.b", "c", "app")
    assert KeyColumn.of("*.id").table == ""
