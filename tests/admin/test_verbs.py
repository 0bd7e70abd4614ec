"""Commands that act on pools, clients and servers: their grammar, without any."""

from __future__ import annotations

import pytest

from .builders import AdminClient

PAUSE = "PAUSE [database [, user]] or PAUSE SERVER host[:port]"
RESUME = "RESUME [database [, user]] or RESUME SERVER host[:port]"


@pytest.mark.parametrize(
    ("sql", "usage"),
    [
        ("PAUSE a b", PAUSE),
        ("PAUSE a,", PAUSE),
        ("PAUSE 'a'", PAUSE),
        ("PAUSE SERVER a b", PAUSE),
        ("PAUSE SERVER a, b", PAUSE),
        ("PAUSE SERVERS a", PAUSE),
        ("RESUME a, b, c", RESUME),
        ("RESUME SERVER a b", RESUME),
        ("RECONNECT ,a", "RECONNECT [database [, user]]"),
        ("WAIT_CLOSE a b", "WAIT_CLOSE [database [, user]]"),
        ("KILL a b", "KILL [database [, user]]"),
        ("KILL_CLIENT", "KILL_CLIENT client_id"),
        ("KILL_CLIENT one", "KILL_CLIENT client_id"),
        ("KILL_CLIENT 1 2", "KILL_CLIENT client_id"),
        ("DISABLE", "DISABLE database"),
        ("ENABLE a, b", "ENABLE database"),
    ],
)
def test_wrong_arguments_are_answered_with_the_right_form(sql: str, usage: str) -> None:
    error = AdminClient().ask(sql).error
    assert (error["C"], error["M"]) == ("08P01", f"usage: {usage}")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("PAUSE foo", "no such database: foo"),
        ('PAUSE "Foo"', "no such database: Foo"),
        ("PAUSE foo,bar", "No pool configured for database: foo, user: bar"),
        ("RESUME foo , bar", "No pool configured for database: foo, user: bar"),
        ("RECONNECT foo", "no such database: foo"),
        ("WAIT_CLOSE foo", "no such database: foo"),
        ("KILL foo", "no such database: foo"),
        ("DISABLE foo", "no such database: foo"),
        ("ENABLE foo", "no such database: foo"),
    ],
)
def test_what_is_not_there_is_an_error(sql: str, message: str) -> None:
    for answer in (AdminClient().ask(sql), AdminClient().prepare(sql)):
        assert (answer.error["C"], answer.error["M"]) == ("3D000", message)


@pytest.mark.parametrize("verb", ["PAUSE", "RESUME"])
def test_a_server_that_is_not_there_is_an_error(verb: str) -> None:
    error = AdminClient().ask(f"{verb} SERVER db1:5432").error
    assert (error["C"], error["M"]) == ("22023", "no such server: db1:5432")


@pytest.mark.parametrize("word", ["server", "SERVER", '"SERVER"'])
def test_a_database_may_be_called_server(word: str) -> None:
    name = word.strip('"')
    assert AdminClient().ask(f"PAUSE {word}").error["M"] == f"no such database: {name}"


@pytest.mark.parametrize("identifier", ["0xBEEF", "48879", "'0x0000BEEF'"])
def test_a_client_that_is_not_there_cannot_be_ended(identifier: str) -> None:
    error = AdminClient().ask(f"KILL_CLIENT {identifier}").error
    assert error["M"] == "client not found: 48879"


@pytest.mark.parametrize(
    "sql",
    [
        "PAUSE",
        "PAUSE SERVER a",
        "RESUME",
        "RECONNECT",
        "KILL",
        "KILL_CLIENT 1",
        "DISABLE a",
        "RESET STATS",
    ],
)
def test_who_may_only_look_does_none_of_it(sql: str) -> None:
    assert AdminClient(may_act=False).ask(sql).error["C"] == "42501"


def test_without_pools_all_of_it_is_done_at_once() -> None:
    for sql in ("PAUSE", "RESUME", "RECONNECT", "WAIT_CLOSE", "KILL", "RESET STATS"):
        assert AdminClient().ask(sql).tags == [sql.split()[0]]


def test_what_pgbouncer_suspends_for_is_told() -> None:
    error = AdminClient().ask("SUSPEND").error
    assert error is not None
    assert (error["C"], "SIGUSR2" in error["H"]) == ("0A000", True)
