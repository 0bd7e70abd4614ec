"""What string literals stand for."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from router.routing.literals import text_of

if TYPE_CHECKING:
    from tests.support.postgres import Database

PLAIN = {
    b"''": b"",
    b"'a'": b"a",
    b"'it''s'": b"it's",
    b"''''": b"'",
    rb"'a\nb'": rb"a\nb",
    rb"'\\'": rb"\\",
    b"$$it's$$": b"it's",
    b"$$it''s$$": b"it''s",
    b"$t$a$$b$t$": b"a$$b",
    rb"$$a\n$$": rb"a\n",
}
ESCAPED = {
    b"'a'": b"a",
    b"'it''s'": b"it's",
    rb"'it\'s'": b"it's",
    rb"'\\'": b"\\",
    rb"'\\n'": rb"\n",
    rb"'\b\f\n\r\t'": b"\b\f\n\r\t",
    rb"'\q\''": b"q'",
    rb"'\101\1012\7'": b"AA2\x07",
    rb"'\x41\x4\x41f'": b"A\x04Af",
    rb"'\u00e9\U0001F642'": "é🙂".encode(),
    rb"'\xc3\xa9'": "é".encode(),
    rb"'\303\251'": "é".encode(),
    rb"'\x'": b"x",
    rb"'\8'": b"8",
}


@pytest.mark.parametrize("literal", PLAIN)
def test_a_plain_string_means_itself(literal: bytes) -> None:
    assert text_of(literal, escaped=False) == PLAIN[literal]


@pytest.mark.parametrize("literal", ESCAPED)
def test_a_string_behind_an_e_has_escapes(literal: bytes) -> None:
    assert text_of(literal, escaped=True) == ESCAPED[literal]


@pytest.mark.parametrize(
    "literal", [rb"'\u12'", rb"'\U0001F6'", rb"'\ud83d\ude42'", rb"'\U00110000'"]
)
def test_an_odd_escape_stands_for_nothing_that_is_sure(literal: bytes) -> None:
    assert text_of(literal, escaped=True) is None


@pytest.mark.parametrize("literal", [b"5", b"-5", b"x"])
def test_what_is_no_string_has_no_text(literal: bytes) -> None:
    assert text_of(literal, escaped=False) is None


@pytest.mark.postgres
def test_postgresql_reads_strings_alike(fresh_database: Database) -> None:
    rng = random.Random(5)
    pieces = [
        "a",
        "''",
        "\\\\",
        "\\'",
        "\\n",
        "\\t",
        "\\q",
        "\\x41",
        "\\101",
        "\\u00e9",
        "é",
        " ",
    ]
    literals = [literal.decode() for literal in PLAIN]
    literals += ["E" + literal.decode() for literal in ESCAPED]
    literals += [
        "E'" + "".join(rng.choices(pieces, k=rng.randint(0, 8))) + "'" for _ in range(300)
    ]
    rows = fresh_database.execute("SELECT ARRAY[" + ",".join(literals) + "]")
    expected = rows[0][0]
    for literal, value in zip(literals, expected, strict=True):
        escaped = literal.startswith("E")
        found = text_of(literal[escaped:].encode(), escaped=escaped)
        assert found is not None
        assert found.decode() == value
