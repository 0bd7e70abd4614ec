"""All operators, types and keywords of a running PostgreSQL, and clauses that sqlglot lacks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
import pytest

from router.routing.classify import ClassifierOptions, classify
from router.routing.columns import ShardedTables
from router.routing.sql.normalise import normalised

from .test_normalise import tokens_of

if TYPE_CHECKING:
    from psycopg.rows import TupleRow

    from router.routing.types import Analysis
    from tests.support.postgres import Database


def words(text: str) -> list[str]:
    return text.split()


def forms(kind: str) -> list[str]:
    """Read the statements of a kind from forms.txt."""
    text = (Path(__file__).parent / "forms.txt").read_text()
    parts = ("\n" + text).split("\n# ")
    [found] = [part for part in parts if part.startswith(kind + "\n")]
    return [line for line in found.splitlines()[1:] if line]


SYNTAX_ERROR: Final = "42601"
KEYED: Final = ClassifierOptions(sharded=ShardedTables.of("t.id"))
OPERATORS: Final = words("""
<-> <#> <=> <+> <~> <%> <%% <<% %> %>> <<-> <->> <<<-> <->>> <<= >>= <<| |>> &<| |&> &< &>
-|- ~= @> <@ @@@ @@ ## ?# ?-| ?|| ?& ?| ? #= #- @? ^@ *= *<> *< *<= *> *>= === !== <== ==>
=@ =~ ~~* !~~* && !~* || @-@ <^ >^ !!= <=-> += -= -> ->> #>> @+ %- =?- ** //
""")
PREFIXES: Final = words("@ ~ !! |/ ||/ @-@ @@ # ?- ?| - + @+ !-")

FOREIGN: Final = words("""
alter anti asof auto_increment autoincrement describe drop exec file glob keep kill map
namespace nullable optimize overwrite partitioned_by percent pivot pragma qualify regexp revoke
rlike rollback semi settings straight_join uncache unpivot use xor format list string
number date
""")


def state_of(connection: psycopg.Connection[TupleRow], sql: str) -> str | None:
    """Run a statement; return the SQLSTATE of its failure."""
    try:
        connection.execute(sql.encode())
    except psycopg.Error as error:
        return error.sqlstate
    return None


def analyse(sql: str) -> Analysis:
    return classify(sql, KEYED)


# --- operators


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(
    "form", ["id {} 5", "5 {} id", "id{}5", "id {} $1", "id {} ANY ('{{5}}')"]
)
def test_an_operator_is_read_and_is_no_equality(operator: str, form: str) -> None:
    condition = form.format(operator)
    for sql in (
        f"SELECT * FROM t WHERE {condition}",
        f"SELECT {condition} FROM t WHERE v = 1 ORDER BY {condition}",
        f"SELECT * FROM t WHERE v = 2 AND ({condition}) AND w = 3",
    ):
        analysis = analyse(sql)
        assert analysis.is_read, analysis.reason
        assert analysis.keys == ()
        assert analysis.unkeyed == ("t",)


@pytest.mark.parametrize("operator", OPERATORS)
def test_an_operator_does_not_hide_the_key_beside_it(operator: str) -> None:
    beside = f"a {operator} b AND id = 5 AND c {operator} ARRAY[1] AND NOT d {operator} '1'"
    [[[term]]] = analyse(f"SELECT * FROM t WHERE {beside}").keys
    assert term.key == 5


@pytest.mark.parametrize("operator", PREFIXES)
def test_a_prefix_operator_makes_something_else_of_a_key(operator: str) -> None:
    for operand in (f"{operator} 5", f"{operator} {operator} 5", f"({operator} 5)"):
        analysis = analyse(f"SELECT {operator} v, v FROM t WHERE id = {operand}")
        assert analysis.is_read
        if operator not in "+-":
            assert analysis.keys == ()
            assert analysis.unkeyed == ("t",)


@pytest.mark.parametrize("operator", ["=", "OPERATOR(pg_catalog.=)", "operator ( = )"])
def test_a_named_operator_is_none_that_is_known(operator: str) -> None:
    analysis = analyse(f"SELECT * FROM t WHERE id {operator} 5 AND v OPERATOR(x.<=>) 2")
    assert analysis.is_read
    assert bool(analysis.keys) == (operator == "=")


@pytest.mark.parametrize(
    ("sql", "tokens"),
    [
        ("id=-5", ["id", "=", "-", "5"]),
        ("a*-b", ["a", "*", "-", "b"]),
        ("a<+-b", ["a", "<", "+", "-", "b"]),
        ("a@-b", ["a", "||", "b"]),
        ("a <@-b", ["a", "||", "b"]),
        ("+-a", ["+", "-", "a"]),
        ("(t.* <> u.*)", ["(", "t", ".", "*", "<>", "u", ".", "*", ")"]),
    ],
)
def test_a_sign_behind_an_operator_is_one_of_its_own(sql: str, tokens: list[str]) -> None:
    fingerprint = [token.replace("0", "5") for token in normalised(tokens_of(sql))]
    assert fingerprint == tokens


@pytest.mark.postgres
def test_every_operator_of_the_server_is_read(fresh_database: Database) -> None:
    rows = fresh_database.execute(
        "SELECT oprname, nullif(oprleft, 0)::regtype::text, oprright::regtype::text"
        " FROM pg_operator WHERE oprright <> 0"
    )
    with fresh_database.server.connect(fresh_database.name) as connection:
        accepted = 0
        for name, left, right in rows:
            operands = (
                f"NULL::{right}" if left is None else f"NULL::{left} {name} NULL::{right}"
            )
            sql = f"SELECT {name if left is None else ''} {operands}"
            assert analyse(sql).is_read, sql
            state = state_of(connection, sql)
            accepted += state is None
            assert state in (None, "42883", "42846", "42804", "0A000", "42725"), sql
    assert accepted > 700


# --- types


@pytest.mark.postgres
def test_a_literal_of_every_type_of_the_server_is_read(fresh_database: Database) -> None:
    rows = fresh_database.execute(
        "SELECT format_type(oid, NULL), typname::text FROM pg_type"
        " WHERE typtype IN ('b', 'r', 'm') AND typname !~ '^_'"
    )
    with fresh_database.server.connect(fresh_database.name) as connection:
        for written, name in rows:
            # sqlglot cannot read DOUBLE PRECISION E'1'.
            escaped = "" if " " in written else f", {written} E'1'"
            for sql in (
                f"SELECT {written} '1'",
                f"SELECT a, ({written} '1') FROM t WHERE f({written} '1'{escaped})",
                f"SELECT pg_catalog.\"{name}\" '1'",
                f"SELECT NULL::{written}, NULL::{written}[], CAST(NULL AS {written})",
            ):
                analysis = analyse(sql.replace("f(", "coalesce("))
                assert analysis.is_read, sql
                assert state_of(connection, sql) != SYNTAX_ERROR, sql


@pytest.mark.parametrize(
    "literal", ["box '5'", "citext '5'", "pg_catalog.int8 '5'", "my.\"type\" '5'", "float8 '5'"]
)
def test_a_typed_literal_is_no_key_unless_its_type_is_the_keys(literal: str) -> None:
    analysis = analyse(f"SELECT * FROM t WHERE id = {literal}")
    assert analysis.is_read
    assert (analysis.keys, analysis.unkeyed) == ((), ("t",))


@pytest.mark.parametrize("literal", ["bigint '5'", "int8 '5'", "integer '5'", "'5'::int4"])
def test_a_literal_of_the_keys_type_is_a_key(literal: str) -> None:
    [[[term]]] = analyse(f"SELECT * FROM t WHERE id = {literal} AND b = box '(1,1)'").keys
    assert term.key == 5


# --- words


@pytest.mark.postgres
def test_words_that_mean_nothing_to_postgresql_may_be_names(fresh_database: Database) -> None:
    keywords: dict[str, str] = dict(
        fresh_database.execute("SELECT word, catcode::text FROM pg_get_keywords()")
    )
    names = [word for word in FOREIGN if keywords.get(word, "U") == "U"]
    assert len(names) > 20
    with fresh_database.server.connect(fresh_database.name) as connection:
        for word in names:
            sql = (
                f"SELECT {word}, t.{word}, {word} + 1 AS {word}"
                f" FROM (SELECT 1 AS {word}, 5 AS id) AS t"
                f" WHERE {word} = 1 AND t.id = 5 ORDER BY t.{word}"
            )
            connection.execute(sql.encode())
            assert analyse(sql).is_read, sql
            [[[term]]] = analyse(f"SELECT {word} FROM t {word} WHERE {word}.id = 5").keys
            assert term.key == 5


@pytest.mark.parametrize("word", sorted({*FOREIGN} - {"date", "format", "glob", "xor"}))
def test_words_that_mean_nothing_to_postgresql_may_name_functions(word: str) -> None:
    analysis = analyse(f"SELECT {word}(v) FROM {word}(1) AS x (v), t WHERE t.id = 5")
    assert analysis.reason == f"function {word} may write"
    [[[term]]] = analysis.keys
    assert term.key == 5


# --- clauses

CLAUSES: Final = forms("clauses")


@pytest.mark.parametrize("sql", CLAUSES)
def test_a_clause_that_sqlglot_lacks_does_not_hide_the_key(sql: str) -> None:
    analysis = analyse(sql)
    assert analysis.reason != "cannot be parsed"
    [[[term]]] = analysis.keys
    assert term.key == 5
    assert analysis.unkeyed == ()


ORMS: Final = forms("orms")


@pytest.mark.parametrize("sql", ORMS)
def test_what_orms_write_has_its_key(sql: str) -> None:
    analysis = analyse(sql)
    assert "cannot be parsed" not in analysis.reason
    assert analysis.key_parameters == (1,)
    assert analysis.unkeyed == ()


# --- what must not be


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM t WHERE id = collation for (5)",
        "SELECT * FROM t WHERE id = xmlserialize(content '5' as text)::int",
        "SELECT * FROM t WHERE id = xmlserialize(content '5' as bigint)",
        "SELECT * FROM t WHERE id = 5 || ''",
        "SELECT * FROM t WHERE id <=> 5",
        "SELECT * FROM t WHERE id = 5 AT LOCAL",
        "INSERT INTO t (id) OVERRIDING USER VALUE VALUES (5)",
        "SELECT * FROM t JOIN u USING (x) AS t WHERE t.id = 5",
        "SELECT * FROM t WHERE id IS NORMALIZED AND v = 5",
        "SELECT * FROM t WHERE U&\"i!0064\" UESCAPE '!' = 5",
    ],
)
def test_what_is_rewritten_is_no_key(sql: str) -> None:
    assert analyse(sql).keys == ()


@pytest.mark.parametrize(
    "write",
    [
        "a <#> nextval('s')",
        "@nextval('s')",
        "a LIKE 'b' ESCAPE nextval('s')::text",
        "box '1' <-> f('1')",
        "a SIMILAR TO nextval('s')::text",
        "xmlserialize(CONTENT f(x) AS text)",
        "xmlparse(DOCUMENT f(x))",
        "COLLATION FOR (f(x))",
        "json_object(f(x))",
        "1 OPERATOR(pg_catalog.+) f(1)",
    ],
)
def test_a_write_is_not_lost_in_rewriting(write: str) -> None:
    assert not analyse(f"SELECT {write} FROM t").is_read
    assert not analyse(f"SELECT v FROM t WHERE id = 5 ORDER BY {write}").is_read
