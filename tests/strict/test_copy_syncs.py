"""Whatever a client sends in the middle of a COPY, nobody else gets its answers."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    Ended,
    Message,
    WireClient,
    bind,
    copy_data,
    copy_fail,
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

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.router import RouterProcess

pytestmark = pytest.mark.postgres

COPY_IN = "COPY t FROM STDIN"
BEGINNINGS = st.sampled_from(
    [query(COPY_IN), run(COPY_IN) + SYNC, run(COPY_IN) + FLUSH, run(COPY_IN) + SYNC + SYNC]
)
GOOD, BAD = copy_data(b"1\ta\n"), copy_data(b"nonsense\n")
# With which a client that waits for an answer can be sure that it has got them all.
END = COPY_DONE + SYNC + query("SELECT 'end'")
WITHIN = st.sampled_from(
    [
        GOOD,
        BAD,
        SYNC,
        FLUSH,
        COPY_DONE,
        copy_fail(),
        query("SELECT 'theirs'"),
        query("SET SERVER ROLE TO 'primary'"),
        run("SELECT 'theirs'") + SYNC,
        parse("SELECT 'theirs'", "s"),
        bind(name="s") + describe() + execute(),
        function_call(177, b"1", b"2"),
    ]
)
numbers = count()


@pytest.fixture(scope="module")
def router(module_router: ModuleRouter, pool_for: PoolFor) -> RouterProcess:
    """With pools of one server; one looks at texts, and so sends nothing behind them."""
    looks = "query_parser_enabled = true\nquery_parser_read_write_splitting = true"
    return module_router({"one": pool_for(), "looks": pool_for(options=looks)})


@pytest.fixture(scope="module")
def other(router: RouterProcess) -> Iterator[WireClient]:
    """Whose statements run on the same server."""
    with WireClient.login(router.port, "one") as made:
        yield made


@pytest.mark.parametrize(
    "within",
    [BAD + SYNC + COPY_DONE + SYNC, BAD + SYNC + SYNC + SYNC, BAD + SYNC + query("SELECT 'a'")],
    ids=["an end and a Sync", "Syncs", "a Query"],
)
@pytest.mark.parametrize("beginning", [query(COPY_IN), run(COPY_IN) + SYNC], ids=["Q", "E"])
def test_what_follows_the_sync_of_a_failed_copy_reaches_nobody_else(
    router: RouterProcess, other: WireClient, beginning: bytes, within: bytes
) -> None:
    with WireClient.login(router.port, "one") as client:
        client.send(beginning)
        client.read_until("G")
        client.send(within)
        for number in range(20):
            answers = other.ask(query(f"SELECT {number}"))
            assert kinds(answers) == "TDCZ", answers
            assert rows(answers) == [[b"%d" % number]]


@pytest.mark.parametrize("pool", ["one", "looks"])
@pytest.mark.parametrize(
    "beginning",
    [
        query(COPY_IN),
        query(COPY_IN + " " * 300_000),
        query(f"SELECT 1; {COPY_IN}"),
        run(COPY_IN) + SYNC,
        parse(COPY_IN) + FLUSH + query(COPY_IN),
    ],
    ids=["Q", "long", "two", "E", "within a batch"],
)
def test_what_comes_together_with_a_copy_is_not_left_lying(
    router: RouterProcess, pool: str, beginning: bytes
) -> None:
    """It is read as soon as the server reads CopyData, and not only when more comes."""
    for within in (SYNC, FLUSH, GOOD + SYNC, GOOD + FLUSH):
        with WireClient.login(router.port, pool) as client:
            client.query("TRUNCATE t")
            client.send(beginning + within)
            client.read_until("G")
            answers = client.ask(END, until="DZ")
            assert (sqlstates(answers), rows(answers)) == ([], [[b"end"]]), within
    for within in (
        query("SELECT 1"),
        query("SELECT " + "1" * 300_000),
        query("SET SERVER ROLE TO 'primary'"),
        query("EXPLAIN ROUTE SELECT 1"),
        query("DISCARD ALL"),
        parse("SELECT 1"),
        parse("SELECT 1", "s") + SYNC,
        parse("SHOW SHARD"),
        parse("SELECT " + "1" * 70_000),
        bind(),
        bind(b"x" * 200_000),
        bind() + GOOD + COPY_DONE,
        GOOD + describe(),
        SYNC + execute(),
        function_call(177, b"1", b"2"),
    ):
        with WireClient.login(router.port, pool) as client:
            client.send(beginning + within)
            # PostgreSQL says so twice: an ERROR ends the COPY, a FATAL the connection.
            assert sqlstates(client.read_to_end()) == ["08P01", "08P01"], within[:40]


@given(
    beginning=BEGINNINGS,
    within=st.lists(WITHIN, min_size=1, max_size=6),
)
@settings(
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_nobody_else_gets_an_answer_of_a_copy(
    router: RouterProcess,
    other: WireClient,
    beginning: bytes,
    within: list[bytes],
) -> None:
    with WireClient.login(router.port, "one") as client:
        answers = client.ask(query("TRUNCATE t"))
        assert kinds(answers) == "CZ", answers
        client.sock.settimeout(5)
        client.send(beginning)
        client.read_until("G")
        client.send(b"".join(within))
        is_there = True
        for _ in range(2):
            mine = f"mine {next(numbers)}"
            other.send(query(f"SELECT '{mine}'"))
            is_there = is_there and reads_to_the_end(client)
            answers = other.read_until("Z")
            assert kinds(answers) == "TDCZ", answers
            assert rows(answers) == [[mine.encode()]]


def reads_to_the_end(client: WireClient) -> bool:
    """Read until the last of what was sent is answered, or the connection has ended: False.

    It does after what PostgreSQL does not expect in a COPY. And a Query without a Sync before
    it makes PostgreSQL fail the next one: XX000.
    """
    last: list[Message] = []
    try:
        client.send(END)
        while rows(last) != [[b"end"]] and sqlstates(last) != ["XX000"]:
            last = [client.read_message()]
    except (Ended, ConnectionError):
        assert sqlstates(last) in (["08P01"], [])
        return False
    return True
