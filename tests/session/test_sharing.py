"""Several clients at one server connection: who goes behind whom, and what becomes of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.config.values import Multiplexing, PoolMode, ReadYourWrites
from router.multiplexing import NO_ROOM, NOT_A_READ, STATE
from router.pool.hubs import Hubs
from router.session.listening import Listening
from tests.support.harness import FakeClient, FakeServer, Harness
from tests.support.wire import (
    SYNC,
    Message,
    bind,
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
    from router.pool.sharing import Sharing

READ = "SELECT a"
SLOW = 0.02


class Shared(Harness):
    """A pool that shares, of one connection unless told otherwise."""

    def __init__(self, *, pool_size: int = 1, **settings: object) -> None:
        super().__init__(
            options=None,
            servers=((True,),),
            pool_size=pool_size,
            **{
                "multiplexing": Multiplexing.READS,
                "multiplexing_depth": 8,
                "multiplexing_slow": SLOW,
                **settings,
            },
        )

    @property
    def sharing(self) -> Sharing:
        """What is shared."""
        assert self.part.sharing is not None
        return self.part.sharing

    @property
    def alone(self) -> dict[str, int]:
        """Why something was not."""
        return self.sharing.alone

    def known(self, *texts: str) -> None:
        """Have texts run once, and so known to be quick."""
        client = self.connect()
        for sql in (READ, *texts):
            assert kinds(self.ask(client, query(sql)))[-1] == "Z"

    def sent(self, count: int, sql: str = READ) -> list[FakeClient]:
        """So many clients, which have all sent the same; no server has answered."""
        clients = [self.connect() for _ in range(count)]
        for client in clients:
            client.send(query(sql))
        return clients

    def only(self) -> FakeServer:
        """The one server that is at work."""
        [found] = [each for each in self.live_servers() if each.connection.queue]
        return found


def got(client: FakeClient) -> list[Message]:
    """What a client has been sent by now."""
    from tests.support.harness import read_messages

    client.receive()
    return read_messages(client.got)


def answered(client: FakeClient, sql: str = READ) -> bool:
    """Whether it has just the answer to one statement."""
    found = got(client)
    return kinds(found) == "TDCZ" and rows(found) == [[sql.encode()]]


# --- who goes behind whom


def test_reads_of_several_go_out_together_and_are_answered_one_by_one() -> None:
    harness = Shared()
    harness.known()
    first, second, third = harness.sent(3)
    server = harness.only()
    assert server.link.written == query(READ) * 3
    assert (harness.sharing.shared, harness.sharing.deepest) == (2, 3)
    assert harness.sharing.under_way == 3
    harness.run()
    assert harness.sharing.under_way == 0
    assert all(map(answered, (first, second, third)))
    harness.check()


def test_idle_connections_are_used_first() -> None:
    harness = Shared(pool_size=2)
    harness.known()
    harness.opening.clear()
    assert harness.pool is not None
    other = harness.connect()
    other.send(query("BEGIN"), query(READ))
    while harness.opening:
        harness.accept()
    clients = harness.sent(2)
    assert harness.sharing.shared <= 1
    harness.run()
    assert all(map(answered, clients))


def idle(harness: Shared, count: int) -> None:
    """Have so many connections, all of them idle."""
    clients = [harness.connect() for _ in range(count)]
    for client in clients:
        harness.ask(client, query("BEGIN"))
    for client in clients:
        harness.ask(client, query("COMMIT"))
    assert len(harness.part.idle) == count


@pytest.mark.parametrize("connections", [1, 2, 3])
def test_idle_connections_are_spared_while_enough_are_at_work(connections: int) -> None:
    harness = Shared(pool_size=4, multiplexing_connections=connections)
    harness.known()
    idle(harness, 4)
    harness.alone.clear()
    clients = harness.sent(4 * connections)
    assert len(harness.part.active) == connections
    assert harness.sharing.shared == 3 * connections
    assert harness.alone == {}
    # What is no read has one of those that are idle.
    writer = harness.connect()
    writer.send(query("INSERT INTO t VALUES (1)"))
    assert len(harness.part.active) == connections + 1
    harness.run()
    assert all(map(answered, clients))
    assert kinds(got(writer)) == "CZ"
    harness.check()


def test_they_are_not_spared_if_that_is_not_wanted() -> None:
    harness = Shared(pool_size=4, multiplexing_connections=0)
    harness.known()
    idle(harness, 4)
    clients = harness.sent(5)
    assert (len(harness.part.active), harness.sharing.shared) == (4, 1)
    harness.run()
    assert all(map(answered, clients))


@pytest.mark.parametrize(
    ("seconds", "shared"), [(0.0, 7), (0.0001, 5), (0.0004, 1), (0.0006, 0), (SLOW / 2, 0)]
)
def test_they_are_not_spared_for_long(seconds: float, shared: int) -> None:
    harness = Shared(pool_size=9, multiplexing_connections=1)
    client = harness.connect()
    client.send(query(READ))
    while harness.opening:
        harness.accept()
    harness.engine.advance(seconds)
    harness.run()
    idle(harness, 9)
    [first] = harness.sent(1)
    for _ in range(shared):
        harness.sent(1)
        assert len(harness.part.active) == 1
    assert harness.sharing.shared == shared
    harness.sent(1)
    assert len(harness.part.active) == 2
    harness.run()
    assert answered(first)


def test_they_are_not_spared_for_what_takes_long_just_now() -> None:
    harness = Shared(pool_size=2, multiplexing_connections=1)
    harness.known()
    idle(harness, 2)
    harness.sent(1)
    harness.engine.advance(0.001)
    harness.sent(1)
    assert (len(harness.part.active), harness.sharing.shared) == (2, 0)
    harness.sent(1)  # and then there is none that is idle
    assert harness.sharing.shared == 1


def test_a_connection_more_is_opened_meanwhile() -> None:
    harness = Shared(pool_size=2)
    harness.known()
    harness.sent(3)
    assert harness.sharing.shared == 2
    assert len(harness.opening) == 1


def test_with_the_option_off_nobody_shares() -> None:
    harness = Harness(pool_size=1, multiplexing=Multiplexing.OFF)
    clients = [harness.connect() for _ in range(3)]
    for client in clients:
        harness.ask(client, query(READ))
        client.got = b""
    for client in clients:
        client.send(query(READ))
    [server] = harness.live_servers()
    assert harness.part.sharing is None
    assert server.link.written == query(READ)
    assert len(harness.part.waiters) == 2
    harness.run()
    assert all(map(answered, clients))


@pytest.mark.parametrize("retry_reads", [True, False])
@pytest.mark.parametrize("pool_mode", PoolMode)
def test_who_shares(pool_mode: PoolMode, retry_reads: bool) -> None:
    """In session mode nobody; unasked, where the same statement may be run twice anyway."""
    for multiplexing, expected in (
        (Multiplexing.OFF, False),
        (Multiplexing.READS, pool_mode is not PoolMode.SESSION),
        (None, pool_mode is PoolMode.TRANSACTION and retry_reads),
    ):
        harness = Harness(
            pool_mode=pool_mode, multiplexing=multiplexing, retry_reads=retry_reads
        )
        assert (harness.part.sharing is not None) is expected


def test_never_more_than_the_depth() -> None:
    harness = Shared(multiplexing_depth=2)
    harness.known()
    clients = harness.sent(4)
    server = harness.only()
    assert len(server.connection.queue) == 2
    assert len(harness.part.waiters) == 2
    server.work(len(query(READ)))
    server.answer()
    assert len(server.connection.queue) == 2  # the next one has taken the place
    harness.run()
    assert all(map(answered, clients))
    assert harness.sharing.deepest == 2
    assert harness.alone == {NO_ROOM: 1}  # behind one who waits nobody even asks


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (1)",
        "SELECT a FOR UPDATE",
        "SELECT a; SELECT b",
        "SELECT nextval('s')",
        "SELECT set_config('a.b', 'c', false)",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_sleep(1)",
        "SELECT unknown_function()",
        "BEGIN",
        "SHOW timezone",
        "SET timezone TO 'x'",
        "PREPARE p AS SELECT 1",
        "COPY (SELECT 1) TO STDOUT",
        "EXPLAIN SELECT 1",
        "",
    ],
)
def test_only_single_reads_that_leave_nothing_are_shared(sql: str) -> None:
    harness = Shared()
    harness.known(*([] if sql.startswith(("BEGIN", "SET", "PREPARE", "COPY")) else [sql]))
    [_] = harness.sent(1)
    other = harness.connect()
    other.send(query(sql))
    assert len(harness.part.waiters) == 1
    assert harness.sharing.shared == 0
    assert set(harness.alone) <= {NOT_A_READ}
    # And nobody goes behind it.
    harness.run()
    other = harness.connect()
    other.send(query(sql))
    if any(each.connection.queue for each in harness.live_servers()):
        harness.sent(1)
        assert harness.sharing.shared == 0


def test_nobody_goes_behind_a_transaction() -> None:
    harness = Shared()
    harness.known()
    writer = harness.connect()
    harness.ask(writer, query("BEGIN"), query("SELECT a"))
    writer.send(query(READ))
    [reader] = harness.sent(1)
    assert len(harness.part.waiters) == 1
    harness.ask(writer, query("COMMIT"))
    assert answered(reader)


def test_other_settings_need_a_server_alone() -> None:
    harness = Shared()
    harness.known()
    harness.sent(1)
    other = harness.connect(DateStyle="German")
    other.send(query(READ))
    assert len(harness.part.waiters) == 1
    assert harness.sharing.shared == 0
    harness.run()
    assert rows(got(other)) == [[READ.encode()]]


def test_nobody_goes_behind_what_nobody_knows_to_be_quick() -> None:
    harness = Shared()
    harness.known("SELECT b")
    harness.sent(1, "SELECT other")
    harness.sent(1, "SELECT b")
    assert harness.sharing.shared == 0
    assert harness.alone == {NO_ROOM: 1}


def test_nobody_goes_behind_what_was_slow_lately() -> None:
    harness = Shared()
    harness.known()
    [client] = harness.sent(1)
    harness.engine.advance(SLOW * 4)
    harness.run()
    assert answered(client)
    for _ in range(2):
        harness.sent(1)
    assert harness.sharing.shared == 0
    assert len(harness.part.waiters) == 1


def test_nobody_goes_behind_what_takes_long_just_now() -> None:
    harness = Shared()
    harness.known()
    harness.sent(1)
    harness.engine.advance(SLOW * 2)
    harness.sent(1)
    assert harness.sharing.shared == 0


def test_whoever_waits_for_a_connection_alone_is_not_overtaken() -> None:
    harness = Shared()
    harness.known()
    first, second = harness.sent(2)
    writer = harness.connect()
    writer.send(query("INSERT INTO t VALUES (1)"))
    [third] = harness.sent(1)
    assert len(harness.part.waiters) == 2
    server = harness.only()
    server.work()
    server.answer()
    assert answered(first)
    assert answered(second)
    assert [segment.sink for segment in server.connection.queue] == [writer.session]
    harness.run()
    assert answered(third)


def test_nobody_joins_a_pool_that_is_on_its_way_out() -> None:
    harness = Shared()
    harness.known()
    harness.sent(1)
    harness.replace_pool(harness.new_pool(multiplexing=Multiplexing.READS))
    assert harness.pool is not None
    [client] = harness.sent(1)
    harness.run()
    assert answered(client)
    assert len(harness.servers) == 2


def test_a_connection_that_has_lived_long_enough_takes_nobody_more() -> None:
    harness = Shared(server_lifetime=5.0)
    harness.known()
    [first] = harness.sent(1)
    harness.only().connection.expires_at = harness.engine.now
    [second] = harness.sent(1)
    assert harness.sharing.shared == 0
    harness.run()
    assert answered(first)
    assert answered(second)
    assert len(harness.servers) == 2


def test_who_must_see_its_own_writes_needs_a_server_alone() -> None:
    harness = Shared(read_your_writes=ReadYourWrites.SESSION)
    harness.known()
    harness.sent(2)
    assert harness.sharing.shared == 0
    assert harness.alone == {STATE: 1}


# --- a client's own order


def test_a_client_sends_nothing_else_before_its_answer() -> None:
    harness = Shared()
    harness.known("SELECT b", "SELECT c")
    first, second = harness.sent(2)
    for client in (first, second):
        client.send(query("SELECT b"), query("SELECT c"))
    server = harness.only()
    assert server.link.written == query(READ) * 2
    harness.run()
    for client in (first, second):
        assert rows(got(client)) == [[b"SELECT a"], [b"SELECT b"], [b"SELECT c"]]


def test_what_a_client_says_last_comes_after_its_answer() -> None:
    harness = Shared()
    harness.known()
    first, second = harness.sent(2)
    second.send(b"X\0\0\0\4")
    harness.run()
    assert answered(first)
    assert answered(second)
    assert second.ended == "client terminated"
    assert not first.ended


# --- the extended protocol


def asking(name: str, value: bytes) -> bytes:
    """Bind, Describe, Execute and Sync of a named statement."""
    return bind(value, name=name) + describe() + execute() + SYNC


def test_whole_batches_are_shared() -> None:
    harness = Shared()
    clients = [harness.connect() for _ in range(3)]
    for number, client in enumerate(clients):
        harness.ask(client, parse(f"SELECT a{number % 2}, $1", "s"), SYNC)
        harness.ask(client, asking("s", b"warm"))
        client.got = b""
    for number, client in enumerate(clients):
        client.send(asking("s", b"%d" % number))
    assert harness.sharing.shared == 2
    assert len(harness.only().connection.queue) == 3
    harness.run()
    for number, client in enumerate(clients):
        assert rows(got(client)) == [[b"SELECT a%d, $1" % (number % 2) + b" %d" % number]]


def test_unnamed_statements_are_shared() -> None:
    harness = Shared()
    clients = [harness.connect() for _ in range(3)]
    for number, client in enumerate(clients):
        for _ in range(2):
            harness.ask(client, run(f"SELECT a{number}, $1", b"warm"), SYNC)
        client.got = b""
    for number, client in enumerate(clients):
        client.send(run(f"SELECT a{number}, $1", b"%d" % number), SYNC)
    assert harness.sharing.shared == 2
    harness.run()
    for number, client in enumerate(clients):
        assert kinds(got(client)) == "12TDCZ"
        assert rows(got(client)) == [[b"SELECT a%d, $1 %d" % (number, number)]]


def test_nobody_goes_behind_what_is_still_being_prepared() -> None:
    harness = Shared()
    harness.known("SELECT b")
    first, second = harness.connect(), harness.connect()
    first.send(parse("SELECT b", "s"), bind(name="s"), execute(), SYNC)
    while harness.opening:
        harness.accept()
    second.send(parse("SELECT b", "t"), bind(name="t"), execute(), SYNC)
    assert harness.sharing.shared == 0
    harness.run()
    assert rows(got(first)) == rows(got(second)) == [[b"SELECT b"]]


def test_what_a_server_lacks_is_prepared_behind_others() -> None:
    harness = Shared(prepared_statements_cache_size=1)
    harness.known("SELECT b", "SELECT c")
    first, second = harness.connect(), harness.connect()
    for client, sql in ((first, "SELECT b"), (second, "SELECT c")):
        harness.ask(client, parse(sql, "s"), SYNC)
        harness.ask(client, bind(name="s") + execute() + SYNC)
        client.got = b""
    harness.ask(first, bind(name="s") + execute() + SYNC)
    first.got = b""
    for client in (first, second):
        client.send(bind(name="s") + execute() + SYNC)
    assert harness.sharing.shared == 1
    harness.run()
    assert rows(got(first)) == [[b"SELECT b"]]
    assert rows(got(second)) == [[b"SELECT c"]]


@pytest.mark.parametrize(
    "batch",
    [
        bind(name="s") + execute() + bind(name="s") + execute() + SYNC,
        describe("S", "s") + SYNC,
        parse("SELECT x", "x") + bind(name="s") + execute() + SYNC,
    ],
)
def test_batches_that_run_more_than_one_statement_are_not_shared(batch: bytes) -> None:
    harness = Shared()
    harness.known()
    other = harness.connect()
    harness.ask(other, parse("SELECT s", "s"), SYNC)
    harness.ask(other, bind(name="s") + execute() + SYNC)
    harness.sent(1)
    other.send(batch)
    assert harness.sharing.shared == 0


# --- what becomes of each


def test_who_leaves_takes_nothing_from_the_others() -> None:
    for gone in range(3):
        harness = Shared()
        harness.known()
        clients = harness.sent(3)
        clients[gone].leave()
        harness.run()
        others = [client for client in clients if client is not clients[gone]]
        assert all(map(answered, others)), gone
        assert got(clients[gone]) == []
        harness.check()


def test_who_leaves_has_what_it_asked_for_cancelled_and_nobody_elses() -> None:
    harness = Shared()
    harness.known()
    first, second = harness.sent(2)
    first.leave()
    assert len(harness.cancelling) == 1
    assert harness.sharing.moved == 1
    assert len(harness.part.waiters) == 1  # the second, which waits for another connection
    server = harness.only()
    assert all(segment.orphaned for segment in server.connection.queue)
    harness.run()
    assert answered(second)


def test_a_cancel_request_goes_out_only_when_it_can_hit_nobody_else() -> None:
    harness = Shared()
    harness.known()
    first, second = harness.sent(2)
    first.session.cancel()
    assert harness.sharing.moved == 1
    server = harness.only()
    assert [segment.sink for segment in server.connection.queue] == [first.session, None]
    server.work()
    server.answer()
    assert answered(first)  # it was done before the request came, which strikes late
    assert [each.connection for each in (server,)] == harness.cancelling
    harness.deliver_cancel(is_late=True)
    harness.run()
    assert answered(second)
    assert not sqlstates(got(second))
    harness.check()


def test_nobody_goes_behind_what_is_being_cancelled() -> None:
    harness = Shared()
    harness.known()
    [first] = harness.sent(1)
    first.session.cancel()
    [second] = harness.sent(1)
    assert harness.sharing.shared == 0
    harness.run()
    assert answered(second)


def test_what_is_cancelled_before_its_turn_is_answered_at_once() -> None:
    harness = Shared()
    harness.known()
    first, second, third = harness.sent(3)
    second.session.cancel()
    assert kinds(got(second)) == "EZ"
    assert sqlstates(got(second)) == ["57014"]
    assert harness.cancelling == []
    assert harness.sharing.moved == 1
    harness.run()
    assert answered(first)
    assert answered(third)
    assert sqlstates(got(second)) == ["57014"]
    second.got = b""
    assert rows(harness.ask(second, query(READ))) == [[READ.encode()]]
    harness.check()


def test_reads_whose_server_dies_are_all_sent_again() -> None:
    harness = Shared()
    harness.known()
    clients = harness.sent(3)
    server = harness.only()
    server.link.take()
    server.die()
    harness.run()
    assert all(map(answered, clients))
    assert harness.pool is not None
    assert harness.pool.retried_reads == 3


def test_a_server_that_dies_in_an_answer_is_told_to_the_client_that_had_it() -> None:
    harness = Shared()
    harness.known()
    first, second = harness.sent(2)
    server = harness.only()
    server.work()
    server.answer(8)
    server.die()
    harness.run()
    assert first.link.closed
    assert answered(second)


def test_without_retries_each_is_told() -> None:
    harness = Shared(retry_reads=False)
    harness.known()
    clients = harness.sent(3)
    harness.only().die()
    harness.run()
    for client in clients:
        assert sqlstates(got(client)) == ["08006"]
        assert client.link.closed


def test_an_error_is_that_of_its_statement() -> None:
    harness = Shared()
    harness.known("SELECT 1/0")
    first, second = harness.sent(2)
    other = harness.connect()
    other.send(query("SELECT b"))
    harness.run()
    assert answered(first)
    assert answered(second)
    assert answered(other, "SELECT b")


def test_whose_client_does_not_read_holds_nobody_else_up() -> None:
    harness = Shared(pool_size=2)
    harness.known()
    first, second, third = harness.sent(3)
    while harness.opening:
        harness.accept()
    first.link.congested = True
    server = harness.only()
    server.work()
    server.answer(8)
    assert server.link.paused
    assert harness.sharing.moved == 2
    second.link.congested = False
    second.session.on_drained()
    assert server.link.paused  # it is not its answer that is waited for
    harness.run()
    assert answered(second)
    assert answered(third)
    [fourth] = harness.sent(1)
    harness.run()
    assert answered(fourth)
    first.link.congested = False
    first.session.on_drained()
    harness.run()
    assert answered(first)
    harness.check()


def test_who_leaves_without_having_read_holds_nobody_up() -> None:
    harness = Shared()
    harness.known()
    first, second = harness.sent(2)
    first.link.congested = True
    server = harness.only()
    server.work()
    server.answer(8)
    assert server.link.paused
    first.leave()
    assert not server.link.paused
    harness.run()
    assert answered(second)
    harness.check()


def test_nobody_waits_for_long_behind_what_turns_out_to_be_slow() -> None:
    harness = Shared(pool_size=2)
    harness.known()
    first, second, third = harness.sent(3)
    while harness.opening:
        harness.accept()
    harness.engine.advance(SLOW * 2.5)
    assert harness.sharing.moved == 2
    slow, other = harness.live_servers()
    other.work()
    other.answer()
    assert answered(second)
    assert answered(third) is False
    assert len([segment for segment in slow.connection.queue if not segment.orphaned]) == 1
    harness.run()
    assert answered(first)
    assert answered(third)
    harness.check()


def test_the_time_limit_of_statements_concerns_the_one_that_runs() -> None:
    harness = Shared(query_timeout=1.0, multiplexing_slow=5.0)
    harness.known()
    first, second = harness.sent(2)
    harness.engine.advance(1.5)
    assert harness.sharing.moved == 1
    assert len(harness.cancelling) == 1
    harness.run()
    assert answered(second)
    assert kinds(got(first))[-1] == "Z"


@pytest.mark.parametrize("is_first", [False, True])
def test_who_has_listened_shares_no_connection(*, is_first: bool) -> None:
    harness = Shared()
    harness.known()
    listener, other = harness.connect(), harness.connect()
    lease = listener.session.lease
    hubs = Hubs(harness.engine, harness, "app/ann")
    lease.listening = Listening(
        harness.engine, listener.session, hubs, lambda: lease.is_free, lambda: None
    )
    for client in (listener, other) if is_first else (other, listener):
        client.send(query(READ))
    assert len(harness.only().connection.queue) == 1
    assert harness.sharing.shared == 0
    harness.run()
    assert answered(listener)
    assert answered(other)
    harness.check()
