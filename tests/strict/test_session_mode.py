"""In session mode a client sees its server: its process, settings, spelling and errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.router import PoolText, wait_until
from tests.support.wire import (
    SYNC,
    Ended,
    Message,
    WireClient,
    cancel,
    query,
    run,
    sqlstates,
    startup,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.postgres import Database
    from tests.support.router import RouterProcess

STARTUPS: dict[str, dict[str, str]] = {
    "nothing": {},
    "a name": {"application_name": "mine"},
    "an empty name": {"application_name": ""},
    "the spelling": {
        "datestyle": "german",
        "timezone": "europe/berlin",
        "INTERVALSTYLE": "iso_8601",
    },
    "an encoding": {"client_encoding": "'latin-1'", "DateStyle": "dmy"},
    "options": {"options": "-c work_mem=2MB --search-path=pg_catalog -c app.user_id=4\\ 2\\\\"},
    "options and more": {"options": "-c datestyle=sql", "DateStyle": "postgres, ymd"},
    "custom": {"app.user_id": "ä b'c", "extra_float_digits": "-3"},
    "a role": {"options": "-c role=pg_monitor"},
    "only at start-up": {"options": "-c ignore_system_indexes=on"},
    "strings": {"standard_conforming_strings": "off", "app.tenant": "a\\b"},
}
REFUSED: dict[str, dict[str, str]] = {
    "no such setting": {"no_such_setting": "1"},
    "no such value": {"DateStyle": "nonsense"},
    "not at start-up": {"options": "-c max_connections=7"},
    "an encoding": {"client_encoding": "nonsense"},
    "a name that is reserved": {"options": "-c replication=true"},
    "another that is": {"options": "-c user=postgres"},
    "of the protocol": {"options": "-c _pq_.command=on"},
    "a library": {"options": "-c local_preload_libraries=nowhere"},
    "no such role": {"options": "-c role=nobody_at_all"},
}
LOOK = (
    "SELECT name, setting, reset_val, source FROM pg_settings WHERE name IN"
    " ('application_name', 'client_encoding', 'DateStyle', 'TimeZone', 'IntervalStyle',"
    " 'work_mem', 'search_path', 'extra_float_digits', 'role', 'ignore_system_indexes',"
    " 'standard_conforming_strings', 'app.user_id', 'app.tenant') ORDER BY 1",
    "SELECT current_user, now() = now(), interval '1 day', date '2026-11-30'",
    # That a custom setting has been there for somebody else cannot be undone.
    "SELECT coalesce(current_setting('app.user_id', true), ''),"
    " coalesce(current_setting('app.tenant', true), '')",
)
PROGRAM = (
    "SET application_name = 'other'; SET DateStyle = 'SQL, YMD'; SET work_mem = '3MB'",
    "SET TimeZone = 'Asia/Tokyo'; SET app.user_id = 'x'; SET search_path = public",
    "RESET DateStyle; RESET application_name; SHOW DateStyle",
    "BEGIN; SET work_mem = '9MB'; RESET work_mem; SHOW work_mem",
    "RESET ALL; SHOW TimeZone",
    "ROLLBACK",
    "SHOW TimeZone",
    "BEGIN; SET LOCAL TimeZone = 'UTC'; SAVEPOINT a; SET IntervalStyle = 'sql_standard'",
    "ROLLBACK TO a; COMMIT",
    "SET ROLE pg_read_all_data; RESET ROLE",
    "RESET ALL",
    "SET application_name = 'third'; SET client_encoding = 'SQL_ASCII'",
    "DISCARD ALL",
)


@pytest.fixture(scope="module")
def router(database: Database, module_router: ModuleRouter, pool_for: PoolFor) -> RouterProcess:
    """A router with pools in session mode, of one connection, of two, and in two shards."""
    pools = {
        "one": pool_for(size=1, mode="session"),
        "two": pool_for(size=2, mode="session"),
        "quick": pool_for(size=1, mode="session", options="connect_timeout = 300"),
        "shards": PoolText(
            [[(database.host, database.port, "primary")]] * 2,
            databases=[database.name] * 2,
            pool_size=1,
            options='pool_mode = "session"',
        ),
    }
    return module_router(pools)


def masked(message: Message) -> tuple[str, object]:
    """What must be equal."""
    if message.kind in "EN":
        fields = message.fields
        return message.kind, {code: fields[code] for code in fields if code not in "FLR"}
    if message.kind == "K":
        return message.kind, len(message.body)
    if message.kind == "T":
        return message.kind, message.columns
    return message.kind, message.body


def greeting(port: int, name: str, parameters: Mapping[str, str]) -> list[Message]:
    """All that a client is told at login."""
    with WireClient(port) as client:
        client.send(startup({"user": "postgres", "database": name, **parameters}))
        try:
            return client.read_until("Z")
        except Ended as ended:
            return ended.messages


def told(messages: list[Message]) -> list[tuple[str, object]]:
    """The same, to compare; nobody counts on the order of ParameterStatus."""
    return sorted(map(masked, messages), key=repr)


def play(port: int, name: str, parameters: Mapping[str, str]) -> list[list[tuple[str, object]]]:
    """What a client with these start-up parameters is told by a program."""
    with WireClient.login(port, name, parameters=parameters) as client:
        client.query("SELECT 1")  # at the latest with the first one it is told the truth
        heard = [client.ask(query(look)) for look in LOOK]
        for statement in PROGRAM:
            heard.append(client.ask(query(statement)))
            if heard[-1][-1].body == b"I":
                heard += [client.ask(query(look)) for look in LOOK]
    return [[masked(message) for message in messages] for messages in heard]


@pytest.mark.parametrize("pool", ["one", "two"])
@pytest.mark.parametrize("parameters", STARTUPS.values(), ids=STARTUPS)
def test_the_greeting_is_that_of_the_server(
    router: RouterProcess, database: Database, parameters: dict[str, str], pool: str
) -> None:
    directly = told(greeting(database.port, database.name, parameters))
    for _ in range(2):
        assert told(greeting(router.port, pool, parameters)) == directly


@pytest.mark.parametrize("pool", ["one", "shards"])
@pytest.mark.parametrize("parameters", STARTUPS.values(), ids=STARTUPS)
def test_settings_are_those_of_the_start(
    router: RouterProcess, database: Database, parameters: dict[str, str], pool: str
) -> None:
    directly = play(database.port, database.name, parameters)
    with WireClient.login(router.port, pool, parameters={"DateStyle": "german"}) as other:
        other.query("SET work_mem = '7MB'; SET app.user_id = 'left'")
    assert play(router.port, pool, parameters) == directly
    assert play(router.port, pool, parameters) == directly


@pytest.mark.parametrize("parameters", REFUSED.values(), ids=REFUSED)
def test_what_the_server_refuses_it_refuses_in_its_words(
    router: RouterProcess, database: Database, parameters: dict[str, str]
) -> None:
    directly = told(greeting(database.port, database.name, parameters))
    assert told(greeting(router.port, "one", parameters)) == directly
    # It harms nobody else, whoever waits behind.
    with WireClient.login(router.port, "one") as client:
        assert client.value("SELECT 1") == "1"


def test_what_is_refused_later_ends_the_session(router: RouterProcess) -> None:
    with WireClient.login(router.port, "shards", parameters={"DateStyle": "x"}) as client:
        client.send(query("SELECT 1"))
        [error] = client.read_to_end()
        assert error.fields["S"] == "FATAL"
        assert error.fields["M"] == 'invalid value for parameter "DateStyle": "x"'


def test_nobody_is_greeted_with_what_another_has_asked_for(router: RouterProcess) -> None:
    before = told(greeting(router.port, "shards", {}))
    for style in ("german", "sql"):
        parameters = {"DateStyle": style, "application_name": style}
        with WireClient.login(router.port, "shards", parameters=parameters) as client:
            assert client.value("SHOW application_name") == style
    assert told(greeting(router.port, "shards", {})) == before


def test_the_process_is_the_servers(router: RouterProcess) -> None:
    with (
        WireClient.login(router.port, "two") as one,
        WireClient.login(router.port, "two") as two,
    ):
        for client in (one, two):
            assert client.value("SELECT pg_backend_pid()") == str(client.pid)
            client.query("LISTEN here")
        one.query("NOTIFY here")
        assert two.read_until("A")[-1].body[:4] == one.pid.to_bytes(4, "big")


def test_a_cancel_request_needs_the_routers_secret(router: RouterProcess) -> None:
    with (
        WireClient.login(router.port, "two") as one,
        WireClient.login(router.port, "two") as two,
    ):
        one.send(query("SELECT pg_sleep(60)"))
        for secret in (two.secret, b"\0" * 4, b""):
            cancel(router.port, one.pid, secret or two.secret[::-1])
        cancel(router.port, two.pid, one.secret)
        assert two.value("SELECT 1") == "1"
        assert not one.has_input()
        while not one.has_input():
            cancel(router.port, one.pid, one.secret)
        assert sqlstates(one.read_until("Z")) == ["57014"]


def test_who_comes_next_has_another_secret(router: RouterProcess) -> None:
    keys = set()
    for _ in range(5):
        with WireClient.login(router.port, "one") as client:
            keys.add((client.pid, client.secret))
            client.terminate()
    assert len({pid for pid, _ in keys}) == 1
    assert len(keys) == 5
    with WireClient.login(router.port, "one") as heir:
        heir.send(query("SELECT pg_sleep(0.1), 'done'"))
        for pid, secret in keys:
            cancel(router.port, pid, secret)
        assert sqlstates(heir.read_until("Z")) == []


def test_logins_wait_for_a_server_in_their_order(router: RouterProcess) -> None:
    with WireClient.login(router.port, "one") as first:
        waiting = []
        for number in range(4):
            client = WireClient(router.port)
            name = {"application_name": f"waits {number % 2}"}
            client.send(startup({"user": "postgres", "database": "one", **name}))
            client.send(query(f"SELECT {number}, current_setting('application_name')"))
            waiting.append(client)
            wait_until(
                "it waits", lambda: int(router.pool("one")["cl_waiting"]) == len(waiting)
            )
            assert client.read_until("R")
        assert first.value("SELECT 1") == "1"
        waiting[1].reset()  # one of them loses patience
        first.terminate()
        for number in (0, 2, 3):
            said = waiting[number].read_until("Z") + waiting[number].read_until("Z")
            [row] = [message.row for message in said if message.kind == "D"]
            assert row == [str(number).encode(), f"waits {number % 2}".encode()]
            others = waiting[max(number + 1, 2) :]
            assert not any(client.has_input() for client in others)
            waiting[number].terminate()


def test_a_login_that_gets_no_server_fails(router: RouterProcess) -> None:
    with WireClient.login(router.port, "quick") as first:
        [error] = [m for m in greeting(router.port, "quick", {}) if m.kind == "E"]
        assert (error.fields["S"], error.sqlstate) == ("FATAL", "53300")
        assert first.value("SELECT 1") == "1"


def test_connections_are_kept_for_those_with_the_same_parameters(router: RouterProcess) -> None:
    def pid(name: str) -> int:
        parameters = {"application_name": name}
        with WireClient.login(router.port, "two", parameters=parameters) as client:
            client.query("SET application_name = 'changed'")
            client.terminate()
        settle()
        return client.pid

    def settle() -> None:
        wait_until("all are idle", lambda: set(busy()) == {"0"})

    def busy() -> list[str]:
        row = router.pool("two")
        return [row["cl_active"], row["sv_active"], row["sv_tested"], row["sv_login"]]

    settle()
    first, second = pid("a"), pid("b")
    assert (pid("a"), pid("b"), pid("a")) == (first, second, first)
    third = pid("c")  # in the place of the one longest unused
    assert pid("a") == first
    assert len({first, second, third, pid("b")}) == 4
    assert int(router.pool("two")["sv_idle"]) <= 2


def test_a_client_that_waits_for_pause_is_let_in_afterwards(router: RouterProcess) -> None:
    router.admin("PAUSE two,postgres")
    with WireClient(router.port) as client:
        client.send(startup({"user": "postgres", "database": "two"}))
        wait_until("it waits", lambda: router.pool("two")["cl_waiting"] == "1")
        assert client.read_until("R")
        assert not client.has_input()
        router.admin("RESUME two,postgres")
        assert client.read_until("Z")[-1].body == b"I"


def test_a_server_that_goes_takes_its_client_along(
    router: RouterProcess, database: Database
) -> None:
    with WireClient.login(router.port, "two") as client:
        database.execute("SELECT pg_terminate_backend(%s)", (client.pid,))
        [error] = client.read_to_end()
        assert (error.fields["S"], error.sqlstate) == ("FATAL", "57P01")


def test_extended_queries_reset_as_well(router: RouterProcess) -> None:
    with WireClient.login(router.port, "one", parameters={"work_mem": "2MB"}) as client:
        client.ask(run("SET work_mem = '3MB'") + SYNC)
        said = client.ask(run("RESET work_mem") + run("SHOW work_mem") + SYNC)
        assert [message.row for message in said if message.kind == "D"] == [[b"2MB"]]
