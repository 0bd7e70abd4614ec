"""Lists of literals, whose length does not matter for a text's fingerprint."""

from __future__ import annotations

import random

import pytest

from router.errors import AmbiguousShard, NoSingleShard, RoutingError
from router.routing import lists
from router.routing.explain import parameter_count
from router.routing.fingerprint import fingerprint_of, short_fingerprint_of
from router.routing.limits import MAX_KEYS, KeyBudget
from router.routing.router import QueryRouter
from router.routing.state import RoutingState
from router.routing.types import RouterOptions

OPTIONS = RouterOptions(
    shard_count=3, query_parser_enabled=True, automatic_sharding_key=("users.id", "t.id")
)
UUIDS = RouterOptions(
    shard_count=3,
    query_parser_enabled=True,
    automatic_sharding_key="users.id",
    sharding_function="pg_uuid_hash",
)
TEXTS = RouterOptions(
    shard_count=3,
    query_parser_enabled=True,
    automatic_sharding_key="users.id",
    sharding_function="pg_text_hash",
)

FORMS = {
    "IN": lambda keys: f"SELECT * FROM users WHERE id IN ({', '.join(keys)})",
    "IN without blanks": lambda keys: f"SELECT * FROM users WHERE id in({','.join(keys)})AND a",
    "IN on lines": lambda keys: (
        "SELECT * FROM users WHERE id IN (\n  " + ",\n  ".join(keys) + "\n)"
    ),
    "IN with more behind": lambda keys: (
        f"SELECT * FROM users WHERE (id IN ({', '.join(keys)})) AND n IN (1, 2) AND true"
    ),
    "ARRAY": lambda keys: f"SELECT * FROM users WHERE id = ANY (ARRAY[{', '.join(keys)}])",
    "rows in IN": lambda keys: (
        "SELECT * FROM users WHERE (n, id) IN ("
        + ", ".join(f"(1, {key})" for key in keys)
        + ")"
    ),
    "VALUES": lambda keys: (
        "INSERT INTO users (id) VALUES " + ", ".join(f"({key})" for key in keys)
    ),
    "VALUES of more columns": lambda keys: (
        "INSERT INTO users (a, b, id, c) VALUES\n  "
        + ",\n  ".join(f"(NULL, 'x, (y'')', {key}, now())" for key in keys)
        + " RETURNING id, 5"
    ),
    "VALUES in FROM": lambda keys: (
        "SELECT * FROM (VALUES "
        + ", ".join(f"({key}, 'a')" for key in keys)
        + ") AS v (k, x) JOIN users ON users.id = v.k"
    ),
}


def shard_of(text: str, options: RouterOptions = OPTIONS) -> int | type[RoutingError] | None:
    """Where a text goes, or how it is refused."""
    try:
        return QueryRouter(options).route(text.encode(), RoutingState()).shard
    except RoutingError as error:
        return type(error)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("written", ["{}", "'{}'", "-{}"])
def test_lists_of_any_length_have_one_fingerprint(form: str, written: str) -> None:
    fingerprints = set()
    for count in (2, 3, 7, 100, 5000):
        keys = [written.format(n * 37) for n in range(1, count + 1)]
        fingerprint, _ = short_fingerprint_of(FORMS[form](keys).encode())
        fingerprints.add(fingerprint)
    assert len(fingerprints) == 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [1, 2, 3, 150, 2500])
@pytest.mark.parametrize("written", ["{}", "'{}'"])
def test_all_keys_of_a_list_count(form: str, count: int, written: str) -> None:
    five, six = written.format(5), written.format(6)
    assert shard_of(FORMS[form]([five] * count)) == 2
    for place in {0, 1, count // 2, count - 1} - ({0, 1} if count < 2 else set()):
        keys = [five] * count
        keys[place] = six
        assert shard_of(FORMS[form](keys)) is AmbiguousShard


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("odd", ["5.5", "'x'", "99999999999999999999", "f(5)", "a", "5 + 1"])
def test_one_member_that_is_not_known_makes_it_ambiguous(form: str, odd: str) -> None:
    for count in (2, 3, 50):
        for place in (0, 1, count - 1):
            keys = ["5"] * count
            keys[place] = odd
            assert shard_of(FORMS[form](keys)) in (AmbiguousShard, 0), (place, count)


def test_a_list_says_what_its_members_say_by_themselves() -> None:
    """Compare with texts that have comments among the members, which are no lists."""
    dice = random.Random(7)
    members = ("5", "6", "-5", "'5'", "'-5'", "5.0", "NULL", "'x'", "1e1", "''", "' 5 '", "5")
    for _ in range(300):
        form = dice.choice(list(FORMS))
        keys = [dice.choice(members) for _ in range(dice.randint(2, 4))]
        text = FORMS[form](keys)
        commented = text.replace(",", " /* , */ ,").replace("'x /* , */ ,", "'x,")
        one, other = shard_of(text), shard_of(commented)
        assert one == other or {one, other} <= {AmbiguousShard, 0}, text


def test_casts_of_all_members_are_one_cast() -> None:
    for cast, shard in (("::int", 2), ("::bigint", 2), ("::text", 0), ("::numeric", 0)):
        text = f"SELECT * FROM users WHERE id IN (5{cast}, 5{cast}, 5{cast})"
        assert short_fingerprint_of(text.encode())[0].endswith(b"IN (0%b)" % cast.encode())
        assert shard_of(text) == shard
    mixed = b"SELECT * FROM users WHERE id IN (5::int, 5::text)"
    assert short_fingerprint_of(mixed) == fingerprint_of(mixed)
    rows = "INSERT INTO users (a, id) VALUES ('a'::text, 5::int), ('b'::text, {})"
    assert shard_of(rows.format("5::int")) == 2
    assert shard_of(rows.format("6::int")) is AmbiguousShard
    assert shard_of(rows.format("5::text")) is AmbiguousShard
    assert shard_of(rows.format("5")) is AmbiguousShard


def test_keys_of_other_types_are_read() -> None:
    one = "'01234567-89ab-cdef-0123-456789abcdef'"
    for form in ("IN", "ARRAY", "VALUES of more columns"):
        expected = shard_of(FORMS[form]([one]), UUIDS)
        assert shard_of(FORMS[form]([one] * 200), UUIDS) == expected
        cast = [f"{one}::uuid"] * 200
        assert shard_of(FORMS[form](cast), UUIDS) == expected
    for text in ("'it''s'", "'(a, b)'", "''", "'$1'", "'é'", "'12'", "'007'", "12"):
        expected = shard_of(FORMS["IN"]([text]), TEXTS)
        for form in FORMS:
            assert shard_of(FORMS[form]([text] * 3), TEXTS) == expected, (form, text)


@pytest.mark.parametrize("form", FORMS)
def test_lists_of_parameters_give_parameters(form: str) -> None:
    router = QueryRouter(OPTIONS)
    for count in (1, 2, 3, 120):
        text = FORMS[form]([f"${n}" for n in range(1, count + 1)]).encode()
        analysis = router.analyse(text)
        assert analysis is not None
        assert analysis.key_parameters == tuple(range(1, count + 1))
        assert not analysis.untyped
        assert parameter_count(text) == count
        values = dict.fromkeys(range(1, count + 1), 5)
        assert router.route_analysis(analysis, RoutingState(), values).shard == 2
        if count > 1:
            with pytest.raises(AmbiguousShard):
                router.route_analysis(analysis, RoutingState(), {**values, count: 6})
            del values[count]
            with pytest.raises(AmbiguousShard):
                router.route_analysis(analysis, RoutingState(), values)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM users WHERE id IN ($1, $2) AND name = $2",
        "SELECT * FROM users WHERE name = $2 AND id IN ($1, $2)",
        "INSERT INTO users (id, name) VALUES ($1, $2), ($3, $1)",
    ],
)
def test_a_parameter_with_another_use_is_in_no_list(text: str) -> None:
    assert short_fingerprint_of(text.encode()) == fingerprint_of(text.encode())
    analysis = QueryRouter(OPTIONS).analyse(text.encode())
    assert analysis is not None
    assert analysis.untyped


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT 'IN (1, 2)', \"IN (1, 2)\" /* IN (1, 2) */ -- IN (1, 2)",
        b"SELECT * FROM t WHERE id IN (SELECT 1, 2)",
        b"SELECT * FROM t WHERE id IN (f(1, 2), 3)",
        b"SELECT min(1, 2), kevin(1, 2), \xc3\xa9in(1, 2)",
        b"SELECT * FROM t WHERE id IN (1, --2\n 3)",
        b"SELECT * FROM t WHERE id IN (1, $$a$$, $b$c$b$)",
        b"SELECT * FROM t WHERE id IN (E'a', E'b')",
        b"SELECT * FROM t WHERE id IN (1, (2))",
        b"INSERT INTO t VALUES (1, (SELECT 2)), (3, 4)",
        b"INSERT INTO t VALUES (f(1), 2), (f(3), 4)",
        b"SELECT ARRAY[[1, 2], [3, 4]]",
    ],
)
def test_what_is_no_list_of_literals_is_left_alone(text: bytes) -> None:
    assert short_fingerprint_of(text) == fingerprint_of(text)


@pytest.mark.parametrize(
    "tail", [b"", b" AND 1 = 1", b")) AS x, 1", b"\n-- it's\n", b", 7, 'x'"]
)
def test_what_follows_a_list_is_read_as_ever(tail: bytes) -> None:
    fingerprint, literals = short_fingerprint_of(b" IN (1, 2)" + tail)
    rest, after = fingerprint_of(tail)
    assert len(literals) == 1 + len(after)
    assert literals[1:] == after
    assert len(fingerprint) - len(b" IN (0)") == len(rest)


def test_a_string_in_pieces_is_one_member() -> None:
    assert shard_of(FORMS["IN"](["'5'", "'17'"])) == 2
    for text in ("'5'\n'17'", "'5'  \n  '17'", "'5'\r\n'17'"):  # which is 517
        for form in FORMS:
            assert shard_of(FORMS[form](["5", text, "5"])) in (0, AmbiguousShard), form
            assert shard_of(FORMS[form]([text, text])) in (0, AmbiguousShard), form


def test_more_keys_than_are_read_are_refused() -> None:
    for form in ("IN", "ARRAY"):
        assert shard_of(FORMS[form](["5"] * MAX_KEYS)) == 2
        assert shard_of(FORMS[form](["5"] * (MAX_KEYS + 1))) is NoSingleShard


def test_new_texts_of_a_list_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    router = QueryRouter(OPTIONS)
    router.route(FORMS["IN"](["5", "5"]).encode(), RoutingState())
    monkeypatch.setattr("router.routing.classify.judge", None)
    for count in (3, 10, 1000):
        text = FORMS["IN"](["5"] * count).encode()
        assert router.inspect(text, RoutingState())[1] == "fingerprint"
        assert router.route(text, RoutingState()).shard == 2


@pytest.mark.parametrize("form", FORMS)
def test_parameters_and_literals_are_told_apart(form: str) -> None:
    router = QueryRouter(OPTIONS)
    for keys in (
        ["$1", "5", "$2"],
        ["5", "$1", "$2"],
        ["$1", "$2", "5"],
        ["5", "$1", "'5'", "$2"],
    ):
        analysis = router.analyse(FORMS[form](keys).encode())
        assert analysis is not None
        assert analysis.key_parameters == (1, 2), keys
        values = {1: 5, 2: 5}
        assert router.route_analysis(analysis, RoutingState(), values).shard == 2
        for number in values:
            with pytest.raises(AmbiguousShard):
                router.route_analysis(analysis, RoutingState(), {**values, number: 6})
        keys[keys.index("5")] = "6"
        analysis = router.analyse(FORMS[form](keys).encode())
        with pytest.raises(AmbiguousShard):
            router.route_analysis(analysis, RoutingState(), values)


def test_parameters_in_rows_have_their_own_casts() -> None:
    router = QueryRouter(OPTIONS)
    text = "INSERT INTO users (n, id) VALUES ($1{0}, $2{1}), ($3{2}, $4{3}), ($5{2}, $6{3})"
    for casts, numbers in (
        (("", "", "", ""), (2, 4, 6)),
        (("::text", "::int", "::text", "::int"), (2, 4, 6)),
        (("::text", "::bigint", "::int", "::bigint"), (2, 4, 6)),
        (("", "::int", "", "::int"), (2, 4, 6)),
        (("", "::int", "", "::text"), (2,)),
        (("::text", "::int", "::text", "::text"), (2,)),
        (("", "::int", "::int", ""), (2,)),
    ):
        analysis = router.analyse(text.format(*casts).encode())
        assert analysis is not None
        assert analysis.key_parameters == numbers, casts
        values = dict.fromkeys(range(1, 7), 5)
        if len(numbers) == 3:
            assert router.route_analysis(analysis, RoutingState(), values).shard == 2
        else:
            with pytest.raises(AmbiguousShard):
                router.route_analysis(analysis, RoutingState(), values)


def test_parameters_keep_their_order_of_numbers() -> None:
    router = QueryRouter(OPTIONS)
    for numbers in ((1, 2, 3), (1, 3, 5), (3, 2, 1), (1, 2, 4), (2, 3, 9), (1, 4, 2)):
        text = FORMS["IN"]([f"${number}" for number in numbers])
        analysis = router.analyse(text.encode())
        assert analysis is not None
        assert analysis.key_parameters == tuple(sorted(numbers))


@pytest.mark.parametrize("digits", ["2", "9999", "10000", "65535", "65536", "9" * 5000])
def test_parameters_among_calls_are_read_whatever_their_numbers(digits: str) -> None:
    rows = ", ".join(f"({cell}, now())" for cell in ("$1", f"${digits}", "$3", "$4 "))
    _, literals = short_fingerprint_of(f"INSERT INTO t VALUES {rows}".encode())
    meant = int(digits) if len(digits) < 6 and int(digits) <= 65_535 else 0
    assert sorted(lists.parameters_in(literals)) == sorted([meant, 3, 4])
    [column] = [i for i, literal in enumerate(literals) if literal.startswith(b")0,")]
    written, numbers = lists.written_at(literals, column, KeyBudget(are_bigints=True))
    assert not list(written)
    assert sorted(numbers) == sorted([meant, 3, 4])


def column_of(rows: list[list[str]], column: int, between: str) -> object:
    """What is read of a column of the rows of a VALUES."""
    cells = (f"({between}{f'{between},{between}'.join(row)}{between})" for row in rows)
    text = f"INSERT INTO t VALUES {f'{between},{between}'.join(cells)}".encode()
    _, literals = short_fingerprint_of(text)
    [index] = [i for i, one in enumerate(literals) if one.startswith(b")%d," % column)]
    written, numbers = lists.written_at(literals, index, KeyBudget(are_bigints=True))
    return list(written), tuple(numbers)


@pytest.mark.parametrize("column", range(3))
def test_a_column_is_read_the_same_with_and_without_strings_beside_it(column: int) -> None:
    dice = random.Random(column)
    words = ("5", "-7", "6.5", "1e3", "-.5", "NULL", "null", "default", "now()", "true", "$")
    for _ in range(300):
        casts = [dice.choice(("", "", "::int", "::int4")) for _ in range(3)]
        rows = [[f"{n}{casts[n]}" for n in range(3)]]
        for number in range(dice.randint(1, 6)):
            cells = (dice.choice(words) for _ in range(3))
            numbered = [
                f"${3 * number + n + 1}" if cell == "$" else cell
                for n, cell in enumerate(cells)
            ]
            rows.append(list(map("".join, zip(numbered, casts, strict=True))))
        between = dice.choice(("", " ", "\n  "))
        beside = [[*row, "'x, (y)'"] for row in rows]
        assert column_of(rows, column, between) == column_of(beside, column, between), rows


def test_casts_are_taken_from_parameters_whatever_their_names() -> None:
    casts = ["::int", "::int4", "::int8", "::integer", "::in", "::i", "::I", "::text", "::t"]
    for count in (1, 2, 3, 8, 9):
        for turn in range(len(casts)):
            chosen = (casts[turn:] + casts[:turn])[:count]
            members = [f"${n + 1}{cast}" for n, cast in enumerate(chosen * 2)]
            for listed in (f"({', '.join(members)})", f"[{' ,'.join(members)} ]"):
                numbers = tuple(range(1, len(members) + 1))
                written = [cast.encode() for cast in chosen * 2]
                assert lists.plain_parameters(listed.encode()) == (numbers, written)
