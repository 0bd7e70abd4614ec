"""Clients that listen by a connection of all, while another server becomes the primary."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING

import pytest

from tests.support.cluster.server import StopMode
from tests.support.router import wait_until
from tests.support.wire import WireClient, query

from .conftest import CHECKS, frozen
from .test_replicas import health_of
from .test_roles import AUTO, auto

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.support.cluster.server import Server
    from tests.support.postgres import PrivateCluster
    from tests.support.router import RouterProcess
    from tests.support.wire import Message

MISSED = "notifications may have been missed"


def told(client: WireClient, last: str) -> tuple[int, list[str]]:
    """How many gaps an idle client has been told of, and what it has heard, up to a payload."""
    gaps, heard = 0, list[str]()
    while last not in heard:
        message = client.read_message()
        if message.kind == "N":
            assert (message.fields["C"], message.fields["M"]) == ("01000", MISSED)
            gaps += 1
        else:
            heard.append(payload(message))
    return gaps, heard


def payload(message: Message) -> str:
    """What a notification says."""
    assert message.kind == "A", message
    return message.body[4:].split(b"\0")[1].decode()


def killed(server: Server) -> AbstractContextManager[None]:
    server.stop(StopMode.KILL)
    return nullcontext()


def stopped(server: Server) -> AbstractContextManager[None]:
    server.stop(StopMode.FAST)
    return nullcontext()


@pytest.mark.parametrize("fails", [killed, stopped, frozen])
def test_they_hear_the_new_primary_and_are_told_once_of_the_gap(
    fails: Callable[[Server], AbstractContextManager[None]],
    start_router: Callable[..., RouterProcess],
    private_cluster: PrivateCluster,
) -> None:
    cluster = private_cluster(replicas=1)
    [shard] = cluster.shards
    old, [new] = shard.primary, shard.replicas
    router = start_router(auto(old, new, options=f'{AUTO}listen = "shared"\n'), CHECKS)
    with ExitStack() as stack:
        writer, reader, *listeners = (
            stack.enter_context(WireClient.login(router.port, "db")) for _ in range(12)
        )
        for number, listener in enumerate(listeners):
            listener.query("LISTEN a")
            listener.query(f"LISTEN own{number}")
        writer.query("NOTIFY a, 'before'")
        for listener in listeners:
            assert told(listener, "before") == (0, ["before"])
        # One reads in a transaction meanwhile, and is told when that is over.
        reader.query("LISTEN a")
        reader.query("BEGIN READ ONLY")
        assert reader.value("SELECT current_setting('port')") == str(new.port)
        with fails(old):
            wait_until("known", lambda: health_of(router, old.port)["condition"] == "down")
            writer.send(query("NOTIFY a, 'after'"))
            wait_until("it waits", lambda: router.pool("db")["cl_waiting"] == "1")
            new.promote()
            writer.read_until("Z")
            # All listen at the new one as soon as they have been told of the gap.
            for number, listener in enumerate(listeners):
                message = listener.read_message()
                assert (message.kind, message.fields["M"]) == ("N", MISSED)
                writer.query(f"NOTIFY own{number}, 'for {number}'")
            writer.query("NOTIFY a, 'last'")
            for number, listener in enumerate(listeners):
                gaps, heard = told(listener, "last")
                assert gaps == 0
                # What came before the warning may have been missed, as it says.
                assert [one for one in heard if one != "after"] == [f"for {number}", "last"]
            assert not reader.has_input()
            reader.query("COMMIT")
            assert told(reader, "last")[0] == 1
            sql = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'pgcat listen'"
            assert new.execute(sql) == [(1,)]
        if fails is frozen:
            # What is notified there when it wakes up is not of this cluster any more.
            old.execute("NOTIFY a, 'stray'")
            writer.query("NOTIFY a, 'end'")
            for listener in listeners:
                assert told(listener, "end") == (0, ["end"])
