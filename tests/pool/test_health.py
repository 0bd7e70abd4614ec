"""What is known about servers: who is left out, why, until when, and who is told."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from router.config.values import ReplicaFallback
from router.errors import RouterError, ServerRefused, ServerTimeout, ServerUnavailable
from router.pool import roles
from router.pool.address_pool import AddressPool
from router.pool.contracts import Waiter
from router.pool.facts import Facts, facts_of
from router.pool.health import Ban, Condition, ServerHealth
from router.pool.server import ServerConnection
from router.pool.states import ServerState
from router.protocol import messages
from router.routing.types import Role, RouterOptions
from tests.support.harness import Harness
from tests.support.wire import query, rows, sqlstates

from .builders import Client, opened, wait

REFUSED = ServerUnavailable("connection refused")
SILENT = ServerTimeout("did not answer in time")
REPLICAS = ((False, False),)
PRIMARY_AND_REPLICA = ((True, False),)


class Shard:
    """The servers of the first shard of a harness, with a connection each that is idle."""

    def __init__(self, harness: Harness) -> None:
        assert harness.pool is not None
        self.harness = harness
        self.pool = harness.pool
        self.parts = harness.pool.address_pools()
        for part in self.parts:
            part.open_spare()
        while harness.opening:
            harness.accept()

    def health(self, index: int) -> ServerHealth:
        """The health of a server."""
        return self.parts[index].health

    def check(self, index: int, error: ServerUnavailable | None = None) -> None:
        """A check is over."""
        health = self.health(index)
        heard = health.begin_check()
        if error is None:
            health.answered(None, 0.001)
        else:
            health.unanswered(error, heard, 0.001)

    def asked(self, role: Role | None = None, *, is_read: bool = False) -> set[int]:
        """The servers that clients are given, or wait for."""
        found = set()
        for _ in range(30):
            client = Client()
            outcome = self.pool.checkout(client, 0, role, is_read)
            if isinstance(outcome, ServerConnection):
                found.add(outcome.pool.address.index)
                outcome.pool.release(outcome)
            else:
                assert isinstance(outcome, Waiter)
                assert outcome.pool is not None
                found.add(outcome.pool.address.index)
                outcome.cancel()
        return found


def shard(servers: tuple[tuple[bool, ...], ...] = REPLICAS, **settings: object) -> Shard:
    """A shard, each of whose servers has an idle connection."""
    return Shard(Harness(servers=servers, options=None, **settings))


# --- bans


def test_a_replica_that_fails_is_left_out_until_it_passes_a_check() -> None:
    replicas = shard(ban_time=60.0)
    replicas.check(0, REFUSED)
    assert replicas.health(0).condition is Condition.DOWN
    assert replicas.parts[0].is_banned
    assert replicas.asked() == {1}
    replicas.check(0)
    assert replicas.asked() == {0, 1}


def test_who_fails_again_soon_is_left_out_for_all_of_ban_time_and_then_tried() -> None:
    replicas = shard(ban_time=60.0)
    replicas.check(0, REFUSED)
    replicas.check(0)
    replicas.harness.engine.advance(5)
    replicas.check(0, REFUSED)
    replicas.harness.engine.advance(5)
    replicas.check(0)
    health = replicas.health(0)
    assert health.condition is Condition.UP
    assert replicas.asked() == {1}
    replicas.harness.engine.advance(54)
    health.look(replicas.harness.engine.now)
    assert replicas.asked() == {1}
    replicas.harness.engine.advance(1)
    health.look(replicas.harness.engine.now)
    assert health.ban is None
    assert health.wanted.is_set()
    assert replicas.asked() == {1}, "it gets traffic before it is asked"
    replicas.check(0)
    assert replicas.asked() == {0, 1}


def test_failures_in_a_ban_do_not_make_it_longer() -> None:
    replicas = shard(ban_time=60.0)
    health, engine = replicas.health(0), replicas.harness.engine
    replicas.check(0, REFUSED)
    replicas.check(0)
    replicas.check(0, REFUSED)
    firm = health.ban
    assert firm is not None
    for _ in range(5):
        engine.advance(10)
        replicas.check(0, SILENT)
        assert health.ban is firm
    # Who is still down then begins another one.
    engine.advance(10)
    replicas.check(0, SILENT)
    assert health.ban is not firm


def test_without_ban_time_nobody_is_banned_and_who_is_down_is_left_out_all_the_same() -> None:
    replicas = shard(ban_time=0.0)
    for _ in range(2):
        replicas.check(0, REFUSED)
        assert replicas.health(0).ban is None
        assert replicas.asked() == {1}
        replicas.check(0)
        assert replicas.asked() == {0, 1}


def test_when_all_are_banned_those_that_are_well_are_let_in() -> None:
    replicas = shard(ban_time=60.0)
    for index in (0, 1, 0, 1):
        replicas.check(index, REFUSED)
        replicas.check(index)
    replicas.check(1, REFUSED)
    assert replicas.health(0).ban is not None
    assert replicas.asked() == {0}
    assert replicas.health(0).ban is None


def test_a_lone_replica_that_is_well_is_not_left_out() -> None:
    lone = shard(((False,),), ban_time=60.0)
    for _ in range(2):
        lone.check(0, REFUSED)
        lone.check(0)
    assert lone.asked() == {0}
    assert lone.health(0).ban is None


def test_when_all_are_down_any_will_do() -> None:
    replicas = shard()
    replicas.check(0, REFUSED)
    replicas.check(1, REFUSED)
    assert replicas.asked() == {0, 1}
    # They are banned all the same: the first that comes back is let in, and the other is not.
    assert all(replicas.health(index).ban is not None for index in (0, 1))


def test_primaries_are_never_banned() -> None:
    servers = shard(((True, False),), ban_time=60.0)
    for _ in range(2):
        servers.check(0, REFUSED)
        servers.check(0)
    assert servers.health(0).ban is not None
    assert not servers.parts[0].is_banned
    assert servers.asked(Role.PRIMARY) == {0}
    assert servers.asked() == {0, 1}


def test_a_primary_that_is_down_gets_no_reads_that_a_replica_could_have() -> None:
    servers = shard(PRIMARY_AND_REPLICA)
    servers.check(0, REFUSED)
    assert servers.asked() == {1}
    assert servers.asked(Role.PRIMARY) == {0}


def test_the_ban_of_an_administrator_stays_until_it_is_lifted() -> None:
    replicas = shard()
    replicas.health(0).ban_by_admin(math.inf)
    replicas.harness.engine.advance(1e6)
    replicas.health(0).look(replicas.harness.engine.now)
    replicas.check(0)
    assert replicas.asked() == {1}
    replicas.check(1, REFUSED)
    assert replicas.asked() == {1}, "rather one that is down than one that is banned"
    replicas.check(1)
    assert replicas.health(0).unban()
    assert not replicas.health(0).unban()
    assert replicas.asked() == {1}, "it gets traffic before it is asked"
    replicas.check(0)
    assert replicas.asked() == {0, 1}


def test_a_primary_serves_though_its_host_is_banned_for_replicas_of_other_shards() -> None:
    servers = shard(PRIMARY_AND_REPLICA)
    for index in (0, 1):
        servers.health(index).ban_by_admin(math.inf)
    assert servers.asked(Role.PRIMARY) == {0}
    assert servers.asked(None) == {0}


def test_the_ban_of_an_administrator_may_have_an_end() -> None:
    replicas = shard()
    replicas.health(0).ban_by_admin(30)
    replicas.harness.engine.advance(30)
    replicas.health(0).look(replicas.harness.engine.now)
    replicas.check(0)
    assert replicas.asked() == {0, 1}


def test_where_an_administrator_has_banned_all_there_is_an_error() -> None:
    replicas = shard()
    for index in (0, 1):
        replicas.health(index).ban_by_admin(60)
    with pytest.raises(
        ServerUnavailable, match="each replica of shard 0 is banned by an admin"
    ):
        replicas.asked(Role.REPLICA)


def test_a_server_that_refuses_one_user_is_well_for_the_others() -> None:
    replicas = shard(ban_time=60.0)
    other = replicas.harness.new_pool(servers=REPLICAS, ban_time=60.0)
    part = other.address_pools()[0]
    part.open_spare()
    replicas.harness.refuse(ServerRefused("no such role", sqlstate="28000"))
    assert part.is_banned
    assert replicas.health(0).condition is Condition.UP
    assert replicas.asked() == {0, 1}
    replicas.harness.engine.advance(60)
    part.maintain(replicas.harness.engine.now)
    assert not part.is_banned


def test_a_server_that_refuses_a_user_for_a_moment_is_asked_again() -> None:
    harness = Harness(servers=REPLICAS, ban_time=60.0)
    for error in (ServerRefused("no such database", sqlstate="3D000"),) * 3:
        if not harness.opening:
            harness.part.open_spare()
        harness.refuse(error)
        assert harness.part.is_banned
        harness.engine.advance(0.2)
        assert harness.opening == [harness.part]
    harness.accept()
    assert not harness.part.is_banned
    harness.part.idle[0].close()
    harness.part.open_spare()
    harness.refuse(ServerRefused("wrong password", sqlstate="28P01"))
    harness.engine.advance(59)
    assert not harness.opening


def test_who_comes_to_a_server_that_is_down_has_it_tried_unless_it_just_was() -> None:
    harness = Harness()
    wait(harness, timeout=60.0)
    for attempt in range(6):
        harness.refuse(REFUSED)
        harness.engine.advance(0.09)
        wait(harness, timeout=60.0)
        assert bool(harness.opening) is (attempt == 0), "the first pause is shorter"
        if harness.opening:
            continue
        harness.engine.advance(0.01)
        wait(harness, timeout=60.0)
        assert len(harness.opening) == 1


def test_what_one_pool_finds_out_all_know_and_a_reload_does_not_forget_it() -> None:
    replicas = shard()
    replicas.check(0, REFUSED)
    replicas.harness.replace_pool(replicas.harness.new_pool(servers=REPLICAS))
    pool = replicas.harness.pool
    assert pool is not None
    assert pool.address_pools()[0].health is replicas.health(0)
    assert Shard(replicas.harness).parts[0].is_banned is False, "a connection has succeeded"


# --- who has no replica


def test_reads_go_to_the_primary_when_no_replica_is_left() -> None:
    servers = shard(PRIMARY_AND_REPLICA)
    assert servers.asked(Role.REPLICA, is_read=True) == {1}
    servers.check(1, REFUSED)
    assert servers.asked(Role.REPLICA, is_read=True) == {0}
    assert servers.asked(Role.REPLICA) == {1}, "who insists waits"
    servers.check(0, REFUSED)
    assert servers.asked(Role.REPLICA, is_read=True) == {0, 1}, "whoever comes back first"
    servers.check(0)
    servers.check(1)
    assert servers.asked(Role.REPLICA, is_read=True) == {1}


def test_reads_go_to_the_primary_where_there_is_no_replica() -> None:
    lone = shard(((True,),))
    assert lone.asked(Role.REPLICA, is_read=True) == {0}
    with pytest.raises(ServerUnavailable, match="no replica of shard 0 is configured"):
        lone.asked(Role.REPLICA)


def test_without_a_fallback_reads_wait_for_a_replica() -> None:
    servers = shard(PRIMARY_AND_REPLICA, replica_fallback=ReplicaFallback.ERROR)
    servers.check(1, REFUSED)
    assert servers.asked(Role.REPLICA, is_read=True) == {1}
    lone = shard(((True,),), replica_fallback=ReplicaFallback.ERROR)
    with pytest.raises(ServerUnavailable, match="no replica of shard 0 is configured"):
        lone.asked(Role.REPLICA, is_read=True)


SPLITTING = RouterOptions(query_parser_enabled=True, query_parser_read_write_splitting=True)


@pytest.mark.parametrize(
    ("options", "command", "is_read"),
    [
        (SPLITTING, "SET SERVER ROLE TO 'default'", True),
        (SPLITTING, "SET SERVER ROLE TO 'auto'", True),
        (SPLITTING, "SET SERVER ROLE TO 'replica'", False),
        (RouterOptions(default_role=Role.REPLICA), "SET SERVER ROLE TO 'default'", False),
        (RouterOptions(default_role=Role.REPLICA), "SET SERVER ROLE TO 'auto'", True),
    ],
)
def test_only_what_is_found_to_be_a_read_falls_back(
    options: RouterOptions, command: str, is_read: bool
) -> None:
    harness = Harness(servers=((True,),), options=options)
    client = harness.connect()
    harness.ask(client, query(command))
    answers = harness.ask(client, query("SELECT one"))
    assert sqlstates(answers) == ([] if is_read else ["57P03"])


# --- those who wait


def test_who_waits_for_a_server_that_goes_down_goes_to_the_next() -> None:
    replicas = shard(pool_size=1)
    servers = [part.take() for part in replicas.parts]
    client = Client()
    waiter = replicas.pool.checkout(client, 0, None)
    assert isinstance(waiter, Waiter)
    assert waiter.pool is not None
    first = waiter.pool.address.index
    replicas.check(first, REFUSED)
    assert waiter.pool is replicas.parts[1 - first]
    server = servers[1 - first]
    assert server is not None
    replicas.parts[1 - first].release(server)
    assert client.server is server


def test_who_waits_for_servers_that_are_down_gets_the_first_that_comes_back() -> None:
    replicas = shard()
    for index in (0, 1):
        replicas.check(index, REFUSED)
        for server in list(replicas.parts[index].idle):
            server.close()
    clients = [Client() for _ in range(20)]
    waiters = [replicas.pool.checkout(client, 0, None) for client in clients]
    replicas.check(0)
    pools = {waiter.pool for waiter in waiters if isinstance(waiter, Waiter)}
    assert pools == {replicas.parts[0]}


@pytest.mark.parametrize("query_wait_timeout", [0.0, 5.0])
def test_who_waits_too_long_tries_a_server_that_has_room(query_wait_timeout: float) -> None:
    replicas = shard(pool_size=1, query_wait_timeout=query_wait_timeout)
    servers = [part.take() for part in replicas.parts]
    client = Client()
    waiter = replicas.pool.checkout(client, 0, None)
    assert isinstance(waiter, Waiter)
    assert waiter.pool is not None
    other = 1 - waiter.pool.address.index
    server = servers[other]
    assert server is not None
    replicas.parts[other].release(server)
    replicas.harness.engine.advance(5)
    assert client.server is server


def test_who_waits_for_a_server_that_goes_down_goes_to_one_that_has_room_if_any_has() -> None:
    replicas = shard(((False, False, False),), pool_size=1)
    one, full, free = replicas.parts
    for part in (one, full):
        assert part.take() is not None
    client = Client()
    one.enqueue(Waiter(client, [full, free], replicas.harness.engine.now, math.inf))
    replicas.check(0, REFUSED)
    assert client.server is not None
    assert client.server.pool is free


def test_who_waits_for_connect_timeout_has_as_much_for_each_other_server() -> None:
    replicas = shard(pool_size=1)
    for part in replicas.parts:
        assert part.take() is not None
    client = Client()
    waiter = replicas.pool.checkout(client, 0, None)
    assert isinstance(waiter, Waiter)
    first = waiter.pool
    replicas.harness.engine.advance(5)
    assert waiter.pool is not None
    assert waiter.pool is not first
    assert client.error is None
    replicas.harness.engine.advance(5)
    assert client.error is not None
    assert client.error.sqlstate == "53300"
    assert "waited 10.0 s" in client.error.message


def test_with_query_wait_timeout_that_is_all_the_time_there_is() -> None:
    replicas = shard(pool_size=1, query_wait_timeout=7.0)
    for part in replicas.parts:
        assert part.take() is not None
    client = Client()
    replicas.pool.checkout(client, 0, None)
    replicas.harness.engine.advance(6.9)
    assert client.error is None
    replicas.harness.engine.advance(0.2)
    assert client.error is not None
    assert "waited 7.0 s" in client.error.message


def test_who_waited_elsewhere_keeps_its_place_and_ends_in_time() -> None:
    harness = Harness(servers=REPLICAS)
    assert harness.pool is not None
    one, other = harness.pool.address_pools()
    client = wait(harness, other)
    for _ in range(10):
        harness.engine.advance(2)
        if client.error is not None:
            break
        for _ in range(len(harness.opening)):
            harness.refuse(ServerRefused("too many", sqlstate="53300"))
    assert client.error is not None
    assert harness.engine.now <= 1000 + 5 * 3
    assert not one.waiters
    assert not other.waiters


def test_who_has_less_time_left_is_before_those_who_have_more() -> None:
    harness = Harness(pool_size=1)
    patient, hasty = wait(harness, timeout=10), wait(harness, timeout=5)
    late = wait(harness, timeout=20)
    harness.engine.advance(5)
    assert [client.error is None for client in (patient, hasty, late)] == [True, False, True]
    harness.accept()
    assert patient.server is not None
    assert late.server is None


@pytest.mark.parametrize(
    "error", [REFUSED, SILENT, ServerRefused("too many connections", sqlstate="53300")]
)
def test_when_a_server_takes_a_connection_again_the_others_that_wait_get_theirs(
    error: RouterError,
) -> None:
    harness = Harness(pool_size=3)
    clients = [wait(harness, timeout=100) for _ in range(3)]
    while harness.opening:
        harness.refuse(error)
    harness.engine.advance(10)
    assert len(harness.opening) == 1, "one attempt at a time"
    harness.accept()
    assert len(harness.opening) == 2
    harness.run()
    assert all(client.server is not None for client in clients)


def test_who_comes_while_all_servers_are_down_has_each_of_them_asked() -> None:
    replicas = shard(pool_size=1)
    for index in (0, 1):
        assert replicas.parts[index].take() is not None
        replicas.check(index, REFUSED)
        replicas.health(index).begin_check()
    assert isinstance(replicas.pool.checkout(Client(), 0, None), Waiter)
    assert all(replicas.health(index).wanted.is_set() for index in (0, 1))


def test_who_waits_for_a_server_that_is_well_stays_there_whatever_becomes_of_others() -> None:
    replicas = shard(((False, False, False),), pool_size=1)
    one, other, third = replicas.parts
    for part in replicas.parts:
        assert part.take() is not None
    client, now = Client(), replicas.harness.engine.now
    one.enqueue(Waiter(client, [other, third], now, math.inf))
    replicas.check(2, REFUSED)
    assert [waiter.client for waiter in one.waiters] == [client]
    replicas.check(2)
    assert [waiter.client for waiter in one.waiters] == [client]


@pytest.mark.parametrize("has_one", [False, True])
def test_a_replica_that_refuses_one_connection_more_goes_on_with_those_it_has(
    has_one: bool,
) -> None:
    replicas = shard(pool_size=3)
    part = replicas.parts[0]
    if not has_one:
        part.idle[0].close()
    part.open_another()
    replicas.harness.refuse(ServerRefused("too many connections", sqlstate="53300"))
    assert part.is_ready is has_one
    assert replicas.asked() == ({0, 1} if has_one else {1})


# --- silence


def test_a_server_that_is_silent_twice_loses_its_connections() -> None:
    replicas = shard(pool_size=3)
    harness, part = replicas.harness, replicas.parts[0]
    busy, idle = Client(), Client()
    for client in (busy, idle):
        server = part.take()
        if server is None:
            part.enqueue(Waiter(client, [], harness.engine.now, math.inf))
            harness.accept()
        else:
            client.server = server
        assert client.server is not None
        client.server.attach(client)
    assert busy.server is not None
    assert idle.server is not None
    busy.server.send_query(b"SELECT long")
    replicas.check(0, SILENT)
    assert replicas.health(0).condition is Condition.SUSPECT
    assert replicas.asked() == {1}
    assert busy.lost is None
    replicas.check(0, SILENT)
    assert replicas.health(0).condition is Condition.DOWN
    assert busy.lost is not None
    assert busy.lost.message == (
        "server connection to replica host00:5432 of shard 0 was given up: "
        "did not answer in time"
    )
    assert idle.lost is None
    assert idle.server.state is ServerState.ACTIVE


def test_a_server_that_only_takes_no_new_connections_keeps_those_that_work() -> None:
    replicas = shard()
    part = replicas.parts[0]
    client = Client()
    client.server = part.take()
    assert client.server is not None
    client.server.attach(client)
    client.server.send_query(b"SELECT long")
    for _ in range(5):
        replicas.check(0, SILENT)
        part.counters.received += 1
        assert replicas.health(0).condition is Condition.SUSPECT
    assert client.lost is None
    replicas.check(0)
    assert replicas.health(0).condition is Condition.UP


def test_idle_connections_are_checked_when_the_server_is_suspect() -> None:
    replicas = shard()
    part = replicas.parts[0]
    replicas.check(0, SILENT)
    assert len(part.tested) == 1
    replicas.harness.run()
    assert len(part.idle) == 1
    replicas.check(0, SILENT)
    assert replicas.health(0).condition is Condition.SUSPECT, "its connection has answered"


def test_a_server_that_owes_answers_for_long_is_asked_and_then_less_often() -> None:
    replicas = shard()
    health, part = replicas.health(0), replicas.parts[0]
    client = Client()
    client.server = part.take()
    assert client.server is not None
    client.server.attach(client)
    client.server.send_query(b"SELECT long")
    asked = []
    for second in range(40):
        health.look(replicas.harness.engine.now)
        if health.wanted.is_set():
            asked.append(second)
            replicas.check(0)
        replicas.harness.engine.advance(1)
    assert asked == [1, 2, 4, 8, 16, 32]


def test_who_has_all_answers_that_it_asked_for_is_no_reason_to_ask_its_server() -> None:
    replicas = shard()
    health, client = replicas.health(0), Client()
    client.server = replicas.parts[0].take()
    assert client.server is not None
    client.server.attach(client)  # idle in a transaction, say
    for _ in range(10):
        health.look(replicas.harness.engine.now)
        replicas.harness.engine.advance(1)
    assert not health.wanted.is_set()


def test_silence_is_no_news_of_a_server_that_is_down() -> None:
    replicas = shard()
    replicas.check(0, REFUSED)
    replicas.check(0, SILENT)
    assert replicas.health(0).condition is Condition.DOWN


def test_two_silences_with_a_refusal_between_are_not_one() -> None:
    replicas = shard()
    client = Client()
    client.server = replicas.parts[0].take()
    assert client.server is not None
    client.server.attach(client)
    client.server.send_query(b"SELECT long")
    for error in (SILENT, REFUSED, SILENT):
        replicas.check(0, error)
        assert client.lost is None
    replicas.check(0, SILENT)
    assert client.lost is not None


@pytest.mark.parametrize(
    ("delay", "pause"), [(0.0, 0.1), (0.05, 0.1), (0.3, 0.3), (1.0, 1.0), (30.0, 1.0)]
)
def test_checks_of_a_server_that_is_well_come_no_faster_than_they_should(
    delay: float, pause: float
) -> None:
    health = shard(healthcheck_delay=delay).health(0)
    assert health.least_pause == pause
    health.unreachable(REFUSED)
    assert health.least_pause == 0.1


# --- connections that nobody has had for long


def test_a_connection_that_rested_for_long_is_checked_before_it_is_used() -> None:
    harness = Harness(healthcheck_delay=30.0)
    [server] = opened(harness)
    harness.engine.advance(30)
    client = harness.connect()
    client.send(query("SELECT one"))
    assert server.connection.state is ServerState.TESTED
    assert server.link.written == messages.query(b"")
    assert not harness.opening
    assert rows(harness.read(client)) == [[b"SELECT one"]]
    assert harness.servers == [server]


def test_one_that_leads_nowhere_is_replaced_and_the_client_does_not_notice() -> None:
    harness = Harness(healthcheck_delay=30.0, healthcheck_timeout=1.0)
    [server] = opened(harness)
    harness.engine.advance(30)
    client = harness.connect()
    client.send(query("SELECT one"))
    server.link.take()
    harness.engine.advance(1.0)
    assert server.link.closed
    assert harness.part.health.wanted.is_set()
    assert rows(harness.read(client)) == [[b"SELECT one"]]


def test_one_that_breaks_in_the_check_is_replaced_at_once() -> None:
    harness = Harness(healthcheck_delay=30.0)
    [server] = opened(harness)
    harness.engine.advance(30)
    client = harness.connect()
    client.send(query("SELECT one"))
    server.die()
    assert rows(harness.read(client)) == [[b"SELECT one"]]
    assert len(harness.servers) == 2


def test_one_that_has_been_used_lately_is_not_checked() -> None:
    harness = Harness(healthcheck_delay=30.0)
    [server] = opened(harness)
    harness.engine.advance(29)
    assert harness.part.take() is server.connection


def test_with_a_delay_of_nought_each_is_checked() -> None:
    harness = Harness(healthcheck_delay=0.0)
    opened(harness)
    assert harness.part.take() is None
    assert len(harness.part.checked) == 1


# --- when checks are made


def test_checks_come_by_their_delay_and_oftener_while_a_server_is_not_well() -> None:
    replicas = shard(healthcheck_delay=30.0)
    health = replicas.health(0)
    assert health.pause() == 30.0
    replicas.check(0)
    assert health.pause() == 30.0
    replicas.harness.engine.advance(10)
    assert health.pause() == 20.0
    pauses = []
    for _ in range(4):
        replicas.check(0, REFUSED)
        pauses.append(health.pause())
    assert pauses == [0.5, 1.0, 1.0, 1.0]
    replicas.check(0)
    assert health.pause() == 30.0


def test_a_server_is_checked_as_soon_as_its_ban_is_over() -> None:
    replicas = shard(healthcheck_delay=30.0)
    health, engine = replicas.health(0), replicas.harness.engine
    replicas.check(0)
    health.ban = Ban("it fails again and again", engine.now, engine.now + 7, is_firm=True)
    assert health.pause() == 7.0
    health.ban_by_admin(3.0)
    assert health.pause() == 3.0
    engine.advance(5)
    assert health.pause() == 0.0


def test_settings_of_a_reload_count_at_once() -> None:
    harness = Harness(healthcheck_delay=30.0)
    assert harness.pool is not None
    harness.pool.reconfigure(replace(harness.pool.settings, healthcheck_delay=5.0))
    assert harness.part.health.pause() == 5.0


def test_servers_that_nobody_uses_are_forgotten() -> None:
    harness = Harness(servers=REPLICAS)
    assert len(list(harness.healths)) == 2
    assert harness.pool is not None
    harness.pool.close()
    harness.healths.forget_unused()
    assert not list(harness.healths)


# --- roles


def telling(number: int, facts: Facts | None) -> AddressPool:
    """A server that has told something."""
    harness = Harness()
    part = harness.part
    address = replace(part.address, host=f"host{number}", is_auto=True)
    made = AddressPool(harness.engine, address, part.settings, part.secret, harness)
    made.health.facts = facts
    return made


def settled(*facts: Facts | None, down: int | None = None) -> list[str]:
    """The roles of servers that have told so much, and that are up, but for one."""
    parts = [telling(number, each) for number, each in enumerate(facts)]
    if down is not None:
        parts[down].health.unreachable(REFUSED)
    roles.settle(parts)
    return [part.role for part in parts]


STANDBY = Facts(is_standby=True, timeline=0, position=0, age=None)
FIRST = Facts(is_standby=False, timeline=1, position=0, age=None)
SECOND = replace(FIRST, timeline=2)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ((FIRST, STANDBY, None), ["primary", "replica", "auto"]),
        ((STANDBY, STANDBY), ["replica", "replica"]),
        ((FIRST, SECOND, STANDBY), ["auto", "primary", "replica"]),
        ((FIRST, FIRST, STANDBY), ["auto", "auto", "replica"]),
        ((FIRST, SECOND, SECOND), ["auto", "auto", "auto"]),
        ((None, None), ["auto", "auto"]),
    ],
)
def test_of_several_primaries_only_the_one_on_the_highest_timeline_is_believed(
    facts: tuple[Facts | None, ...], expected: list[str]
) -> None:
    assert settled(*facts) == expected


def test_while_no_primary_is_up_all_servers_of_its_shard_are_asked() -> None:
    harness = Harness(servers=((None, None, None),))
    pool = harness.pool
    assert pool is not None
    healths = [part.health for part in pool.address_pools()]

    def asked() -> list[bool]:
        pool.maintain(harness.engine.now)
        found = [health.wanted.is_set() for health in healths]
        for health in healths:
            health.begin_check()
        return found

    assert asked() == [True] * 3
    for health, facts in zip(healths, (FIRST, STANDBY, STANDBY), strict=True):
        health.answered(facts, 0.0)
    assert asked() == [False] * 3
    # It keeps its role until another one has it.
    healths[0].unanswered(REFUSED, healths[0].begin_check(), 0.0)
    asked()
    assert asked() == [True] * 3
    healths[1].answered(SECOND, 0.0)
    asked()
    assert asked() == [False] * 3


def test_who_has_waited_for_a_role_waits_for_its_server_as_any_other() -> None:
    """Where it waited until then is no server, and gives it no more time."""
    harness = Harness(servers=((None, None),), connect_timeout=5.0)
    pool = harness.pool
    assert pool is not None
    waiter = pool.checkout(Client(), 0, Role.PRIMARY)
    assert isinstance(waiter, Waiter)
    assert waiter.pool not in pool.address_pools()
    harness.engine.advance(2)
    for part, facts in zip(pool.address_pools(), (FIRST, STANDBY), strict=True):
        part.health.begin_check()
        part.health.answered(facts, 0.0)
    assert waiter.pool is pool.address_pools()[0]
    assert all(part in pool.address_pools() for part in waiter.others)
    assert waiter.deadline == waiter.since + 5.0


@pytest.mark.parametrize(
    ("down", "expected"),
    [(0, ["auto", "primary", "replica"]), (1, ["primary", "auto", "replica"])],
)
def test_of_two_primaries_on_one_timeline_the_one_that_is_up_is_believed(
    down: int, expected: list[str]
) -> None:
    assert settled(FIRST, FIRST, STANDBY, down=down) == expected
    # A newer timeline counts even if nobody can be reached there: nothing older is written to.
    assert settled(FIRST, SECOND, down=1) == ["auto", "primary"]


@pytest.mark.parametrize("rival", [FIRST, SECOND])
def test_a_replica_that_says_that_it_is_a_primary_too_loses_its_clients(rival: Facts) -> None:
    parts = [telling(number, each) for number, each in enumerate((rival, STANDBY))]
    roles.settle(parts)
    parts[1].health.facts = FIRST
    lost = roles.settle(parts)
    assert parts[1] in lost
    assert (parts[0] in lost) is (rival is FIRST)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (("f", "0000000A000000000000001F", "500", None), Facts(False, 10, 500, None)),
        (("t", None, "500", "1.25"), Facts(True, 0, 500, 1.25)),
        (("t", None, None, None), Facts(True, 0, 0, None)),
        (("t", None, "500", "-0.5"), Facts(True, 0, 500, 0.0)),
        (("yes", None, "500", None), None),
        (("f", "nonsense", "500", None), None),
        (("1",), None),
    ],
)
def test_what_a_server_tells_is_read_or_it_has_told_nothing(
    row: tuple[str | None, ...], expected: Facts | None
) -> None:
    assert facts_of((row,)) == expected


def test_a_server_where_a_login_takes_too_long_is_suspect_and_not_yet_down() -> None:
    replicas = shard()
    health = replicas.health(0)
    replicas.parts[0].connecting += 1
    replicas.parts[0].open_failed(SILENT)
    assert health.condition is Condition.SUSPECT
    assert health.wanted.is_set()
    replicas.check(0, SILENT)
    replicas.check(0, SILENT)
    found = [health.condition]
    replicas.parts[0].connecting += 1
    replicas.parts[0].open_failed(SILENT)
    found.append(health.condition)
    assert found == [Condition.DOWN, Condition.DOWN]


def test_a_login_does_not_tell_what_a_server_has_become() -> None:
    health = telling(0, STANDBY).health
    health.unreachable(REFUSED)
    health.begin_check()
    health.reached(0.0)
    assert health.condition is Condition.DOWN
    assert health.wanted.is_set()


def test_an_address_that_has_said_something_between_two_checks_keeps_its_connections() -> None:
    harness = Harness()
    clients = [harness.connect() for _ in range(2)]
    for client in clients:
        client.send(query("SLEEP"))
        harness.run()
    server, other = harness.servers
    server.connection.ip, other.connection.ip = "10.0.0.1", "10.0.0.2"
    health = harness.part.health
    health.addresses.note(["10.0.0.1", "10.0.0.2"])

    def is_silent() -> bool:
        heard = health.heard_at("10.0.0.1")
        health.unanswered_at("10.0.0.1", ServerTimeout("it did not answer in time"), heard)
        return server.link.closed

    assert not is_silent()
    for _ in range(3):
        server.link.received += 1
        assert not is_silent()
    assert is_silent()
    assert "was given up" in clients[0].ended
    # The other address is another matter.
    assert (other.link.closed, clients[1].ended) == (False, "")


def test_a_server_whose_answer_its_client_does_not_take_is_not_given_up() -> None:
    harness = Harness()
    clients = [harness.connect() for _ in range(2)]
    for client in clients:
        client.send(query("SLEEP"))
        harness.run()
    clients[0].link.congested = True
    health = harness.part.health
    for _ in range(2):
        heard = health.begin_check()
        health.unanswered(ServerTimeout("it did not answer in time"), heard, 1.0)
    assert health.condition is Condition.DOWN
    assert [bool(client.ended) for client in clients] == [False, True]


def test_where_a_primary_was_is_what_replicas_are_behind() -> None:
    harness = Harness()
    health, now = harness.part.health, harness.engine.now
    standby = Facts(is_standby=True, timeline=0, position=40, age=None)
    assert health.positions.behind(now, standby) is None
    health.answered(Facts(is_standby=False, timeline=1, position=100, age=None), 0.0)
    lag = health.positions.behind(now, standby)
    assert lag is not None
    assert lag.size == 60
    health.answered(standby, 0.0)
    assert health.positions.behind(now, standby) == lag


def test_pools_are_told_when_a_server_that_is_up_is_something_else_than_before() -> None:
    harness = Harness()
    told: list[AddressPool] = []
    harness.part.on_change = told.append
    primary = Facts(is_standby=False, timeline=1, position=100, age=None)
    standby = replace(primary, is_standby=True, timeline=0)
    counts = []
    for facts in (primary, primary, standby, standby, replace(primary, timeline=2)):
        harness.part.health.answered(facts, 0.0)
        counts.append(len(told))
    assert counts == [1, 1, 2, 2, 3]


def waiting(harness: Harness, seconds: float) -> tuple[Client, AddressPool, AddressPool]:
    """A client that waits for the first of two replicas, for which the second would do, too."""
    assert harness.pool is not None
    _, one, other = harness.pool.address_pools()
    client, now = Client(), harness.engine.now
    one.enqueue(Waiter(client, [other], now, now + seconds))
    return client, one, other


def test_who_waits_goes_back_to_a_server_that_has_come_back() -> None:
    client, one, other = waiting(Harness(servers=((True, False, False),)), 60)
    one.health.unreachable(REFUSED)
    assert [waiter.client for waiter in other.waiters] == [client]
    one.health.answered(None, 0.0)
    other.health.unreachable(REFUSED)
    assert [waiter.client for waiter in one.waiters] == [client]


def test_who_has_to_move_on_waits_no_longer_than_query_wait_timeout_in_all() -> None:
    harness = Harness(servers=((True, False, False),), query_wait_timeout=10.0)
    client, one, other = waiting(harness, 10)
    harness.engine.advance(6)
    one.health.unreachable(REFUSED)
    assert [waiter.client for waiter in other.waiters] == [client]
    harness.engine.advance(3.9)
    assert client.error is None
    harness.engine.advance(0.2)
    assert client.error is not None


def test_a_primary_that_has_become_a_standby_has_lost_what_its_clients_took_it_for() -> None:
    harness = Harness(servers=((True, False),))
    assert harness.pool is not None
    one, other = parts = harness.pool.address_pools()
    primary = Facts(is_standby=False, timeline=1, position=100, age=None)
    standby = Facts(is_standby=True, timeline=0, position=100, age=None)
    one.health.facts, other.health.facts = primary, standby
    roles.settle(parts)
    assert (one.is_primary, other.is_primary) == (True, False)
    one.health.facts, other.health.facts = standby, replace(primary, timeline=2)
    assert roles.settle(parts) == [one]
    assert (one.is_primary, other.is_primary) == (False, True)


def test_a_check_has_its_time_whatever_became_of_the_one_before() -> None:
    harness = Harness(healthcheck_delay=1.0, healthcheck_timeout=5.0)
    client = harness.connect()
    harness.ask(client, query("SELECT 1"))
    harness.engine.advance(2)
    harness.ask(client, query("SELECT 1"))  # is checked before, and well
    harness.engine.advance(2)
    client.send(query("SELECT 1"))
    [server] = harness.live_servers()
    assert server.connection in harness.part.checked
    harness.engine.advance(4)
    assert list(harness.live_servers()) == [server]
    harness.engine.advance(1)
    assert list(harness.live_servers()) == []
