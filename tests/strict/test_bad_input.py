"""Clients that break the protocol: the right error or a clean end, and one line logged."""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING

import pytest

from tests.support.router import RouterProcess, wait_until
from tests.support.wire import (
    GSSENC_REQUEST,
    SSL_REQUEST,
    SYNC,
    Message,
    WireClient,
    bind,
    cancel_request,
    execute,
    kinds,
    message,
    packet,
    parse,
    query,
    run,
    sqlstates,
    startup,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.postgres import Database

LOGIN = {"user": "postgres", "database": "one"}
USERS = """
[pools.one.users.1]
username = "app_md5"
password = "secret"
auth_type = "md5"
pool_size = 1
[pools.one.users.2]
username = "app_scram"
password = "secret"
auth_type = "scram-sha-256"
pool_size = 1
"""
PROTOCOL_3_2 = 3 << 16 | 2
PROTOCOL_4_0 = 4 << 16

# First packets, and the code of the error they must be answered with.
FIRST: dict[str, tuple[bytes, str]] = {
    "garbage": (b"\xde\xad\xbe\xef" * 8, "08P01"),
    "an HTTP request": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "08P01"),
    "length 0": (struct.pack("!I", 0), "08P01"),
    "length 4": (struct.pack("!I", 4), "08P01"),
    "length 7": (struct.pack("!I", 7) + b"abc", "08P01"),
    "length 10001": (struct.pack("!I", 10_001) + b"x" * 100, "08P01"),
    "a negative length": (struct.pack("!i", -1) + b"x" * 100, "08P01"),
    "no user": (startup({"database": "one"}), "28000"),
    "no parameters": (startup({}), "28000"),
    "protocol 4.0": (startup(LOGIN, protocol=PROTOCOL_4_0), "0A000"),
    "protocol 2.0": (startup(LOGIN, protocol=2 << 16), "0A000"),
    "no final zero": (packet(struct.pack("!I", 3 << 16) + b"user\0a\0\0x"), "08P01"),
    "a parameter without a value": (
        packet(struct.pack("!I", 3 << 16) + b"user\0a\0b\0\0"),
        "08P01",
    ),
    "a short cancel request": (packet(struct.pack("!IH", 80877102, 1) + b"x"), "08P01"),
    "replication": (startup({**LOGIN, "replication": "database"}), "0A000"),
    "physical replication": (startup({**LOGIN, "replication": "true"}), "0A000"),
    "bad options": (startup({**LOGIN, "options": "--nonsense"}), "22023"),
}


@pytest.fixture(scope="module")
def router(module_router: ModuleRouter, pool_for: PoolFor) -> RouterProcess:
    """One with users of all methods."""
    pool = pool_for()
    pool.more_users = USERS
    return module_router({"one": pool})


class Logged:
    """What the router logs about one client."""

    def __init__(self, router: RouterProcess, client: WireClient) -> None:
        host, port = client.sock.getsockname()
        self._router = router
        self._name = f"{host}:{port}:"

    def lines(self) -> list[str]:
        """The lines so far."""
        return [line for line in self._router.log().splitlines() if self._name in line]

    def check_once(self) -> None:
        """One line is enough, and one there must be."""
        lines = wait_until("something is logged", self.lines)
        assert len(lines) == 1, lines


@pytest.fixture
def bystander(router: RouterProcess) -> Iterator[WireClient]:
    """Somebody who was there before, and must not notice a thing."""
    with WireClient.login(router.port, "one") as client:
        assert client.value("SELECT 1") == "1"
        yield client
        assert client.value("SELECT 2") == "2"


def refusal(messages: list[Message]) -> str:
    """The code of the FATAL error that is the only answer."""
    assert kinds(messages) == "E"
    assert messages[0].fields["S"] == messages[0].fields["V"] == "FATAL"
    return messages[0].sqlstate


@pytest.mark.parametrize("name", FIRST)
@pytest.mark.usefixtures("bystander")
def test_a_bad_first_packet_is_refused(router: RouterProcess, name: str) -> None:
    data, expected = FIRST[name]
    with WireClient(router.port) as client:
        logged = Logged(router, client)
        client.send(data)
        assert refusal(client.read_to_end()) == expected
    logged.check_once()


@pytest.mark.parametrize("size", [0, 1, 3, 4, 7, 8, 20])
@pytest.mark.usefixtures("bystander")
def test_a_first_packet_that_is_cut_off_ends_without_a_word(
    router: RouterProcess, size: int
) -> None:
    with WireClient(router.port) as client:
        logged = Logged(router, client)
        client.send(startup(LOGIN)[:size])
        client.wait_consumed()
        client.sock.shutdown(1)
        assert client.read_to_end() == []
    assert len(logged.lines()) <= 1


def test_encryption_is_refused_and_the_login_goes_on(router: RouterProcess) -> None:
    with WireClient(router.port) as client:
        client.send(GSSENC_REQUEST)
        assert client.read_byte() == b"N"
        client.send(SSL_REQUEST)
        assert client.read_byte() == b"N"
        client.send(startup(LOGIN))
        client.read_until("Z")
        assert client.value("SELECT 1") == "1"


@pytest.mark.parametrize("packet", [SSL_REQUEST, GSSENC_REQUEST])
@pytest.mark.usefixtures("bystander")
def test_to_ask_for_encryption_twice_is_an_error(router: RouterProcess, packet: bytes) -> None:
    with WireClient(router.port) as client:
        logged = Logged(router, client)
        client.send(packet)
        assert client.read_byte() == b"N"
        client.send(packet)
        assert refusal(client.read_to_end()) == "08P01"
    logged.check_once()


@pytest.mark.parametrize(
    "behind",
    [
        b"x",
        startup(LOGIN),
        startup(LOGIN)[:9],
        SSL_REQUEST + startup(LOGIN),
        cancel_request(1, b"1234"),
        b"\x16\x03\x01\x00\x05hello",
    ],
    ids=["a byte", "a start-up", "half of one", "a request", "a cancel request", "a hello"],
)
@pytest.mark.parametrize("request_", [SSL_REQUEST, GSSENC_REQUEST], ids=["SSL", "GSSAPI"])
@pytest.mark.usefixtures("bystander")
def test_what_comes_with_a_request_for_encryption_is_refused_as_by_postgresql(
    router: RouterProcess, database: Database, request_: bytes, behind: bytes
) -> None:
    told = []
    for port in (database.port, router.port):
        with WireClient(port) as client:
            client.send(request_ + behind)
            assert client.read_byte() == b"N"
            [error] = client.read_to_end()
            told.append(
                {code: said for code, said in error.fields.items() if code not in "FLR"}
            )
    assert told[0] == told[1]
    assert (told[0]["S"], told[0]["C"]) == ("FATAL", "08P01")


@pytest.mark.parametrize(
    ("parameters", "protocol", "body"),
    [
        (LOGIN, 3 << 16 | 3, struct.pack("!II", PROTOCOL_3_2, 0)),
        (LOGIN, 3 << 16 | 9999, struct.pack("!II", PROTOCOL_3_2, 0)),
        ({**LOGIN, "_pq_.a": "1"}, 3 << 16, struct.pack("!II", 3 << 16, 1) + b"_pq_.a\0"),
        (
            {**LOGIN, "_pq_.a": "1"},
            PROTOCOL_3_2,
            struct.pack("!II", PROTOCOL_3_2, 1) + b"_pq_.a\0",
        ),
    ],
)
def test_a_newer_protocol_is_negotiated_down(
    router: RouterProcess, parameters: dict[str, str], protocol: int, body: bytes
) -> None:
    with WireClient(router.port) as client:
        client.send(startup(parameters, protocol=protocol))
        answers = client.read_until("Z")
        assert answers[0] == Message("v", body)
        assert kinds(answers[1:3]) == "RS"
        assert client.value("SELECT 1") == "1"


@pytest.mark.parametrize(
    ("setting", "code"),
    [({"no_such_setting": "1"}, "42704"), ({"work_mem": "lots"}, "22023")],
)
@pytest.mark.usefixtures("bystander")
def test_a_setting_that_the_server_refuses_ends_the_connection_at_its_first_use(
    router: RouterProcess, setting: dict[str, str], code: str
) -> None:
    with WireClient.login(router.port, "one", parameters=setting) as client:
        logged = Logged(router, client)
        client.send(query("SELECT 1"))
        assert refusal(client.read_to_end()) == code
    logged.check_once()


# --- passwords


def ask_password(client: WireClient, user: str) -> Message:
    """Introduce oneself; returns the challenge."""
    client.send(startup({"user": user, "database": "one"}))
    return client.read_message()


@pytest.mark.usefixtures("bystander")
def test_a_wrong_md5_password_is_refused(router: RouterProcess) -> None:
    with WireClient(router.port) as client:
        logged = Logged(router, client)
        assert ask_password(client, "app_md5").body[:4] == struct.pack("!I", 5)
        client.send(message("p", b"md5" + b"0" * 32 + b"\0"))
        assert refusal(client.read_to_end()) == "28P01"
    logged.check_once()


@pytest.mark.usefixtures("bystander")
def test_a_wrong_scram_password_is_refused(router: RouterProcess) -> None:
    with WireClient(router.port) as client:
        logged = Logged(router, client)
        assert b"SCRAM-SHA-256\0" in ask_password(client, "app_scram").body
        first = b"n,,n=,r=abcdefghijklmnopqrstuvwx"
        client.send(message("p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first))
        nonce = client.read_message().body[4:].split(b",")[0]
        client.send(message("p", b"c=biws," + nonce + b",p=" + base64.b64encode(bytes(32))))
        assert refusal(client.read_to_end()) == "28P01"
    logged.check_once()


BAD_PASSWORDS = {
    "empty": message("p", b""),
    "no such mechanism": message("p", b"ROT13\0\0\0\0\1x"),
    "nonsense": message("p", b"\xff" * 40),
    "1 MB": message("p", b"x" * (1 << 20)),
    "a query": query("SELECT 1"),
    "a negative length": b"p\xff\xff\xff\xff",
}


@pytest.mark.parametrize("user", ["app_md5", "app_scram"])
@pytest.mark.parametrize("name", BAD_PASSWORDS)
@pytest.mark.usefixtures("bystander")
def test_what_is_no_password_is_refused(router: RouterProcess, name: str, user: str) -> None:
    with WireClient(router.port) as client:
        logged = Logged(router, client)
        ask_password(client, user)
        try:
            client.send(BAD_PASSWORDS[name])
            found = client.read_to_end()
        except (BrokenPipeError, ConnectionResetError):
            found = []  # it did not even read it all
        assert not found or refusal(found) in ("08P01", "28P01")
    logged.check_once()


# --- after the login


BAD_MESSAGES = {
    "an unknown type": message("y"),
    "type zero": message("\0", b"abc"),
    "a password": message("p", b"secret\0"),
    "a server's message": message("Z", b"I"),
    "length 3": b"Q\0\0\0\3",
    "length 0": b"S\0\0\0\0",
    "a negative length": b"Q\xff\xff\xff\xff",
    "over 1 GB": b"Q\x40\0\0\0",
    "a long Describe": b"D\x00\x7f\xff\xff" + b"S" * 200_000,
}


@pytest.mark.parametrize("place", ["idle", "transaction", "batch"])
@pytest.mark.parametrize("name", BAD_MESSAGES)
def test_what_is_no_message_ends_the_connection(
    router: RouterProcess, bystander: WireClient, name: str, place: str
) -> None:
    with WireClient.login(router.port, "one") as client:
        logged = Logged(router, client)
        if place == "transaction":
            client.query("BEGIN")
        elif place == "batch":
            client.send(run("SELECT 1"))
        client.send(BAD_MESSAGES[name])
        assert refusal(client.read_to_end()) == "08P01"
    logged.check_once()
    assert bystander.ask(query("SELECT 1"))[-1].body == b"I"


def test_a_gigabyte_that_never_comes_costs_nothing(
    router: RouterProcess, bystander: WireClient
) -> None:
    before = router.rss()
    for kind in "QPBd":
        with WireClient.login(router.port, "one") as client:
            client.send(kind.encode() + struct.pack("!I", 0x3FFFFFFF) + b"x" * 1000)
            client.wait_consumed()
    assert bystander.value("SELECT 1") == "1"
    assert router.rss() - before < 4 << 20


def test_malformed_messages_fail_as_in_postgresql(
    router: RouterProcess, bystander: WireClient
) -> None:
    with WireClient.login(router.port, "one") as client:
        for kind in "PBDEC":
            for body in (b"", b"x", b"\0", b"S", b"no end", b"\xff" * 9):
                answers = client.ask(message(kind, body), SYNC)
                if kind == "C" and kinds(answers) == "3Z":
                    continue  # to close what does not exist is no error
                [code] = sqlstates(answers)
                assert code in ("08P01", "26000", "34000", "22021"), (kind, body)
        assert client.value("SELECT 1") == "1"
    assert bystander.value("SELECT 1") == "1"


@pytest.mark.parametrize("place", ["idle", "transaction", "batch"])
@pytest.mark.parametrize("body", [b"", b"x", b"\xff"])
@pytest.mark.parametrize("kind", ["Q", "F"])
def test_a_malformed_query_fails_as_in_postgresql(
    router: RouterProcess, bystander: WireClient, kind: str, body: bytes, place: str
) -> None:
    before = {"idle": SYNC, "transaction": query("BEGIN"), "batch": run("SELECT 1") + SYNC}
    with WireClient.login(router.port, "one") as client:
        client.ask(before[place])
        answers = client.ask(message(kind, body))
        assert kinds(answers) == "EZ"
        assert sqlstates(answers) == ["08P01"]
        assert answers[-1].body == (b"E" if place == "transaction" else b"I")
    assert bystander.value("SELECT 1") == "1"


@pytest.mark.parametrize("body", [b"", b"p", b"no end"])
def test_a_malformed_execute_beside_a_portal_of_the_routers_own(
    router: RouterProcess, body: bytes
) -> None:
    with WireClient.login(router.port, "one") as client:
        own = parse("SET SERVER ROLE TO 'auto'") + bind()
        answers = client.ask(own, message("E", body), SYNC)
        assert kinds(answers) == "12EZ"
        assert sqlstates(answers) == ["08P01"]
        assert client.value("SELECT 1") == "1"


def test_a_bind_to_an_unknown_statement_is_an_error_and_no_more(router: RouterProcess) -> None:
    with WireClient.login(router.port, "one") as client:
        for name in ("nobody", "PGCAT_1", ""):
            answers = client.ask(bind(name=name), execute(), SYNC)
            assert sqlstates(answers) == ["26000"]
            assert kinds(answers) == "EZ"
        assert client.value("SELECT 1") == "1"


@pytest.mark.parametrize("shard", ["99", "1", "-1", "x", "9" * 30])
def test_a_shard_that_does_not_exist_is_an_error_and_no_more(
    router: RouterProcess, shard: str
) -> None:
    with WireClient.login(router.port, "one") as client:
        logged = Logged(router, client)
        answers = client.ask(query(f"SET SHARD TO '{shard}'"))
        assert sqlstates(answers) == ["22023"]
        assert answers[0].fields["S"] == "ERROR"
        assert client.value("SELECT 1") == "1"
        logged.check_once()


def test_silence_ends_in_time(module_router: ModuleRouter, pool_for: PoolFor) -> None:
    pool = pool_for()
    pool.more_users = USERS
    router = module_router({"one": pool}, "client_login_timeout = 200")
    with WireClient.login(router.port, "one") as other:
        for beginning in (
            b"",
            startup(LOGIN)[:9],
            SSL_REQUEST,
            startup({**LOGIN, "user": "app_md5"}),
        ):
            with WireClient(router.port) as client:
                logged = Logged(router, client)
                client.send(beginning)
                if beginning == SSL_REQUEST:
                    assert client.read_byte() == b"N"
                assert "E" in kinds(client.read_to_end())
            logged.check_once()
        assert other.value("SELECT 1") == "1"
