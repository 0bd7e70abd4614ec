"""BAN, UNBAN and SHOW BANS: their forms and columns, without servers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from .builders import BAN, AdminClient, FakeView


@pytest.mark.parametrize(
    "sql",
    [
        "BAN",
        "BAN a",
        "BAN a a",
        "BAN a -5",
        "BAN a 0",
        "BAN a 1.5",
        "BAN a a a",
        "BAN a 5 5",
        "BAN 'a' 5",
        "BAN a 2147483648",
        f"BAN a {'9' * 5000}",
        "BAN a \u0665",
    ],
)
def test_a_ban_that_is_written_wrongly_is_answered_with_the_right_form(sql: str) -> None:
    error = AdminClient().ask(sql).error
    assert (error["C"], error["M"]) == ("08P01", "usage: BAN host[:port] seconds|FOREVER")


@pytest.mark.parametrize("sql", ["UNBAN", "UNBAN a b", "UNBAN 'a'", 'UNBAN ""'])
def test_an_unban_that_is_written_wrongly_is_answered_with_the_right_form(sql: str) -> None:
    error = AdminClient().ask(sql).error
    assert (error["C"], error["M"]) == ("08P01", "usage: UNBAN host[:port]")


@pytest.mark.parametrize("sql", ["BAN a 5", "BAN a:5432 forever", "UNBAN [::1]:5432"])
def test_a_server_that_is_not_there_is_an_error(sql: str) -> None:
    error = AdminClient().ask(sql).error
    assert (error["C"], error["M"]) == ("22023", f"no such server: {sql.split()[1]}")
    assert "SHOW HEALTH" in error["H"]


@pytest.mark.parametrize("sql", ["BAN a 5", "UNBAN a"])
def test_who_may_only_look_bans_nobody(sql: str) -> None:
    client = AdminClient(may_act=False)
    assert client.ask(sql).error["C"] == "42501"
    assert client.ask("SHOW BANS").kinds == "TDCZ"


def test_the_columns_of_pgcat_come_first() -> None:
    row = AdminClient().ask("SHOW BANS").row
    assert list(row.items()) == [
        ("db", "app"),
        ("user", "ann"),
        ("role", "replica"),
        ("host", "db2"),
        ("reason", "AdminBan(60)"),
        ("ban_time", "2026-01-01 00:00:00.250000"),
        ("ban_duration_seconds", "60"),
        ("ban_remaining_seconds", "48"),
        ("port", "5432"),
        ("kind", "admin"),
        ("ban_until", "2026-01-01 00:01:00.250000"),
    ]


def test_a_ban_for_ever_has_no_end() -> None:
    ban = replace(BAN, duration=math.inf, remaining=math.inf)
    row = AdminClient(FakeView(ban_rows=[ban])).ask("SHOW BANS").row
    names = ("ban_duration_seconds", "ban_remaining_seconds", "ban_until")
    assert [row[name] for name in names] == ["infinity"] * 3


def test_a_ban_is_not_a_second_longer_than_it_was_asked_for() -> None:
    ban = replace(BAN, duration=900 + 1e-9)  # as differences of times are
    row = AdminClient(FakeView(ban_rows=[ban])).ask("SHOW BANS").row
    assert row["ban_duration_seconds"] == "900"
