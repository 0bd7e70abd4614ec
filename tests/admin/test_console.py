"""The admin session over the simple protocol, and its limits."""

from __future__ import annotations

import itertools
import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.admin.console import MESSAGE_LIMIT, TURN, parameters
from router.admin.registry import COMMANDS
from router.admin.replies import nothing
from router.errors import ConfigError
from router.protocol import codes, messages
from router.protocol.framing import CLIENT_KINDS

from .builders import ADDRESS, CLIENT, POOL, AdminClient, FakeView, decode, many_clients

HELP = messages.query(b"SHOW HELP")
VERSION = messages.query(b"SHOW VERSION")


def test_a_show_describes_its_columns_sends_its_rows_and_is_ready() -> None:
    view = FakeView(pool_rows=[POOL, replace(POOL, user="bob")])
    answer = AdminClient(view).ask("SHOW POOLS")
    assert answer.kinds == "TDDCZ"
    assert answer.tags == ["SHOW"]
    assert [row[1] for row in answer.rows] == ["ann", "bob"]
    assert answer.messages[-1] == ("Z", b"I")


@pytest.mark.parametrize(
    "sql",
    [
        "show pools",
        "SHOW POOLS;",
        "SHOW POOLS ; ",
        "  Show\n\tPools;;  ;",
        'SHOW "pools"',
        "-- how are they?\nSHOW POOLS",
        "SHOW /* all */ POOLS -- now",
    ],
)
def test_case_spaces_semicolons_and_comments_do_not_matter(sql: str) -> None:
    assert AdminClient().ask(sql).row["database"] == "app"


def test_several_statements_run_in_order() -> None:
    client = AdminClient()
    answer = client.ask("SHOW VERSION; RELOAD; SET names = ';'; SHUTDOWN; SHOW USERS")
    assert answer.tags == ["SHOW", "RELOAD", "SET", "SHUTDOWN", "SHOW"]
    assert client.actions.done == ["reload", "shutdown"]


def test_an_error_ends_the_statements_of_its_query_but_not_the_session() -> None:
    client = AdminClient()
    answer = client.ask("RELOAD; BAN h 5; SHUTDOWN")
    assert answer.kinds == "CEZ"
    assert client.actions.done == ["reload"]
    assert client.ask("SHOW VERSION").kinds == "TDCZ"
    assert not client.link.closed


@pytest.mark.parametrize("bad", ["SELECT 1 + 1", "SHUTDOWN nope", "RELOAD x", "'", "/*"])
def test_nothing_is_done_if_not_all_of_a_text_is_understood(bad: str) -> None:
    client = AdminClient()
    assert client.ask(f"RELOAD; SHUTDOWN; {bad}").kinds == "EZ"
    assert client.actions.done == []


BAD_SHOWS = [
    "SHOW,POOLS",
    "SHOW ME THE MONEY",
    "SHOW ",
    "SHOW    ",
    "SHOW 1",
    "show ;",
    "SHOW 'pools'",
]
BAD_COMMANDS = [
    "SHOWTIME",
    "HAMMER TIME",
    "SELECT 1 + 1",
    "BEGIN LATER",
    ";;;;;",
    "'",
    '"',
    ",",
    "'SHUTDOWN'",
    '"RELOAD"',
    "SHUTDOWN /* for now",
    "SET",
    "SET a",
    "SET a =",
    "SET = 5",
    "SET a 5",
    "SET a = 1 2",
    "SET a = 1,",
    "SET a = 1 = 2",
    "SET 'a' = 1",
    "SET TIME ZONE",
    "SET NAMES",
    "\u017fHOW POOLS",
]
TAKE_NOTHING = [command.name for command in COMMANDS.values() if command.form is nothing]
BAD_ENDS = [
    "please",
    "WHERE 1=1",
    "'x'",
    '"x"',
    "1",
    "nope nope",
    ", x",
    "= 1",
    "*",
    "()",
    "/*",
]


@pytest.mark.parametrize("sql", BAD_COMMANDS + BAD_SHOWS)
def test_what_is_no_command_is_answered_as_by_pgbouncer(sql: str) -> None:
    error = AdminClient().ask(sql).error
    assert error["S"] == error["V"] == "ERROR"
    assert error["C"] == "08P01"
    typed = sql if sql == ";;;;;" else sql.rstrip("; ")
    assert error["M"] == f"invalid command '{typed}', use SHOW HELP;"
    # PgCat's words for it, which its tests look for.
    kind = "SHOW " if sql in BAD_SHOWS else ""
    assert error["D"] == f"Unsupported {kind}query against the admin database."


@pytest.mark.parametrize("name", TAKE_NOTHING)
def test_no_command_ignores_what_follows_it(name: str) -> None:
    for end in BAD_ENDS:
        for protocol in (AdminClient.ask, AdminClient.prepare):
            client = AdminClient()
            answer = protocol(client, f"{name} {end}")
            assert answer.kinds == "EZ"
            assert answer.error["C"] == "08P01"
            assert answer.error["M"] == f"invalid command '{name} {end}', use SHOW HELP;"
            assert client.actions.done == []


def test_a_long_text_is_quoted_in_part() -> None:
    error = AdminClient().ask("X" * 6_000).error
    assert len(error["M"]) < 300
    assert "XXX...'" in error["M"]


@pytest.mark.parametrize("sql", ["", " ", ";", " ; ", "-- ping", "/* ping */;"])
def test_a_query_for_nothing_gets_an_empty_response(sql: str) -> None:
    assert AdminClient().ask(sql).kinds == "IZ"


def test_help_comes_as_a_notice_without_rows() -> None:
    answer = AdminClient().ask("SHOW HELP")
    assert answer.kinds == "NCZ"
    fields = messages.parse_error_fields(answer.messages[0][1])
    assert (fields["S"], fields["C"], fields["M"]) == ("NOTICE", "00000", "Console usage")
    assert fields["D"].startswith("\n\tSHOW HELP|CONFIG|DATABASES|POOLS|")


def test_shutdown_says_that_it_worked() -> None:
    client = AdminClient()
    answer = client.ask("SHUTDOWN")
    assert answer.row == {"success": "t"}
    assert answer.tags == ["SHUTDOWN"]
    assert client.actions.done == ["shutdown"]


def test_a_failed_reload_tells_every_problem_and_the_session_goes_on() -> None:
    client = AdminClient()
    client.actions.reload_error = ConfigError("pgcat.toml: 2 problems", ["a: is bad", "b: too"])
    error = client.ask("RELOAD").error
    assert error["S"] == "ERROR"
    assert error["C"] == "F0000"
    assert error["M"] == "pgcat.toml: 2 problems"
    assert error["D"] == "a: is bad\nb: too"
    client.actions.reload_error = None
    assert client.ask("RELOAD").tags == ["RELOAD"]


def test_a_function_call_is_refused_and_the_session_goes_on() -> None:
    client = AdminClient()
    answer = client.send(messages.message(ord("F"), b"whatever"))
    assert answer.kinds == "EZ"
    assert answer.error["C"] == "0A000"


@pytest.mark.parametrize("kind", ["d", "c", "f"])
def test_copy_messages_outside_of_a_copy_are_ignored(kind: str) -> None:
    assert AdminClient().send(messages.message(ord(kind), b"x"), VERSION).kinds == "TDCZ"


@pytest.mark.parametrize("body", [b"SHOW POOLS", b"SHOW POOLS\0\0", b""])
def test_a_query_that_is_no_string_is_an_error(body: bytes) -> None:
    answer = AdminClient().send(messages.message(ord("Q"), body), VERSION)
    assert answer.kinds == "EZTDCZ"
    assert answer.error["C"] == "08P01"


@pytest.mark.parametrize(
    "data",
    [
        b"!\0\0\0\4",
        b"p\0\0\0\5x",
        b"Q\0\0\0\3",
        b"Q\xff\xff\xff\xff",
        b"Q" + struct.pack("!I", codes.MAX_MESSAGE_LENGTH + 1),
        b"E" + struct.pack("!I", MESSAGE_LIMIT + 1),
    ],
)
def test_what_is_no_message_ends_the_session_with_a_reason(data: bytes) -> None:
    client = AdminClient()
    answer = client.send(data, VERSION)
    assert answer.kinds == "E"
    assert answer.error["S"] == "FATAL"
    assert answer.error["C"] == "08P01"
    assert client.link.closed
    assert client.ends == [answer.error["M"]]


def test_the_longest_message_that_is_allowed_is_answered() -> None:
    sql = b"SHOW VERSION" + b" " * (MESSAGE_LIMIT - 17)
    assert AdminClient().send(messages.query(sql)).kinds == "TDCZ"


def test_terminate_ends_the_session() -> None:
    client = AdminClient()
    assert client.send(messages.TERMINATE, VERSION).kinds == ""
    assert client.link.closed
    assert client.ends == ["client disconnected"]


def test_a_lost_link_ends_the_session_once() -> None:
    client = AdminClient()
    client.session.on_closed("connection closed by peer")
    client.session.on_closed("again")
    assert client.ends == ["connection closed by peer"]


def test_bytes_may_come_one_by_one() -> None:
    client = AdminClient()
    for byte in VERSION:
        client.feed(bytes((byte,)))
    assert decode(client.link.take()).kinds == "TDCZ"


def test_a_client_that_does_not_read_is_not_written_to() -> None:
    client = AdminClient(many_clients(60), room=5000)
    client.feed(messages.query(b"SHOW CLIENTS;" * 50) + VERSION)
    assert client.link.paused
    answers = [client.link.take()]
    assert decode(answers[0]).tags == ["SHOW"]
    while client.link.paused:
        client.session.on_drained()
        answers.append(client.link.take())
    assert decode(b"".join(answers)).tags == ["SHOW"] * 51
    assert len(answers) > 50


def test_an_administrator_has_a_row_of_show_clients() -> None:
    client = AdminClient()
    client.ask("SHOW VERSION")
    client.ask("NONSENSE")
    row = client.session.snapshot(17)
    assert (row.client_id, row.database, row.user) == (17, "pgcat", "admin")
    assert (row.application_name, row.addr, row.state) == ("psql", "10.0.0.9:5000", "idle")
    assert (row.query_count, row.error_count, row.tls) == (2, 1, "TLSv1.3")


def test_the_login_parameters_have_a_version_that_drivers_can_read() -> None:
    told = parameters("me")
    assert told["application_name"] == "me"
    assert [int(part) for part in told["server_version"].split(".")] == [1, 3, 0]
    assert set(told) == {
        "application_name",
        "client_encoding",
        "server_encoding",
        "DateStyle",
        "TimeZone",
        "standard_conforming_strings",
        "server_version",
    }


def test_show_lists_counts_the_admin_database_as_one() -> None:
    view = FakeView(
        pool_rows=[POOL, replace(POOL, user="bob")],
        address_rows=[ADDRESS] * 3,
        client_rows=[replace(CLIENT, state=state) for state in ("idle", "active", "waiting")],
    )
    assert AdminClient(view).ask("SHOW LISTS").rows == [
        ["databases", "4"],
        ["users", "3"],
        ["pools", "4"],
        ["free_clients", "1"],
        ["used_clients", "1"],
        ["login_clients", "0"],
        ["free_servers", "18"],
        ["used_servers", "15"],
        ["dns_names", "1"],
        ["dns_zones", "0"],
        ["dns_queries", "0"],
        ["dns_pending", "0"],
        ["waiting_clients", "1"],
    ]


FRAMED = st.lists(
    st.builds(messages.message, st.sampled_from(sorted(CLIENT_KINDS - {ord("X")})), st.binary())
).map(b"".join)
GARBAGE = st.one_of(st.binary(), FRAMED, st.tuples(FRAMED, st.binary()).map(b"".join))


@given(data=GARBAGE, cuts=st.lists(st.integers(min_value=0, max_value=200), max_size=5))
def test_the_answer_does_not_depend_on_where_the_bytes_are_cut(
    data: bytes, cuts: list[int]
) -> None:
    whole, pieces = AdminClient(), AdminClient()
    whole.feed(data)
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    for start, end in itertools.pairwise(edges):
        if not pieces.link.closed:
            pieces.feed(data[start:end])
    assert pieces.link.take() == whole.link.take()
    assert pieces.ends == whole.ends


@given(FRAMED)
def test_no_messages_whatever_break_a_session(data: bytes) -> None:
    client = AdminClient()
    client.send(data)
    assert not client.link.closed
    assert client.send(messages.SYNC, VERSION).kinds == "ZTDCZ"


WORDS = ["SHOW", "SET", "RELOAD", "SHUTDOWN", "pools", "version", "names", "TO", "x"]
SIGNS = ["=", ",", ";", "'", "''", '"', "/*", "*/", "--", "$$", "$a$", "E'\\'"]
FRAGMENTS = st.sampled_from(WORDS + SIGNS)
TEXTS = st.one_of(
    st.text(),
    st.lists(FRAGMENTS).map(" ".join),
    st.lists(st.one_of(FRAGMENTS, st.text(max_size=3))).map("".join),
).map(lambda text: text.replace("\0", ""))


@given(TEXTS)
def test_no_text_whatever_breaks_a_session(sql: str) -> None:
    client = AdminClient()
    answer = client.ask(sql)
    assert len(answer.errors) <= 1
    # The empty query, or an error, or what each command ends with, and then an error at most.
    assert answer.kinds in ("IZ", "EZ") or "C" in answer.kinds
    assert all(error["S"] == "ERROR" for error in answer.errors)
    assert client.ask("SHOW VERSION").kinds == "TDCZ"


@given(TEXTS)
def test_both_protocols_understand_the_same(sql: str) -> None:
    simple, extended = AdminClient().ask(sql), AdminClient().prepare(sql)
    if len(simple.tags) < 2:
        assert extended.errors == simple.errors or "multiple" in extended.error["M"]
        assert extended.tags == simple.tags or extended.errors


def test_a_flood_is_answered_a_turn_at_a_time() -> None:
    client = AdminClient()
    client.session.on_data(VERSION * 5 * TURN)
    answered = 0
    while client.link.deferred:
        client.link.deferred = False
        answered += decode(client.link.take()).kinds.count("Z")
        assert 0 < answered <= 5 * TURN
        client.session.on_data(b"")
    answered += decode(client.link.take()).kinds.count("Z")
    assert answered == 5 * TURN


def test_many_statements_of_one_text_are_more_than_one_turn() -> None:
    client = AdminClient()
    client.session.on_data(messages.query(b"SHOW VERSION;" * 3 * TURN))
    assert client.link.deferred
