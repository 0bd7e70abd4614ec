"""Classification of texts that nobody has thought of."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from router.routing.classify import ClassifierOptions, classify
from router.routing.columns import ShardedTables
from router.routing.fingerprint import UnknownLexeme, fingerprint_of
from router.routing.router import QueryRouter
from router.routing.state import RoutingState
from router.routing.types import RouterOptions, Verdict

from .commanded import command_in

KEYED = ClassifierOptions(sharded=ShardedTables.of("*.id"))
WORDS = """
select from where id = 5 'x' $1 ( ) , . * ; and or not in any array [ ] join on left using
with as insert into update set delete merge values union limit for share case when then end
null is between like cast :: - + "q" t u count( lower( f( $$ -- /* */ ' " order by group having
exists distinct begin read only commit explain analyze copy to stdout show returning conflict do
"""

soup = st.lists(st.sampled_from(WORDS.split()), max_size=25).map(" ".join)
reproducible = settings(derandomize=True, deadline=None, max_examples=150, database=None)


@reproducible
@given(st.binary(max_size=200))
def test_any_bytes_are_classified(text: bytes) -> None:
    assert classify(text, KEYED).verdict in Verdict


@reproducible
@given(soup)
def test_any_words_are_classified(text: str) -> None:
    analysis = classify(text, KEYED)
    assert analysis.is_read == (
        bool(analysis.statements)
        and all(s.verdict is Verdict.READ for s in analysis.statements)
    )


@reproducible
@given(soup)
def test_a_read_begins_as_one(text: str) -> None:
    begins = ("SELECT", "VALUES", "TABLE", "SHOW", "EXPLAIN", "COPY", "BEGIN", "COMMIT", "END")
    analysis = classify(text)
    if analysis.is_read:
        assert set(analysis.kinds) <= set(begins)


@reproducible
@given(soup)
def test_a_fingerprint_is_its_own_fingerprint(text: str) -> None:
    try:
        fingerprint, literals = fingerprint_of(text.encode())
    except UnknownLexeme:
        return
    again, found = fingerprint_of(fingerprint)
    assert again == fingerprint
    assert len(found) == len(literals)


@reproducible
@given(st.text(max_size=30), st.integers())
def test_the_verdict_does_not_depend_on_values(string: str, number: int) -> None:
    quoted = string.replace("\0", "").replace("'", "''").replace("\\", "")
    read = f"SELECT * FROM t WHERE a = '{quoted}' AND b = {number} LIMIT {abs(number)}"
    write = f"UPDATE t SET a = '{quoted}' WHERE b = {number}"
    assert classify(read).is_read
    assert not classify(write).is_read


@reproducible
@given(st.one_of(soup.map(str.encode), st.binary(max_size=60)))
def test_what_is_no_command_of_ours_is_routed(text: bytes) -> None:
    router = QueryRouter(
        RouterOptions(query_parser_enabled=True, query_parser_read_write_splitting=True)
    )
    if command_in(text) is None:
        assert router.route(text, RoutingState()) == router.route(text, RoutingState())
