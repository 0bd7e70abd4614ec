"""The answers to the router's own queries: read whole or not at all."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from router.pool.answer import CollectedAnswer
from router.protocol import codes, messages
from router.protocol.segments import Segment

if TYPE_CHECKING:
    from router.pool.answer import Row

LIMIT = 8 << 20
ROWS: list[Row] = [("one", None), ("", "two")]
TEXT = (
    messages.row_description([("a", messages.TEXT_OID), ("b", messages.TEXT_OID)])
    + b"".join(messages.data_row(row) for row in ROWS)
    + messages.command_complete("SELECT 2")
)


class Taken:
    """An answer and what has become of it."""

    def __init__(self) -> None:
        self.got: list[tuple[list[Row], dict[str, str] | None, bool]] = []
        self.answer = CollectedAnswer(lambda *given: self.got.append(given))

    def end(self) -> tuple[list[Row], dict[str, str] | None, bool]:
        """The ReadyForQuery comes: what has been taken, and that it was taken once."""
        assert self.got == []
        self.answer.segment_done(Segment(self.answer), codes.IDLE)
        [got] = self.got
        return got


@pytest.mark.parametrize("cut", [1, 7, 50, len(TEXT)])
def test_rows_are_read_however_they_arrive(cut: int) -> None:
    taken = Taken()
    for start in range(0, len(TEXT), cut):
        taken.answer.reply(TEXT[start : start + cut])
    assert taken.end() == (ROWS, None, True)


def test_an_error_is_given_with_the_rows_before_it() -> None:
    taken = Taken()
    taken.answer.reply(messages.data_row(["x"]) + messages.error_response("no", "42P01"))
    rows, error, is_all = taken.end()
    assert rows == [("x",)]
    assert error is not None
    assert (error["C"], error["M"]) == ("42P01", "no")
    assert is_all


@pytest.mark.parametrize(("more", "is_all"), [(0, True), (1, False)])
def test_an_answer_is_kept_up_to_a_limit(more: int, is_all: bool) -> None:
    parts = [messages.data_row(["x" * (LIMIT // 4 - 11)]) for _ in range(4)]
    assert sum(map(len, parts)) == LIMIT
    parts[-1] = messages.data_row(["x" * (LIMIT // 4 - 11 + more)])
    taken = Taken()
    for part in parts:
        taken.answer.reply(part)
    rows, error, said_all = taken.end()
    assert (len(rows), error, said_all) == (4 if is_all else 0, None, is_all)


def test_what_is_beyond_the_limit_takes_no_memory() -> None:
    taken = Taken()
    taken.answer.reply(bytes(LIMIT))
    part = bytes(1000)
    before = sys.getrefcount(part)
    taken.answer.reply(part)
    assert sys.getrefcount(part) == before
    assert taken.end() == ([], None, False)
