"""Statements that are answered here; `tests/strict` compares them with PostgreSQL's."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from router.errors import ClientError, ClientProtocolError
from router.protocol import messages
from router.protocol.messages import INT4_OID, TEXT_OID
from router.protocol.portals import (
    Answer,
    Portal,
    Portals,
    bound,
    described_statement,
)
from tests.support.wire import bind

ROWS = [messages.data_row([number, "x"]) for number in range(5)]
SUSPENDED = messages.PORTAL_SUSPENDED


@dataclass
class Numbers:
    """A statement whose rows are given; notes how often it was run."""

    answer: Answer = field(default_factory=lambda: Answer(ROWS))
    columns: tuple[tuple[str, int], ...] = (("n", INT4_OID), ("word", TEXT_OID))
    types: tuple[int, ...] = ()
    runs: int = 0

    def run(self) -> Answer:
        """Carry it out."""
        self.runs += 1
        return self.answer


def opened(
    statement: Numbers, *values: bytes | None, formats: tuple[int, ...] = ()
) -> Portal[Numbers]:
    """A portal with values."""
    return bound(statement, b"s", b"p", bind(*values, formats=formats)[7:])


def complete(tag: str) -> bytes:
    """The end of a command."""
    return messages.command_complete(tag)


def test_rows_come_in_portions_and_the_statement_is_run_once() -> None:
    statement = Numbers()
    portal = opened(statement)
    assert not portal.has_run
    assert portal.execute(2, statement.run) == b"".join(ROWS[:2]) + SUSPENDED
    assert portal.has_run
    assert portal.execute(3, statement.run) == b"".join(ROWS[2:]) + SUSPENDED
    assert portal.execute(1, statement.run) == complete("SELECT 0")
    assert portal.execute(0, statement.run) == complete("SELECT 0")
    assert statement.runs == 1


@pytest.mark.parametrize("limit", [0, -1, 6, 2**31 - 1])
def test_all_rows_come_at_once(limit: int) -> None:
    statement = Numbers()
    whole = b"".join(ROWS) + complete("SELECT 5")
    assert opened(statement).execute(limit, statement.run) == whole


def test_another_tag_has_no_number() -> None:
    statement = Numbers(Answer(ROWS, "SHOW"))
    assert opened(statement).execute(0, statement.run).endswith(complete("SHOW"))


def test_a_portal_goes_back_to_where_it_was() -> None:
    statement = Numbers()
    portal = opened(statement)
    fresh = portal.progress
    portal.execute(2, statement.run)
    some = portal.progress
    portal.execute(2, statement.run)
    portal.restore(some)
    assert portal.execute(1, statement.run) == ROWS[2] + SUSPENDED
    portal.restore(fresh)
    assert portal.execute(1, statement.run) == ROWS[0] + SUSPENDED
    assert statement.runs == 2


def test_without_rows_it_is_run_once_and_not_again() -> None:
    statement = Numbers(Answer(None, "SET"), columns=())
    portal = opened(statement)
    assert portal.described() == messages.NO_DATA
    assert portal.execute(1, statement.run) == complete("SET")
    with pytest.raises(ClientProtocolError) as caught:
        portal.execute(0, statement.run)
    assert (caught.value.sqlstate, caught.value.message) == (
        "55000",
        'portal "p" cannot be run',
    )
    assert statement.runs == 1


def test_the_empty_query_is_answered_as_often_as_it_is_asked() -> None:
    statement = Numbers(Answer(None, ""), columns=())
    portal = opened(statement)
    for _ in range(2):
        assert portal.execute(0, statement.run) == messages.EMPTY_QUERY_RESPONSE


def test_a_notice_comes_before_the_first_rows_only() -> None:
    notice = messages.notice_response("hear, hear")
    statement = Numbers(Answer(ROWS, notice=notice))
    portal = opened(statement)
    assert portal.execute(1, statement.run) == notice + ROWS[0] + SUSPENDED
    assert portal.execute(1, statement.run) == ROWS[1] + SUSPENDED


def test_what_fails_has_not_run() -> None:
    statement = Numbers()
    portal = opened(statement)

    def fail() -> Answer:
        raise ClientError("not now")

    with pytest.raises(ClientError, match="not now"):
        portal.execute(0, fail)
    assert not portal.has_run
    assert portal.execute(1, statement.run) == ROWS[0] + SUSPENDED


def test_formats_are_for_each_column_or_for_all() -> None:
    statement = Numbers()
    assert opened(statement).formats == (0, 0)
    assert opened(statement, formats=(1,)).formats == (1, 1)
    assert opened(statement, formats=(1, 0)).formats == (1, 0)
    with pytest.raises(ClientProtocolError, match="has 3 result formats but query has 2"):
        opened(statement, formats=(0, 0, 0))


def test_a_format_that_is_none_fails_when_it_is_run_and_nothing_happens() -> None:
    statement = Numbers()
    portal = opened(statement, formats=(0, 9))
    with pytest.raises(ClientProtocolError, match="unsupported format code: 9") as caught:
        portal.execute(0, statement.run)
    assert caught.value.sqlstate == "22023"
    assert statement.runs == 0


def test_values_are_kept_with_their_formats() -> None:
    statement = Numbers(types=(TEXT_OID, INT4_OID))
    assert opened(statement, b"a", None).values == ((b"a", False), (None, False))
    with pytest.raises(ClientProtocolError, match=r'1 parameters, but .* "s" requires 2'):
        opened(statement, b"a")


def test_a_statement_is_described_with_its_parameters() -> None:
    statement = Numbers(types=(TEXT_OID,))
    assert described_statement(statement) == messages.parameter_description(
        [TEXT_OID]
    ) + messages.row_description(statement.columns)


def test_names_of_portals_are_looked_after() -> None:
    portals: Portals[Numbers] = Portals(2)
    unnamed = bound(Numbers(), b"", b"", bind()[7:])
    portals.open(unnamed)
    portals.open(bound(Numbers(), b"", b"", bind()[7:]))
    assert portals.get(b"") is not unnamed, "it is replaced"
    portals.open(opened(Numbers()))
    with pytest.raises(ClientError) as caught:
        portals.open(opened(Numbers()))
    assert caught.value.sqlstate == "42P03"
    with pytest.raises(ClientError) as caught:
        portals.check(b"q")
    assert caught.value.sqlstate == "54000"
    portals.check(b"")
    portals.close(b"p")
    portals.close(b"p")
    portals.check(b"q")
    with pytest.raises(ClientError) as caught:
        portals.get(b"p")
    assert (caught.value.sqlstate, caught.value.message) == (
        "34000",
        'portal "p" does not exist',
    )
    assert portals.find(b"p") is None
    assert len(portals) == 1
    portals.clear()
    assert not portals


def test_a_name_that_is_no_text_is_told_as_well_as_it_can_be() -> None:
    portals: Portals[Numbers] = Portals(2)
    with pytest.raises(ClientError) as caught:
        portals.get(b"\xff")
    assert caught.value.message == 'portal "\ufffd" does not exist'
