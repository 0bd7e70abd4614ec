"""The comments of sqlcommenter, and texts without them."""

from __future__ import annotations

import random
from urllib.parse import quote

import pytest

from router.routing.tags import body_without_tags, trace_parent, without_tags
from tests.support.work import cpu_seconds

TRACE = "00-5bd66ef5095369c7b0d1f8f4bd33716a-c532cb4098ac3dd2-01"


def comment(dice: random.Random) -> str:
    """A comment as the specification has it."""
    pairs = [f"traceparent='{TRACE}'"] * (dice.random() < 0.5)
    for _ in range(dice.choice((0, 1, 4))):
        key = quote("".join(dice.choice("abcXYZ_019 ") for _ in range(dice.randint(1, 9))))
        value = quote("".join(dice.choice("ab '*/%$\"é\n;") for _ in range(9)), safe="*")
        pairs.append(f"k{key.replace('/', '')}='{value}'")
    pairs = pairs or ["framework='spring'"]
    dice.shuffle(pairs)
    return dice.choice(("/*%s*/", "/* %s */")) % dice.choice((",", ", ")).join(pairs)


@pytest.mark.parametrize("seed", range(200))
def test_the_comment_is_taken_off_and_all_else_stays(seed: int) -> None:
    dice = random.Random(seed)
    text = dice.choice(
        ("SELECT 1", "/*x='1'*/ SELECT 'é', $$/*$$", '-- a\nSELECT "/*"', "INSERT INTO t")
    )
    tagged = (
        text + dice.choice(("", " ", "\n")) + comment(dice) + dice.choice(("", ";", " ;\n"))
    )
    assert without_tags(tagged.encode()) == text.encode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        ";",
        "/",
        "*/",
        "SELECT 1",
        "SELECT 1 /* a comment */",
        "SELECT 1 /* shard_id: 1 */",
        "SELECT 1 /**/",
        "SELECT 1 /*a='b'*/ + 1",
        "SELECT 1 /*a=b*/",
        "SELECT 1 /*a='b',*/",
        "SELECT 1 /*a='b' c='d'*/",
        "SELECT 1 /*a='b''*/",
        r"SELECT 1 /*a='b\'c'*/",
        "SELECT 1 /*a='\n'*/",
        "SELECT 1 /*a='*/'*/",
        "SELECT 'x /*a='--'*/",
        "SELECT 1 /*+ SeqScan(t) */",
        "SELECT 1 -- a='b'",
    ],
)
def test_what_is_no_such_comment_stays_the_very_text(text: str) -> None:
    data = text.encode()
    assert without_tags(data) is data


def test_the_body_of_a_parse_keeps_its_types() -> None:
    types = b"\0\0\1\0\0\0\x17"
    assert body_without_tags(b"SELECT $1 /*a='b'*/" + types) == b"SELECT $1" + types
    plain = b"SELECT $1" + types
    assert body_without_tags(plain) is plain
    broken = b"SELECT 1 /*a='b'*/"
    assert body_without_tags(broken) is broken


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"SELECT 1 /*traceparent='{TRACE}'*/", TRACE),
        (f"SELECT 1 /*action='x', traceparent = '{TRACE}' , z='1'*/;", TRACE),
        (f"SELECT 1 /*traceparent='{TRACE}-later'*/", TRACE),
        (f"SELECT 1 /*traceparent='{TRACE[:-1]}'*/", ""),
        (f"SELECT 1 /*traceparent='{TRACE.upper()}'*/", ""),
        (f"SELECT 'traceparent={TRACE}' /*a='b'*/", ""),
        (f"SELECT '/*traceparent=''{TRACE}''*/' /*a='b'*/", ""),
        ("SELECT 1", ""),
    ],
)
def test_the_trace_is_that_of_the_comment(text: str, found: str) -> None:
    assert trace_parent(text.encode()).decode() == found


@pytest.mark.parametrize(
    "piece", ["/*", "/*a='", "a='b',", " ", ";", "'", "/*a='b'*/", "/*a='b',", "k" * 90 + "="]
)
def test_it_takes_linear_time(piece: str) -> None:
    data = (piece * (250_000 // len(piece)) + "*/").encode()
    # A square would be a thousand times as much.
    assert cpu_seconds(lambda: without_tags(data), 0.05) <= 0.05
