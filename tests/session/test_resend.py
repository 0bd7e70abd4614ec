"""What a lost server has not answered: sent again where that does no harm, and nowhere else."""

from __future__ import annotations

import pytest

from router.config.values import PoolMode
from router.errors import ServerRefused
from router.protocol import messages
from router.routing.types import Role, RouterOptions
from router.session.activity import query_snapshots
from tests.support.harness import FakeClient, FakeServer, Harness, read_messages
from tests.support.wire import (
    FLUSH,
    SYNC,
    Message,
    bind,
    close,
    copy_data,
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

READ = "SELECT one"
WRITE = "INSERT INTO t VALUES (1)"
# The most that is kept.
LONG = 16 * 1024
GOODBYE = messages.error_response(
    "terminating connection due to administrator command", "57P01", severity="FATAL"
)
SPLITTING = RouterOptions(query_parser_enabled=True, query_parser_read_write_splitting=True)
REPLICAS = ((True, False, False),)


def sent(harness: Harness, client: FakeClient, *data: bytes) -> FakeServer:
    """Send bytes as far as a server, which does not answer; returns that."""
    client.send(*data)
    while client.deliver():
        pass  # what is new to the router takes more than a turn
    while harness.opening:
        harness.accept()
    [server] = [each for each in harness.live_servers() if each.connection.queue]
    if server.link.written:
        server.link.take()
    return server


def after_loss(harness: Harness, client: FakeClient, *data: bytes) -> list[Message]:
    """What a client is told whose server is lost while it has something on its way."""
    sent(harness, client, *data).die()
    return harness.read(client)


def used(harness: Harness) -> FakeClient:
    """A client of a pool with a connection that has been used."""
    client = harness.connect()
    harness.ask(client, query("SELECT zero"))
    return client


def ran(harness: Harness) -> list[str]:
    """What all servers have run."""
    return [sql for server in harness.servers for sql in server.model.log if "zero" not in sql]


# --- reads


def test_a_read_whose_server_dies_is_answered_by_another_one() -> None:
    harness = Harness()
    client = used(harness)
    assert rows(after_loss(harness, client, query(READ))) == [[READ.encode()]]
    assert len(harness.servers) == 2
    assert harness.pool is not None
    assert harness.pool.retried_reads == 1
    assert rows(harness.ask(client, query("SELECT two"))) == [[b"SELECT two"]]
    harness.check()


@pytest.mark.parametrize(
    "batch",
    [
        run(READ) + SYNC,
        parse(READ, "s") + bind(name="s") + execute() + SYNC,
        parse(READ, "s")
        + describe("S", "s")
        + bind(name="s")
        + execute()
        + close("S", "s")
        + SYNC,
        bind(name="known") + describe() + execute() + SYNC,
        bind(name="known", portal="p") + execute("p") + close("P", "p") + SYNC,
        parse("SELECT two", "") + bind() + execute() + bind(name="known") + execute() + SYNC,
    ],
)
def test_a_batch_of_reads_is_answered_by_another_server_as_it_would_have_been(
    batch: bytes,
) -> None:
    undisturbed, harness = Harness(), Harness()
    answers = []
    for each in (undisturbed, harness):
        client = used(each)
        each.ask(client, parse(READ, "known") + SYNC)
        if each is harness:
            answers.append(after_loss(each, client, batch))
        else:
            answers.append(each.ask(client, batch))
        # What it has prepared is as it should be.
        answers.append(each.ask(client, bind(name="known") + execute() + SYNC))
    assert answers[:2] == answers[2:]
    assert not sqlstates(answers[0])


def test_the_statement_is_prepared_on_the_new_server() -> None:
    harness = Harness()
    client = used(harness)
    harness.ask(client, parse("SELECT it", "s") + bind(name="s") + execute() + SYNC)
    answer = after_loss(harness, client, bind(name="s") + describe() + execute() + SYNC)
    assert kinds(answer) == "2TDCZ"
    assert list(harness.servers[1].model.statements.values()) == ["SELECT it"]


def test_a_pipeline_of_reads_goes_on_in_its_order() -> None:
    harness = Harness()
    client = used(harness)
    pipeline = (
        query("SELECT one"),
        run("SELECT two") + SYNC,
        parse("SELECT three", "s") + bind(name="s") + execute() + SYNC,
        close("S", "s") + SYNC,
        parse("SELECT four", "s") + bind(name="s") + execute() + SYNC,
        query("SELECT five"),
    )
    answer = after_loss(harness, client, *pipeline)
    words = [b"one", b"two", b"three", b"four", b"five"]
    assert rows(answer) == [[b"SELECT " + word] for word in words]
    assert kinds(answer).count("Z") == 6
    # Its names mean what they did.
    assert rows(harness.ask(client, bind(name="s") + execute() + SYNC)) == [[b"SELECT four"]]
    harness.check()


def test_a_pipeline_with_a_write_in_it_fails_as_a_whole() -> None:
    harness = Harness()
    client = used(harness)
    answer = after_loss(harness, client, query(READ), query(WRITE), query(READ))
    assert sqlstates(answer) == ["08006"]
    assert client.link.closed
    assert ran(harness) == []


def test_what_came_behind_waits_until_what_was_lost_is_answered() -> None:
    harness = Harness()
    client = used(harness)
    server = sent(harness, client, query("SELECT one"), query("SELECT two"))
    server.die()
    client.send(query("SELECT three"), run("SELECT four") + SYNC)
    answer = harness.read(client)
    assert rows(answer) == [[b"SELECT " + word] for word in (b"one", b"two", b"three", b"four")]


def test_a_replica_is_replaced_by_another() -> None:
    harness = Harness(servers=REPLICAS, options=SPLITTING)
    client = harness.connect()
    server = sent(harness, client, query("SELECT a FROM t"))
    server.die()
    assert harness.read(client)[1].row == [b"SELECT a FROM t"]


def test_other_connections_of_the_same_server_are_not_believed() -> None:
    harness = Harness(pool_size=3)
    one, two = harness.connect(), harness.connect()
    one.send(query("BEGIN"))
    two.send(query("BEGIN"))
    harness.run()
    harness.ask(one, query("COMMIT"))
    harness.ask(two, query("COMMIT"))
    old = list(harness.servers)
    assert len(old) == 2
    for server in old:
        server.model.is_closed = True  # both have gone, and nobody has noticed
    server = sent(harness, one, query(READ))
    server.die()
    answer = harness.read(one)
    assert rows(answer) == [[READ.encode()]]
    harness.check()


def test_what_meets_another_that_was_lost_with_the_first_is_sent_again_once_more() -> None:
    harness = Harness(pool_size=3)
    one, two = harness.connect(), harness.connect()
    one.send(query("BEGIN"))
    harness.run()
    harness.engine.advance(1.0)  # the second one is younger
    two.send(query("BEGIN"))
    harness.run()
    harness.ask(two, query("COMMIT"))
    harness.ask(one, query("COMMIT"))
    one.send(query(READ))
    [first] = [each for each in harness.servers if each.connection.queue]
    [second] = [each for each in harness.servers if each is not first]
    second.connection.asked_at = harness.engine.now
    first.link.take()
    harness.engine.advance(1.0)
    first.die()
    second.work()  # the question whether it is there
    second.answer()
    assert [segment.sink for segment in second.connection.queue] == [one.session]
    second.link.take()
    second.die()
    assert rows(harness.read(one)) == [[READ.encode()]]


@pytest.mark.parametrize("again", [query("SELECT 'again'"), run("SELECT 'again'") + SYNC])
def test_its_time_and_its_form_are_those_that_it_had(again: bytes) -> None:
    harness = Harness()
    client = used(harness)
    before = harness.part.counters.query_time
    server = sent(harness, client, again)
    harness.engine.advance(2.0)
    server.die()
    assert not sqlstates(harness.read(client))
    assert harness.part.counters.query_time - before == pytest.approx(2.0)
    found = {row.query: row.calls for row in query_snapshots(harness.engine.figures.queries)}
    assert found["SELECT ?"] == 1


def test_a_read_is_sent_again_once() -> None:
    harness = Harness()
    client = used(harness)
    sent(harness, client, query(READ)).die()
    while harness.opening:
        harness.accept()
    [second] = harness.live_servers()
    second.link.take()
    second.die()
    answer = harness.read(client)
    assert sqlstates(answer) == ["08006"]
    assert "not known" in answer[-1].fields["D"]
    assert client.link.closed


def test_without_retry_reads_it_fails() -> None:
    harness = Harness(retry_reads=False)
    client = used(harness)
    assert sqlstates(after_loss(harness, client, query(READ))) == ["08006"]
    assert client.link.closed


def test_who_gets_no_other_server_is_told_so_and_goes_on() -> None:
    harness = Harness(connect_timeout=1.0)
    client = used(harness)
    harness.ask(client, parse(READ, "s") + SYNC)
    sent(
        harness,
        client,
        query(READ),
        parse("SELECT b", "new") + bind(name="s") + execute() + SYNC,
    ).die()
    while harness.opening:
        harness.refuse(ServerRefused("go away", sqlstate="28P01"))
    answer = read_messages(client.receive())
    assert kinds(answer) == "EZEZ"
    assert sqlstates(answer) == ["28P01"] * 2
    # What the second one has prepared is not there.
    client.send(parse("SELECT c", "new") + SYNC)
    harness.engine.advance(0.5)
    assert kinds(harness.read(client)) == "1Z"
    assert rows(harness.ask(client, bind(name="s") + execute() + SYNC)) == [[READ.encode()]]


@pytest.mark.parametrize(
    "begin", [query("BEGIN"), query(" start transaction;"), run("BEGIN") + SYNC]
)
def test_a_begin_that_gets_no_other_server_ends_the_session(begin: bytes) -> None:
    harness = Harness(connect_timeout=1.0)
    client = used(harness)
    sent(harness, client, begin, query(READ)).die()
    client.send(query(WRITE))  # which belongs to that transaction
    while harness.opening:
        harness.refuse(ServerRefused("go away", sqlstate="28P01"))
    answer = read_messages(client.receive())
    assert (kinds(answer), sqlstates(answer)) == ("E", ["28P01"])
    assert answer[0].fields["S"] == "FATAL"
    assert client.link.closed
    assert ran(harness) == []
    harness.check()


def test_a_client_that_leaves_meanwhile_leaves_nothing_behind() -> None:
    harness = Harness()
    client = used(harness)
    sent(harness, client, query(READ), query(READ)).die()
    client.leave()
    harness.run()
    assert ran(harness) == []
    harness.check()


def test_a_cancel_while_it_waits_is_answered() -> None:
    harness = Harness()
    client = used(harness)
    sent(harness, client, query(READ)).die()
    client.session.cancel()
    assert sqlstates(read_messages(client.receive())) == ["57014"]
    harness.run()
    assert rows(harness.ask(client, query(READ))) == [[READ.encode()]]


def test_a_pool_that_is_replaced_meanwhile_has_it_sent_by_the_new_one() -> None:
    harness = Harness()
    client = used(harness)
    harness.ask(client, parse(READ, "s") + SYNC)
    sent(harness, client, bind(name="s") + execute() + SYNC).die()
    harness.replace_pool(harness.new_pool())
    harness.opening = [part for part in harness.opening if not part.retired]
    answer = harness.read(client)
    assert rows(answer) == [[READ.encode()]]


# --- what is no read


# --- transactions


@pytest.mark.parametrize(
    "statements",
    [
        ["BEGIN"],
        ["START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY"],
        ["begin", READ],
        ["BEGIN", READ, "ROLLBACK", "BEGIN", READ],
        ["BEGIN", READ, "COMMIT"],
        [READ, "BEGIN", "ROLLBACK", READ],
        ["ROLLBACK"],
    ],
)
@pytest.mark.parametrize("form", ["queries", "batches", "one batch"])
def test_a_transaction_that_nothing_is_known_of_yet_is_begun_elsewhere(
    statements: list[str], form: str
) -> None:
    data = [query(sql) if form == "queries" else run(sql) + SYNC for sql in statements]
    if form == "one batch":
        data = [b"".join(run(sql) for sql in statements) + SYNC]
    undisturbed, harness = Harness(), Harness()
    client, other = used(harness), used(undisturbed)
    assert after_loss(harness, client, *data) == undisturbed.ask(other, *data)
    then = query("SELECT where")
    assert harness.ask(client, then) == undisturbed.ask(other, then)
    assert ran(harness) == ran(undisturbed)
    harness.check()


@pytest.mark.parametrize(
    "statements",
    [
        ["BEGIN", WRITE],
        ["BEGIN", WRITE, "COMMIT"],
        ["BEGIN", READ, "PREPARE TRANSACTION 'a'"],
        ["BEGIN", "SET a.b TO c", "COMMIT"],
        ["BEGIN", "SELECT nextval('s')", "ROLLBACK"],
        ["BEGIN", "LOCK t"],
        ["BEGIN", "DECLARE c CURSOR FOR SELECT 1"],
    ],
)
@pytest.mark.parametrize("is_batch", [False, True])
def test_a_transaction_that_does_more_than_read_is_not(
    statements: list[str], is_batch: bool
) -> None:
    harness = Harness()
    data = [query(sql) for sql in statements]
    if is_batch:
        data = [b"".join(run(sql) for sql in statements) + SYNC]
    assert sqlstates(after_loss(harness, used(harness), *data)) == ["08006"]
    assert ran(harness) == []


@pytest.mark.parametrize("statement", ["COMMIT", "ROLLBACK", READ, "SAVEPOINT a", "END"])
def test_nothing_of_one_that_was_open_is_sent_again(statement: str) -> None:
    harness = Harness()
    client = used(harness)
    harness.ask(client, query("BEGIN"))
    assert sqlstates(after_loss(harness, client, query(statement))) == ["08006"]


@pytest.mark.parametrize(
    "sql",
    [
        WRITE,
        "UPDATE t SET a = 1",
        "DELETE FROM t",
        "SELECT nextval('s')",
        "SELECT f(1)",
        "SELECT * FROM t FOR UPDATE",
        "WITH gone AS (DELETE FROM t RETURNING *) SELECT * FROM gone",
        "SELECT a INTO other FROM t",
        "SELECT 1; SELECT 2",
        "SELECT pg_advisory_lock(1)",
        "SELECT set_config('a.b', 'c', false)",
        "SELECT pg_notify('a', 'b')",
        "COPY t FROM STDIN",
        "COPY t TO STDOUT",
        "BEGIN; INSERT INTO t VALUES (1)",
        "CALL p()",
        "DO 'begin end'",
        "LISTEN a",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "EXPLAIN ANALYZE INSERT INTO t VALUES (1)",
        "VACUUM",
        "SELECT",
        "SELECT $$",
    ][:-2],
)
@pytest.mark.parametrize("is_prepared", [False, True])
@pytest.mark.parametrize("options", [None, SPLITTING])
def test_nothing_but_a_read_is_sent_again(
    sql: str, is_prepared: bool, options: RouterOptions | None
) -> None:
    harness = Harness(options=options)
    client = used(harness)
    answer = after_loss(harness, client, run(sql) + SYNC if is_prepared else query(sql))
    assert sqlstates(answer) == ["08006"]
    assert "is not known" in answer[-1].fields["D"]
    assert client.link.closed
    assert len(harness.servers) == 1
    assert not harness.opening


def test_the_operators_write_functions_are_no_reads() -> None:
    options = RouterOptions(write_functions=("lower",))
    harness = Harness(options=options)
    client = used(harness)
    assert sqlstates(after_loss(harness, client, query("SELECT lower('A')"))) == ["08006"]


def test_nothing_of_a_transaction_is_sent_again() -> None:
    harness = Harness()
    client = used(harness)
    harness.ask(client, query("BEGIN"))
    assert sqlstates(after_loss(harness, client, query(READ))) == ["08006"]


@pytest.mark.parametrize(
    "batch",
    [
        run(READ),
        run(READ) + FLUSH,
        run(READ) + FLUSH + SYNC,
        bind(name="unknown") + execute() + SYNC,
        parse(WRITE) + bind() + execute() + SYNC,
        parse(READ) + bind() + execute() + parse(WRITE) + bind() + execute() + SYNC,
    ],
)
def test_a_batch_that_is_not_whole_or_not_known_is_not_sent_again(batch: bytes) -> None:
    harness = Harness()
    client = used(harness)
    client.send(batch)
    harness.engine.advance(0.1)  # a batch without an end is held
    [server] = [each for each in harness.live_servers() if each.connection.queue]
    server.link.take()
    server.die()
    assert sqlstates(harness.read(client)) == ["08006"]


def test_what_is_too_long_to_keep_is_not_sent_again() -> None:
    for size, states in ((LONG - 200, []), (LONG + 200, ["08006"])):
        harness = Harness()
        client = used(harness)
        sql = "SELECT '" + "x" * size + "'"
        assert sqlstates(after_loss(harness, client, query(sql))) == states
        harness = Harness()
        client = used(harness)
        harness.ask(client, parse("SELECT it", "s") + SYNC)
        value = b"x" * size
        batch = bind(value, name="s") + execute() + SYNC
        assert sqlstates(after_loss(harness, client, batch)) == states
        harness = Harness()
        client = used(harness)
        assert sqlstates(after_loss(harness, client, run("SELECT it", value) + SYNC)) == states


def test_a_batch_of_a_long_read_keeps_only_its_own() -> None:
    harness = Harness()
    client = used(harness)
    harness.ask(client, parse("SELECT it", "s") + SYNC)
    batch = bind(b"v", name="s") + execute() + SYNC
    server = sent(harness, client, batch + query("SELECT '" + "x" * LONG + "'"))
    request = server.connection.queue[0].request
    assert isinstance(request, list)
    assert sum(len(operation.data) for operation in request) < 100


def test_data_of_a_copy_is_not_forgotten() -> None:
    harness = Harness()
    client = used(harness)
    # Nothing of it is sent, and yet it cannot be sent again without its data.
    client.send(query("COPY t FROM STDIN"), copy_data(b"1\n"))
    [server] = harness.live_servers()
    server.die()
    assert sqlstates(harness.read(client)) == ["08006"]


# --- what has been answered in part


@pytest.mark.parametrize("options", [None, SPLITTING])
def test_what_was_answered_in_part_is_not_sent_again(options: RouterOptions | None) -> None:
    whole = rows_of(READ)
    for size in range(1, len(whole)):
        harness = Harness(options=options)
        client = used(harness)
        server = sent(harness, client, query(READ))
        server.connection.on_data(whole[:size])
        given, before = client.link.written, len(client.got)
        server.die()
        harness.run()
        told = client.got[before:]
        assert told.startswith(given)
        if given:
            assert client.link.closed
            assert set(kinds(read_messages(told[len(given) :]))) <= {"E"}
        else:
            assert told == whole


def rows_of(sql: str) -> bytes:
    """What the model answers."""
    harness = Harness()
    client = harness.connect()
    harness.ask(client, query(sql))
    return client.got


@pytest.mark.parametrize(
    "batch",
    [query(READ), run(READ) + SYNC, parse(READ, "s") + bind(name="s") + execute() + SYNC],
)
def test_the_last_word_of_a_server_is_not_passed_on_if_it_is_the_first(batch: bytes) -> None:
    harness = Harness()
    client = used(harness)
    server = sent(harness, client, batch)
    server.connection.on_data(GOODBYE)
    answer = harness.read(client)
    assert sqlstates(answer) == []
    assert rows(answer) == [[READ.encode()]]
    assert server.link.closed


@pytest.mark.parametrize("name", ["", "s"])
def test_what_was_prepared_by_a_batch_that_is_sent_again_stays_so(name: str) -> None:
    harness = Harness()
    client = used(harness)
    harness.ask(client, parse("SELECT old", name), SYNC)
    batch = close("S", name) + parse(READ, name) + describe("S", name) + SYNC
    server = sent(harness, client, batch)
    server.connection.on_data(GOODBYE)
    harness.read(client)
    answer = harness.ask(client, bind(name=name), execute(), SYNC)
    assert rows(answer) == [[READ.encode()]]


def test_nor_if_it_comes_with_answers_that_nobody_was_given() -> None:
    harness = Harness()
    client = used(harness)
    server = sent(harness, client, run(READ) + SYNC)
    server.connection.on_data(messages.PARSE_COMPLETE + messages.BIND_COMPLETE + GOODBYE)
    answer = harness.read(client)
    assert kinds(answer) == "12TDCZ"


@pytest.mark.parametrize("farewell", [GOODBYE, b"warning"])
@pytest.mark.parametrize(
    "batch",
    [
        run(READ) + SYNC,
        parse(READ, "s") + bind(name="s") + describe() + execute() + SYNC,
        parse(READ, "s") + describe("S", "s") + bind(name="s") + execute() + SYNC,
        parse(READ, "s") + bind(name="s") + execute() + bind(name="known") + execute() + SYNC,
        parse("SELECT new", "new") + parse(READ, "s") + bind(name="s") + execute() + SYNC,
        bind(name="known") + execute() + close("S", "known") + parse(READ, "s") + SYNC,
    ],
)
def test_nor_behind_any_part_of_an_answer_that_nobody_was_given(
    batch: bytes, farewell: bytes
) -> None:
    undisturbed = prepared(Harness())
    expected = undisturbed[0].ask(undisturbed[1], batch)
    farewell = warning("57P01") if farewell == b"warning" else farewell
    # The server's answer has what the router has put in, too.
    for count in range(len(expected) + 3):
        harness, client = prepared(Harness())
        server, answer = about_to_answer(harness, client, batch)
        part = answer[:count]
        if "Z" in kinds(part):
            break
        server.connection.on_data(
            b"".join(message(each.kind, each.body) for each in part) + farewell
        )
        assert not client.link.written
        server.die()
        assert harness.read(client) == expected
        harness.check()
        # What it has prepared is as it should be, and what it has not is not.
        for name in ("known", "s"):
            again = bind(name=name) + execute() + SYNC
            assert harness.ask(client, again) == undisturbed[0].ask(undisturbed[1], again)


def about_to_answer(
    harness: Harness, client: FakeClient, batch: bytes
) -> tuple[FakeServer, list[Message]]:
    """A server that has been sent a batch, and all that it is going to answer."""
    [server] = [each for each in harness.servers if not each.link.closed]
    client.send(batch)
    while client.deliver():
        pass
    server.work()
    return server, read_messages(server.model.take_output())


def prepared(harness: Harness) -> tuple[Harness, FakeClient]:
    """A client that has prepared two statements, one of which its server has not."""
    client = used(harness)
    harness.ask(client, parse(READ, "known") + parse("SELECT two", "known two") + SYNC)
    return harness, client


@pytest.mark.parametrize(("count", "is_told"), [(20, False), (400, True)])
def test_of_an_answer_no_more_than_a_few_pages_are_kept(count: int, is_told: bool) -> None:
    harness = Harness()
    client = used(harness)
    harness.ask(client, run(READ) + SYNC)
    # What the router makes up of it cuts what is passed on into parts.
    server, answer = about_to_answer(harness, client, run(READ) * count + SYNC)
    before = b"".join(message(each.kind, each.body) for each in answer[:-1])
    assert (len(before) > 16384) is is_told
    server.connection.on_data(before + GOODBYE)
    assert sqlstates(harness.read(client)) == (["57P01"] if is_told else [])


def test_the_last_word_is_passed_on_behind_a_part_of_the_answer() -> None:
    harness = Harness()
    client = used(harness)
    server = sent(harness, client, query(READ))
    part = rows_of(READ)
    end = part.index(b"D", 1)
    server.connection.on_data(part[:end])
    server.connection.on_data(GOODBYE)
    server.die()
    answer = harness.read(client)
    assert kinds(answer) == "TE"
    assert sqlstates(answer) == ["57P01"]
    assert client.link.closed


def test_the_last_word_to_a_write_is_passed_on_as_it_is() -> None:
    harness = Harness()
    client = used(harness)
    server = sent(harness, client, query(WRITE))
    server.connection.on_data(GOODBYE)
    assert client.link.written == GOODBYE
    assert client.link.closed
    assert len(harness.servers) == 1


def warning(sqlstate: str) -> bytes:
    """What a server says that is stopped at once."""
    return message("N", f"SWARNING\0VWARNING\0C{sqlstate}\0Mterminating\0\0".encode())


@pytest.mark.parametrize("sqlstate", ["57P01", "57P02"])
@pytest.mark.parametrize(
    ("batch", "before"),
    [
        (query(READ), b""),
        (run(READ) + SYNC, messages.PARSE_COMPLETE + messages.BIND_COMPLETE),
        (parse(READ, "s") + bind(name="s") + execute() + SYNC, messages.PARSE_COMPLETE),
    ],
)
def test_the_last_warning_of_a_server_is_not_passed_on_if_nothing_else_was(
    batch: bytes, before: bytes, sqlstate: str
) -> None:
    harness = Harness()
    client = used(harness)
    server = sent(harness, client, batch)
    server.connection.on_data(before + warning(sqlstate))
    assert not client.link.written
    server.die()
    answer = harness.read(client)
    assert "N" not in kinds(answer)
    assert rows(answer) == [[READ.encode()]]


def test_the_last_warning_to_a_write_is_passed_on() -> None:
    harness = Harness()
    client = used(harness)
    server = sent(harness, client, query(WRITE))
    server.connection.on_data(warning("57P01"))
    server.die()
    answer = harness.read(client)
    assert kinds(answer) == "NE"
    assert sqlstates(answer) == ["08006"]
    assert client.link.closed


@pytest.mark.parametrize("batch", [query(WRITE), run(WRITE) + SYNC])
def test_a_warning_that_looks_like_the_last_comes_where_it_came(batch: bytes) -> None:
    undisturbed, harness = Harness(), Harness()
    other = used(undisturbed)
    before = len(other.got)
    whole = kinds(undisturbed.ask(other, batch))
    client = used(harness)
    server = sent(harness, client, batch)
    server.connection.on_data(warning("57P01"))
    server.connection.on_data(warning("01000"))
    server.connection.on_data(other.got[before:])
    assert kinds(harness.read(client)) == "NN" + whole


@pytest.mark.parametrize("batch", [run(READ) + SYNC, parse(READ, "s") + bind(name="s") + SYNC])
def test_a_warning_among_parts_of_an_answer_comes_where_it_came(batch: bytes) -> None:
    undisturbed = prepared(Harness())
    expected = undisturbed[0].ask(undisturbed[1], batch)
    _, answer = about_to_answer(*prepared(Harness()), batch)
    for count in range(1, len(answer)):
        harness, client = prepared(Harness())
        server, answer = about_to_answer(harness, client, batch)
        parts = [message(each.kind, each.body) for each in answer]
        server.connection.on_data(b"".join(parts[:count]) + warning("57P01"))
        assert not client.link.written
        server.connection.on_data(b"".join(parts[count:]))
        told = harness.read(client)
        assert [each for each in told if each.kind != "N"] == expected
        place = kinds(told).index("N")
        # Parts that stand in for others, or are the router's own, come before it.
        assert kinds(told[place + 1 :]) == kinds(answer[count:])


# --- what was never sent


@pytest.mark.parametrize(
    "batch",
    [
        query(WRITE),
        query("BEGIN"),
        run(WRITE) + SYNC,
        parse(WRITE, "s") + bind(name="s") + SYNC,
    ],
)
def test_what_has_never_left_is_sent_to_another_server_whatever_it_is(batch: bytes) -> None:
    harness = Harness()
    client = used(harness)
    client.send(batch)
    [server] = harness.live_servers()
    server.die()
    answer = harness.read(client)
    assert sqlstates(answer) == []
    assert kinds(answer)[-1] == "Z"
    assert len(harness.servers) == 2
    assert harness.pool is not None
    assert harness.pool.retried_reads == 0


@pytest.mark.parametrize(
    "sql", ["SELECT pg_advisory_lock(1)", "SELECT set_config('a.b', 'c', false)"]
)
def test_what_it_leaves_at_the_other_server_is_undone_there(sql: str) -> None:
    undisturbed, harness = (Harness(pin_session_state=False) for _ in range(2))
    for each in (undisturbed, harness):
        client = used(each)
        client.send(query(sql))
        if each is harness:
            [server] = harness.live_servers()
            server.die()
        assert not sqlstates(each.read(client))
    assert ran(undisturbed)[0] == sql
    assert len(ran(undisturbed)) > 1
    assert ran(harness) == ran(undisturbed)


def test_of_what_has_left_in_part_nothing_is_sent_again() -> None:
    harness = Harness()
    client = used(harness)
    client.send(query(WRITE))
    [server] = harness.live_servers()
    server.link.take(1)
    server.die()
    assert sqlstates(harness.read(client)) == ["08006"]
    assert len(harness.servers) == 1


@pytest.mark.parametrize("batch", [query(WRITE), run(WRITE) + SYNC])
def test_what_waits_for_the_settings_to_be_accepted_has_not_been_sent(batch: bytes) -> None:
    harness = Harness()
    used(harness)
    client = harness.connect(TimeZone=f"Zone/{len(batch)}")  # not known to be accepted
    server = sent(harness, client, batch)
    assert client.session.lease.awaits_settings
    server.die()
    answer = harness.read(client)
    assert sqlstates(answer) == []
    assert ran(harness)[-1] == WRITE
    assert ran(harness).count(WRITE) == 1


def test_settings_that_end_servers_are_tried_twice() -> None:
    harness = Harness()
    used(harness)
    client = harness.connect(TimeZone="Zone/fatal")
    for number in range(2):
        server = sent(harness, client, query(READ) if not number else b"")
        assert client.session.lease.awaits_settings
        server.die()
    assert sqlstates(harness.read(client)) == ["08006"]
    assert client.link.closed


# --- session mode


def test_in_session_mode_the_first_read_is_sent_again_and_no_other() -> None:
    harness = Harness(pool_mode=PoolMode.SESSION)
    first = used(harness)
    first.leave()
    harness.run()
    client = harness.connect()
    assert rows(after_loss(harness, client, query(READ))) == [[READ.encode()]]
    assert sqlstates(after_loss(harness, client, query(READ))) == ["08006"]


# --- statements that are out of date


def stale() -> bytes:
    """What PostgreSQL says in German."""
    body = b"SFEHLER\0VERROR\0C0A000\0Mgecachter Plan\0RRevalidateCachedQuery\0\0"
    return b"E" + (len(body) + 4).to_bytes(4, "big") + body


READY = messages.READY_IDLE


@pytest.mark.parametrize("sql", [READ, "INSERT INTO t VALUES (1) RETURNING *"])
def test_a_statement_with_other_columns_is_prepared_anew(sql: str) -> None:
    harness = Harness()
    client = used(harness)
    harness.ask(client, parse(sql, "s") + bind(name="s") + execute() + SYNC)
    server = sent(harness, client, bind(name="s") + describe() + execute() + SYNC)
    before = dict(server.model.statements)
    server.connection.on_data(stale())
    assert not client.link.written
    server.connection.on_data(READY)
    answer = harness.read(client)
    assert sqlstates(answer) == []
    assert kinds(answer)[0] == "2"
    assert server.model.statements.keys() - before.keys()
    assert harness.pool is not None
    assert harness.pool.prepared_anew == 1
    harness.check()


def test_another_connection_that_has_it_is_not_believed_either() -> None:
    harness = Harness()
    one, two = harness.connect(), harness.connect()
    for client in (one, two):
        harness.ask(client, query("BEGIN"))
    for client in (one, two):
        harness.ask(client, parse(READ, "s") + bind(name="s") + execute() + SYNC)
    for client in (one, two):
        harness.ask(client, query("COMMIT"))
    first, second = harness.servers
    assert list(first.model.statements) == list(second.model.statements)
    server = sent(harness, one, bind(name="s") + describe() + execute() + SYNC)
    other = first if server is second else second
    before = set(other.model.statements)
    server.connection.on_data(stale() + READY)
    assert rows(harness.read(one)) == [[READ.encode()]]
    assert {*first.model.statements, *second.model.statements} - before


def test_with_something_behind_it_it_fails_and_the_rest_goes_on() -> None:
    harness = Harness()
    client = used(harness)
    harness.ask(client, parse(READ, "s") + bind(name="s") + execute() + SYNC)
    server = sent(harness, client, bind(name="s") + execute() + SYNC, query("SELECT two"))
    server.model.output = b""
    server.connection.on_data(stale() + READY)
    assert sqlstates(read_messages(client.receive())) == ["0A000"]
    server.connection.on_data(rows_of("SELECT two"))
    assert rows(read_messages(client.receive())) == [[b"SELECT two"]]


def test_who_does_not_ask_for_the_columns_is_told_that_they_have_changed() -> None:
    harness = Harness()
    client = used(harness)
    harness.ask(client, parse(READ, "s") + bind(name="s") + execute() + SYNC)
    server = sent(harness, client, bind(name="s") + execute() + SYNC)
    before = dict(server.model.statements)
    server.model.output = b""
    server.connection.on_data(stale() + READY)
    assert sqlstates(read_messages(client.receive())) == ["0A000"]
    # It is told again, and by whichever client it is used, until it is prepared anew.
    assert server.model.statements == before
    harness.ask(client, close("S", "s") + parse(READ, "s") + SYNC)
    assert server.model.statements.keys() - before.keys()


def test_but_once() -> None:
    harness = Harness()
    client = used(harness)
    harness.ask(client, parse(READ, "s") + bind(name="s") + execute() + SYNC)
    server = sent(harness, client, bind(name="s") + describe() + execute() + SYNC)
    server.connection.on_data(stale() + READY)
    server.link.take()
    assert server.connection.client is client.session
    server.connection.on_data(messages.PARSE_COMPLETE + stale() + READY)
    assert sqlstates(read_messages(client.receive())) == ["0A000"]


@pytest.mark.parametrize("begin", [query("BEGIN"), b""])
def test_in_a_transaction_or_behind_others_it_fails(begin: bytes) -> None:
    harness = Harness()
    client = used(harness)
    harness.ask(client, parse(READ, "s") + bind(name="s") + execute() + SYNC)
    if begin:
        harness.ask(client, begin)
        server = sent(harness, client, bind(name="s") + execute() + SYNC)
        status = b"E"
    else:
        batch = bind(name="s") + execute()
        server = sent(harness, client, batch + batch + SYNC)
        status = b"I"
    server.connection.on_data(stale() + READY[:-1] + status)
    assert sqlstates(read_messages(client.receive())) == ["0A000"]
    assert harness.pool is not None
    assert harness.pool.prepared_anew == 0


def test_a_role_that_was_chosen_holds_for_what_is_sent_again() -> None:
    harness = Harness(servers=REPLICAS, options=RouterOptions(default_role=Role.REPLICA))
    client = harness.connect()
    server = sent(harness, client, query(READ))
    server.die()
    assert rows(harness.read(client)) == [[READ.encode()]]
    assert not harness.servers[-1].connection.pool.is_primary
