"""What is remembered of the texts of simple statements."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.protocol import marks
from router.queries import Fingerprint, Queries
from router.session import simple
from tests.support.texts import texts

# Without __slots__, which compiled classes do not have.
FIELDS = [
    name
    for name in dir(marks.Glance)
    if not name.startswith("_") and not callable(getattr(marks.Glance, name))
]
LETTERS = str.maketrans("0123456789", "ghijklmnpq")


def told(glance: marks.Glance) -> list[object]:
    """All that a look has told."""
    return [getattr(glance, name) for name in FIELDS]


def fingerprint(sql: bytes, queries: Queries) -> str:
    """What a text is counted as, by what is known of it."""
    known = simple.look_at(sql)
    found = known.fingerprint or known.fingerprint_of(sql, queries)
    assert isinstance(found, Fingerprint)
    return found.text


@given(
    st.lists(texts(), min_size=1, max_size=10), st.text("0123456789", min_size=1, max_size=9)
)
@example([b"execute'c5.d'"], "0")
@example([b"execute 'a0b'", b"execute 'a.b'"], "0")
@example([b"select $a1$ x $a2$ 1 $a1$"], "0")
@example([b"select 0b10 "], "2")
@example([b"select 1 from t1"], "2")
@example([b'select 1 from "t1"'], "2")
def test_a_text_that_differs_in_numbers_from_a_known_one_is_told_as_if_it_were_new(
    known: list[bytes], digits: str
) -> None:
    simple._harmless.clear()
    simple._others.clear()
    queries = Queries()
    for sql in known:
        table = bytes.maketrans(b"0123456789", (digits * 10)[:10].encode())
        other = sql.translate(table)
        for text in (sql, other, sql.upper(), other.upper(), sql):
            assert told(simple.look_at(text).glance) == told(marks.of_text(text))
            assert fingerprint(text, queries) == Queries().fingerprint(text).text


@pytest.mark.parametrize("first", [b"set a.b0 = 0", b"set a.b1 = 1", b"SET a.b1 = 1"])
def test_names_in_texts_that_differ_in_numbers_are_kept_apart(first: bytes) -> None:
    for name in (b"a.b0", b"a.b1", b"a.b2", b"A.B0", b"a.b0"):
        for sql in (first, b"set " + name + b" = 0", b"SET " + name + b" = 1"):
            assert simple.look_at(sql).glance.custom == marks.of_text(sql).custom


def test_long_texts_and_many_of_them_are_told_all_the_same() -> None:
    for number in range(5000):
        word = f"{number:x}".translate(LETTERS).encode()
        assert simple.look_at(b"SELECT '%s'" % word).glance is marks.HARMLESS
        assert simple.look_at(b"SET a.b%d = 1" % number).glance.custom == (f"a.b{number}",)
    for long in (b"SELECT " + b"x" * 10_000, b"SELECT " + b"x" * 10_000 + b"; SET a.b = 1"):
        assert told(simple.look_at(long).glance) == told(marks.of_text(long))
    for known in (simple._harmless, simple._others):
        assert 0 < len(known) <= 2000
        assert max(map(len, known)) <= 500


def test_texts_that_differ_in_numbers_are_looked_at_once() -> None:
    simple._harmless.clear()
    queries = Queries()
    first = simple.look_at(b"SELECT 10")
    first.fingerprint_of(b"SELECT 10", queries)
    for number in range(11, 100):
        assert simple.look_at(b"SELECT %d" % number) is first
    assert first.fingerprint is queries.fingerprint(b"SELECT 5")
