"""Prepared statements that follow their text from server to server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.config.values import PoolMode
from router.protocol.framing import TEXT_LIMIT
from router.routing.types import RouterOptions
from router.session.batch import BATCH_LIMIT
from tests.support.harness import Harness
from tests.support.wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    bind,
    close,
    copy_data,
    describe,
    execute,
    kinds,
    parse,
    query,
    rows,
    run,
    sqlstates,
)

if TYPE_CHECKING:
    from tests.support.harness import FakeClient
    from tests.support.wire import Message

USE = bind(name="s") + execute() + SYNC
# The parameters of a Bind that is held whole, and of one of which only the head is.
SHORT_OR_LONG = [pytest.param([], id="short"), pytest.param([b"x" * TEXT_LIMIT], id="long")]
CUT = 1000


def names(harness: Harness, which: int = 0) -> int:
    """How many statements a server has."""
    return len(harness.servers[which].model.statements)


def with_two_servers(harness: Harness) -> tuple[FakeClient, FakeClient]:
    """Two clients, each of which has the next server at its disposal."""
    one, two = harness.connect(), harness.connect()
    for client in (one, two):
        harness.ask(client, query("BEGIN"))
    for client in (one, two):
        harness.ask(client, query("COMMIT"))
    return one, two


def test_clients_with_the_same_text_share_a_statement() -> None:
    harness = Harness(pool_size=1)
    one, two = harness.connect(), harness.connect()
    for client in (one, two):
        assert kinds(harness.ask(client, parse("SELECT x", "s") + SYNC)) == "1Z"
        assert rows(harness.ask(client, USE)) == [[b"SELECT x"]]
    assert names(harness) == 1


def test_the_same_name_means_to_each_client_what_it_prepared() -> None:
    harness = Harness(pool_size=1)
    one, two = harness.connect(), harness.connect()
    harness.ask(one, parse("SELECT one", "s") + SYNC)
    harness.ask(two, parse("SELECT two", "s") + SYNC)
    assert rows(harness.ask(one, USE)) == [[b"SELECT one"]]
    assert rows(harness.ask(two, USE)) == [[b"SELECT two"]]


def test_a_statement_is_prepared_on_the_server_that_lacks_it() -> None:
    harness = Harness(pool_size=2, server_round_robin=True)
    client, other = with_two_servers(harness)
    harness.ask(client, parse("SELECT x", "s") + SYNC)
    for _ in range(2):  # once on each server
        assert kinds(harness.ask(client, describe("S", "s") + USE)) == "tT2DCZ"
    assert (names(harness, 0), names(harness, 1)) == (1, 1)
    assert not other.link.closed


def ask_in_pieces(harness: Harness, client: FakeClient, data: bytes) -> list[Message]:
    """As `Harness.ask`, but that what is long arrives in two pieces."""
    answer = harness.ask(client, data[:CUT])
    return answer + harness.ask(client, data[CUT:]) if data[CUT:] else answer


@pytest.mark.parametrize("values", SHORT_OR_LONG)
def test_names_of_the_routers_own_cannot_be_bound(values: list[bytes]) -> None:
    harness = Harness(pool_size=1)
    one, two = harness.connect(), harness.connect()
    harness.ask(one, parse("SELECT secret", "s") + SYNC)
    [taken] = harness.servers[0].model.statements
    for before in (b"", describe("S", "none") + SYNC, parse("SELECT x") + FLUSH):
        use = before + bind(*values, name=taken) + execute() + SYNC
        answer = ask_in_pieces(harness, two, use)
        assert sqlstates(answer)[-1:] == ["26000"]
        assert rows(answer) == []
        assert answer[-1].kind == "Z"
    assert rows(harness.ask(one, USE)) == [[b"SELECT secret"]]


def test_a_long_statement_cannot_have_a_name_of_the_routers_own() -> None:
    harness = Harness(pool_size=1)
    one, two = harness.connect(), harness.connect()
    harness.ask(one, parse("SELECT secret", "s") + SYNC)
    [taken] = harness.servers[0].model.statements
    long = "SELECT " + "x" * TEXT_LIMIT
    answer = ask_in_pieces(harness, two, parse(long, taken) + SYNC)
    assert (kinds(answer), sqlstates(answer)) == ("EZ", ["42939"])
    assert rows(harness.ask(one, USE)) == [[b"SELECT secret"]]
    assert rows(harness.ask(two, query("SELECT y"))) == [[b"SELECT y"]]


@pytest.mark.parametrize("values", SHORT_OR_LONG)
@pytest.mark.parametrize("has_one", [True, False], ids=["one of its own", "none"])
def test_a_bind_that_is_skipped_does_not_leave_the_statement_of_another(
    has_one: bool, values: list[bytes]
) -> None:
    harness = Harness(pool_size=1)
    one, two = harness.connect(), harness.connect()
    if has_one:
        harness.ask(two, run("SELECT x") + SYNC)
    harness.ask(one, run("SELECT secret") + SYNC)
    model = harness.servers[0].model
    model.is_failing = True
    skipped = parse("SELECT new", "s") + bind(*values) + execute() + SYNC
    assert sqlstates(ask_in_pieces(harness, two, skipped)) == ["42P01"]
    model.is_failing = False
    answer = ask_in_pieces(harness, two, bind(*values) + execute() + SYNC)
    if has_one:
        [[row]] = rows(answer)
        assert row is not None
        assert row.startswith(b"SELECT x")
    else:
        assert sqlstates(answer) == ["26000"]
        assert rows(answer) == []


def test_names_of_the_routers_own_are_out_of_reach() -> None:
    harness = Harness(pool_size=1)
    one, two = harness.connect(), harness.connect()
    harness.ask(one, parse("SELECT secret", "s") + SYNC)
    [taken] = harness.servers[0].model.statements
    assert sqlstates(harness.ask(two, bind(name=taken) + execute() + SYNC)) == ["26000"]
    assert sqlstates(harness.ask(two, describe("S", taken) + SYNC)) == ["26000"]
    assert kinds(harness.ask(two, close("S", taken) + SYNC)) == "3Z"
    assert rows(harness.ask(one, USE)) == [[b"SELECT secret"]]


UNNAMED = bind() + execute() + SYNC


def test_the_unnamed_statement_of_another_client_is_out_of_reach() -> None:
    harness = Harness(pool_size=1)
    one, two = harness.connect(), harness.connect()
    harness.ask(one, run("SELECT secret") + SYNC)
    for batch in (UNNAMED, describe("S") + SYNC, close("S") + UNNAMED):
        assert sqlstates(harness.ask(two, batch)) == ["26000"]
        assert rows(harness.ask(one, UNNAMED)) == [[b"SELECT secret"]]


@pytest.mark.parametrize("known", [True, False], ids=["known text", "new text"])
def test_a_parse_that_is_skipped_does_not_leave_the_statement_of_another(known: bool) -> None:
    harness = Harness(pool_size=1)
    one, two = harness.connect(), harness.connect()
    if known:
        harness.ask(two, run("SELECT x") + SYNC + query("SELECT y"))
    harness.ask(one, run("SELECT secret") + SYNC)
    skipped = bind(name="none") + parse("SELECT x") + SYNC
    assert sqlstates(harness.ask(two, skipped + UNNAMED + UNNAMED)) == ["26000"] * 3


def test_a_query_drops_the_unnamed_statement() -> None:
    harness = Harness(pool_size=1)
    client = harness.connect()
    harness.ask(client, run("SELECT x") + SYNC)
    assert rows(harness.ask(client, UNNAMED)) == [[b"SELECT x"]]
    harness.ask(client, query("SELECT y"))
    assert sqlstates(harness.ask(client, UNNAMED)) == ["26000"]


@pytest.mark.parametrize("in_transaction", [True, False])
def test_each_parse_without_a_name_reaches_the_server(in_transaction: bool) -> None:
    harness = Harness(pool_size=1)
    client = harness.connect()
    if in_transaction:
        harness.ask(client, query("BEGIN"))
    harness.ask(client, run("SELECT x") + SYNC)
    harness.servers[0].model.is_failing = True  # the schema has changed since
    assert sqlstates(harness.ask(client, run("SELECT x") + SYNC)) == ["42P01"]
    harness.servers[0].model.is_failing = False
    assert sqlstates(harness.ask(client, UNNAMED)) == ["26000"]


def test_the_least_recently_used_statement_is_closed_for_a_new_one() -> None:
    harness = Harness(pool_size=1, prepared_statements_cache_size=2)
    client = harness.connect()
    for name in "abc":
        harness.ask(client, parse(f"SELECT {name}", name) + SYNC)
    assert names(harness) == 2
    # All of them can still be used.
    for name in "abc":
        said = harness.ask(client, bind(name=name) + execute() + SYNC)
        assert rows(said) == [[f"SELECT {name}".encode()]]
    assert names(harness) == 2
    assert harness.servers[0].connection.statements.evictions == 4


def test_a_parse_that_fails_leaves_no_name_behind() -> None:
    harness = Harness()
    client = harness.connect()
    assert sqlstates(harness.ask(client, parse("FAIL", "s") + SYNC)) == ["42601"]
    assert sqlstates(harness.ask(client, USE)) == ["26000"]
    assert kinds(harness.ask(client, parse("SELECT x", "s") + SYNC)) == "1Z"


def test_what_comes_after_an_error_is_skipped_up_to_the_sync() -> None:
    harness = Harness()
    client = harness.connect()
    batch = bind(name="none") + execute() + parse("SELECT x", "s") + SYNC
    assert kinds(harness.ask(client, batch)) == "EZ"
    assert sqlstates(harness.ask(client, USE)) == ["26000"]


def test_a_close_that_is_skipped_closes_nothing() -> None:
    harness = Harness()
    client = harness.connect()
    harness.ask(client, parse("SELECT x", "s") + SYNC)
    batch = parse("FAIL") + bind() + close("S", "s") + SYNC
    assert kinds(harness.ask(client, batch)) == "EZ"
    assert rows(harness.ask(client, USE)) == [[b"SELECT x"]]


def test_a_name_can_be_used_again_once_it_is_closed() -> None:
    harness = Harness()
    client = harness.connect()
    harness.ask(client, parse("SELECT one", "s") + SYNC)
    assert sqlstates(harness.ask(client, parse("SELECT two", "s") + SYNC)) == ["42P05"]
    batch = close("S", "s") + parse("SELECT two", "s") + USE
    assert kinds(harness.ask(client, batch)) == "312DCZ"
    assert b"SELECT two" in client.got


def test_an_error_of_the_routers_own_fails_the_transaction_too() -> None:
    harness = Harness()
    client = harness.connect()
    harness.ask(client, parse("SELECT x", "s") + SYNC)
    harness.ask(client, query("BEGIN"))
    replies = harness.ask(client, parse("SELECT x", "s") + SYNC)
    assert (sqlstates(replies), replies[-1].body) == (["42P05"], b"E")
    assert sqlstates(harness.ask(client, query("SELECT y"))) == ["25P02"]


def test_what_is_proven_is_answered_without_a_server() -> None:
    harness = Harness(pool_size=1)
    one, two = harness.connect(), harness.connect()
    harness.ask(one, parse("SELECT x", "s") + SYNC)
    harness.ask(one, query("BEGIN"))
    assert kinds(harness.ask(two, parse("SELECT x", "s") + SYNC)) == "1Z"
    assert kinds(harness.ask(two, close("S", "s") + SYNC)) == "3Z"
    assert not harness.part.waiters


def test_a_flush_brings_the_replies_that_are_there() -> None:
    harness = Harness()
    client = harness.connect()
    assert kinds(harness.ask(client, parse("SELECT x", "s") + FLUSH)) == "1"
    assert kinds(harness.ask(client, bind(name="s") + FLUSH)) == "2"
    assert kinds(harness.ask(client, parse("SELECT x", "t") + FLUSH)) == "1"
    assert kinds(harness.ask(client, execute() + close("S", "t") + FLUSH)) == "DC3"
    assert kinds(harness.ask(client, SYNC)) == "Z"
    assert client.session.lease.server is None


def test_a_query_ends_a_batch_that_only_the_router_has_answered() -> None:
    harness = Harness()
    client = harness.connect()
    harness.ask(client, parse("SELECT x", "s") + SYNC)
    assert kinds(harness.ask(client, close("S", "s") + query("SELECT y"))) == "3TDCZ"
    assert client.session.lease.server is None


def test_a_batch_too_long_to_hold_gets_a_server_before_its_sync() -> None:
    harness = Harness()
    client = harness.connect()
    value = b"x" * (BATCH_LIMIT // 2)
    client.send(parse("SELECT x", "s") + bind(value, name="s") + execute())
    assert not harness.opening
    client.send(bind(value, name="s") + execute())
    assert harness.opening
    assert kinds(harness.ask(client, SYNC)) == "12DC2DCZ"


def test_a_batch_too_long_to_hold_goes_to_its_clients_server_before_its_sync() -> None:
    harness = Harness()
    client = harness.connect()
    harness.ask(client, query("BEGIN"))
    [server] = harness.servers
    value = b"x" * (BATCH_LIMIT // 2)
    client.send(parse("SELECT x", "s") + bind(value, name="s") + execute())
    assert not server.link.written
    client.send(bind(value, name="s") + execute())
    assert len(server.link.written) > BATCH_LIMIT
    assert kinds(harness.ask(client, SYNC)) == "12DC2DCZ"


def test_of_a_batch_too_long_to_hold_the_rest_is_not_read_while_its_client_waits() -> None:
    harness = Harness()
    client, other = harness.connect(), harness.connect()
    harness.ask(client, parse("SELECT x", "s") + SYNC)
    harness.ask(other, query("BEGIN"))
    client.send(bind(b"x" * BATCH_LIMIT, name="s") + execute() + SYNC)
    assert [chr(each.kind) for each in client.session.batch.operations] == ["B"]
    assert kinds(harness.ask(client)) == "2DCZ"


@pytest.mark.parametrize("is_static", [True, False], ids=["pipelined", "one by one"])
def test_batches_sent_at_once_are_answered_in_order(is_static: bool) -> None:
    harness = Harness(options=RouterOptions(query_parser_enabled=not is_static))
    client = harness.connect()
    batches = [run(f"SELECT {n}") + SYNC for n in range(5)]
    replies = harness.ask(client, b"".join(batches), parse("FAIL") + SYNC, *batches)
    expected = [[f"SELECT {n}".encode()] for n in range(5)]
    assert rows(replies) == expected * 2
    assert kinds(replies).count("Z") == 11


@pytest.mark.parametrize("pool_mode", [PoolMode.TRANSACTION, PoolMode.SESSION])
@pytest.mark.parametrize("is_static", [True, False], ids=["pipelined", "one by one"])
@pytest.mark.parametrize(
    "early", [b"", SYNC, SYNC + SYNC, SYNC + FLUSH + SYNC], ids=["none", "S", "SS", "SHS"]
)
@pytest.mark.parametrize("behind", [b"", run("SELECT y") + SYNC], ids=["alone", "behind"])
def test_a_copy_voids_the_syncs_that_come_too_early(
    pool_mode: PoolMode, is_static: bool, early: bytes, behind: bytes
) -> None:
    options = RouterOptions(query_parser_enabled=not is_static)
    harness = Harness(options=options, pool_mode=pool_mode)
    client = harness.connect()
    harness.ask(client, run("SELECT y") + SYNC)
    batch = parse("COPY t") + bind() + execute() + early
    client.send(batch, copy_data(b"a\n"), copy_data(b"b\n"), COPY_DONE, SYNC, behind)
    replies = harness.read(client)
    assert kinds(replies) == "12GCZ" + ("12TDCZ" if behind else "")
    assert replies[3].body == b"COPY 2\0"


@pytest.mark.parametrize("is_static", [True, False], ids=["pipelined", "one by one"])
def test_a_batch_may_follow_a_copy_whose_sync_was_void(is_static: bool) -> None:
    options = RouterOptions(query_parser_enabled=not is_static)
    harness = Harness(options=options, pool_mode=PoolMode.SESSION)
    client = harness.connect()
    batch = parse("COPY t") + bind() + execute() + SYNC + COPY_DONE + run("SELECT y") + SYNC
    assert kinds(harness.ask(client, batch)) == "12GC12TDCZ"


def test_statements_are_looked_up_anew_when_the_pool_changes() -> None:
    harness = Harness()
    client = harness.connect()
    harness.ask(client, parse("SELECT x", "s") + SYNC)
    before = client.session.batch.names.statements[b"s"]
    assert before.analysis is None
    harness.replace_pool(harness.new_pool(options=RouterOptions(query_parser_enabled=True)))
    assert rows(harness.ask(client, USE)) == [[b"SELECT x"]]
    after = client.session.batch.names.statements[b"s"]
    assert after.analysis is not None


@pytest.mark.slow
def test_the_text_that_one_client_may_have_prepared_is_bounded() -> None:
    harness = Harness(pool_size=1)
    client, other = harness.connect(), harness.connect()
    texts = [f"SELECT {number} ".ljust(200_000, "x") for number in range(400)]
    prepared, said = 0, ""
    while not said:
        answer = harness.ask(client, parse(texts[prepared], f"s{prepared}") + SYNC)
        said = "".join(sqlstates(answer))
        prepared += not said
    assert said == "54000"
    assert prepared == (64 << 20) // 200_003  # a zero behind the text, and no types
    assert kinds(harness.ask(client, parse("SELECT x", "short") + SYNC)) == "1Z"
    for name in ("s0", "s1"):
        harness.ask(client, close("S", name) + SYNC)
    assert kinds(harness.ask(client, parse(texts[-1], "s") + SYNC)) == "1Z"
    assert kinds(harness.ask(other, parse(texts[-1], "s") + SYNC)) == "1Z"
