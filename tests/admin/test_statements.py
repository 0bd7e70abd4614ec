"""Cutting what an administrator typed into words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.admin.statements import split


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SHOW POOLS", [("SHOW", "POOLS")]),
        ("a;b ; c", [("a",), ("b",), ("c",)]),
        ("PAUSE app , ann", [("PAUSE", "app", ",", "ann")]),
        ("PAUSE app,ann", [("PAUSE", "app", ",", "ann")]),
        ("SET a = 'x; y'", [("SET", "a", "=", "'x; y'")]),
        ("SET a = 'it''s'; b", [("SET", "a", "=", "'it''s'"), ("b",)]),
        ('PAUSE "my db"', [("PAUSE", '"my db"')]),
        ("a -- b; c\nd", [("a", "d")]),
        ("a--b", [("a",)]),
        ("a/* b; c */d", [("a", "d")]),
        ("a /* open", [("a",)]),
        ("a 'open; b", [("a", "'open; b")]),
        ("a-b/c", [("a-b/c",)]),
        (" ;; ;", []),
    ],
)
def test_words(text: str, words: list[tuple[str, ...]]) -> None:
    assert split(text) == words


@given(st.text(alphabet="ab,; \n"))
def test_nothing_but_spaces_and_semicolons_gets_lost(text: str) -> None:
    kept = "".join(word for statement in split(text) for word in statement)
    assert kept == text.replace(" ", "").replace("\n", "").replace(";", "")
