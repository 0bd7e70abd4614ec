"""Reads see what their client has written: which replica gets them, after how long, or none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.config.values import PoolMode, ReadYourWrites, ReplicaFallback
from router.routing.positions import UNKNOWN, Position, after_write, both, positions_of
from router.routing.positions import token_of as token_of_positions
from router.routing.types import RouterOptions
from tests.support.harness import FakeClient, Harness, read_messages
from tests.support.model import Log
from tests.support.wire import (
    FLUSH,
    SYNC,
    Message,
    bind,
    execute,
    parse,
    query,
    rows,
    run,
    sqlstates,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.harness import FakeServer

SPLITTING = RouterOptions(query_parser_enabled=True, query_parser_read_write_splitting=True)
WRITE = query("INSERT INTO t VALUES (1)")
READ = "SELECT one"
TIMEOUT = 0.1
# Longer than one asks in between.
TICK = 0.02
SHOW = query("SHOW READ POSITION")


class Behind(Harness):
    """A primary and replicas that replay when a test says so.

    Attributes:
        logs: of the servers, by shard and number.
    """

    def __init__(
        self,
        *,
        servers: Sequence[Sequence[bool]] = ((True, False),),
        options: RouterOptions = SPLITTING,
        mode: ReadYourWrites = ReadYourWrites.SESSION,
        **settings: object,
    ) -> None:
        self.logs = {
            (shard, number): Log("" if is_primary else f"{shard}.{number}")
            for shard, parts in enumerate(servers)
            for number, is_primary in enumerate(parts)
        }
        options = replace(options, shard_count=len(servers))
        settings = {"read_your_writes_timeout": TIMEOUT, **settings}
        super().__init__(servers=servers, options=options, read_your_writes=mode, **settings)

    def accept(self) -> FakeServer:
        """Give the server the log that its address has."""
        address = self.opening[0].address
        server = super().accept()
        server.model.wal = self.logs[address.shard, address.index]
        return server

    def replay(self, shard: int = 0, number: int = 1) -> None:
        """Have a replica replay all that there is."""
        log, primary = self.logs[shard, number], self.logs[shard, 0]
        log.offset, log.timeline = primary.offset, primary.timeline

    def asked(self, word: str = "pg_is_in_recovery") -> int:
        """How many questions with a word in them have been answered."""
        return sum(server.model.questions.count(word) for server in self.servers)

    def wait(self, client: FakeClient, seconds: float = 2 * TIMEOUT) -> list[Message]:
        """Let time pass, and read what the client got meanwhile."""
        seen = len(client.got)
        for _ in range(round(seconds / TICK)):
            self.run()
            self.engine.advance(TICK)
        self.run()
        return read_messages(client.got[seen:])

    def by(self, sql: str = READ) -> list[tuple[int, int]]:
        """Which servers have executed a text, by shard and number, one after the other."""
        found = []
        for server in self.servers:
            address = server.connection.pool.address
            count = [said for said, _ in server.model.seen].count(sql)
            found += [(address.shard, address.index)] * count
        return found


def token(harness: Behind, client: FakeClient) -> str:
    """What a client's reads must see."""
    [[found]] = rows(harness.ask(client, SHOW))
    assert found is not None
    return found.decode()


def wrote(harness: Behind) -> FakeClient:
    """A client that has written."""
    client = harness.connect()
    harness.ask(client, WRITE)
    return client


def being_asked(harness: Behind) -> tuple[FakeClient, FakeServer]:
    """A client that has written, and the server that is to say where that is in the log."""
    client = harness.connect()
    client.send(WRITE)
    server = harness.accept()
    server.work()
    server.answer()  # the write's
    return client, server


PROTOCOLS = pytest.mark.parametrize(
    "read", [query(READ), run(READ) + SYNC], ids=["simple", "extended"]
)


# --- who reads where


@PROTOCOLS
def test_a_read_after_a_write_waits_for_the_replica(read: bytes) -> None:
    harness = Behind()
    client = wrote(harness)
    assert harness.ask(client, read) == []
    harness.replay()
    assert rows(harness.wait(client, TICK)) == [[READ.encode()]]
    assert harness.by() == [(0, 1)]
    assert harness.pool is not None
    assert (harness.pool.reads_waited, harness.pool.reads_to_primary) == (1, 0)
    harness.check()


@PROTOCOLS
def test_a_replica_that_is_too_late_leaves_it_to_the_primary(read: bytes) -> None:
    harness = Behind()
    client = wrote(harness)
    assert harness.ask(client, read) == []
    assert harness.wait(client, TIMEOUT - 2 * TICK) == []
    assert rows(harness.wait(client, 3 * TICK)) == [[READ.encode()]]
    assert harness.by() == [(0, 0)]
    assert harness.pool is not None
    assert (harness.pool.reads_waited, harness.pool.reads_to_primary) == (1, 1)
    harness.check()


def test_without_it_the_read_is_stale() -> None:
    harness = Behind(mode=ReadYourWrites.OFF)
    client = wrote(harness)
    assert rows(harness.ask(client, query(READ))) == [[READ.encode()]]
    assert harness.by() == [(0, 1)]
    assert harness.asked() == harness.asked("pg_walfile_name") == 0


@PROTOCOLS
def test_who_has_written_nothing_waits_for_nothing_and_asks_nothing(read: bytes) -> None:
    harness = Behind()
    wrote(harness)
    before = harness.asked("pg_walfile_name")
    other = harness.connect()
    assert rows(harness.ask(other, read)) == [[READ.encode()]]
    assert harness.by() == [(0, 1)]
    assert harness.asked() == 0
    assert harness.asked("pg_walfile_name") == before == 1


def test_a_replica_that_is_known_to_have_it_is_not_asked_again() -> None:
    harness = Behind()
    client = wrote(harness)
    harness.replay()
    for _ in range(5):
        assert rows(harness.ask(client, query(READ))) == [[READ.encode()]]
    assert harness.by() == [(0, 1)] * 5
    assert harness.asked() == 1


def test_of_two_replicas_the_one_that_has_it_gets_the_read() -> None:
    harness = Behind(servers=((True, False, False),))
    client = wrote(harness)
    harness.replay(number=2)
    for _ in range(10):
        assert rows(harness.ask(client, query(READ))) == [[READ.encode()]]
    assert harness.by() == [(0, 2)] * 10
    harness.replay(number=1)
    harness.wait(client)
    for _ in range(20):
        harness.ask(client, query(READ))
    assert (0, 1) in harness.by()


def test_many_who_wait_ask_once() -> None:
    harness = Behind(pool_size=1)
    clients = [wrote(harness) for _ in range(10)]
    for client in clients:
        assert harness.ask(client, query(READ)) == []
    assert harness.pool is not None
    assert harness.pool.waiting == 10
    asked = harness.asked()
    harness.replay()
    harness.engine.advance(TICK)
    harness.run()
    assert harness.asked() == asked + 1
    assert harness.by() == [(0, 1)] * 10
    assert harness.pool.waiting == 0
    harness.check()


def test_while_nobody_waits_nobody_asks() -> None:
    harness = Behind()
    client = wrote(harness)
    harness.ask(client, query(READ))
    harness.wait(client)
    asked = harness.asked()
    harness.wait(client, 1.0)
    assert harness.asked() == asked


def test_the_primary_may_read_at_once_where_it_reads_anyway() -> None:
    options = replace(SPLITTING, primary_reads_enabled=True)
    harness = Behind(options=options)
    client = wrote(harness)
    for _ in range(5):
        assert rows(harness.ask(client, query(READ))) == [[READ.encode()]]
    assert harness.by() == [(0, 0)] * 5
    harness.replay()
    harness.wait(client)
    for _ in range(30):
        harness.ask(client, query(READ))
    assert (0, 1) in harness.by()


# --- what counts as a write


@pytest.mark.parametrize(
    "write",
    [
        query("INSERT INTO t VALUES (1)"),
        run("INSERT INTO t VALUES (1)") + SYNC,
        query("BEGIN; INSERT INTO t VALUES (1); COMMIT"),
        query("SELECT writes_something()"),
        query("FAIL INSERT"),
        query("COPY t FROM STDIN") + b"c\0\0\0\4",
        query("NOTICE DO"),
    ],
)
def test_what_is_not_known_to_read_counts_as_a_write(write: bytes) -> None:
    harness = Behind()
    client = harness.connect()
    harness.ask(client, write)
    assert harness.asked("pg_walfile_name") == 1
    assert token(harness, client)


def test_a_transaction_counts_once_when_it_ends() -> None:
    harness = Behind()
    client = harness.connect()
    for sql in ("BEGIN", "INSERT INTO t VALUES (1)", READ):
        harness.ask(client, query(sql))
        assert token(harness, client) == ""
    assert harness.by() == [(0, 0)]
    harness.ask(client, query("COMMIT"))
    assert harness.asked("pg_walfile_name") == 1
    assert token(harness, client) == f"0:1:1/{harness.logs[0, 0].offset - (1 << 32):X}"


def test_to_prepare_is_not_to_write() -> None:
    harness = Behind()
    client = harness.connect()
    harness.ask(client, parse("INSERT INTO t VALUES (1)", "w") + SYNC)
    assert token(harness, client) == ""
    harness.ask(client, bind(name="w") + execute() + SYNC)
    assert token(harness, client)


def test_reads_at_the_primary_are_no_writes() -> None:
    harness = Behind(servers=((True,),))
    client = harness.connect()
    for _ in range(3):
        assert rows(harness.ask(client, query(READ))) == [[READ.encode()]]
        harness.ask(client, run(READ) + SYNC)
    assert harness.asked("pg_walfile_name") == 0


def test_what_runs_at_a_replica_writes_nothing_whatever_it_is() -> None:
    harness = Behind()
    client = harness.connect()
    harness.ask(client, query("SET SERVER ROLE TO 'replica'"))
    harness.ask(client, query("SELECT f()"))
    assert harness.by("SELECT f()") == [(0, 1)]
    assert token(harness, client) == ""
    assert harness.asked("pg_walfile_name") == 0


def test_a_write_takes_back_nothing_of_what_another_client_has_written() -> None:
    harness = Behind()
    client = harness.connect()
    harness.ask(client, query("SET READ POSITION TO '0:1:7/0'"))
    harness.ask(client, WRITE)
    assert token(harness, client) == "0:1:7/0"


def test_a_transaction_that_only_begins_as_a_read_is_none() -> None:
    harness = Behind(servers=((True,),))
    client = harness.connect()
    for sql in ("BEGIN READ ONLY", "INSERT INTO t VALUES (1)", "COMMIT"):
        harness.ask(client, query(sql))
    assert harness.asked("pg_walfile_name") == 1


def test_what_a_batch_goes_on_with_after_a_flush_may_be_a_write() -> None:
    harness = Behind()
    client = harness.connect()
    harness.ask(client, run(READ) + FLUSH)
    harness.ask(client, run("INSERT INTO t VALUES (1)") + SYNC)
    assert harness.by() == [(0, 0)]
    assert token(harness, client)


@pytest.mark.parametrize(("end", "needed"), [(8192 * 7 + 24, 8192 * 7), (8192 * 7 + 40, 0)])
def test_the_header_of_an_empty_page_need_not_be_replayed(end: int, needed: int) -> None:
    harness = Behind()
    harness.logs[0, 0].offset = end - 8
    client = wrote(harness)
    assert token(harness, client) == f"0:1:0/{needed or end:X}"


@pytest.mark.parametrize("read", [query("SELECT two"), run("SELECT two") + SYNC])
def test_the_next_statement_waits_for_the_answer_and_the_client_does_not(read: bytes) -> None:
    harness = Behind()
    client, server = being_asked(harness)
    assert b"INSERT" in client.receive()
    client.send(read, SHOW)
    assert not harness.opening
    assert b"two" not in server.link.written
    assert client.receive() == b""
    harness.replay()
    harness.run()
    harness.wait(client)
    assert harness.by("SELECT two") == [(0, 1)]
    assert b"0:1:1/" in client.got


def test_who_leaves_while_it_is_asked_leaves_a_clean_connection() -> None:
    harness = Behind()
    client, server = being_asked(harness)
    client.leave()
    harness.run()
    assert list(harness.part.idle) == [server.connection]
    harness.check()


# --- what is not known


def failing(harness: Behind) -> FakeClient:
    """A client that has written, and nobody knows where."""
    client = harness.connect()
    harness.ask(client, query(READ))
    harness.logs[0, 0].name = "no primary"  # which fails the question
    harness.ask(client, WRITE)
    harness.logs[0, 0].name = ""
    return client


def test_a_write_whose_position_is_not_known_leaves_reads_to_the_primary() -> None:
    harness = Behind()
    client = failing(harness)
    assert token(harness, client) == "0:unknown"
    harness.replay()
    for _ in range(3):
        assert rows(harness.ask(client, query(READ))) == [[READ.encode()]]
    assert sorted(harness.by()) == [(0, 0), (0, 0), (0, 0), (0, 1)]
    harness.ask(client, WRITE)
    assert token(harness, client).startswith("0:1:1/")
    harness.replay()
    client.send(query(READ))
    harness.wait(client)
    assert harness.by().count((0, 1)) == 2


def test_a_server_that_is_lost_while_it_is_asked_costs_the_client_nothing() -> None:
    harness = Behind()
    client, server = being_asked(harness)
    client.receive()
    server.die()
    assert not client.ended
    assert rows(harness.ask(client, query(READ))) == [[READ.encode()]]
    assert token(harness, client) == "0:unknown"
    assert harness.by() == [(0, 0)]
    harness.check()


def test_a_late_cancel_request_does_not_make_it_unknown() -> None:
    harness = Behind()
    client, server = being_asked(harness)
    server.model.is_struck = True
    harness.run()
    assert token(harness, client).startswith("0:1:1/")


def test_a_question_that_stays_unanswered_holds_nobody_for_longer() -> None:
    harness = Behind()
    client = wrote(harness)
    harness.logs[0, 1].is_mute = True
    assert harness.ask(client, query(READ)) == []
    assert rows(harness.wait(client)) == [[READ.encode()]]
    assert harness.by() == [(0, 0)]


# --- other histories


def test_a_promotion_leaves_reads_of_what_came_before_to_the_primary_at_once() -> None:
    harness = Behind()
    client = wrote(harness)
    harness.replay()
    harness.ask(client, query(READ))
    assert harness.by() == [(0, 1)]
    harness.logs[0, 0].timeline = 2
    harness.ask(client, WRITE)
    assert token(harness, client).startswith("0:2:1/")
    harness.ask(client, query(READ))
    assert harness.by().count((0, 0)) == 1
    # It is far ahead, on a timeline that has been left.
    harness.logs[0, 1].offset = 1 << 40
    harness.ask(client, query(READ))
    assert harness.by().count((0, 0)) == 2
    harness.logs[0, 1].timeline = 2
    harness.wait(client)
    harness.ask(client, query(READ))
    before = harness.by().count((0, 1))
    harness.ask(client, query(READ))
    assert harness.by().count((0, 1)) == before + 1


@pytest.mark.parametrize("may_see", [False, True])
def test_who_may_not_see_which_timeline_a_replica_follows_is_told_once_what_that_costs(
    may_see: bool, caplog: pytest.LogCaptureFixture
) -> None:
    harness = Behind(pool_size=3)
    harness.logs[0, 1].may_see = may_see
    for _ in range(3):
        client = wrote(harness)
        client.send(query(READ))
        harness.wait(client)
    lines = [line for line in caplog.messages if "GRANT pg_read_all_stats" in line]
    assert len(lines) == (not may_see)
    assert all(line.startswith("[app/ann] the user ") for line in lines)


def test_a_standby_that_begins_anew_at_an_earlier_position_is_not_the_one_of_before() -> None:
    harness = Behind()
    client = wrote(harness)
    harness.replay()
    harness.ask(client, query(READ))
    assert harness.by() == [(0, 1)]
    log = harness.logs[0, 1]
    log.name, log.offset = "crashed", log.offset - 100
    for server in harness.live_servers():
        if not server.connection.pool.is_primary:
            server.die()
    harness.ask(client, query(READ))
    harness.wait(client)
    assert sorted(harness.by()) == [(0, 0), (0, 1)]


def test_two_standbys_behind_one_address_are_told_apart() -> None:
    harness = Behind()
    late = Log("late")
    readers = [harness.connect() for _ in range(2)]
    for reader in readers:
        harness.ask(reader, query("BEGIN READ ONLY"))
    # Two connections to the replica's address, which lead to two standbys.
    [first, _] = list(harness.live_servers())
    first.model.wal = late
    for reader in readers:
        harness.ask(reader, query("COMMIT"))
    client = wrote(harness)
    harness.replay()
    for number in range(10):
        sql = f"SELECT number_{number}"
        client.send(query(sql))
        assert rows(harness.wait(client)) == [[sql.encode()]]
        assert sql not in [said for said, _ in first.model.seen]
    assert [index for _, index in harness.by("SELECT number_9")] in ([0], [1])
    assert harness.pool is not None
    assert harness.pool.reads_waited <= 10


# --- where the primary must not read


def test_who_has_chosen_replicas_waits_and_then_fails() -> None:
    harness = Behind()
    client = wrote(harness)
    harness.ask(client, query("SET SERVER ROLE TO 'replica'"))
    assert harness.ask(client, query(READ)) == []
    failed = harness.wait(client)
    assert sqlstates(failed) == ["57P03"]
    assert failed[-1].kind == "Z"
    assert harness.by() == []
    harness.replay()
    assert rows(harness.ask(client, query(READ))) == [[READ.encode()]]
    assert harness.by() == [(0, 1)]
    harness.check()


def test_reads_that_must_not_go_to_the_primary_fail_as_well() -> None:
    harness = Behind(replica_fallback=ReplicaFallback.ERROR)
    client = wrote(harness)
    assert harness.ask(client, run(READ) + SYNC) == []
    assert sqlstates(harness.wait(client)) == ["57P03"]


def test_without_any_wait_the_primary_reads_at_once() -> None:
    harness = Behind(read_your_writes_timeout=0.0)
    client = wrote(harness)
    assert rows(harness.ask(client, query(READ))) == [[READ.encode()]]
    assert harness.by() == [(0, 0)]
    harness.replay()
    harness.wait(client)
    harness.ask(client, query(READ))  # finds out
    assert rows(harness.ask(client, query(READ))) == [[READ.encode()]]
    assert harness.by()[-1] == (0, 1)


# --- while it waits


def test_a_read_that_waits_can_be_cancelled() -> None:
    harness = Behind()
    client = wrote(harness)
    harness.ask(client, query(READ))
    client.session.cancel()
    assert sqlstates(harness.read(client)) == ["57014"]
    harness.replay()
    assert harness.wait(client) == []
    assert harness.by() == []
    assert harness.pool is not None
    assert harness.pool.waiting == 0
    assert rows(harness.ask(client, query(READ))) == [[READ.encode()]]


def test_a_client_that_leaves_does_not_wait_any_more() -> None:
    harness = Behind()
    client = wrote(harness)
    harness.ask(client, query(READ))
    client.leave()
    assert harness.pool is not None
    assert harness.pool.waiting == 0
    harness.replay()
    harness.engine.advance(1.0)
    harness.run()
    assert harness.by() == []
    harness.check()


def test_a_reload_takes_what_is_needed_along() -> None:
    harness = Behind()
    client = wrote(harness)
    harness.ask(client, query(READ))
    before = token_of(client)
    harness.replace_pool(
        harness.new_pool(
            servers=((True, False),),
            options=SPLITTING,
            read_your_writes=ReadYourWrites.SESSION,
            read_your_writes_timeout=TIMEOUT,
        )
    )
    assert client.session.lease.pool is harness.pool  # it has asked there, at once
    assert harness.read(client) == []
    assert token_of(client) == before
    harness.replay()
    assert rows(harness.wait(client)) == [[READ.encode()]]
    assert harness.by() == [(0, 1)]


def token_of(client: FakeClient) -> str:
    """The same as `token`, while the client is waiting."""
    causality = client.session.lease.causality
    assert causality is not None
    return causality.token


# --- the token


def test_the_token_makes_another_client_see_as_much() -> None:
    harness = Behind()
    client, other = wrote(harness), harness.connect()
    command = f"SET READ POSITION TO '{token(harness, client)}'"
    assert sqlstates(harness.ask(other, query(command))) == []
    assert token(harness, other) == token(harness, client)
    assert harness.ask(other, query(READ)) == []
    harness.replay()
    assert rows(harness.wait(other, TICK)) == [[READ.encode()]]
    assert harness.by() == [(0, 1)]


def test_the_token_may_be_a_parameter() -> None:
    harness = Behind()
    client, other = wrote(harness), harness.connect()
    value = token(harness, client).encode()
    command = parse("SET READ POSITION TO $1") + bind(value) + execute() + SYNC
    assert sqlstates(harness.ask(other, command)) == []
    assert rows(harness.ask(other, run("SHOW READ POSITION") + SYNC)) == [[value]]


def test_an_older_token_takes_nothing_back_and_reset_does() -> None:
    harness = Behind()
    client = wrote(harness)
    older = token(harness, client)
    harness.ask(client, WRITE)
    newer = token(harness, client)
    assert newer != older
    for sql in (f"SET READ POSITION TO '{older}'", "SET READ POSITION TO ''", "DISCARD ALL"):
        harness.ask(client, query(sql))
        assert token(harness, client) == newer
    harness.ask(client, query("RESET READ POSITION"))
    assert token(harness, client) == ""
    assert rows(harness.ask(client, query(READ))) == [[READ.encode()]]
    assert harness.by() == [(0, 1)]


@pytest.mark.parametrize(
    "bad",
    ["x", "0", "0:1", "0:1:5", "0:0:0/1", "1:1:0/1", "0:1:0/1,", "0:1:0/123456789", "0:1:0/1;"],
)
def test_a_bad_token_is_refused(bad: str) -> None:
    harness = Behind()
    client = harness.connect()
    for command in (
        query(f"SET READ POSITION TO '{bad}'"),
        parse("SET READ POSITION TO $1") + bind(bad.encode()) + execute() + SYNC,
    ):
        assert sqlstates(harness.ask(client, command)) == ["22023"]
    assert token(harness, client) == ""


def test_where_nobody_looks_at_it_a_token_is_refused() -> None:
    harness = Behind(mode=ReadYourWrites.OFF)
    client = harness.connect()
    assert token(harness, client) == ""
    assert sqlstates(harness.ask(client, query("SET READ POSITION TO '0:1:0/1'"))) == ["55000"]
    assert sqlstates(harness.ask(client, query("SET READ POSITION TO ''"))) == []


@pytest.mark.parametrize("command", ["RESET READ POSITION", "SET READ POSITION TO '0:9:0/1'"])
def test_a_batch_that_fails_takes_back_what_comes_behind_the_failure(command: str) -> None:
    harness = Behind()
    client = wrote(harness)
    harness.replay()
    before = token(harness, client)
    batch = run("SELECT one") + FLUSH
    harness.ask(client, batch)
    client.send(run("FAIL it") + run(command) + SYNC)
    harness.run()
    now = token(harness, client)
    assert now.startswith("0:1:1/")
    assert now >= before


def test_a_token_is_refused_where_the_replica_that_is_kept_does_not_have_it() -> None:
    harness = Behind()
    client, other = wrote(harness), harness.connect()
    command = query(f"SET READ POSITION TO '{token(harness, client)}'")
    harness.ask(other, query("BEGIN READ ONLY"))
    assert sqlstates(harness.ask(other, command)) == ["25001"]
    harness.ask(other, query("ROLLBACK"))
    assert sqlstates(harness.ask(other, command)) == []
    kept = Behind(pool_mode=PoolMode.SESSION)
    other = kept.connect()
    kept.ask(other, query(READ))
    assert kept.by() == [(0, 1)]
    assert sqlstates(kept.ask(other, command)) == ["55006"]


def test_in_session_mode_the_token_is_there() -> None:
    harness = Behind(pool_mode=PoolMode.SESSION)
    client = wrote(harness)
    assert token(harness, client).startswith("0:1:1/")
    assert rows(harness.ask(client, query(READ))) == [[READ.encode()]]
    assert harness.by() == [(0, 0)]


def test_each_shard_has_a_position_of_its_own() -> None:
    harness = Behind(servers=((True, False), (True, False)))
    client = harness.connect()
    harness.ask(client, query("SET SHARD TO '1'"))
    harness.ask(client, WRITE)
    assert token(harness, client).startswith("1:1:1/")
    harness.ask(client, query("SET SHARD TO '0'"))
    assert rows(harness.ask(client, query(READ))) == [[READ.encode()]]
    assert harness.by() == [(0, 1)]
    harness.ask(client, WRITE)
    first, second = token(harness, client).split(",")
    assert first.startswith("0:1:1/")
    assert second.startswith("1:1:1/")
    harness.replay(0)
    harness.ask(client, query("SET SHARD TO '1'"))
    assert harness.ask(client, query("SELECT two")) == []
    harness.wait(client)
    assert harness.by("SELECT two") == [(1, 0)]


def test_explain_route_says_it() -> None:
    harness = Behind()
    client = wrote(harness)
    lsn = token(harness, client).rpartition(":")[2]

    def explained() -> tuple[str, str]:
        [row] = rows(harness.ask(client, query(f"EXPLAIN ROUTE {READ}")))
        return str(row[2], "ascii") if row[2] else "", str(row[5], "ascii") if row[5] else ""

    role, reason = explained()
    assert role == "replica"
    assert reason == (
        f"no replica is known to have replayed {lsn} yet: it waits for that up to 100 ms, "
        "then goes to the primary"
    )
    harness.replay()
    harness.ask(client, query(READ))
    assert explained()[0] == "replica"
    assert "replayed" not in explained()[1]
    client = failing(harness)
    assert explained() == (
        "primary",
        "where the client's last write is in the log is not known",
    )


@pytest.mark.parametrize(
    ("before", "token", "after"),
    [
        ("", "0:1:0/5", "0:1:0/5"),
        ("0:1:0/5", "0:1:0/4", "0:1:0/5"),
        ("0:1:0/5", "0:1:1/0", "0:1:1/0"),
        ("0:1:0/5", "0:2:0/1", "0:2:0/1"),
        ("0:2:0/1", "0:1:0/5", "0:2:0/1"),
        ("0:1:0/5", "0:unknown", "0:unknown"),
        ("0:unknown", "0:1:0/5", "0:unknown"),
        ("1:1:0/5", "0:1:a/B", "0:1:A/B,1:1:0/5"),
        ("", "0:1:0/5,0:1:0/7", "0:1:0/7"),
    ],
)
def test_what_is_needed_only_grows(before: str, token: str, after: str) -> None:
    needed = positions_of(before)
    for shard, position in positions_of(token).items():
        needed[shard] = both(needed.get(shard), position)
    assert token_of_positions(needed) == after


@pytest.mark.parametrize(
    ("before", "written", "after"),
    [
        (None, Position(1, 5), Position(1, 5)),
        (UNKNOWN, Position(1, 5), Position(1, 5)),
        (Position(1, 5), UNKNOWN, UNKNOWN),
        (Position(1, 5), Position(1, 7), Position(1, 7)),
        (Position(1, 5), Position(2, 1), Position(2, 1)),
        (Position(2, 1), Position(1, 5), Position(2, 1)),
    ],
)
def test_a_write_is_behind_all_that_came_before(
    before: Position | None, written: Position, after: Position
) -> None:
    assert after_write(before, written) == after


# --- any order of events

OPERATIONS = st.sampled_from(
    [
        "write",
        "write",
        "read",
        "read",
        "read",
        "extended read",
        "begin",
        "commit",
        "rollback",
        "failing",
        "token",
        "role",
        "replay",
        "replay other",
        "crash",
        "die",
    ]
)
ROLES = ("replica", "auto", "default", "any", "primary")


class Programs(Behind):
    """Clients that do anything in any order, and what each has committed."""

    def __init__(self) -> None:
        super().__init__(servers=((True, False, False),), pool_size=3)
        self.committed: dict[FakeClient, int] = {}
        self.in_transaction: dict[FakeClient, bool] = {}
        self.crashes = 0
        self.reads = 0

    def add(self) -> FakeClient:
        """A client."""
        client = self.connect()
        self.committed[client] = 0
        self.in_transaction[client] = False
        return client

    def do(self, client: FakeClient, *data: bytes) -> list[Message]:
        """Send, and wait for the end of the answer."""
        client.send(*data)
        found = self.wait(client)
        assert found, "no answer"
        assert found[-1].kind == "Z", found
        self.in_transaction[client] = found[-1].body != b"I"
        return found

    def step(self, operation: str, client: FakeClient, other: FakeClient, number: int) -> None:
        """Do one thing, and see that reads are not stale."""
        if operation in ("write", "failing"):
            sql = "INSERT INTO t VALUES (1)" if operation == "write" else "FAIL INSERT"
            failed = sqlstates(self.do(client, query(sql)))
            if not failed and not self.in_transaction[client]:
                self.committed[client] = self.logs[0, 0].offset
        elif operation in ("begin", "commit", "rollback"):
            had = self.in_transaction[client]
            if had is (operation == "begin"):
                return
            self.do(client, query(operation.upper()))
            if operation == "commit":
                self.committed[client] = self.logs[0, 0].offset
        elif operation.endswith("read"):
            self._read(client, is_extended=operation != "read")
        elif operation == "token" and not self.in_transaction[other]:
            told = self.ask(client, SHOW)
            if sqlstates(told):
                assert sqlstates(told) == ["25P02"]
                return
            [[found]] = rows(told)
            assert found is not None
            command = f"SET READ POSITION TO '{found.decode()}'"
            assert sqlstates(self.do(other, query(command))) == []
            seen = max(self.committed[client], self.committed[other])
            self.committed[other] = seen
        elif operation == "role" and not self.in_transaction[client]:
            self.do(client, query(f"SET SERVER ROLE TO '{ROLES[number % len(ROLES)]}'"))
        elif operation.startswith("replay"):
            log = self.logs[0, 1 + number % 2]
            behind = self.logs[0, 0].offset - log.offset
            log.offset += behind if operation == "replay" else behind // 2
        elif operation in ("crash", "die"):
            self._lose(1 + number % 2, is_crash=operation == "crash")

    def _read(self, client: FakeClient, *, is_extended: bool) -> None:
        self.reads += 1
        sql = f"SELECT number_{self.reads}"
        found = self.do(client, run(sql) + SYNC if is_extended else query(sql))
        if sqlstates(found):
            assert set(sqlstates(found)) <= {"57P03", "25P02"}
            return
        seen = [
            (server.model.wal, offset)
            for server in self.servers
            for said, offset in server.model.seen
            if said == sql
        ]
        [(log, offset)] = seen
        assert log is not None
        assert not log.name or offset >= self.committed[client]

    def _lose(self, index: int, *, is_crash: bool) -> None:
        """A replica loses its connections; if it has crashed, it begins further back."""
        lost = [
            server
            for server in self.live_servers()
            if server.connection.pool.address.index == index
        ]
        if any(server.connection.client is not None for server in lost):
            return  # which would end a client's session
        if is_crash:
            self.crashes += 1
            log = self.logs[0, index]
            log.name = f"{index}, after {self.crashes} crashes"
            log.offset -= 20
        for server in lost:
            server.die()


@example(program=[("begin", 0, 0, 0), ("failing", 0, 0, 0), ("token", 0, 1, 0)])
@given(
    st.lists(
        st.tuples(OPERATIONS, st.integers(0, 2), st.integers(0, 2), st.integers(0, 9)),
        max_size=40,
    )
)
@settings(max_examples=150, deadline=None)
def test_no_program_reads_less_than_it_has_written(
    program: list[tuple[str, int, int, int]],
) -> None:
    harness = Programs()
    clients = [harness.add() for _ in range(3)]
    for operation, one, other, number in program:
        harness.step(operation, clients[one], clients[other], number)
    harness.check()
