"""Shards that are databases of one server, and a router with a pool before them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import pytest

from .postgres import Database
from .router import HOST, PoolText, primary_of, wait_until
from .tripwire import Tripwire
from .wire import (
    COPY_DONE,
    SYNC,
    TERMINATE,
    Ended,
    WireClient,
    cancel_request,
    copy_data,
    kinds,
    query,
    run,
    sqlstates,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .cluster.server import Server
    from .router import RouterProcess
    from .wire import Message

SHARDS: Final = 3
KEYED: Final = 'query_parser_enabled = true\nautomatic_sharding_key = "items.id"'
EXISTS: Final = "SELECT to_regclass('{}') IS NOT NULL"
LEFT: Final = "SELECT count(*) FROM pg_prepared_xacts"
BUSY: Final = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'shard%' "
    "AND state <> 'idle' AND pid <> pg_backend_pid()"
)


class Shards:
    """Three databases, and a router with a pool before them."""

    def __init__(self, databases: list[Database], router: RouterProcess) -> None:
        self.databases = databases
        self.router = router

    def client(self, pool: str = "items") -> WireClient:
        """A client that is logged in."""
        return WireClient.login(self.router.port, user="postgres", database=pool)

    def has(self, relation: str) -> list[bool]:
        """On which shards there is a table, or whatever is one."""
        return [bool(each.execute(EXISTS.format(relation))[0][0]) for each in self.databases]

    def left(self) -> int:
        """How many prepared transactions there are."""
        return int(self.databases[0].execute(LEFT)[0][0])

    def busy(self) -> int:
        """How many sessions of the shards do something."""
        return int(self.databases[0].execute(BUSY)[0][0])


def items_of_shard(number: int, shards: int) -> str:
    """SQL for a table `items` that takes no rows but those of one shard, by their `id`."""
    return (
        "CREATE TABLE items (id bigint, body text) PARTITION BY HASH (id);"
        "CREATE TABLE items_here PARTITION OF items "
        f"FOR VALUES WITH (MODULUS {shards}, REMAINDER {number});"
    )


def make_shards(server: Server) -> list[Database]:
    """Make the databases."""
    databases = [Database(server, f"shard_{number}") for number in range(SHARDS)]
    for database in databases:
        server.execute(f"CREATE DATABASE {database.name}")
        database.execute("CREATE TABLE items (id bigint, body text)")
    return databases


def pool_of(
    places: list[list[tuple[str, int, str]]], databases: list[Database], options: str = KEYED
) -> PoolText:
    """A pool of theirs, by way of these places."""
    names = [database.name for database in databases]
    return PoolText(shards=places, databases=names, pool_size=2, options=options)


def start_shards(
    server: Server,
    start_router: Callable[..., RouterProcess],
    options: str = KEYED,
    prepare: Callable[[Database], object] | None = None,
) -> Shards:
    """Make the databases, do something with each, and start a router before them."""
    databases = make_shards(server)
    if prepare is not None:
        for database in databases:
            prepare(database)
    pool = pool_of([primary_of(server)] * SHARDS, databases, options)
    return Shards(databases, start_router({"items": pool}))


@contextlib.contextmanager
def wired_shards(
    server: Server, options: str = KEYED
) -> Iterator[tuple[list[Database], list[Tripwire], PoolText]]:
    """The databases, a tripwire before each, and a pool of theirs by way of these."""
    databases = make_shards(server)
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Tripwire(server.port)) for _ in databases]
        places = [[(HOST, wire.port, "primary")] for wire in wires]
        yield databases, wires, pool_of(places, databases, options)


def kill_at_each_step(
    steps: Sequence[tuple[int, bytes]],
    run: Callable[[WireClient, int], str],
    server: Server,
    start_router: Callable[..., RouterProcess],
    *,
    before: bool,
) -> None:
    """Kill the router as each step comes by: then all shards have what was run, or none has.

    Args:
        steps: which shard is sent a message with this text.
        run: makes the table made_N in some way; returns "C", or "" if its connection ends.
        before: the router is killed before the message reaches its server, or after the answer.
    """
    with wired_shards(server) as (databases, wires, pool):
        for number, (shard, text) in enumerate(steps):
            router = start_router({"items": pool})
            with Shards(databases, router).client() as client:
                wires[shard].set(text, before=before, act=router.process.kill)
                assert run(client, number) in ("", "C")
                router.process.wait()
            assert wires[shard].has_gone_off, (shard, text)
        shards = Shards(databases, start_router({"items": pool}))
        with shards.client():
            wait_until("nothing is left", lambda: not shards.left())
        for number, step in enumerate(steps):
            assert len(set(shards.has(f"made_{number}"))) == 1, step


def steps_of(*texts: bytes, at_home: tuple[bytes, ...] = ()) -> list[tuple[int, bytes]]:
    """What shards are sent for something that all have or none: the shard, and the text.

    `texts` is what each is sent of it, and `at_home` what shard 0 alone is asked before.
    """
    others = (b"BEGIN", *texts, b"txid_current", b"PREPARE TRANSACTION", b"COMMIT PREPARED")
    home = (b"BEGIN", *at_home, *texts, b"txid_current", b"COMMIT")
    return [(0, text) for text in home] + [(n, text) for n in (1, 2) for text in others]


LOSSES: Final = (
    pytest.mark.parametrize("kills", ["server", "router"]),
    pytest.mark.parametrize("before", [True, False], ids=["before", "after"]),
)


def lose_at_each_step(
    steps: Sequence[tuple[int, bytes]],
    run: Callable[[WireClient, int], str],
    counted: Callable[[Shards, int], int],
    whole: int,
    made: tuple[list[Database], list[Tripwire], PoolText],
    start_router: Callable[..., RouterProcess],
    *,
    before: bool,
    kills: str,
) -> None:
    """Cut a connection to a server, or kill the router, as each step comes by.

    Then all is there or nothing, nothing stays prepared, and what the client was told is true.

    Args:
        steps: which shard is sent something with this text.
        run: does it, with the number of the step; returns "C", the DETAIL of the error, or ""
            if its connection ends.
        counted: how much of it is there.
        whole: how much that is if all of it is.
        made: what `wired_shards` has made.
        start_router: the fixture.
        before: that happens before the server has the step, or after it has answered.
        kills: "server" or "router".
    """
    databases, wires, pool = made
    shards = Shards(databases, start_router({"items": pool}))
    for number, (shard, text) in enumerate(steps):
        act = (lambda: None) if kills == "server" else shards.router.process.kill
        told = ""
        with shards.client() as client:
            wires[shard].set(text, before=before, act=act)
            with contextlib.suppress(Ended, OSError):
                told = run(client, number)
        assert wires[shard].has_gone_off, (shard, text)
        if kills == "router":
            shards.router.process.wait()
            shards = Shards(databases, start_router({"items": pool}))
        shards.client().close()
        wait_until("nothing is left", lambda: not databases[0].execute(LEFT)[0][0])
        count = counted(shards, number)
        assert count in (0, whole), (shard, text)
        if told == "C" or "Nothing has been changed" in told:
            assert bool(count) == (told == "C"), (shard, text, told)
        elif told:
            assert "not known" in told, told


def outcome(answer: Sequence[Message]) -> str:
    """What an answer comes to: "C", or the DETAIL of its error."""
    errors = [message.fields.get("D", "") for message in answer if message.kind == "E"]
    return errors[0] if errors else "C"


def ask_simply(client: WireClient, sql: str) -> list[Message]:
    """Ask by the simple protocol."""
    return client.ask(query(sql))


def ask_in_batches(client: WireClient, sql: str) -> list[Message]:
    """Ask by the extended protocol."""
    return client.ask(run(sql) + SYNC)


PROTOCOLS: Final = pytest.mark.parametrize(
    "ask", [ask_simply, ask_in_batches], ids=["simple", "extended"]
)


def ask_all(
    client: WireClient, ask: Callable[[WireClient, str], list[Message]], *texts: str
) -> None:
    """Ask for these one after the other, none of which must fail."""
    for text in texts:
        answer = ask(client, text)
        assert not sqlstates(answer), (text, answer[0].fields)


def break_off(shards: Shards, sql: str, lines: bytes, row: bytes) -> None:
    """Have a COPY of some lines cancelled, and leave it in all manners; nobody stays busy.

    `row` is another that is all right, of which a part is sent.
    """
    with shards.client() as client:
        assert kinds(client.begin_copy(sql)) == "G"
        client.send(copy_data(lines))
        with WireClient(shards.router.port) as other:
            other.send(cancel_request(client.pid, client.secret))
            other.read_to_end()
        assert sqlstates(client.read_until("Z")) == ["57014"]
        assert client.value("SELECT 1") == "1"
    for last in (b"", TERMINATE, copy_data(row)[:-3], query("SELECT 1")):
        with shards.client() as client:
            assert kinds(client.begin_copy(sql)) == "G"
            client.send(copy_data(lines) + last)
            if last[:1] == b"Q":
                assert sqlstates(client.read_to_end()) == ["08P01", "08P01"]
    wait_until("all have let go", lambda: not shards.busy())
    assert shards.left() == 0


def copy_unasked(shards: Shards, sql: str, lines: bytes, row: bytes) -> None:
    """Send lines without waiting until they are asked for; then a row, and a goodbye behind."""
    with shards.client() as client:
        client.send(query(sql) + copy_data(lines) + COPY_DONE + query("SELECT 1"))
        assert kinds(client.read_until("ZZ")) == "GCZTDCZ"
        client.send(query(sql) + copy_data(row) + COPY_DONE + TERMINATE)
        assert kinds(client.read_to_end()) == "GCZ"
