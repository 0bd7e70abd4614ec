"""A client that listens has each server listen as well, before its own statements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.pool.hubs import Hubs
from router.routing.types import RouterOptions
from router.session.listening import Listening
from tests.support.harness import FakeClient, Harness, read_messages
from tests.support.wire import SYNC, kinds, query, run

if TYPE_CHECKING:
    from collections.abc import Callable


def listener(harness: Harness, **settings: str) -> FakeClient:
    """A client for which the connection for all listens to a channel."""
    client = harness.connect(**settings)
    lease = client.session.lease
    hubs = Hubs(harness.engine, harness, "app/ann")
    lease.listening = Listening(
        harness.engine, client.session, hubs, lambda: lease.is_free, lambda: None
    )
    lease.listening.channels[0] = {b"news"}
    return client


def run_by(harness: Harness, size: int) -> None:
    """Let everything happen that can; what the server says comes in pieces of a size."""
    [server] = harness.servers
    while harness.cancelling or server.work() or server.answer(size):
        if harness.cancelling:
            harness.deliver_cancel()
    harness.run()


@pytest.mark.parametrize("is_parser_on", [False, True])
@pytest.mark.parametrize("is_wanted", [False, True])
@pytest.mark.parametrize("is_left", [False, True])
@pytest.mark.parametrize("settings", [{}, {"application_name": "own"}])
@pytest.mark.parametrize("ask", [query, lambda sql: run(sql) + SYNC])
def test_a_listener_that_has_waited_for_its_server_is_answered(
    *,
    is_parser_on: bool,
    is_wanted: bool,
    is_left: bool,
    settings: dict[str, str],
    ask: Callable[[str], bytes],
) -> None:
    """However what the server says to what the router asks it comes in."""
    for size in range(1, 120):
        options = RouterOptions(shard_count=1, query_parser_enabled=is_parser_on)
        harness = Harness(pool_size=1, options=options)
        holder, client, other = (
            harness.connect(),
            listener(harness, **settings),
            harness.connect(),
        )
        harness.ask(holder, query("SLEEP" if is_left else "BEGIN"))
        client.send(ask("SELECT 1"))
        if is_wanted:
            other.send(query("SELECT 2"))
        if is_left:
            holder.leave()
        else:
            holder.send(query("COMMIT"))
        run_by(harness, size)
        assert kinds(read_messages(client.got))[-2:] == "CZ", size
        assert not is_wanted or kinds(read_messages(other.got))[-2:] == "CZ", size
        harness.check()
