"""What drivers ask of any server, and transactions that are none."""

from __future__ import annotations

import pytest

from router.protocol import messages

from .builders import AdminClient, bind, execute, parse

TEXT, INT4, BOOL = 25, 23, 16


@pytest.mark.parametrize(
    ("sql", "name", "oid", "value"),
    [
        ("SELECT 1", "?column?", INT4, "1"),
        ("select -20 as x;", "x", INT4, "-20"),
        ("SELECT 'it''s'", "?column?", TEXT, "it's"),
        ("SELECT version()", "version", TEXT, "PostgreSQL 1.3.0 (PgCat 0.1.0)"),
        ("select pg_catalog.version()", "version", TEXT, "PostgreSQL 1.3.0 (PgCat 0.1.0)"),
        ("SELECT current_user", "current_user", TEXT, "admin"),
        ("SELECT current_database() AS db", "db", TEXT, "pgcat"),
        ("SELECT pg_catalog.pg_is_in_recovery()", "pg_is_in_recovery", BOOL, "f"),
        ("SHOW server_version", "server_version", TEXT, "1.3.0"),
        ("show datestyle", "DateStyle", TEXT, "ISO, MDY"),
        ("SHOW TRANSACTION ISOLATION LEVEL", "transaction_isolation", TEXT, "read committed"),
        ("SHOW TIME ZONE", "TimeZone", TEXT, "Etc/UTC"),
        ("show transaction_read_only", "transaction_read_only", TEXT, "off"),
    ],
)
def test_what_drivers_ask_is_answered_in_both_protocols(
    sql: str, name: str, oid: int, value: str
) -> None:
    client = AdminClient()
    for answer in (client.ask(sql), client.prepare(sql)):
        assert answer.columns == [(name, oid, 0)]
        assert answer.rows == [[value]]
        assert answer.tags == ["SELECT 1" if sql.lower().startswith("select") else "SHOW"]


def test_values_are_of_their_types_in_binary() -> None:
    answer = AdminClient().prepare("SELECT 7, pg_is_in_recovery(), 'x'", 1)
    assert answer.raw_rows == [[b"\0\0\0\7", b"\0", b"x"]]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT",
        "SELECT x",
        "SELECT 1 + 1",
        "SELECT 1,",
        "SELECT 1 AS",
        "SELECT 99999999999",
        "SELECT version() FROM t",
        "SELECT 1 WHERE false",
        "SHOW work_mem",
        "SHOW server_version x",
        "DISCARD TEMP",
        "CLOSE c",
        "START",
        "BEGIN TWICE",
        "COMMIT PREPARED 'x'",
        "ROLLBACK TO x",
        "END x",
    ],
)
def test_what_is_not_known_is_refused(sql: str) -> None:
    assert AdminClient().ask(sql).error["C"] == "08P01"


def test_the_query_with_which_asyncpg_resets_its_connections_is_answered() -> None:
    answer = AdminClient().ask(
        "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;"
    )
    assert answer.kinds == "TDCCCCZ"
    assert answer.tags == ["SELECT 1", "CLOSE CURSOR ALL", "UNLISTEN", "RESET"]
    assert AdminClient().ask("DISCARD ALL").tags == ["DISCARD ALL"]


def status(client: AdminClient, sql: str) -> str:
    """The transaction status after a query."""
    return client.ask(sql).messages[-1][1].decode()


@pytest.mark.parametrize(
    "begin",
    [
        "BEGIN",
        "begin transaction",
        "BEGIN WORK",
        "START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY",
        "BEGIN ISOLATION LEVEL READ COMMITTED NOT DEFERRABLE",
    ],
)
@pytest.mark.parametrize("end", ["COMMIT", "END", "ROLLBACK", "ABORT", "commit work"])
def test_a_transaction_is_open_until_it_ends(begin: str, end: str) -> None:
    client = AdminClient()
    assert status(client, begin) == "T"
    assert status(client, "SHOW VERSION") == "T"
    assert status(client, "SHOW ME") == "T", "an error changes nothing"
    assert client.send(messages.SYNC).messages[-1] == ("Z", b"T")
    assert status(client, end) == "I"


def test_rolling_back_says_that_nothing_has_been_undone() -> None:
    client = AdminClient()
    client.ask("BEGIN; RELOAD")
    answer = client.ask("ROLLBACK")
    assert answer.kinds == "NCZ"
    fields = messages.parse_error_fields(answer.messages[0][1])
    assert fields["S"] == "WARNING"
    assert "nothing has been undone" in fields["M"]
    client.ask("BEGIN; SHOW VERSION; SET timezone = 1")
    assert client.ask("ROLLBACK").kinds == "CZ"
    client.ask("BEGIN; RELOAD; COMMIT; BEGIN")
    assert client.ask("ROLLBACK").kinds == "CZ", "it is a new one"


def test_beginning_twice_and_ending_nothing_are_warnings_as_in_postgresql() -> None:
    client = AdminClient()
    for sql, sqlstate in (
        ("COMMIT", "25P01"),
        ("ROLLBACK", "25P01"),
        ("BEGIN; BEGIN", "25001"),
    ):
        answer = client.ask(sql)
        [notice] = [body for kind, body in answer.messages if kind == "N"]
        fields = messages.parse_error_fields(notice)
        assert (fields["S"], fields["C"]) == ("WARNING", sqlstate)


def test_portals_last_as_long_as_the_transaction() -> None:
    client = AdminClient()
    client.ask("BEGIN")
    client.send(parse("SHOW VERSION"), bind("p"), messages.SYNC)
    client.ask("SHOW USERS")
    assert client.send(execute("p", 1), messages.SYNC).kinds == "DsZ"
    client.ask("COMMIT")
    client.send(messages.SYNC)
    assert client.send(execute("p"), messages.SYNC).error["C"] == "34000"


def test_who_may_only_look_does_nothing_else() -> None:
    client = AdminClient(may_act=False)
    for sql in ("SHUTDOWN", "RELOAD"):
        for answer in (client.ask(sql), client.prepare(sql)):
            assert answer.error["C"] == "42501"
            assert answer.error["M"] == "admin access needed"
    assert client.actions.done == []
    for sql in (
        "SHOW POOLS",
        "SHOW HELP",
        "SHOW CONFIG",
        "SELECT 1",
        "BEGIN",
        "COMMIT",
        "SET application_name = 'x'",
        "",
    ):
        assert not client.ask(sql).errors, sql
