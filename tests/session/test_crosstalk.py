"""Whatever happens in whatever order, a client gets the replies of a server of its own.

Several clients send what they like, in pieces of any size; servers read and answer in pieces of
any size; clients come and go. Each client's replies are compared with those of a model server
that nobody else uses, and every row says who asked for it.
"""

from __future__ import annotations

import struct

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.config.values import Multiplexing
from router.routing.types import RouterOptions
from tests.support import wire
from tests.support.harness import FakeClient, Harness
from tests.support.model import DEFAULTS, ModelServer

CLIENTS = 3
NAMES = ("one", "two")
# Words in the rows that mean the same to all clients.
COMMON = (b"shared", b"common", b"SHOW")
# Brings a client's connection to rest, whatever it has done before.
LAST_WORDS = wire.SYNC + wire.query("ROLLBACK")

Unit = bytes
"""What belongs together in a client's stream."""


def split(data: bytes) -> list[tuple[str, bytes]]:
    """Cut a server's output into messages, the last of which may be incomplete."""
    found = []
    while data:
        size = struct.unpack_from("!I", data, 1)[0] + 1 if len(data) >= 5 else len(data)
        found.append((chr(data[0]), data[:size]))
        data = data[size:]
    return found


def told(data: bytes) -> tuple[list[bytes], list[dict[str, str]]]:
    """All but ParameterStatus, and what is known of the settings at each ReadyForQuery."""
    others: list[bytes] = []
    states: list[dict[str, str]] = []
    known = dict(DEFAULTS)
    for kind, message in split(data):
        if kind == "S":
            name, value = message[5:-1].decode().split("\0")
            known[name] = value
            continue
        others.append(message)
        if kind == "Z":
            states.append(dict(known))
    return others, states


# --- what clients send


def statements(tag: str) -> st.SearchStrategy[str]:
    """SQL for the model; each says whose it is."""
    numbers = st.integers(0, 9)
    return st.one_of(
        numbers.map(lambda n: f"SELECT {tag}-{n}"),
        numbers.map(lambda n: f"ROWS {n} {tag}"),
        numbers.map(lambda n: f"SLEEP {tag}-{n}"),
        st.sampled_from(
            (
                f"FAIL {tag}",
                f"NOTICE {tag}",
                "",
                "BEGIN",
                "COMMIT",
                "ROLLBACK",
                "SHOW timezone",
                "SHOW application_name",
            )
        ),
        st.sampled_from((f"SET application_name TO '{tag}'", f"SET TimeZone TO '{tag}'")),
    )


def simple(tag: str) -> st.SearchStrategy[Unit]:
    """Simple queries, now and then of several statements."""
    many = st.lists(statements(tag), min_size=1, max_size=3).map("; ".join)
    dropping = st.sampled_from(
        ("DEALLOCATE ALL", "DISCARD ALL", *(f"DEALLOCATE {name}" for name in NAMES))
    )
    return st.one_of(statements(tag), many, dropping).map(wire.query)


def unnamed(tag: str) -> st.SearchStrategy[Unit]:
    """Parse, Bind, Execute of the unnamed statement, with a value."""
    value = st.integers(0, 99).map(lambda n: f"{tag}.{n}".encode())
    return st.builds(
        lambda sql, bound, described: (
            wire.parse(sql)
            + wire.bind(bound)
            + (wire.describe() if described else b"")
            + wire.execute()
        ),
        statements(tag),
        value,
        st.booleans(),
    )


def nameless(tag: str) -> st.SearchStrategy[Unit]:
    """Messages about the unnamed statement, one by one: some need it from an earlier batch."""
    return st.one_of(
        statements(tag).map(wire.parse),
        st.just(wire.bind(tag.encode()) + wire.execute()),
        st.sampled_from((wire.describe("S"), wire.close("S"))),
    )


def named(tag: str) -> st.SearchStrategy[Unit]:
    """Messages about named statements, in any order: many of them are mistakes."""
    name = st.sampled_from(NAMES)
    # Few texts, so that clients share them.
    text = st.sampled_from(("SELECT shared", "SELECT common", f"SELECT {tag}", "FAIL"))
    return st.one_of(
        st.builds(wire.parse, text, name),
        st.builds(lambda n: wire.bind(tag.encode(), name=n) + wire.execute(), name),
        st.builds(lambda n: wire.describe("S", n), name),
        st.builds(lambda n: wire.close("S", n), name),
    )


def batches(tag: str) -> st.SearchStrategy[Unit]:
    """Extended batches with their Sync, and batches that a Query ends."""
    part = st.one_of(unnamed(tag), nameless(tag), named(tag), named(tag), st.just(wire.FLUSH))
    end = st.sampled_from((wire.SYNC, wire.SYNC, wire.SYNC, wire.query(f"SELECT {tag}")))
    return st.builds(
        lambda parts, last: b"".join(parts) + last + (b"" if last == wire.SYNC else wire.SYNC),
        st.lists(part, max_size=4),
        end,
    )


def copies(tag: str) -> st.SearchStrategy[Unit]:
    """COPY FROM STDIN in both protocols, with data that nobody has asked for yet."""
    data = st.lists(st.just(wire.copy_data(tag.encode() + b"\n")), max_size=3).map(b"".join)
    end = st.sampled_from((wire.COPY_DONE, wire.copy_fail()))
    batch = wire.parse("COPY t") + wire.bind() + wire.execute()
    begin = st.sampled_from(
        (
            (wire.query("COPY t"), b""),
            (batch, wire.SYNC),
            # Syncs that come too early mean nothing to a server that waits for data.
            (batch + wire.SYNC, wire.SYNC),
            (batch + wire.SYNC + wire.FLUSH + wire.SYNC, wire.SYNC),
        )
    )
    return st.builds(lambda b, d, e: b[0] + d + e + b[1], begin, data, end)


def streams(tag: str) -> st.SearchStrategy[bytes]:
    """All that a client sends."""
    unit = st.one_of(simple(tag), simple(tag), batches(tag), batches(tag), copies(tag))
    return st.lists(unit, min_size=1, max_size=6).map(b"".join)


def direct(stream: bytes) -> bytes:
    """What a server of its own answers to a client."""
    model = ModelServer()
    model.feed(stream)
    while model.sleeping is not None:
        model.wake()
    return model.output


# --- what happens


class World:
    """A harness and the clients' streams, moved by numbers."""

    def __init__(self, harness: Harness, sent: list[bytes]) -> None:
        self.harness = harness
        self.clients: list[FakeClient] = [harness.connect() for _ in sent]
        self.unsent = list(sent)
        # Those who left, who cancelled something, whose server died.
        self.left: set[int] = set()
        self.cancelled: set[int] = set()
        self.bereaved: set[int] = set()

    def happen(self, what: int, who: int, size: int) -> None:
        """Let one thing happen; numbers that fit nothing do nothing."""
        harness = self.harness
        servers = list(harness.live_servers())
        if what == 0 and servers:
            servers[who % len(servers)].work(size)
        elif what == 1 and servers:
            servers[who % len(servers)].answer(size)
        elif what == 2 and harness.opening:
            harness.accept()
        elif what == 3 and harness.cancelling:
            harness.deliver_cancel()
        elif what == 4 and servers:
            servers[who % len(servers)].model.wake()
        elif what >= 5:
            self.send(who % len(self.clients), size)

    def send(self, who: int, size: int | None) -> None:
        """A client sends more."""
        if who not in self.left:
            piece = self.unsent[who][:size]
            self.unsent[who] = self.unsent[who][len(piece) :]
            self.clients[who].send(piece)

    def leave(self, who: int) -> None:
        """A client's connection breaks."""
        self.left.add(who)
        self.clients[who].leave()

    def kill(self, which: int) -> None:
        """A server dies."""
        servers = list(self.harness.live_servers())
        if servers:
            victim = servers[which % len(servers)]
            for who, client in enumerate(self.clients):
                if client.session.lease.server is victim.connection:
                    self.bereaved.add(who)
            victim.die()

    def finish(self) -> None:
        """Let everything come to its end."""
        for who in range(len(self.clients)):
            self.send(who, None)
        harness = self.harness
        harness.run()
        while any(server.model.sleeping for server in harness.live_servers()):
            for server in harness.live_servers():
                server.model.wake()
            harness.run()


def check(world: World, sent: list[bytes]) -> None:
    """Compare what each client got with what it would have got from a server of its own."""
    for who, client in enumerate(world.clients):
        others, states = told(client.got)
        wanted, wanted_states = told(direct(sent[who]))
        if who in world.cancelled:
            check_rows(others, f"c{who}")
        elif who in world.bereaved:
            assert client.link.closed
            others = [message for message in others if b"FATAL" not in message]
            assert b"".join(wanted).startswith(b"".join(others))
        elif who in world.left:
            assert b"".join(wanted).startswith(b"".join(others))
        else:
            assert not client.ended
            assert others == wanted
            assert states == wanted_states
    world.harness.check()


def check_rows(got: list[bytes], tag: str) -> None:
    """Every row is one's own, or one that says the same to all."""
    for message in got:
        is_whole = len(message) > 5 and len(message) == int.from_bytes(message[1:5]) + 1
        if message[:1] == b"D" and is_whole:
            assert any(word in message for word in (tag.encode(), *COMMON))


def harness(pool_size: int, *, is_static: bool, capacity: int) -> Harness:
    """A pool of this size."""
    return Harness(
        options=RouterOptions(query_parser_enabled=not is_static),
        pool_size=pool_size,
        prepared_statements_cache_size=capacity,
    )


EVENTS = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 5), st.integers(1, 60)), max_size=150
)
ALL_STREAMS = st.tuples(*(streams(f"c{number}") for number in range(CLIENTS))).map(
    lambda parts: [part + LAST_WORDS for part in parts]
)
POOLS = st.builds(
    harness, st.integers(1, 3), is_static=st.booleans(), capacity=st.sampled_from((1, 2, 500))
)

thorough = settings(
    max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


@thorough
@given(POOLS, ALL_STREAMS, EVENTS)
def test_a_client_gets_what_a_server_of_its_own_would_answer(
    world_harness: Harness, sent: list[bytes], events: list[tuple[int, int, int]]
) -> None:
    world = World(world_harness, sent)
    for event in events:
        world.happen(*event)
    world.finish()
    check(world, sent)


@thorough
@given(POOLS, ALL_STREAMS, EVENTS, st.lists(st.integers(0, 150), max_size=CLIENTS))
def test_clients_that_leave_take_nothing_from_the_others(
    world_harness: Harness,
    sent: list[bytes],
    events: list[tuple[int, int, int]],
    departures: list[int],
) -> None:
    world = World(world_harness, sent)
    for number, event in enumerate(events):
        world.happen(*event)
        for who, when in enumerate(departures):
            if when == number:
                world.leave(who)
    world.finish()
    check(world, sent)


@thorough
@given(POOLS, ALL_STREAMS, EVENTS, st.lists(st.integers(0, 150), max_size=CLIENTS))
def test_a_cancel_request_hits_nobody_but_its_sender(
    world_harness: Harness,
    sent: list[bytes],
    events: list[tuple[int, int, int]],
    cancels: list[int],
) -> None:
    world = World(world_harness, sent)
    for number, event in enumerate(events):
        world.happen(*event)
        for who, when in enumerate(cancels):
            if when == number:
                world.clients[who].session.cancel()
                world.cancelled.add(who)
    world.finish()
    check(world, sent)


@thorough
@given(POOLS, ALL_STREAMS, EVENTS, st.lists(st.integers(0, 150), max_size=3))
def test_a_server_that_dies_takes_no_client_with_it_but_its_own(
    world_harness: Harness,
    sent: list[bytes],
    events: list[tuple[int, int, int]],
    deaths: list[int],
) -> None:
    world = World(world_harness, sent)
    for number, event in enumerate(events):
        world.happen(*event)
        if number in deaths:
            world.kill(number)
    world.finish()
    check(world, sent)


# --- several clients at one server


def reading(tag: str) -> st.SearchStrategy[bytes]:
    """A client that mostly reads, and waits for nothing."""
    read = st.one_of(
        st.integers(0, 9).map(lambda n: wire.query(f"SELECT {tag}-{n}")),
        st.just(wire.run(f"SELECT {tag}, $1", tag.encode()) + wire.SYNC),
        st.sampled_from(NAMES).map(lambda n: wire.bind(tag.encode(), name=n) + wire.execute()),
        st.sampled_from(NAMES).map(
            lambda n: wire.bind(tag.encode(), name=n) + wire.execute() + wire.SYNC
        ),
        st.just(wire.query("SELECT shared")),
    )
    unit = st.one_of(read, read, read, read, simple(tag), batches(tag))
    first = wire.parse("SELECT shared", "one") + wire.parse(f"SELECT {tag}", "two") + wire.SYNC
    return st.lists(unit, max_size=10).map(lambda units: first + b"".join(units))


READERS = 5
ALL_READING = st.tuples(*(reading(f"c{number}") for number in range(READERS))).map(
    lambda parts: [part + LAST_WORDS for part in parts]
)
WHENS = st.lists(st.integers(0, 150), max_size=READERS)


def sharing(pool_size: int, depth: int, capacity: int, connections: int) -> Harness:
    """A pool whose clients share servers, and which knows all forms of reads to be quick."""
    made = Harness(
        pool_size=pool_size,
        prepared_statements_cache_size=capacity,
        multiplexing=Multiplexing.READS,
        multiplexing_depth=depth,
        multiplexing_slow=1.0,
        multiplexing_connections=connections,
        retry_reads=False,
    )
    warming = made.connect()
    texts = [f"SELECT c{number}{rest}" for number in range(READERS) for rest in ("", "-1")]
    for sql in (*texts, "SELECT shared", "SELECT common"):
        made.ask(warming, wire.query(sql))
    for number in range(READERS):
        made.ask(warming, wire.run(f"SELECT c{number}, $1", b"x") + wire.SYNC)
    warming.leave()
    made.clients.clear()
    return made


SHARING = st.tuples(
    st.sampled_from((1, 1, 2, 3)),
    st.integers(2, 5),
    st.sampled_from((1, 2, 500)),
    st.sampled_from((0, 1, 1, 2)),
)
_shared: list[int] = []


@thorough
@given(SHARING, ALL_READING, EVENTS, WHENS, WHENS, st.booleans())
def test_those_who_share_a_server_get_what_is_theirs(
    pool: tuple[int, int, int, int],
    sent: list[bytes],
    events: list[tuple[int, int, int]],
    departures: list[int],
    cancels: list[int],
    kills: bool,
) -> None:
    world_harness = sharing(*pool)
    world = World(world_harness, sent)
    for number, event in enumerate(events):
        world.happen(event[0], event[1] * 7 + event[2], event[2] * 3)
        for who, when in enumerate(departures):
            if when == number and who % 2:
                world.leave(who)
        for who, when in enumerate(cancels):
            if when == number and who not in world.left:
                world.clients[who].session.cancel()
                world.cancelled.add(who)
        if kills and number % 40 == 39:
            world.kill(number)
            world.cancelled -= world.bereaved
    world.finish()
    check(world, sent)
    found = world_harness.part.sharing
    assert found is not None
    _shared.append(found.shared)


def test_there_were_some_who_shared() -> None:
    assert not _shared or sum(_shared) > 30
