"""Texts that are made to cost time, or to be taken for something else.

Work is counted here and not timed: `python -m benchmarks stalls` measures how long it takes.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast

import pytest

from benchmarks.hostile import KINDS
from router.config.regexes import Regex
from router.errors import AmbiguousShard, NoSingleShard
from router.routing import hashing, sharding
from router.routing.explain import decide, row
from router.routing.fingerprint import UnknownLexeme, short_fingerprint_of
from router.routing.keyplan import BoundKeys, KeyPlan
from router.routing.limits import (
    MAX_CONVERTED,
    MAX_DISTINCT,
    MAX_KEYS,
    MAX_LENGTH,
    MAX_LEXEMES,
    MAX_PARSED,
    MAX_TOKENS,
    TOKENS_PER_STATEMENT,
    TooComplex,
)
from router.routing.refusals import TOO_COMPLEX
from router.routing.router import QueryRouter
from router.routing.sql import trees
from router.routing.state import RoutingState
from router.routing.tokens import fold, statements_of
from router.routing.types import Analysis, Role, Route, RouterOptions
from router.routing.verdicts import FunctionRules, Judgement, judge
from tests.support.builds import Build, build

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from router.routing.sql.trees import Tree
    from router.routing.types import KeyValue

    Hash = Callable[[KeyValue, int], int]

KEYED: Final = RouterOptions(
    shard_count=3,
    query_parser_max_length=MAX_LENGTH,
    query_parser_enabled=True,
    query_parser_read_write_splitting=True,
    automatic_sharding_key="users.id",
    omnisharded_tables=("things",),
    refuses_without_key=True,
)
KEYLESS: Final = replace(KEYED, automatic_sharding_key=(), omnisharded_tables=())
FROM_USERS: Final = b"SELECT * FROM users WHERE "
SIZES: Final = (4 << 10, 32 << 10, MAX_LENGTH)


def numbered(form: bytes, count: int, separator: bytes = b", ") -> bytes:
    return separator.join(form.replace(b"#", b"%d" % n) for n in range(count))


def route(text: bytes, options: RouterOptions = KEYED) -> Route:
    return QueryRouter(options).route(text, RoutingState())


def refusal(text: bytes, options: RouterOptions = KEYED) -> NoSingleShard:
    with pytest.raises(NoSingleShard) as caught:
        route(text, options)
    assert caught.value.kind == TOO_COMPLEX
    assert caught.value.sqlstate == "0A000"
    assert "SET SHARD" in caught.value.hint
    return caught.value


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens the parser was given each time."""
    if build() is Build.COMPILED:
        pytest.skip("what compiled modules call of each other cannot be watched")
    counts: list[int] = []
    parse = trees.parse

    def counted(text: str) -> Tree | None:
        counts.append(len(text.split()))
        return parse(text)

    monkeypatch.setattr(trees, "parse", counted)
    return counts


# --- how much is done


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_done_for_a_text_is_bounded(
    kind: str, size: int, parsed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = KINDS[kind].text(size)
    assert len(text) <= MAX_LENGTH
    seen: list[int] = []

    def counted(tokens: list[str], rules: FunctionRules) -> Judgement:
        seen.append(len(tokens))
        return judge(tokens, rules)

    monkeypatch.setattr("router.routing.classify.judge", counted)
    router = QueryRouter(KEYED)
    analysis = router.analyse(text)
    assert analysis is not None
    assert sum(seen) <= MAX_TOKENS
    assert sum(parsed) <= 2 * MAX_PARSED


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_too_complex_is_refused_where_it_may_concern_a_sharded_table(kind: str) -> None:
    router = QueryRouter(KEYED)
    for size in SIZES:
        text = KINDS[kind].text(size)
        analysis = router.analyse(text)
        assert analysis is not None
        if analysis.limit and b"users" in text and not analysis.keys:
            assert analysis.limit in refusal(text).message
            if analysis.error is not None:
                continue  # its keys are too many, which no setting allows
            found = route(text, replace(KEYED, refuses_without_key=False))
            assert found.shard == 0


def test_without_keys_what_cannot_be_cut_into_tokens_goes_to_the_primary() -> None:
    for kind in ("CTEs", "casts", "OR", "brackets", "words", "columns"):
        text = KINDS[kind].text(MAX_LENGTH)
        router = QueryRouter(KEYLESS)
        found = router.route(text, RoutingState())
        assert (found.role, found.shard) == (Role.PRIMARY, 0)
        assert found.reason.startswith("too complex: more than ")


@pytest.mark.parametrize("tokens", [MAX_PARSED - 1, MAX_PARSED, MAX_PARSED + 1])
def test_so_many_tokens_are_parsed_and_no_more(tokens: int, parsed: list[int]) -> None:
    head = b"select distinct " if tokens % 2 else b"select "
    text = head + b" + ".join([b"a"] * (tokens // 2))
    [(_, found)] = statements_of(text.decode())
    assert len(found) == tokens
    analysis = QueryRouter(KEYLESS).analyse(text)
    assert analysis is not None
    assert bool(parsed) is (tokens <= MAX_PARSED)
    assert bool(analysis.limit) is (tokens > MAX_PARSED)
    assert analysis.is_read


def test_the_statements_of_a_text_share_what_may_be_parsed(parsed: list[int]) -> None:
    statement = b"SELECT " + b" + ".join([b"a"] * 100)
    analysis = QueryRouter(KEYLESS).analyse(b";".join([statement] * 8))
    assert analysis is not None
    assert parsed == [200] * (MAX_PARSED // (200 + TOKENS_PER_STATEMENT))
    assert "query_parser_max_tokens" in analysis.reason


def test_the_number_of_tokens_is_a_setting(parsed: list[int]) -> None:
    text = FROM_USERS + b"id = 5 AND " + b" + ".join([b"a"] * 100) + b" > 0"
    assert route(text).shard == 2
    error = refusal(text, replace(KEYED, query_parser_max_tokens=100))
    assert "query_parser_max_tokens, 100" in error.message
    longer = FROM_USERS + b"id = 5 AND " + b" + ".join([b"a"] * 1000) + b" > 0"
    refusal(longer)
    assert route(longer, replace(KEYED, query_parser_max_tokens=3000)).shard == 2


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        (b"SELECT " + b"'x' " * (MAX_LEXEMES + 1), "literals"),
        (b"SELECT " + b"/* */" * (MAX_LEXEMES + 1), "comments"),
        (b"SELECT " + b'"a" ' * (MAX_LEXEMES + 1), "quoted names"),
    ],
)
def test_literals_comments_and_names_are_counted(text: bytes, limit: str) -> None:
    with pytest.raises(TooComplex, match=limit):
        short_fingerprint_of(text)


@pytest.mark.parametrize("piece", ["a ", "(", ";", "+ ", "a;", "$1"])
def test_tokens_are_counted_until_there_are_too_many(piece: str) -> None:
    [*_, (_, last)] = statements_of("a " + piece * 10, 100)
    assert last
    for count in (200, 100_000):
        with pytest.raises(TooComplex, match="more than 100 tokens"):
            statements_of(piece * count, 100)


# --- the walk through the tree


@pytest.mark.parametrize(
    "text",
    [
        b"WITH x AS (SELECT * FROM users), y AS (SELECT * FROM x, x a, x b), "
        b"z AS (SELECT * FROM y, y a, y b), v AS (SELECT * FROM z, z a, z b), "
        b"w AS (SELECT * FROM v, v a, v b), u AS (SELECT * FROM w, w a, w b) "
        b"SELECT * FROM u, u a, u b",
        b"WITH x AS (SELECT * FROM users WHERE "
        + numbered(b"a# = 1", 100, b" AND ")
        + b") SELECT * FROM "
        + numbered(b"x x#", 150),
    ],
    ids=["WITH upon WITH", "a long query of WITH"],
)
def test_the_search_for_keys_has_a_budget(text: bytes) -> None:
    message = refusal(text).message
    assert "more queries, conditions and tables than are followed" in message


def test_a_query_that_refers_to_itself_is_not_followed_round() -> None:
    router = QueryRouter(KEYED)
    for query in ("SELECT n FROM x", "SELECT n FROM x, x y", "SELECT (SELECT n FROM x) FROM t"):
        text = f"WITH RECURSIVE x(n) AS ({query}) SELECT * FROM x".encode()
        analysis = router.analyse(text)
        assert analysis is not None
        assert analysis.limit == ""


def test_long_chains_that_say_one_thing_are_followed() -> None:
    for text in (
        FROM_USERS + b"id = 5" + b"::int" * 400,
        numbered(b"SELECT * FROM users WHERE id = 5", 90, b" UNION ALL "),
        b"SELECT * FROM users u "
        + numbered(b"JOIN users u# ON u#.id = u.id", 60, b" ")
        + b" WHERE u.id = 5",
        FROM_USERS + b"id = 5 AND name = '\xff\xfe'",
    ):
        assert route(text).shard == 2


# --- what is long and not complex


def test_long_values_cost_nothing_and_hide_nothing(parsed: list[int]) -> None:
    for size in (1 << 10, 100 << 10, 250 << 10):
        for name in ("string", "dollar quote", "comment, long", "comment, ahead", "blanks"):
            assert route(KINDS[name].text(size)).shard == 2, name
    assert max(parsed) < 20


def test_all_keys_of_a_long_text_are_found() -> None:
    for head, tail in (
        (b"id IN (", b")"),
        (b"id = ANY ('{", b"}')"),
        (b"id = ANY (ARRAY[", b"])"),
    ):
        keys = [b"5"] * 9_000
        assert route(FROM_USERS + head + b", ".join(keys) + tail).shard == 2
        keys[7_000] = b"6"
        with pytest.raises(AmbiguousShard):
            route(FROM_USERS + head + b", ".join(keys) + tail)


# --- keys: how many are read, and hashed


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many keys are hashed, by function."""
    if build() is Build.COMPILED:
        pytest.skip("what compiled modules call of each other cannot be watched")
    counts: Counter[str] = Counter()
    for name in ("pg_bigint_hash", "pg_uuid_hash", "pg_text_hash"):
        function = getattr(hashing, name)

        def counted(
            key: KeyValue, shards: int, name: str = name, function: Hash = function
        ) -> int:
            counts[name] += 1
            return function(key, shards)

        monkeypatch.setattr(sharding, name, counted)
        hashes = sharding._HASHES
        for kind, functions in hashes.items():
            if name in functions:
                monkeypatch.setitem(cast("dict[str, Hash]", hashes[kind]), name, counted)
    return counts


@pytest.mark.parametrize("kind", KINDS)
def test_so_many_keys_are_hashed_and_no_more(kind: str, hashed: Counter[str]) -> None:
    for size in SIZES:
        router = QueryRouter(replace(KEYED, sharding_function=KINDS[kind].sharding_function))
        hashed.clear()
        with contextlib.suppress(NoSingleShard, AmbiguousShard):
            router.route(KINDS[kind].text(size), RoutingState())
        # Once for the text and once more for the client, with what else is in the text.
        assert hashed["pg_bigint_hash"] <= 2 * (MAX_DISTINCT + MAX_PARSED)
        assert hashed["pg_uuid_hash"] + hashed["pg_text_hash"] <= 2 * (
            MAX_CONVERTED + MAX_PARSED
        )


def numbers_of_shard(shard: int, count: int) -> list[bytes]:
    numbers = (n for n in itertools.count(1) if hashing.pg_bigint_hash(n, 3) == shard)
    return [b"%d" % n for n in itertools.islice(numbers, count)]


FORMS: Final = {
    "IN": (FROM_USERS + b"id IN (", b"%s", b", ", b")"),
    "IN, strings": (FROM_USERS + b"id IN (", b"'%s'", b", ", b")"),
    "array": (FROM_USERS + b"id = ANY ('{", b"%s", b",", b"}')"),
    "ARRAY": (FROM_USERS + b"id = ANY (ARRAY[", b"%s", b", ", b"])"),
    "VALUES": (b"INSERT INTO users (id) VALUES ", b"(%s)", b", ", b""),
    "VALUES, wide": (b"INSERT INTO users (n, id) VALUES ", b"(0, %s)", b", ", b""),
    "IN, twice": (FROM_USERS + b"id > 5 AND id IN (", b"%s", b", ", b")"),
}


@pytest.mark.parametrize("form", FORMS)
def test_so_many_different_keys_of_one_shard_are_read(form: str) -> None:
    head, each, separator, tail = FORMS[form]
    keys = [each % key for key in numbers_of_shard(1, MAX_DISTINCT)]
    assert route(head + separator.join(keys) + tail).shard == 1
    assert route(head + separator.join([*keys, *keys[:500]]) + tail).shard == 1
    # The first row of VALUES is not in its list.
    more = [each % key for key in numbers_of_shard(1, MAX_DISTINCT + 2)[-2:]]
    text = head + separator.join([*keys, *more]) + tail
    assert f"more than {MAX_DISTINCT} different sharding keys" in refusal(text).message
    router = QueryRouter(KEYED)
    for count in (1, 2):
        with pytest.raises(NoSingleShard):
            router.route(text, RoutingState())
        assert router.too_complex == count
    told = row(router, decide(router, text, RoutingState()))
    assert any("different sharding keys" in str(value) for value in told)


def test_all_lists_of_a_text_count_together() -> None:
    keys = numbers_of_shard(1, MAX_DISTINCT)
    lists = [b"id IN (" + b", ".join(keys[n::10]) + b")" for n in range(10)]
    assert route(FROM_USERS + b" OR ".join(lists)).shard == 1
    more = b"id IN (" + b", ".join(keys[:100]) + b")"
    refusal(FROM_USERS + b" OR ".join([*lists, more]))
    same = b"id IN (" + b", ".join([b"5"] * 3_000) + b")"
    assert route(FROM_USERS + b" OR ".join([same] * 3)).shard == 2
    message = refusal(FROM_USERS + b" OR ".join([same] * 4)).message
    assert f"more than {MAX_KEYS} sharding keys" in message


def rows_of(count: int) -> bytes:
    rows = (b"($%d, $%d)" % (2 * n + 1, 2 * n + 2) for n in range(count))
    return b"INSERT INTO users (id, n) VALUES " + b", ".join(rows)


def bound(plan: KeyPlan, keys: Sequence[bytes]) -> BoundKeys:
    found = BoundKeys(plan)
    for number, key in enumerate(keys):
        found.add(2 * number + 1, key, is_binary=False)
    return found


def as_numbers(keys: Sequence[bytes]) -> dict[int, int]:
    return {2 * number + 1: int(key) for number, key in enumerate(keys)}


def test_long_statements_have_short_analyses() -> None:
    router = QueryRouter(KEYED)
    for count in (5, 1_000, MAX_KEYS):
        analysis = router.analyse(rows_of(count))
        assert analysis is not None
        [[[first, others]]] = analysis.keys
        assert first.parameters == (1,)
        assert others.parameters == range(3, 2 * count + 1, 2)
    refused = router.analyse(FROM_USERS + b"id IN (" + numbered(b"$1#", 10_001) + b")")
    assert refused is not None
    assert str(MAX_KEYS) in refused.limit


def test_so_many_keys_are_bound() -> None:
    router = QueryRouter(KEYED)
    analysis = router.analyse(rows_of(MAX_DISTINCT + 2))
    assert analysis is not None
    plan = KeyPlan(analysis, (), router.sharder)
    keys = numbers_of_shard(1, MAX_DISTINCT + 2)
    values = bound(plan, [*keys[:-2], *keys[:2]]).values
    assert not plan.misses(values)
    assert router.route_analysis(analysis, RoutingState(), values).shard == 1
    with pytest.raises(NoSingleShard, match="different sharding keys") as caught:
        bound(plan, keys)
    assert caught.value.kind == TOO_COMPLEX
    with pytest.raises(NoSingleShard, match="different sharding keys") as caught:
        router.route_analysis(analysis, RoutingState(), as_numbers(keys))
    assert caught.value.kind == TOO_COMPLEX
    assert router.too_complex == 1


def test_arrays_that_are_bound_count_as_well() -> None:
    router = QueryRouter(replace(KEYED, sharding_function="pg_text_hash"))
    analysis = router.analyse(FROM_USERS + b"id = ANY ($1) OR id = ANY ($2)")
    assert analysis is not None
    plan = KeyPlan(analysis, (1009, 1009), router.sharder)
    keys = BoundKeys(plan)
    keys.add(1, b"{a,b}", is_binary=False)
    keys.add(2, b"{" + numbered(b"c#", MAX_CONVERTED - 2, b",") + b"}", is_binary=False)
    with pytest.raises(NoSingleShard, match="different sharding keys"):
        keys.add(2, b"{d}", is_binary=False)
    too_long = b"{" + b",".join([b"a"] * (MAX_KEYS + 1)) + b"}"
    with pytest.raises(NoSingleShard, match="members of an array"):
        BoundKeys(plan).add(1, too_long, is_binary=False)


@pytest.mark.parametrize("digits", [1, 5, 6, 20, 5_000])
@pytest.mark.parametrize("form", ["id = {}", "id IN ({}, $1)", "(id, 1) IN (({}, 1), ($1, 2))"])
def test_the_number_of_a_parameter_may_be_any(form: str, digits: int) -> None:
    text = FROM_USERS + form.format(f"${'9' * digits}").encode()
    analysis = QueryRouter(KEYED).analyse(text)
    assert analysis is not None
    assert max((0, *analysis.key_parameters)) <= 9
    assert KeyPlan(analysis, (), QueryRouter(KEYED).sharder).last <= 9


# --- what is told of it


def test_it_is_counted_each_time_and_explained() -> None:
    router = QueryRouter(KEYLESS)
    text = KINDS["OR of words"].text(64 << 10)
    for count in (1, 2, 3):
        router.route(text, RoutingState())
        assert router.too_complex == count
    decision = decide(router, text, RoutingState())
    assert router.too_complex == 3
    told = row(router, decision)
    assert "too complex: more than 5000 tokens" in told
    assert told[2] == "primary"
    router.route(b"SELECT 1", RoutingState())
    assert router.too_complex == 3


def test_a_refusal_is_counted_and_explained_too() -> None:
    router = QueryRouter(KEYED)
    text = KINDS["OR"].text(64 << 10)
    for count in (1, 2):
        with pytest.raises(NoSingleShard):
            router.route(text, RoutingState())
        assert router.too_complex == count
    told = row(router, decide(router, text, RoutingState()))
    assert "0A000" in told
    assert any("too complex to find its shard" in str(value) for value in told)


def test_it_runs_where_the_client_says() -> None:
    router = QueryRouter(replace(KEYED, shard_id_regex=Regex(r"/\* shard (\d) \*/")))
    text = KINDS["OR"].text(64 << 10)
    assert router.route(b"/* shard 1 */ " + text, RoutingState()).shard == 1
    state = RoutingState()
    state.shard = 2
    found = router.route(text, state)
    assert (found.role, found.shard) == (Role.PRIMARY, 2)


def test_a_prepared_statement_is_refused_as_well() -> None:
    router = QueryRouter(KEYED)
    analysis = router.analyse(KINDS["OR"].text(64 << 10))
    with pytest.raises(NoSingleShard):
        router.route_analysis(analysis, RoutingState())
    assert router.too_complex == 1


@pytest.mark.parametrize(
    ("text", "is_concerned"),
    [
        (b"SELECT * FROM users", True),
        (b'SELECT * FROM "USERS"', True),
        (b'SELECT * FROM U&"\\0075sers"', True),
        (b"UPDATE things SET a = 1", False),
        (b"INSERT INTO other VALUES (1)", False),
        (b"SELECT * FROM other", False),
    ],
)
def test_what_does_not_name_a_sharded_table_is_not_refused(
    text: bytes, is_concerned: bool
) -> None:
    more = text + b" " + b"a b c d " * 4_000
    if is_concerned:
        refusal(more)
    else:
        assert route(more).role is Role.PRIMARY


# --- what cannot be read at all

UNREADABLE: Final = {
    "brackets left open": b"SELECT " + b"(" * 5_000,
    "a zero byte": FROM_USERS + b"id = 5\0 OR 1 = 1",
    "a word that is not UTF-8": FROM_USERS + b"\xff = 5",
    "a string left open": FROM_USERS + b"id = 5 AND x = 'abc",
    "an E string left open": FROM_USERS + b"id = E'5\\'",
    "a comment left open": FROM_USERS + b"id = 5 /* abc",
    "comments in comments": FROM_USERS + b"id = 5 " + b"/*" * 100_000,
    "a dollar quote left open": FROM_USERS + b"id = 5 AND x = $a$abc",
    "a name left open": FROM_USERS + b'id = 5 AND "x',
    "nothing but semicolons": b";" * 5_000,
}


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_goes_to_the_primary_of_the_default_shard(text: bytes) -> None:
    found = route(text, replace(KEYED, refuses_without_key=False))
    assert (found.role, found.shard) == (Role.PRIMARY, 0)


def cut(text: bytes) -> Sequence[str] | None:
    try:
        pieces = statements_of(fold(short_fingerprint_of(text)[0]))
        return [token for _, tokens in pieces for token in tokens]
    except (UnknownLexeme, UnicodeDecodeError, TooComplex):
        return None


def test_a_text_has_one_verdict_whenever_it_is_asked_for() -> None:
    for name, kind in KINDS.items():
        text = kind.text(8 << 10)
        first, again = (QueryRouter(KEYED).analyse(text) for _ in range(2))
        assert isinstance(first, Analysis), name
        assert isinstance(again, Analysis), name
        assert (first.verdict, first.reason, first.limit) == (
            again.verdict,
            again.reason,
            again.limit,
        )
        assert cut(text) == cut(text), name
