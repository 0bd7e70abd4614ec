"""The admin session over the extended protocol, as drivers use it."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from router.admin.extended import NAMES_LIMIT
from router.protocol import messages

from .builders import (
    CLIENT,
    DESCRIBE,
    AdminClient,
    FakeView,
    bind,
    close,
    describe,
    execute,
    parse,
)

SYNC = messages.SYNC


def test_a_batch_is_answered_message_by_message() -> None:
    answer = AdminClient().prepare("SHOW POOLS")
    assert answer.kinds == "12TDCZ"
    assert answer.row["database"] == "app"
    assert answer.tags == ["SHOW"]


def test_both_protocols_give_the_same_columns_and_rows() -> None:
    client = AdminClient()
    simple, extended = client.ask("SHOW STATS"), client.prepare("SHOW STATS;")
    assert extended.columns == simple.columns
    assert extended.rows == simple.rows


def test_describing_a_statement_tells_its_parameters_and_columns() -> None:
    client = AdminClient()
    answer = client.send(parse("SHOW VERSION", "s"), describe("S", "s"), SYNC)
    assert answer.kinds == "1tTZ"
    assert answer.messages[1] == ("t", b"\0\0")
    assert answer.columns == [("version", 25, 0)]


def test_a_command_without_rows_describes_as_no_data() -> None:
    client = AdminClient()
    assert client.prepare("RELOAD").kinds == "12nCZ"
    assert client.prepare("SHOW HELP").kinds == "12nNCZ"
    assert client.actions.done == ["reload"]


def test_describing_a_command_does_not_run_it() -> None:
    client = AdminClient()
    answer = client.send(parse("SHUTDOWN"), bind(), DESCRIBE, describe("S"), SYNC)
    assert answer.kinds == "12TtTZ"
    assert client.actions.done == []


def test_the_empty_query_gets_an_empty_response() -> None:
    assert AdminClient().prepare("").kinds == "12nIZ"


def test_a_prepared_statement_outlives_sync_and_runs_again() -> None:
    client = AdminClient()
    client.send(parse("SHOW VERSION", "s"), SYNC)
    for _ in range(2):
        assert client.send(bind(name="s"), execute(), SYNC).kinds == "2DCZ"


def test_binary_values_are_what_their_types_say() -> None:
    client = AdminClient(FakeView(client_rows=[replace(CLIENT, query_count=123_456_789)]))
    answer = client.prepare("SHOW CLIENTS", 1)
    assert {fmt for _, _, fmt in answer.columns} == {1}
    [row] = answer.raw_rows
    by_name = dict(zip((name for name, _, _ in answer.columns), row, strict=True))
    assert by_name["application_name"] == b"web"
    assert by_name["query_count"] == struct.pack("!HhHH3H", 3, 2, 0, 0, 1, 2345, 6789)
    answer = client.prepare("SHOW LISTS", 0, 1)
    assert [fmt for _, _, fmt in answer.columns] == [0, 1]
    assert answer.raw_rows[0] == [b"databases", struct.pack("!i", 2)]


def test_a_limit_suspends_the_portal_until_the_next_execute() -> None:
    client = AdminClient(FakeView(client_rows=[CLIENT] * 5))
    client.send(parse("SHOW CLIENTS"), bind("p"))
    assert client.send(execute("p", 2)).kinds == "DDs"
    assert client.send(execute("p", 2)).kinds == "DDs"
    assert client.send(execute("p", 1)).kinds == "Ds", "as PostgreSQL does"
    assert client.send(execute("p", 1)).kinds == "C"
    assert client.send(execute("p", 1)).kinds == "C"


def test_a_command_without_rows_runs_only_once_in_a_portal() -> None:
    client = AdminClient()
    answer = client.send(parse("RELOAD"), bind(), execute(), execute(), SYNC)
    assert answer.kinds == "12CEZ"
    assert answer.error["C"] == "55000"
    assert client.actions.done == ["reload"]


def test_an_error_skips_everything_up_to_sync() -> None:
    client = AdminClient()
    answer = client.send(
        parse("SELECT x"), bind(), execute(), messages.query(b"RELOAD"), messages.FLUSH, SYNC
    )
    assert answer.kinds == "EZ"
    assert answer.error["C"] == "08P01"
    assert client.actions.done == []
    assert client.prepare("SHOW VERSION").kinds == "12TDCZ"


def test_answers_do_not_wait_for_flush_or_sync() -> None:
    client = AdminClient()
    assert client.send(parse("SHOW VERSION")).kinds == "1"
    assert client.send(messages.FLUSH).kinds == ""


def test_a_command_that_fails_at_execute_skips_to_sync() -> None:
    answer = AdminClient().prepare("BAN a 5")
    assert answer.kinds == "12TEZ"
    assert answer.error["M"] == "no such server: a"


@pytest.mark.parametrize(
    ("data", "sqlstate"),
    [
        (bind(name="nobody"), "26000"),
        (describe("S", "nobody"), "26000"),
        (describe("P", "nobody"), "34000"),
        (execute("nobody"), "34000"),
        (parse("SHOW POOLS; SHOW USERS"), "42601"),
        (parse("SHOW ME"), "08P01"),
        (parse("SHUTDOWN nope"), "08P01"),
        (parse("SET a"), "08P01"),
        (parse(";;"), "08P01"),
        (parse("SHOW POOLS", "known"), "42P05"),
        (bind("open", "known"), "42P03"),
        (bind(name="known", formats=(0, 0)), "08P01"),
        (describe("X"), "08P01"),
        (close("X"), "08P01"),
        (messages.message(ord("P"), b"name"), "08P01"),
        (messages.message(ord("P"), b"\0SHOW POOLS\0\0\1"), "08P01"),
        (messages.message(ord("B"), b"\0known\0\0\0\0\1\0\0\0\1x\0\0"), "08P01"),
        (messages.message(ord("E"), b"\0\0\0\0\0\0"), "08P01"),
        (messages.message(ord("D"), b""), "08P01"),
    ],
)
def test_what_cannot_be_done_is_an_error_and_the_session_goes_on(
    data: bytes, sqlstate: str
) -> None:
    client = AdminClient()
    client.send(parse("SHOW VERSION", "known"), SYNC)
    client.send(bind("open", "known"))
    answer = client.send(data, SYNC)
    assert answer.kinds == "EZ"
    assert answer.error["S"] == "ERROR"
    assert answer.error["C"] == sqlstate
    assert client.send(bind(name="known"), execute(), SYNC).kinds == "2DCZ"


def test_what_a_session_may_keep_is_bounded() -> None:
    client = AdminClient()
    for number in range(NAMES_LIMIT):
        assert client.send(parse("SHOW VERSION", f"s{number}")).kinds == "1"
    assert client.send(parse("SHOW VERSION"), SYNC).error["C"] == "54000"
    client.send(close("S", "s0"))
    assert client.send(parse("SHOW VERSION"), parse("SHOW VERSION")).kinds == "11"
    for number in range(NAMES_LIMIT):
        assert client.send(bind(f"p{number}")).kinds == "2"
    assert client.send(bind(), SYNC).error["C"] == "54000"
    assert client.send(bind(), SYNC).kinds == "2Z"


def test_types_of_parameters_that_do_not_exist_are_ignored() -> None:
    body = b"\0SHOW VERSION\0" + struct.pack("!HI", 1, 23)
    answer = AdminClient().send(messages.message(ord("P"), body), bind(), execute(), SYNC)
    assert answer.kinds == "12DCZ"


def test_sync_ends_portals() -> None:
    client = AdminClient()
    client.send(parse("SHOW VERSION"), bind("p"), SYNC)
    assert client.send(execute("p"), SYNC).error["C"] == "34000"


def test_a_simple_query_ends_the_unnamed_statement_but_no_named_one() -> None:
    client = AdminClient()
    client.send(parse("SHOW VERSION"), parse("SHOW VERSION", "s"), SYNC)
    client.ask("SHOW USERS")
    assert client.send(bind(), SYNC).error["C"] == "26000"
    assert client.send(bind(name="s"), SYNC).kinds == "2Z"


def test_close_forgets_and_closing_what_is_not_there_is_no_error() -> None:
    client = AdminClient()
    client.send(parse("SHOW VERSION", "s"), bind("p", "s"))
    answer = client.send(close("P", "p"), close("S", "s"), close("S", "s"), execute("p"), SYNC)
    assert answer.kinds == "333EZ"
    assert client.send(bind(name="s"), SYNC).error["C"] == "26000"
