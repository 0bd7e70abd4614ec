"""Routing commands, by both protocols, with and without a server."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from router.config.regexes import Regex
from router.config.values import PoolMode
from router.protocol import messages
from router.routing.types import Role, RouterOptions
from router.session.mistakes import MAX_PORTALS, MAX_STATEMENTS
from tests.support.harness import Harness
from tests.support.wire import (
    FLUSH,
    SYNC,
    bind,
    close,
    describe,
    execute,
    kinds,
    message,
    parse,
    query,
    rows,
    run,
    sqlstates,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.harness import FakeClient
    from tests.support.wire import Message

TWO_SHARDS = ((True, False), (True, False))
SPLITTING = RouterOptions(
    shard_count=2, query_parser_enabled=True, query_parser_read_write_splitting=True
)
COLUMN = messages.row_description([("shard", messages.TEXT_OID)])[5:]

RUN = parse("SET SHARD TO 1") + bind() + execute()
SHOW = run("SHOW SHARD")


def sharded(**settings: object) -> Harness:
    """A pool of two shards, each a primary and a replica."""
    return Harness(servers=TWO_SHARDS, **settings)  # type: ignore[arg-type]


def in_session_mode(**settings: object) -> Harness:
    """The same in session mode."""
    return sharded(pool_mode=PoolMode.SESSION, **settings)


def shards_of(harness: Harness, sql: str) -> list[int]:
    """The shards that have executed a statement, once for each time."""
    return [
        server.connection.pool.address.shard
        for server in harness.servers
        for done in server.model.log
        if done == sql
    ]


def shard(harness: Harness, client: FakeClient) -> bytes | None:
    """What SHOW SHARD says."""
    [[shown]] = rows(harness.ask(client, query("SHOW SHARD")))
    return shown


def hint(said: Sequence[Message]) -> str:
    """The hint of the first error."""
    return next(each.fields["H"] for each in said if each.kind == "E")


# --- the extended protocol without a server


def test_a_command_is_answered_without_a_server() -> None:
    harness = sharded()
    client = harness.connect()
    assert kinds(harness.ask(client, run("SET SHARD TO 1") + SYNC)) == "12nCZ"
    assert kinds(harness.ask(client, SHOW + SYNC)) == "12TDCZ"
    assert shard(harness, client) == b"1"
    assert not harness.servers
    assert harness.part.counters.query_count == 0


@pytest.mark.parametrize(
    ("sql", "tag"),
    [
        ("SET SHARD TO '1'", b"SET SHARD\0"),
        ("SET SHARDING KEY TO '5'", b"SET SHARDING KEY\0"),
        ("SET SERVER ROLE TO 'replica'", b"SET SERVER ROLE\0"),
        ("SET PRIMARY READS TO 'on'", b"SET PRIMARY READS\0"),
        ("set local shard = any -- whichever\n;", b"SET SHARD\0"),
        ("SHOW SHARD", b"SELECT 1\0"),
        ("SHOW SERVER ROLE", b"SELECT 1\0"),
        ("\tshow /* the */ primary\nreads;;", b"SELECT 1\0"),
    ],
)
def test_both_protocols_answer_alike(sql: str, tag: bytes) -> None:
    harness = sharded()
    simple = harness.ask(harness.connect(), query(sql))
    extended = harness.ask(harness.connect(), run(sql) + SYNC)
    if simple[0].kind == "T":
        assert extended[2:] == simple
    else:
        assert extended[2].kind == "n"
        assert extended[3:] == simple
    assert next(each.body for each in simple if each.kind == "C") == tag


def test_the_effect_is_on_the_next_statement() -> None:
    harness = sharded()
    client = harness.connect()
    harness.ask(client, RUN + SYNC)
    harness.ask(client, run("SELECT x") + SYNC)
    assert shards_of(harness, "SELECT x") == [1]


def test_a_value_may_be_a_parameter_in_text_or_binary() -> None:
    harness = sharded()
    client = harness.connect()
    prepare = parse("SET SHARD TO $1", "s") + describe("S", "s") + SYNC
    said = harness.ask(client, prepare)
    assert kinds(said) == "1tnZ"
    assert said[1].body == struct.pack("!HI", 1, 25)
    said = harness.ask(client, bind(b"1", name="s") + execute() + SYNC)
    assert kinds(said) == "2CZ"
    assert shard(harness, client) == b"1"
    harness.ask(client, bind(b"ANY", name="s") + execute() + SYNC)
    assert shard(harness, client) in (b"0", b"1")


def binary_bind(value: bytes) -> bytes:
    """A Bind of the unnamed statement with one binary value."""
    body = b"\0\0" + struct.pack("!HHHi", 1, 1, 1, len(value)) + value + b"\0\0"
    return message("B", body)


@pytest.mark.parametrize(
    ("oid", "value"),
    [
        (20, struct.pack("!q", 1)),
        (23, struct.pack("!i", 1)),
        (21, struct.pack("!h", 1)),
        (25, b"1"),
        (1043, b"1"),
        (0, b"1"),
    ],
)
def test_a_binary_value_is_read_by_its_type(oid: int, value: bytes) -> None:
    harness = sharded()
    client = harness.connect()
    batch = parse("SET SHARD TO $1", oids=[oid]) + describe("S") + binary_bind(value)
    said = harness.ask(client, batch + execute() + SYNC)
    assert kinds(said) == "1tn2CZ"
    assert said[1].body == struct.pack("!HI", 1, oid or 25)
    assert shard(harness, client) == b"1"


@pytest.mark.parametrize(
    ("oid", "value", "sqlstate"),
    [
        (20, b"\0\1", "22P03"),
        (700, b"\0\0\0\1", "0A000"),
        (25, b"\xff", "22021"),
        (23, struct.pack("!i", -1), "22023"),
        (23, struct.pack("!i", 2), "22023"),
        (25, b"x", "22023"),
    ],
)
def test_a_value_that_is_wrong_is_an_error_at_execution(
    oid: int, value: bytes, sqlstate: str
) -> None:
    harness = sharded()
    client = harness.connect()
    batch = parse("SET SHARD TO $1", oids=[oid]) + binary_bind(value) + describe() + execute()
    said = harness.ask(client, batch + SYNC)
    assert kinds(said) == "12nEZ"
    assert sqlstates(said) == [sqlstate]
    assert shard(harness, client) == b"unset"


def test_null_is_no_shard() -> None:
    harness = sharded()
    client = harness.connect()
    said = harness.ask(client, run("SET SHARD TO $1", None) + SYNC)
    assert sqlstates(said) == ["22023"]


def test_the_number_of_values_must_be_right() -> None:
    harness = sharded()
    client = harness.connect()
    said = harness.ask(client, run("SET SHARD TO $1") + SYNC)
    assert (kinds(said), sqlstates(said)) == ("1EZ", ["08P01"])
    said = harness.ask(client, run("SHOW SHARD", b"1") + SYNC)
    assert (kinds(said), sqlstates(said)) == ("1EZ", ["08P01"])


def test_a_result_may_be_asked_for_in_binary() -> None:
    harness = sharded()
    client = harness.connect()
    batch = parse("SHOW SHARD") + bind(formats=[1]) + describe() + execute() + SYNC
    said = harness.ask(client, batch)
    assert said[2].body == COLUMN[:-2] + b"\0\1"
    assert rows(said) == [[b"unset"]]


def test_a_result_has_one_column() -> None:
    harness = sharded()
    client = harness.connect()
    said = harness.ask(client, parse("SHOW SHARD") + bind(formats=[0, 1]) + SYNC)
    assert (kinds(said), sqlstates(said)) == ("1EZ", ["08P01"])


def test_who_asks_for_one_row_is_not_told_that_it_is_the_last() -> None:
    harness = sharded()
    client = harness.connect()
    batch = parse("SHOW SHARD") + bind() + execute(limit=1) + execute() + SYNC
    assert kinds(harness.ask(client, batch)) == "12DsCZ"


def test_a_portal_sets_once() -> None:
    harness = sharded()
    client = harness.connect()
    said = harness.ask(client, RUN + execute() + SYNC)
    assert (kinds(said), sqlstates(said)) == ("12CEZ", ["55000"])
    assert shard(harness, client) == b"1"


def test_portals_end_with_their_batch() -> None:
    harness = sharded()
    client = harness.connect()
    harness.ask(client, parse("SHOW SHARD") + bind(portal="p") + SYNC)
    assert sqlstates(harness.ask(client, execute("p") + SYNC)) == ["34000"]


def test_a_flush_is_answered_and_leaves_the_batch_open() -> None:
    harness = sharded()
    client = harness.connect()
    assert kinds(harness.ask(client, parse("SHOW SHARD") + bind(portal="p") + FLUSH)) == "12"
    assert kinds(harness.ask(client, execute("p") + FLUSH)) == "DC"
    assert kinds(harness.ask(client, SYNC)) == "Z"
    assert not harness.servers
    assert sqlstates(harness.ask(client, execute("p") + SYNC)) == ["34000"]


def test_after_an_error_all_is_skipped_up_to_the_sync() -> None:
    harness = sharded()
    client = harness.connect()
    wrong = run("SET SHARD TO 7")
    said = harness.ask(client, RUN + wrong + run("SET SHARD TO 0") + run("SELECT x") + SYNC)
    assert kinds(said) == "12C12nEZ"
    assert shard(harness, client) == b"1"
    assert not harness.servers


def test_an_error_before_a_flush_waits_for_the_sync() -> None:
    harness = sharded()
    client = harness.connect()
    assert kinds(harness.ask(client, run("SET SHARD TO 7") + FLUSH)) == "12nE"
    assert kinds(harness.ask(client, SHOW + FLUSH)) == ""
    assert kinds(harness.ask(client, SYNC)) == "Z"
    assert kinds(harness.ask(client, SHOW + SYNC)) == "12TDCZ"


def test_two_statements_in_one_text_are_refused_when_they_are_parsed() -> None:
    harness = sharded()
    client = harness.connect()
    said = harness.ask(client, run("SET SHARD TO 1; SELECT 1") + SYNC)
    assert (kinds(said), sqlstates(said)) == ("EZ", ["0A000"])


def test_a_long_batch_of_commands_is_answered_in_parts() -> None:
    harness = sharded()
    client = harness.connect()
    said = harness.ask(client, SHOW * 3000 + SYNC)
    assert kinds(said) == "12TDC" * 3000 + "Z"
    assert not harness.servers


# --- names


MODES = pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pool_mode": PoolMode.SESSION},
        {"prepared_statements_cache_size": 0},
    ],
    ids=["transaction", "session", "no cache"],
)


@MODES
@pytest.mark.parametrize("attached", [False, True])
def test_names_of_commands_are_those_of_prepared_statements(
    settings: dict[str, object], attached: bool
) -> None:
    harness = sharded(**settings)
    client = harness.connect()
    if attached:
        harness.ask(client, query("BEGIN"))
    use = bind(name="s") + describe() + execute() + SYNC
    assert kinds(harness.ask(client, parse("SHOW SHARD", "s") + SYNC)) == "1Z"
    assert kinds(harness.ask(client, describe("S", "s") + use)) == "tT2TDCZ"
    assert kinds(harness.ask(client, close("S", "s") + SYNC)) == "3Z"
    assert sqlstates(harness.ask(client, use)) == ["26000"]


@pytest.mark.parametrize("settings", [{}, {"pool_mode": PoolMode.SESSION}], ids=["t", "s"])
@pytest.mark.parametrize("first", ["SHOW SHARD", "SELECT x"])
def test_a_name_that_is_taken_is_refused(settings: dict[str, object], first: str) -> None:
    harness = sharded(**settings)
    client = harness.connect()
    harness.ask(client, query("SELECT y"))
    for second in ("SHOW SHARD", "SELECT x", first):
        client = harness.connect()
        harness.ask(client, query("SELECT y"))
        harness.ask(client, parse(first, "s") + SYNC)
        assert sqlstates(harness.ask(client, parse(second, "s") + SYNC)) == ["42P05"]
        assert kinds(harness.ask(client, bind(name="s") + execute() + SYNC)) == "2DCZ"


@MODES
def test_the_unnamed_statement_is_replaced(settings: dict[str, object]) -> None:
    harness = sharded(**settings)
    client = harness.connect()
    for _ in range(2):
        assert rows(harness.ask(client, SHOW + SYNC)) == [[b"unset"]]
        assert rows(harness.ask(client, run("SELECT x") + SYNC)) == [[b"SELECT x"]]


@pytest.mark.parametrize("settings", [{}, {"pool_mode": PoolMode.SESSION}], ids=["t", "s"])
@pytest.mark.parametrize("text", ["DEALLOCATE s", "DEALLOCATE ALL", "DISCARD ALL"])
@pytest.mark.parametrize("is_simple", [True, False])
@pytest.mark.parametrize("attached", [False, True])
def test_a_name_can_be_deallocated(
    settings: dict[str, object], text: str, is_simple: bool, attached: bool
) -> None:
    harness = sharded(**settings)
    client = harness.connect()
    if attached:
        harness.ask(client, query("SELECT x"))
    harness.ask(client, parse("SHOW SHARD", "s") + SYNC)
    said = harness.ask(client, query(text) if is_simple else run(text) + SYNC)
    assert not sqlstates(said)
    if is_simple or not (settings and attached):
        assert sqlstates(harness.ask(client, bind(name="s") + execute() + SYNC)) == ["26000"]
    said = harness.ask(client, parse("SELECT x", "s") + bind(name="s") + execute() + SYNC)
    assert kinds(said) == "12DCZ"


def test_names_and_portals_of_one_client_are_bounded() -> None:
    harness = sharded()
    client = harness.connect()
    for number in range(MAX_STATEMENTS):
        client.send(parse("SHOW SHARD", f"s{number}") + SYNC)
    assert kinds(harness.read(client)) == "1Z" * MAX_STATEMENTS
    assert sqlstates(harness.ask(client, parse("SHOW SHARD", "c") + SYNC)) == ["54000"]
    portals = [bind(name="s0", portal=f"p{number}") for number in range(MAX_PORTALS + 1)]
    said = harness.ask(client, *portals, SYNC)
    assert kinds(said) == "2" * MAX_PORTALS + "EZ"
    assert sqlstates(said) == ["54000"]


# --- in one batch with other statements


def test_a_command_has_its_effect_on_what_follows_in_the_batch() -> None:
    harness = sharded()
    client = harness.connect()
    said = harness.ask(client, run("SET SHARD TO 1") + SHOW + run("SELECT x") + SYNC)
    assert kinds(said) == "12nC12TDC12TDCZ"
    assert rows(said) == [[b"1"], [b"SELECT x"]]
    assert shards_of(harness, "SELECT x") == [1]
    assert shard(harness, client) == b"1"


def test_what_is_prepared_before_a_command_still_follows_it() -> None:
    harness = sharded()
    client = harness.connect()
    batch = parse("SELECT x", "s") + describe("S", "s") + RUN + bind(name="s") + execute()
    assert kinds(harness.ask(client, batch + SYNC)) == "1tT12C2DCZ"
    assert shards_of(harness, "SELECT x") == [1]


def test_several_commands_are_carried_out_in_their_order() -> None:
    harness = sharded()
    client = harness.connect()
    batch = RUN + SHOW + run("SET SHARD TO 0") + SHOW + run("SELECT x") + SYNC
    assert rows(harness.ask(client, batch)) == [[b"1"], [b"0"], [b"SELECT x"]]
    assert shards_of(harness, "SELECT x") == [0]


def test_a_command_behind_a_statement_of_the_batch_is_refused() -> None:
    harness = sharded()
    client = harness.connect()
    said = harness.ask(client, run("SELECT x") + RUN + run("SELECT y") + SYNC)
    assert (kinds(said), sqlstates(said)) == ("12TDC12EZ", ["25001"])
    assert "Sync" in hint(said)
    assert shard(harness, client) == b"unset"
    assert shards_of(harness, "SELECT y") == []


def test_a_command_behind_a_statement_may_choose_what_is_in_use() -> None:
    harness = sharded()
    client = harness.connect()
    said = harness.ask(client, run("SELECT x") + run("SET SHARD TO 0") + SHOW + SYNC)
    assert kinds(said) == "12TDC12nC12TDCZ"
    assert shard(harness, client) == b"0"


def test_a_command_that_the_server_skips_has_not_happened() -> None:
    harness = sharded()
    client = harness.connect()
    harness.ask(client, query("SET SHARD TO 0"))
    said = harness.ask(client, parse("FAIL", "s") + RUN + run("SELECT x") + SYNC)
    assert kinds(said) == "EZ"
    assert shard(harness, client) == b"0"


def test_a_batch_that_gets_no_server_changes_nothing() -> None:
    harness = sharded(pool_size=1)
    holder, client = harness.connect(), harness.connect()
    harness.ask(client, query("SET SHARD TO 0"))
    harness.ask(holder, query("SET SHARD TO 1"))
    harness.ask(holder, query("SET SERVER ROLE TO 'primary'"))
    harness.ask(holder, query("BEGIN"))
    client.send(run("SET SERVER ROLE TO 'primary'") + RUN + run("SELECT x") + SYNC)
    harness.run()
    client.session.cancel()
    assert sqlstates(harness.read(client)) == ["57014"] or b"57014" in client.got
    assert shard(harness, client) == b"0"


def test_a_flush_behind_a_command_and_a_statement() -> None:
    harness = sharded()
    client = harness.connect()
    assert kinds(harness.ask(client, RUN + run("SELECT x") + FLUSH)) == "12C12TDC"
    said = harness.ask(client, run("SET SHARD TO 0") + SYNC)
    assert (kinds(said), sqlstates(said)) == ("12nEZ", ["25001"])
    assert shards_of(harness, "SELECT x") == [1]


def test_a_simple_query_may_end_a_batch_of_commands() -> None:
    harness = sharded()
    client = harness.connect()
    said = harness.ask(client, RUN + query("SELECT x"))
    assert kinds(said) == "12CTDCZ"
    assert shards_of(harness, "SELECT x") == [1]


# --- in transactions


@pytest.mark.parametrize("is_simple", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        "SET SHARD TO 1",
        "SET SERVER ROLE TO 'replica'",
        "SET SERVER ROLE TO 'any'",
        "SET PRIMARY READS TO 'on'",
        "SET SHARDING KEY TO '6'",
    ],
)
def test_a_transaction_cannot_be_moved(text: str, is_simple: bool) -> None:
    harness = sharded()
    client = harness.connect()
    harness.ask(client, query("SET SHARD TO 0"))
    harness.ask(client, query("BEGIN"))
    said = harness.ask(client, query(text) if is_simple else run(text) + SYNC)
    assert sqlstates(said) == ["25001"]
    assert said[-1].body == (b"T" if is_simple else b"E")
    if is_simple:
        assert rows(harness.ask(client, query("SELECT x"))) == [[b"SELECT x"]]
    harness.ask(client, query("ROLLBACK"))
    assert shard(harness, client) == b"0"


@pytest.mark.parametrize("is_simple", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        "SET SHARD TO 1",
        "SET SHARD TO ANY",
        "SET SERVER ROLE TO 'primary'",
        "SET PRIMARY READS TO 'off'",
        "SHOW SHARD",
        "SHOW SERVER ROLE",
        "SHOW PRIMARY READS",
    ],
)
def test_what_changes_nothing_is_allowed_in_a_transaction(text: str, is_simple: bool) -> None:
    harness = sharded()
    client = harness.connect()
    for choice in ("SHARD TO 1", "SERVER ROLE TO primary", "PRIMARY READS TO off"):
        harness.ask(client, query(f"SET {choice}"))
    harness.ask(client, query("BEGIN"))
    said = harness.ask(client, query(text) if is_simple else run(text) + SYNC)
    assert not sqlstates(said)
    assert said[-1].body == b"T"
    assert shard(harness, client) == b"1"
    assert harness.servers[0].model.log[-1] == "BEGIN"


def test_the_shard_in_use_may_be_chosen_in_a_transaction() -> None:
    harness = sharded()
    client = harness.connect()
    harness.ask(client, query("BEGIN"))
    assert not sqlstates(harness.ask(client, query("SET SHARD TO 0")))
    harness.ask(client, query("COMMIT"))
    assert shard(harness, client) == b"0"


@pytest.mark.parametrize("text", ["SHOW SHARD", "SET SHARD TO 0", "SHOW SERVER ROLE"])
def test_a_failed_transaction_refuses_all(text: str) -> None:
    harness = sharded()
    client = harness.connect()
    harness.ask(client, query("BEGIN"), query("FAIL"))
    said = harness.ask(client, query(text))
    assert (kinds(said), sqlstates(said)) == ("EZ", ["25P02"])
    assert said[-1].body == b"E"
    said = harness.ask(client, run(text) + SYNC)
    assert (kinds(said), sqlstates(said)) == ("EZ", ["25P02"])
    assert said[-1].body == b"E"
    harness.ask(client, query("ROLLBACK"))
    assert not sqlstates(harness.ask(client, query(text)))


def test_a_failed_transaction_may_be_ended_in_the_same_batch() -> None:
    harness = sharded()
    client = harness.connect()
    harness.ask(client, query("BEGIN"), query("FAIL"))
    assert kinds(harness.ask(client, run("ROLLBACK") + SHOW + SYNC)) == "12nC12TDCZ"


def test_a_transaction_that_fails_in_the_batch_refuses_what_follows() -> None:
    harness = sharded()
    client = harness.connect()
    harness.ask(client, query("BEGIN"))
    said = harness.ask(client, run("FAIL x") + SYNC, SHOW + SYNC)
    assert sqlstates(said) == ["42601", "25P02"]


@pytest.mark.parametrize("text", ["SHOW SHARD", "SET SHARD TO 1"])
def test_commands_wait_for_the_replies_that_come_before(text: str) -> None:
    harness = sharded()
    client = harness.connect()
    said = harness.ask(client, query("BEGIN"), run(text) + SYNC, query("COMMIT"))
    if text == "SHOW SHARD":
        assert kinds(said) == "CZ12TDCZCZ"
    else:
        assert (kinds(said), sqlstates(said)) == ("CZ12nEZCZ", ["25001"])


# --- SET LOCAL


def test_a_local_choice_holds_for_the_next_statement() -> None:
    harness = sharded()
    client = harness.connect()
    harness.ask(client, query("SET SHARD TO 0"), query("SET LOCAL SHARD TO 1"))
    assert shard(harness, client) == b"1"
    harness.ask(client, query("SELECT x"), query("SELECT x"))
    assert shards_of(harness, "SELECT x") == [1, 0] or shards_of(harness, "SELECT x") == [0, 1]
    assert shard(harness, client) == b"0"


def test_a_local_choice_holds_for_the_next_transaction() -> None:
    harness = sharded()
    client = harness.connect()
    harness.ask(client, run("SET LOCAL SHARD TO $1", b"1") + SYNC)
    for text in ("BEGIN", "SELECT x", "SELECT x", "COMMIT", "SELECT y"):
        harness.ask(client, query(text))
    assert shards_of(harness, "SELECT x") == [1, 1]
    assert shards_of(harness, "SELECT y") == [0]


def test_a_local_choice_is_not_for_what_is_sent_behind() -> None:
    harness = sharded()
    client = harness.connect()
    assert client.session.routing.may_pipeline
    harness.ask(client, query("SET LOCAL SHARD TO 1") + query("SELECT x") + query("SELECT y"))
    assert (shards_of(harness, "SELECT x"), shards_of(harness, "SELECT y")) == ([1], [0])
    assert client.session.routing.may_pipeline


def test_to_prepare_does_not_use_a_local_choice_up() -> None:
    harness = sharded()
    client = harness.connect()
    harness.ask(client, query("SET LOCAL SHARD TO 1"))
    harness.ask(client, parse("SELECT x", "s") + describe("S", "s") + SYNC)
    harness.ask(client, bind(name="s") + execute() + SYNC)
    harness.ask(client, bind(name="s") + execute() + SYNC)
    assert sorted(shards_of(harness, "SELECT x")) == [0, 1]


def test_a_local_choice_ends_with_a_statement_that_fails() -> None:
    harness = sharded()
    client = harness.connect()
    harness.ask(client, query("SET LOCAL SHARD TO 1"))
    assert sqlstates(harness.ask(client, query("FAIL"))) == ["42601"]
    assert shard(harness, client) == b"unset"


def test_a_local_choice_ends_with_a_statement_that_gets_no_server() -> None:
    harness = Harness(servers=((True,), (True,)))
    client = harness.connect()
    harness.ask(
        client, query("SET LOCAL SHARD TO 1"), query("SET LOCAL SERVER ROLE TO replica")
    )
    assert sqlstates(harness.ask(client, query("SELECT x"))) == ["57P03"]
    assert shard(harness, client) == b"unset"


# --- session mode


@pytest.mark.parametrize("is_simple", [True, False])
@pytest.mark.parametrize("first", [query("SELECT x"), run("SELECT x") + SYNC])
def test_commands_are_known_to_a_session_that_has_its_server(
    first: bytes, is_simple: bool
) -> None:
    harness = in_session_mode()
    client = harness.connect()
    harness.ask(client, first)
    for text, value in (
        ("SHOW SHARD", [[b"unset"]]),
        ("SET SHARD TO 0", []),
        ("SHOW SHARD", [[b"0"]]),
        ("SET SERVER ROLE TO 'auto'", []),
        ("SHOW SERVER ROLE", [[b"auto"]]),
        ("SET PRIMARY READS TO on", []),
        ("SHOW PRIMARY READS", [[b"on"]]),
    ):
        said = harness.ask(client, query(text) if is_simple else run(text) + SYNC)
        assert not sqlstates(said)
        assert rows(said) == value
    assert harness.servers[0].model.log == ["SELECT x"]


@pytest.mark.parametrize("is_simple", [True, False])
@pytest.mark.parametrize(
    "text", ["SET SHARD TO 1", "SET LOCAL SHARD TO 1", "SET SERVER ROLE TO 'replica'"]
)
def test_a_session_that_keeps_its_server_cannot_choose_another(
    text: str, is_simple: bool
) -> None:
    harness = in_session_mode()
    client = harness.connect()
    harness.ask(client, query("SET SHARD TO 0"), query("SET SERVER ROLE TO 'primary'"))
    harness.ask(client, query("SELECT x"))
    said = harness.ask(client, query(text) if is_simple else run(text) + SYNC)
    assert sqlstates(said) == ["55006"]
    assert "pool_mode" in hint(said)
    assert said[-1].body == b"I"
    assert shard(harness, client) == b"0"
    harness.ask(client, query("SELECT x"))
    assert shards_of(harness, "SELECT x") == [0, 0]


def test_the_role_of_the_pool_may_exclude_the_server_that_is_kept() -> None:
    options = RouterOptions(shard_count=2, default_role=Role.REPLICA)
    harness = in_session_mode(options=options)
    client = harness.connect()
    harness.ask(client, query("SET SERVER ROLE TO 'primary'"), query("SELECT x"))
    assert sqlstates(harness.ask(client, query("SET SERVER ROLE TO default"))) == ["55006"]
    assert not sqlstates(harness.ask(client, query("SET SERVER ROLE TO any")))


def test_any_shard_is_the_one_that_is_kept() -> None:
    harness = in_session_mode()
    client = harness.connect()
    harness.ask(client, query("SET SHARD TO 1"), query("SELECT x"))
    for _ in range(5):
        harness.ask(client, query("SET SHARD TO ANY"))
        assert shard(harness, client) == b"1"


# --- comments


@pytest.mark.parametrize("is_simple", [True, False])
def test_a_comment_chooses_the_shard_in_both_protocols(is_simple: bool) -> None:
    options = RouterOptions(shard_count=2, shard_id_regex=Regex(r"/\* shard_id: (\d+) \*/"))
    harness = sharded(options=options)
    client = harness.connect()
    for text in ("SELECT x /* shard_id: 1 */", "SELECT x /* shard_id: 0 */"):
        harness.ask(client, query(text) if is_simple else run(text) + SYNC)
        assert shards_of(harness, text) == [int(text[-4])]
    text = "SELECT x /* shard_id: 7 */"
    said = harness.ask(client, query(text) if is_simple else run(text) + SYNC)
    assert sqlstates(said) == ["22023"]
    assert shard(harness, client) == b"unset"


def test_a_command_leaves_the_role_of_its_batch_alone() -> None:
    harness = sharded(options=SPLITTING)
    client = harness.connect()
    harness.ask(client, RUN + run("SELECT x") + SYNC)
    [server] = harness.servers
    address = server.connection.pool.address
    assert (address.shard, address.is_primary) == (1, False)


def test_a_portal_that_has_taken_the_name_of_another_stays_when_that_goes_to_a_server() -> None:
    harness = Harness(servers=TWO_SHARDS, options=SPLITTING, deferred_begin=True)
    client = harness.connect()
    begun = parse("BEGIN", "b") + bind(name="b", portal="p") + close("P", "p")
    asked = parse("SHOW SHARD", "c") + bind(name="c", portal="p")
    assert kinds(harness.ask(client, begun + asked + run("SELECT 1") + FLUSH)) == "1231212TDC"
    answer = harness.ask(client, execute("p") + SYNC)
    assert kinds(answer) == "DCZ"
    assert rows(answer) == [[b"unset"]]
