"""Words for the time are found in the columns where they matter, wherever data is cut."""

from __future__ import annotations

import random
from typing import Final

import pytest

from router.routing import copy_times
from router.routing.copy_text import read_copy
from router.routing.copy_times import TOO_LONG, Times
from tests.support.builds import Build, build

HARMLESS: Final = (b"", b"x", b"2026-1-1", b"nowhere", b"is_today", b"\xc3\xa4now", b"5")
WORDS: Final = (b"now", b"NOW", b" now ", b"today", b"Tomorrow 10:00", b"10:00 yesterday",
                b"{now}", b"[now,)")  # fmt: skip
SENTENCES: Final = (b"do it now", b"now", b"today: x", b"(yesterday)")


def _found(options: str, exposed: set[int], data: bytes, chosen: random.Random) -> bytes:
    times = Times(read_copy(f"COPY t FROM STDIN {options}".encode()), exposed)
    while data:
        size = chosen.choice((1, 5, 100))
        found = times.look(data[:size])
        if found:
            return found
        data = data[size:]
    return times.end()


@pytest.mark.parametrize(
    ("options", "delimiter"),
    [("", b"\t"), ("CSV", b","), ("DELIMITER ' '", b" "), ("CSV DELIMITER 'z'", b"z")],
)
def test_it_depends_on_the_column(options: str, delimiter: bytes) -> None:
    for seed in range(300):
        chosen = random.Random(seed)
        columns = chosen.randrange(1, 5)
        exposed = {n for n in range(columns) if chosen.random() < 0.5}
        lines, is_found = [], False
        for _ in range(chosen.randrange(1, 8)):
            fields = []
            for column in range(columns):
                pool = HARMLESS if chosen.random() < 0.8 else WORDS + SENTENCES
                field = chosen.choice(pool).replace(delimiter, b"-")
                is_quoted = options[:3] == "CSV" and chosen.random() < 0.4
                is_word = any(
                    word.lower() in field.lower() for word in (b"now", b"day", b"mor")
                )
                is_found |= column in exposed and is_word and field not in HARMLESS
                fields.append(b'"%b"' % field if is_quoted else field)
            lines.append(delimiter.join(fields))
        data = b"\n".join(lines) + b"\n" * chosen.randrange(2)
        assert bool(_found(options, exposed, data, chosen)) == is_found, (seed, data, exposed)


@pytest.mark.parametrize(
    ("options", "data", "is_found"),
    [
        ("", b"n\\157w\tx\n", True),
        ("", b"\\x6eow\tx\n", True),
        ("", b"\\\\x6eow\tx\n", False),
        ("", b"\\\\\\x6eow\tx\n", True),
        ("", b"\\tnow\tx\n", True),
        ("", b"a\\\tnow\tx\n", True),  # which column that is, is not looked into
        ("", b"x\t\\\\x41 now\n", False),
        ("", b"x\ty\rnow\tx\n", True),
        ("", b"x\tnow\r\ny\tnow\r\n", False),
        ("CSV", b'x,"a\nnow"\n', True),
        ("CSV", b'x,"a\nb"\nx,now\n', False),
        ("CSV", b'x,"a\nb"\nnow,x\n', True),
        ("CSV", b'x,"a,"",now"\n', False),
        ("CSV ESCAPE E'\\\\'", b'x,"a,now"\n', True),
    ],
)
def test_when_it_is_not_sure_it_counts(options: str, data: bytes, is_found: bool) -> None:
    for seed in range(5):
        assert bool(_found(options, {0}, data, random.Random(seed))) == is_found


@pytest.mark.skipif(build() is not Build.PLAIN, reason="compiled code cannot be watched")
def test_no_more_than_a_long_line_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_times, "LONGEST_LINE", 1000)
    times = Times(read_copy(b"COPY t FROM STDIN"), {0})
    assert times.look(b"x" * 1000) == b""
    assert times.look(b"x") is TOO_LONG
