"""Texts of statements that may leave something behind, or only look like it."""

from __future__ import annotations

from hypothesis import strategies as st

_WORDS = r"""
    select insert update delete create alter drop set reset all do call discard rollback import
    temp temporary pg_temp table copy with hold local session true password to from in values
    SELECT Set RESET ALL Temp execute set_config( advisory pg_advisory_lock( setseed(
    dblink_connect lo_open lo_ a.b app.x1 temp2 2temp x3.y4 "a7".b 'c5.d' $1 $2::int2 a b
    ) ( , ; ;; . = 0 9 12345 1.5 2e3 0x1F 0b10 0o17 -- /* */ /*1*/ *7/ /8* ' " \\
    $a1$ $a2$ $$ E'\\1' B'10' (1,2) ('a','b2')
"""
PIECES = [*_WORDS.split(), *" \t\n\r\0\xb2\xc9\xa0"]


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """A text of a statement, or of something that only looks like one."""
    pieces = draw(st.lists(st.sampled_from(PIECES), max_size=12))
    return draw(st.sampled_from(["", " "])).join(pieces).encode("latin-1")
