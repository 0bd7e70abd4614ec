"""Cutting what an administrator typed into words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.admin.statements import split
from router.errors import ClientError


def words_of(text: str) -> list[tuple[str, ...]]:
    """The words of each statement."""
    return [statement.words for statement in split(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SHOW POOLS", [("SHOW", "POOLS")]),
        ("a;b ; c", [("a",), ("b",), ("c",)]),
        ("PAUSE app , ann", [("PAUSE", "app", ",", "ann")]),
        ("PAUSE app,ann", [("PAUSE", "app", ",", "ann")]),
        ("SET a = 'x; y'", [("SET", "a", "=", "'x; y'")]),
        ("SET a='it''s'; b", [("SET", "a", "=", "'it''s'"), ("b",)]),
        (r"SET a = E'\'; b'; c", [("SET", "a", "=", r"E'\'; b'"), ("c",)]),
        (r"SET a = '\'; b", [("SET", "a", "=", r"'\'"), ("b",)]),
        ("SET a = $$b; c$$; d", [("SET", "a", "=", "$$b; c$$"), ("d",)]),
        ("SET a = $x$b; $$ c$x$", [("SET", "a", "=", "$x$b; $$ c$x$")]),
        ('PAUSE "my ""; db"', [("PAUSE", '"my ""; db"')]),
        ("a -- b; c\nd", [("a", "d")]),
        ("a--b", [("a",)]),
        ("a/* b; c */d", [("a", "d")]),
        ("a /* b /* c */ ; */ d", [("a", "d")]),
        ("a'b'", [("a", "'b'")]),
        ("a-b/c", [("a-b/c",)]),
        ("SHOW\u00a0POOLS", [("SHOW\u00a0POOLS",)]),
        (" ; ", []),
        ("/* nothing */", []),
    ],
)
def test_words(text: str, words: list[tuple[str, ...]]) -> None:
    assert words_of(text) == words


@pytest.mark.parametrize(
    "text",
    ["a /* open", "a /*/**/", "a 'open; b", 'a "open', "a E'x\\'", "a $$b", "a $x$ $$", ";;"],
)
def test_what_is_never_closed_is_an_error(text: str) -> None:
    with pytest.raises(ClientError, match="invalid command"):
        split(text)


def test_each_statement_knows_its_text() -> None:
    found = split(" a b ;\n/* c */ d; ;e -- f")
    assert [statement.text for statement in found] == ["a b", "/* c */ d", "e -- f"]


@given(st.text(alphabet="ab,= \n\t").map(lambda text: f"x{text}"), st.integers(0, 3))
def test_nothing_but_spaces_and_semicolons_gets_lost(text: str, copies: int) -> None:
    whole = ";".join([text] * (copies + 1))
    kept = [word for words in words_of(whole) for word in words]
    assert "".join(kept) == "".join(whole.replace(";", " ").split())
