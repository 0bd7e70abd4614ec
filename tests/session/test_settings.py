"""A client's settings go with it from server to server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.harness import Harness
from tests.support.wire import SYNC, kinds, query, rows, run, sqlstates

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.harness import FakeClient
    from tests.support.wire import Message

SHOW = query("SHOW application_name")


def shown(harness: Harness, client: FakeClient) -> bytes | None:
    """The application_name that a server has for a client."""
    [[value]] = rows(harness.ask(client, SHOW))
    return value


def told(messages: Iterable[Message]) -> list[bytes]:
    """The ParameterStatus messages."""
    return [message.body for message in messages if message.kind == "S"]


def test_what_a_client_asks_for_at_start_up_is_set_on_its_server() -> None:
    harness = Harness(pool_size=1)
    one, two = harness.connect(application_name="one"), harness.connect()
    for _ in range(2):
        assert shown(harness, one) == b"SHOW application_name is one"
        assert shown(harness, two) == b"SHOW application_name is "


def test_what_a_client_sets_goes_with_it() -> None:
    harness = Harness(pool_size=1)
    one, two = harness.connect(), harness.connect()
    replies = harness.ask(one, query("SET application_name TO 'changed'"))
    assert (kinds(replies), told(replies)) == ("CSZ", [b"application_name\0changed\0"])
    for _ in range(2):
        assert shown(harness, two) == b"SHOW application_name is "
        assert shown(harness, one) == b"SHOW application_name is changed"


def test_the_routers_own_changes_are_not_told() -> None:
    harness = Harness(pool_size=1)
    one, two = harness.connect(application_name="one"), harness.connect()
    for client in (one, two, one):
        assert told(harness.ask(client, SHOW)) == []


def test_a_setting_that_is_rolled_back_is_forgotten() -> None:
    harness = Harness(pool_size=1)
    client = harness.connect(TimeZone="Asia/Tokyo")
    harness.ask(client, query("BEGIN; SET TimeZone TO 'Europe/Rome'"))
    harness.ask(client, query("ROLLBACK"))
    harness.ask(harness.connect(), query("SELECT 1"))
    assert rows(harness.ask(client, query("SHOW timezone"))) == [
        [b"SHOW timezone is Asia/Tokyo"]
    ]


def test_settings_that_are_not_proven_are_waited_for() -> None:
    harness = Harness()
    client = harness.connect(TimeZone="Proven/First")
    client.send(query("SELECT x"))
    server = harness.accept()
    server.work()
    assert server.model.log == [
        "SELECT pg_catalog.set_config('timezone', 'Proven/First', false)"
    ]
    assert rows(harness.read(client)) == [[b"SELECT x"]]
    # From now on they go out together.
    second = harness.connect(TimeZone="Proven/First")
    harness.ask(harness.connect(), query("SELECT y"))
    second.send(query("SELECT z"))
    server.work()
    assert server.model.log[-1] == "SELECT z"


def test_settings_that_a_client_has_made_at_a_server_are_proven() -> None:
    harness = Harness(pool_size=2)
    client, other = harness.connect(), harness.connect()
    harness.ask(client, query("SET TimeZone TO 'Made/There'"))
    harness.ask(other, query("BEGIN"))
    client.send(query("SELECT x"))
    server = harness.accept()
    server.work()
    assert "Made/There" in server.model.log[-2]
    assert server.model.log[-1] == "SELECT x"


def test_settings_that_are_refused_end_the_session() -> None:
    harness = Harness(pool_size=1)
    client, other = harness.connect(TimeZone="Nowhere"), harness.connect()
    client.send(query("SELECT x"))
    server = harness.accept()
    server.link.take()
    server.connection.on_data(b"E\0\0\0\x1cSERROR\0C22023\0Mno zone\0\0Z\0\0\0\5I")
    replies = harness.read(client)
    assert (kinds(replies), sqlstates(replies)) == ("E", ["22023"])
    assert client.link.closed
    assert rows(harness.ask(other, query("SELECT y"))) == [[b"SELECT y"]]
    harness.check()


def test_reset_brings_back_what_the_client_began_with() -> None:
    harness = Harness(pool_size=1)
    client = harness.connect(application_name="first")
    harness.ask(client, query("SET application_name TO 'second'"))
    replies = harness.ask(client, query("RESET ALL"))
    assert told(replies)[-1] == b"application_name\0first\0"
    harness.ask(harness.connect(), query("SELECT 1"))
    assert shown(harness, client) == b"SHOW application_name is first"


def test_discard_all_tells_of_every_setting_that_it_changes() -> None:
    harness = Harness(pool_size=1)
    client = harness.connect(application_name="first")
    harness.ask(client, query("SET application_name TO 'second'; SET TimeZone TO 'Mars'"))
    replies = harness.ask(client, query("DISCARD ALL"))
    assert sorted(told(replies)) == [b"TimeZone\0UTC\0", b"application_name\0first\0"]
    assert shown(harness, client) == b"SHOW application_name is first"


def test_a_batch_finds_the_settings_in_place() -> None:
    harness = Harness(pool_size=1)
    one, two = harness.connect(application_name="one"), harness.connect()
    for _ in range(2):
        batch = run("SHOW application_name") + SYNC
        assert rows(harness.ask(one, batch)) == [[b"SHOW application_name is one"]]
        assert rows(harness.ask(two, batch)) == [[b"SHOW application_name is "]]
