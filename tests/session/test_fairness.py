"""One client's flood is the others' wait: how much of it is done at a time, and who is next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.pool.server import _MANY
from router.protocol.frontend import TURN
from router.routing.types import RouterOptions
from router.session.session import _MAX_PIPELINE
from router.session.timeouts import _HOLD_TIME
from router.turns import Work
from tests.support.harness import Harness, read_messages
from tests.support.wire import FLUSH, SYNC, bind, execute, kinds, parse, query, rows, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.harness import FakeClient

FLOODS = {
    "queries": query("SELECT flood"),
    "batches": run("SELECT flood") + SYNC,
    "syncs": SYNC,
    "flushed": run("SELECT flood") + FLUSH + SYNC,
    "routing commands": query("SET SERVER ROLE TO 'primary'"),
    "prepared": parse("SELECT flood", "s") + bind(name="s") + execute() + SYNC,
}

# Of these nobody has seen one before; the number makes them differ.
NEW: dict[str, Callable[[int], bytes]] = {
    "queries": lambda n: query(f"SELECT a{n} FROM t"),
    "statements": lambda n: parse(f"SELECT a{n} FROM t", f"s{n}"),
    "batches": lambda n: run(f"SELECT a{n} FROM t") + SYNC,
    "described": lambda n: parse(f"SELECT a{n} FROM t") + FLUSH,
    "long": lambda n: parse(f"SELECT a{n}{' UNION SELECT b, c FROM t' * 50}", f"s{n}"),
}


def heard(client: FakeClient) -> str:
    """The types of all messages that a client has got so far."""
    client.receive()
    return kinds(read_messages(client.got))


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_is_taken_a_turn_at_a_time(kind: str) -> None:
    harness = Harness(pool_size=2)
    flooding, other = harness.connect(), harness.connect()
    harness.ask(other, query("SELECT warm"))
    number = 5 * TURN
    flooding.send(FLOODS[kind] * number)
    turns = 0
    answered = 0
    while answered < number:
        before = answered
        moved = harness._step()
        answered = heard(flooding).count("Z")
        # A step is a turn of each link; a server's is worth as many answers as a client's.
        assert answered - before <= 2 * TURN
        turns += 1
        assert moved
    assert turns >= number // (2 * TURN)
    assert rows(harness.ask(other, query("SELECT mine"))) == [[b"SELECT mine"]]
    harness.check()


@pytest.mark.parametrize("kind", NEW)
def test_texts_that_nobody_has_seen_are_taken_few_at_a_time(kind: str) -> None:
    harness = Harness(pool_size=2, options=RouterOptions(query_parser_enabled=True))
    flooding, other = harness.connect(), harness.connect()
    harness.ask(other, query("SELECT warm"))
    assert harness.pool is not None
    cache = harness.pool.router.cache
    number, before = 2 * TURN, cache.misses
    flooding.send(b"".join(map(NEW[kind], range(number))))
    assert 0 < cache.misses - before <= (1 if kind == "long" else 2)
    other.send(query("SELECT warm"))
    while not other.receive():
        assert harness._step()
    # It was not behind all that had come first.
    assert cache.misses - before <= 8
    harness.run()
    assert cache.misses - before >= number
    harness.ask(flooding, SYNC)
    harness.check()


def test_forms_are_written_for_people_a_few_at_a_time() -> None:
    """Statistics want them even where nobody looks at texts for routing."""
    harness = Harness()
    client = harness.connect()
    texts = [NEW["long"](n) for n in range(TURN)]
    client.send(b"".join(texts))
    assert client.session.stream.wants_turn
    assert client.session.stream.held >= sum(map(len, texts[2:]))
    while harness._step():
        # All that is left for the end is to send them.
        for operation in client.session.batch.operations:
            assert operation.statement is not None
            assert operation.statement.fingerprint is not None
    harness.ask(client, SYNC)
    harness.check()


def test_literals_of_long_texts_are_cut_out_for_a_few_at_a_time() -> None:
    harness = Harness(options=RouterOptions(query_parser_enabled=True))
    client = harness.connect()
    harness.ask(client, query("SELECT '?' FROM t"))
    assert harness.pool is not None
    cache = harness.pool.router.cache
    before, size = cache.fingerprint_hits, 2 << 10
    texts = [parse(f"SELECT '{n:0{size}}' FROM t", f"s{n}") for n in range(TURN)]
    client.send(b"".join(texts))
    cost = Work()
    cost.note_text(size)
    assert 0 < cache.fingerprint_hits - before <= TURN // cost.units + 1
    harness.run()
    assert cache.fingerprint_hits - before == TURN
    harness.ask(client, SYNC)
    harness.check()


@pytest.mark.parametrize("kind", ["queries", "batches", "prepared"])
def test_a_long_pipeline_goes_on_when_half_of_it_has_been_answered(kind: str) -> None:
    harness = Harness(pool_size=1)
    client = harness.connect()
    harness.ask(client, run("SELECT flood") + SYNC + FLOODS[kind])
    client.got = b""
    server, number = harness.servers[0], 3 * _MAX_PIPELINE
    queue = server.connection.queue
    client.send(FLOODS[kind] * number)
    is_full, times = len(queue) > _MAX_PIPELINE, 0
    while queue or client.session.stream.held:
        before = len(queue)
        assert client.deliver() or server.answer(1000) or server.work()
        if is_full and len(queue) > before:
            assert before <= _MAX_PIPELINE // 2 + TURN
            is_full = False
        if not is_full and len(queue) > _MAX_PIPELINE:
            is_full = True
            times += 1
    assert times > 1
    assert heard(client).count("Z") == number
    harness.check()


@pytest.mark.parametrize("kind", ["queries", "batches", "prepared"])
def test_a_server_rests_between_reads_while_it_has_much_to_do(kind: str) -> None:
    harness = Harness(pool_size=1)
    client = harness.connect()
    harness.ask(client, run("SELECT flood") + SYNC + FLOODS[kind])
    client.got = b""
    server = harness.servers[0]
    client.send(FLOODS[kind] * (2 * _MANY))
    while client.deliver():
        pass
    server.work()
    seen = set()
    while server.connection.queue:
        before = server.link.rests
        assert server.answer(100)
        has_rested = server.link.rests > before
        is_busy = len(server.connection.queue) > _MANY
        assert has_rested == (is_busy and not server.link.deferred)
        seen.add(has_rested)
    assert seen == {True, False}
    assert heard(client).count("Z") == 2 * _MANY
    harness.check()


@pytest.mark.parametrize("kind", ["queries", "batches", "prepared"])
def test_a_pipeline_gives_its_server_back_when_others_wait(kind: str) -> None:
    harness = Harness(pool_size=1)
    flooding, other = harness.connect(), harness.connect()
    flooding.send(FLOODS[kind] * 500)
    harness.accept()
    other.send(query("SELECT mine"))
    assert other.session.lease.waiter is not None
    while not other.receive():
        assert harness._step()
    assert heard(flooding).count("Z") <= 3 * TURN
    harness.run()
    assert heard(flooding).count("Z") == 500
    harness.check()


@pytest.mark.parametrize("kind", ["batches", "prepared"])
def test_a_pipeline_whose_statement_is_new_to_the_server_waits_for_it_once(kind: str) -> None:
    harness = Harness(pool_size=1)
    client = harness.connect()
    client.send(FLOODS[kind] * 8)
    server = harness.accept()
    longest = []
    while heard(client).count("Z") < 8:
        longest.append(len(server.connection.queue))
        assert harness._step()
    # The first by itself, since nobody knows whether it can be prepared; then all the others.
    assert longest[0] == 1
    assert max(longest) >= 4


def test_a_pipeline_in_a_transaction_goes_on_while_others_wait() -> None:
    harness = Harness(pool_size=1)
    flooding, other = harness.connect(), harness.connect()
    harness.ask(flooding, query("BEGIN"))
    other.send(query("SELECT mine"))
    flooding.send(query("SELECT x") * 20 + query("COMMIT"))
    server = harness.servers[0]
    assert len(server.connection.queue) == 21, "sent one by one"
    harness.run()
    assert server.model.log[:22] == ["BEGIN", *["SELECT x"] * 20, "COMMIT"]
    harness.check()


# --- what is held of a batch


def test_an_error_in_an_open_batch_is_told_without_a_sync() -> None:
    harness = Harness()
    client = harness.connect()
    client.send(parse("FAIL x"))
    harness.run()
    assert not client.got
    harness.engine.advance(_HOLD_TIME)
    harness.run()
    assert heard(client) == "E"
    client.send(bind() + execute() + SYNC)
    harness.run()
    assert heard(client) == "EZ"
    harness.check()


def test_an_error_behind_what_has_been_answered_is_told_without_a_sync() -> None:
    harness = Harness()
    client = harness.connect()
    client.send(run("SELECT x") + FLUSH)
    harness.run()
    assert heard(client) == "12TDC"
    client.send(parse("FAIL x"))
    harness.run()
    harness.engine.advance(_HOLD_TIME)
    harness.run()
    assert heard(client) == "12TDCE"
    client.send(SYNC)
    harness.run()
    assert heard(client) == "12TDCEZ"
    harness.check()


def test_a_batch_that_comes_in_pieces_is_sent_as_one_if_they_come_soon() -> None:
    harness = Harness()
    client = harness.connect()
    harness.ask(client, query("SELECT warm"))
    for part in (parse("SELECT x"), bind(), execute()):
        client.send(part)
        harness.engine.advance(_HOLD_TIME / 4)
        assert client.session.lease.server is None
    assert kinds(harness.ask(client, SYNC)) == "12DCZ"
    # The timer finds nothing.
    harness.engine.advance(_HOLD_TIME)
    assert not client.session._held._is_running
    harness.check()


def test_one_timer_serves_many_messages() -> None:
    harness = Harness()
    client = harness.connect()
    before = harness.engine.timers
    for _ in range(100):
        client.send(parse("SELECT x"))
    assert harness.engine.timers == before + 1


def test_what_no_server_could_object_to_waits_for_its_sync() -> None:
    harness = Harness()
    client = harness.connect()
    harness.ask(client, run("SELECT x") + SYNC)
    client.send(parse("SELECT x", "known"))
    harness.run()
    harness.engine.advance(1)
    assert client.session.lease.server is None
    assert kinds(harness.ask(client, SYNC)) == "1Z"


def test_a_batch_without_an_end_does_not_grow() -> None:
    harness = Harness()
    client = harness.connect()
    message = parse("SELECT x") + bind() + execute()
    for _ in range(300):
        client.send(message * 20 + FLUSH)
        harness.run()
        client.got = b""
    segment = client.session.batch.script.segment
    assert segment is not None
    assert segment.steps is not None
    assert len(segment.steps) < 1500
    assert kinds(harness.ask(client, SYNC)) == "Z"
    harness.check()
