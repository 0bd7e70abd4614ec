"""Statements that plugins answer or refuse: what the client and the server notice of it."""

from __future__ import annotations

import struct

import pytest

from router.config.plugins import InterceptedQuery
from router.config.values import PoolMode
from router.plugins.inspector import PluginInspector
from router.plugins.intercept import Interceptor
from router.plugins.query_logger import QueryLogger
from router.plugins.table_access import TableAccess
from router.protocol.framing import TEXT_LIMIT
from tests.support.harness import FakeClient, Harness
from tests.support.wire import (
    FLUSH,
    SYNC,
    Message,
    bind,
    describe,
    execute,
    function_call,
    kinds,
    parse,
    query,
    rows,
    run,
    sqlstates,
)

DENIED = "SELECT * FROM secret"
ALLOWED = "SELECT 'secret' FROM t"
LONG = "SELECT " + "x" * TEXT_LIMIT
MODES = [PoolMode.TRANSACTION, PoolMode.SESSION]


def guarded(**settings: object) -> Harness:
    """A pool in which `secret` is out of bounds."""
    harness = Harness(**settings)  # type: ignore[arg-type]
    guard(harness)
    return harness


def guard(harness: Harness, *tables: str) -> None:
    """Switch table_access on, or to other tables, as a reload does."""
    assert harness.pool is not None
    harness.pool.inspector = PluginInspector(access=TableAccess(tables or ("secret",)))


def executed(harness: Harness) -> list[str]:
    """What the servers have executed of the client's."""
    log = [sql for server in harness.servers for sql in server.model.log]
    return [sql for sql in log if sql != "DEALLOCATE ALL"]  # a clean-up


def ask_in_pieces(
    harness: Harness, client: FakeClient, *messages: bytes, cut: int = 1000
) -> list[Message]:
    """As `Harness.ask`, but that the first message arrives in two pieces."""
    answer = harness.ask(client, messages[0][:cut])
    return answer + harness.ask(client, messages[0][cut:], *messages[1:])


def status(messages: list[Message]) -> bytes:
    """The transaction status at the end."""
    assert messages[-1].kind == "Z"
    return messages[-1].body


@pytest.mark.parametrize("mode", MODES)
def test_a_query_is_refused_and_the_session_goes_on(mode: PoolMode) -> None:
    harness = guarded(pool_mode=mode)
    client = harness.connect()
    for _ in range(2):
        answer = harness.ask(client, query(DENIED))
        assert (kinds(answer), sqlstates(answer)) == ("EZ", ["42501"])
        assert status(answer) == b"I"
        assert rows(harness.ask(client, query(ALLOWED))) == [[ALLOWED.encode()]]
    assert executed(harness) == [ALLOWED, ALLOWED]


def test_a_query_is_refused_without_asking_for_a_server() -> None:
    harness = guarded()
    client = harness.connect()
    assert sqlstates(harness.ask(client, query(DENIED))) == ["42501"]
    assert not harness.servers
    assert client.session.client.error_count == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_refused_query_fails_its_transaction(mode: PoolMode) -> None:
    harness = guarded(pool_mode=mode)
    client = harness.connect()
    harness.ask(client, query("BEGIN"))
    answer = harness.ask(client, query(DENIED))
    assert (sqlstates(answer), status(answer)) == (["42501"], b"E")
    answer = harness.ask(client, query(ALLOWED))
    assert (sqlstates(answer), status(answer)) == (["25P02"], b"E")
    answer = harness.ask(client, query(DENIED))
    assert (sqlstates(answer), status(answer)) == (["42501"], b"E")
    answer = harness.ask(client, query("ROLLBACK"))
    assert status(answer) == b"I"
    assert executed(harness) == ["BEGIN", "ROLLBACK"]
    harness.check()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["", "s"])
def test_a_refused_parse_fails_its_batch(mode: PoolMode, name: str) -> None:
    harness = guarded(pool_mode=mode)
    client = harness.connect()
    batch = parse(DENIED, name) + bind(name=name) + describe() + execute() + SYNC
    answer = harness.ask(client, batch)
    assert (kinds(answer), sqlstates(answer), status(answer)) == ("EZ", ["42501"], b"I")
    answer = harness.ask(client, bind(name=name) + execute() + SYNC)
    assert sqlstates(answer) == ["26000"]
    assert rows(harness.ask(client, run(ALLOWED) + SYNC)) == [[ALLOWED.encode()]]
    assert executed(harness) == [ALLOWED]


@pytest.mark.parametrize("mode", MODES)
def test_what_comes_before_a_refused_parse_is_done_and_what_follows_is_not(
    mode: PoolMode,
) -> None:
    harness = guarded(pool_mode=mode)
    client = harness.connect()
    batch = run("BEGIN") + run("SELECT 1") + run(DENIED) + run("SELECT 2") + SYNC
    answer = harness.ask(client, batch, run("ROLLBACK") + SYNC)
    assert kinds(answer) == "12nC12TDCEZ12nCZ"
    assert executed(harness) == ["BEGIN", "SELECT 1", "ROLLBACK"]


def test_a_refused_unnamed_statement_leaves_no_older_one_behind() -> None:
    harness = guarded()
    client = harness.connect()
    harness.ask(client, parse("SELECT old") + SYNC)
    answer = harness.ask(client, parse(DENIED) + SYNC, bind() + execute() + SYNC)
    assert sqlstates(answer) == ["42501", "26000"]


@pytest.mark.parametrize("mode", MODES)
def test_a_query_within_an_open_batch_is_refused_and_ends_it(mode: PoolMode) -> None:
    harness = guarded(pool_mode=mode)
    client = harness.connect()
    answer = harness.ask(client, run("SELECT 1"), query(DENIED), query("SELECT 2"))
    assert kinds(answer) == "12TDCEZTDCZ"
    assert executed(harness) == ["SELECT 1", "SELECT 2"]


def test_pipelined_queries_are_answered_in_their_order() -> None:
    harness = guarded()
    client = harness.connect()
    texts = ["BEGIN", "SELECT 1", DENIED, "ROLLBACK", DENIED, "SELECT 2"]
    answer = harness.ask(client, b"".join(map(query, texts)))
    assert kinds(answer) == "CZTDCZEZCZEZTDCZ"
    assert executed(harness) == ["BEGIN", "SELECT 1", "ROLLBACK", "SELECT 2"]


def test_the_choice_of_a_role_does_not_matter() -> None:
    harness = guarded(servers=((True, False),))
    client = harness.connect()
    for role in ("primary", "replica", "any", "auto"):
        harness.ask(client, query(f"SET SERVER ROLE TO '{role}'"))
        assert sqlstates(harness.ask(client, query(DENIED))) == ["42501"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("begin", ["", "BEGIN"])
def test_a_text_that_is_too_long_to_be_read_is_refused(mode: PoolMode, begin: str) -> None:
    harness = guarded(pool_mode=mode)
    client = harness.connect()
    if begin:
        harness.ask(client, query(begin))
    answer = ask_in_pieces(harness, client, query(LONG))
    assert (kinds(answer), sqlstates(answer)) == ("EZ", ["42501"])
    answer = harness.ask(client, query("ROLLBACK"))
    assert (kinds(answer), status(answer)) == ("CZ", b"I")
    batch = bind(name="s") + execute() + SYNC
    answer = ask_in_pieces(harness, client, parse(LONG, "s"), batch)
    assert (kinds(answer), sqlstates(answer)) == ("EZ", ["42501"])
    assert rows(harness.ask(client, query(ALLOWED))) == [[ALLOWED.encode()]]
    assert executed(harness) == [*filter(None, [begin]), "ROLLBACK", ALLOWED]


@pytest.mark.parametrize("cut", [7, 100, TEXT_LIMIT])
def test_a_long_text_is_refused_however_it_arrives(cut: int) -> None:
    harness = guarded()
    client = harness.connect()
    harness.ask(client, query("BEGIN"))
    answer = ask_in_pieces(harness, client, query(LONG), query("ROLLBACK"), cut=cut)
    assert kinds(answer) == "EZCZ"
    assert executed(harness) == ["BEGIN", "ROLLBACK"]


def test_a_long_text_in_an_open_batch_is_refused() -> None:
    harness = guarded()
    client = harness.connect()
    assert kinds(harness.ask(client, run("SELECT 1"), FLUSH)) == "12TDC"
    assert kinds(ask_in_pieces(harness, client, query(LONG), query("SELECT 2"))) == "EZTDCZ"
    assert kinds(harness.ask(client, run("SELECT 1"), FLUSH)) == "12TDC"
    assert kinds(ask_in_pieces(harness, client, parse(LONG), SYNC)) == "EZ"


def test_a_long_text_passes_where_only_the_logger_is_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    harness = Harness()
    assert harness.pool is not None
    harness.pool.inspector = PluginInspector(QueryLogger("app", "ann"))
    client = harness.connect()
    with caplog.at_level("INFO", "router.query"):
        answer = ask_in_pieces(harness, client, query(LONG))
        answer += ask_in_pieces(harness, client, parse(LONG), bind() + execute() + SYNC)
    assert kinds(answer) == "TDCZ12DCZ"
    assert len(caplog.records) == 2


@pytest.mark.parametrize("size", [10, TEXT_LIMIT])
def test_a_function_call_is_no_text(caplog: pytest.LogCaptureFixture, size: int) -> None:
    harness = Harness()
    assert harness.pool is not None
    access = TableAccess(("secret",))
    harness.pool.inspector = PluginInspector(QueryLogger("app", "ann"), access=access)
    client = harness.connect()
    with caplog.at_level("INFO", "router.query"):
        for begin in ("SELECT 1", "BEGIN"):
            harness.ask(client, query(begin))
            answer = ask_in_pieces(harness, client, function_call(1, b"x" * size))
            assert (kinds(answer), sqlstates(answer)) == ("EZ", ["42883"])  # the server's
    assert len(caplog.records) == 2


def test_a_reload_holds_for_what_was_prepared_before_it() -> None:
    harness = Harness()
    client = harness.connect()
    harness.ask(client, parse(DENIED, "s") + parse(ALLOWED, "a") + SYNC)
    use = bind(name="s") + execute() + SYNC
    assert kinds(harness.ask(client, use)) == "2DCZ"
    guard(harness)
    for _ in range(2):
        assert sqlstates(harness.ask(client, use)) == ["42501"]
        assert kinds(harness.ask(client, bind(name="a") + execute() + SYNC)) == "2DCZ"
    guard(harness, "t")
    assert kinds(harness.ask(client, use)) == "2DCZ"
    assert sqlstates(harness.ask(client, bind(name="a") + execute() + SYNC)) == ["42501"]


def test_a_long_bind_to_what_was_prepared_before_a_reload_is_refused() -> None:
    harness = Harness()
    client = harness.connect()
    harness.ask(client, query("BEGIN"))
    harness.ask(client, parse(DENIED, "s") + SYNC)
    guard(harness)
    long_bind = bind(b"x" * TEXT_LIMIT, name="s")
    answer = ask_in_pieces(harness, client, long_bind, execute(), SYNC)
    assert (kinds(answer), sqlstates(answer), status(answer)) == ("EZ", ["42501"], b"E")


def test_a_reload_holds_within_a_transaction() -> None:
    harness = Harness()
    client = harness.connect()
    harness.ask(client, query("BEGIN"))
    guard(harness)
    answer = harness.ask(client, query(DENIED))
    assert (sqlstates(answer), status(answer)) == (["42501"], b"E")


def test_each_text_is_logged_once_as_it_is_run(caplog: pytest.LogCaptureFixture) -> None:
    harness = Harness(pool_size=1)
    assert harness.pool is not None
    harness.pool.inspector = PluginInspector(
        QueryLogger("app", "ann"), access=TableAccess(["secret"])
    )
    one, two = harness.connect(), harness.connect()
    with caplog.at_level("INFO", "router.query"):
        harness.ask(one, query("BEGIN"))
        harness.ask(two, query("SELECT 2"), run("SELECT 3") + SYNC)
        harness.ask(one, run("SELECT 4"), query("SELECT 5"), query(DENIED), query("COMMIT"))
        harness.read(two)
    lines = [record.getMessage() for record in caplog.records]
    head = "[pool: app][user: ann] "
    assert [line.removeprefix(head) for line in lines] == [
        "BEGIN",
        "SELECT 2",
        "SELECT 4",
        "SELECT 5",
        DENIED,
        "COMMIT",
        "SELECT 3",
    ]


# --- intercept

CANNED = "SELECT version_of(app)"
NUMBER = 23


def canned(query: str, schema: dict[str, str], result: list[list[str]]) -> InterceptedQuery:
    """A statement of the configuration with its answer."""
    return InterceptedQuery.model_validate(
        {"query": query, "schema": list(schema.items()), "result": result}
    )


def intercepting(*, guarded: str = "app", **settings: object) -> Harness:
    """A pool in which CANNED has an answer of two rows, though a name in it is guarded."""
    harness = Harness(**settings)  # type: ignore[arg-type]
    assert harness.pool is not None
    answer = canned(CANNED, {"v": "text", "n": "int4"}, [["one", "1"], ["", "2"]])
    harness.pool.inspector = PluginInspector(
        interceptor=Interceptor([answer], "app", "ann"), access=TableAccess([guarded])
    )
    return harness


def own_rows(*, binary: bool = False) -> list[list[bytes | None]]:
    """The rows of the answer."""
    one, two = (struct.pack("!i", 1), struct.pack("!i", 2)) if binary else (b"1", b"2")
    return [[b"one", one], [None, two]]


@pytest.mark.parametrize("mode", MODES)
def test_a_query_is_answered_without_a_server(mode: PoolMode) -> None:
    harness = intercepting(pool_mode=mode)
    client = harness.connect()
    answer = harness.ask(client, query(f"{CANNED.lower()} ; -- x"))
    assert (kinds(answer), rows(answer)) == ("TDDCZ", own_rows())
    assert answer[-2].body == b"SELECT 2\0"
    assert not harness.servers
    assert kinds(harness.ask(client, query("SELECT 1"))) == "TDCZ"
    assert kinds(harness.ask(client, query(CANNED))) == "TDDCZ"
    assert executed(harness) == ["SELECT 1"]


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_is_answered_without_a_server(mode: PoolMode) -> None:
    harness = intercepting(pool_mode=mode)
    client = harness.connect()
    answer = harness.ask(client, run(CANNED) + SYNC)
    assert (kinds(answer), rows(answer)) == ("12TDDCZ", own_rows())
    answer = harness.ask(client, parse(CANNED, "s") + describe("S", "s") + SYNC)
    assert kinds(answer) == "1tTZ"
    use = bind(name="s", formats=(1,)) + describe() + execute() + SYNC
    answer = harness.ask(client, use)
    assert (kinds(answer), rows(answer)) == ("2TDDCZ", own_rows(binary=True))
    assert not harness.servers


@pytest.mark.parametrize("mode", MODES)
def test_a_transaction_does_not_notice_an_answer(mode: PoolMode) -> None:
    harness = intercepting(pool_mode=mode)
    client = harness.connect()
    harness.ask(client, query("BEGIN"))
    answer = harness.ask(client, query(CANNED))
    assert (rows(answer), status(answer)) == (own_rows(), b"T")
    answer = harness.ask(client, run(CANNED) + SYNC)
    assert (rows(answer), status(answer)) == (own_rows(), b"T")
    harness.ask(client, query("COMMIT"))
    assert executed(harness) == ["BEGIN", "COMMIT"]


@pytest.mark.parametrize("mode", MODES)
def test_a_transaction_that_has_failed_refuses_it(mode: PoolMode) -> None:
    harness = intercepting(pool_mode=mode, guarded="t")
    client = harness.connect()
    harness.ask(client, query("BEGIN"), query("FAIL"))
    for message in (query(CANNED), run(CANNED) + SYNC):
        answer = harness.ask(client, message)
        assert (sqlstates(answer), status(answer)) == (["25P02"], b"E")


def test_answers_have_their_turn_in_a_pipeline() -> None:
    harness = intercepting()
    client = harness.connect()
    batch = run("SELECT 1") + run(CANNED) + run("SELECT 2") + SYNC
    answer = harness.ask(client, batch, query(CANNED), query("SELECT 3"), query(CANNED))
    assert kinds(answer) == "12TDC12TDDC12TDCZTDDCZTDCZTDDCZ"
    assert executed(harness) == ["SELECT 1", "SELECT 2", "SELECT 3"]


@pytest.mark.parametrize("mode", MODES)
def test_a_query_within_an_open_batch_is_answered_and_ends_it(mode: PoolMode) -> None:
    harness = intercepting(pool_mode=mode)
    client = harness.connect()
    answer = harness.ask(client, run("BEGIN"), query(CANNED), query("SELECT 2"))
    assert kinds(answer) == "12nCTDDCZTDCZ"
    assert status(answer) == b"T"
    assert executed(harness) == ["BEGIN", "SELECT 2"]


def test_what_has_no_binary_format_fails_as_it_is_executed() -> None:
    harness = Harness()
    assert harness.pool is not None
    answer = canned(CANNED, {"t": "timestamptz"}, [["now"]])
    interceptor = Interceptor([answer], "app", "ann")
    harness.pool.inspector = PluginInspector(interceptor=interceptor)
    client = harness.connect()
    batch = parse(CANNED) + bind(formats=(1,)) + execute() + SYNC
    got = harness.ask(client, batch)
    assert (kinds(got), sqlstates(got)) == ("12EZ", ["0A000"])
    assert kinds(harness.ask(client, run(CANNED) + SYNC)) == "12TDCZ"


def test_values_that_are_bound_do_not_matter() -> None:
    harness = Harness()
    assert harness.pool is not None
    answer = canned("SELECT x WHERE y = $1", {"x": "int8"}, [["5"]])
    interceptor = Interceptor([answer], "app", "ann")
    harness.pool.inspector = PluginInspector(interceptor=interceptor)
    client = harness.connect()
    batch = parse("select x where y = $1", oids=(NUMBER,)) + describe("S") + bind(b"1")
    got = harness.ask(client, batch + execute() + SYNC)
    assert (kinds(got), rows(got)) == ("1tT2DCZ", [[b"5"]])
    assert got[1].body == struct.pack("!HI", 1, NUMBER)
