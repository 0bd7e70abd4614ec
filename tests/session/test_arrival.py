"""What a login makes of bytes, however they are cut, before anybody decides about it."""

from __future__ import annotations

import socket
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.values import AuthType
from router.engine.gate import Gate
from router.engine.loop import Engine
from router.protocol import codes, messages
from router.protocol.auth import ServerAuthenticator
from router.protocol.passwords import UserSecret
from router.session.arrival import Arrival
from router.session.credentials import Credential
from tests.support.wire import message

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from router.errors import RouterError
    from router.protocol.startup import CancelRequest, StartupMessage

# What a login may keep of a client that has proven nothing: a packet, and one read behind it.
MOST_KEPT = 10_000 + 8192
STARTUP = messages.startup_message({"user": "ann"}, codes.PROTOCOL_3_0)
GSSENC_REQUEST = struct.pack("!II", 8, 80877104)


class Host:
    """Asks everybody for the same, and lets in who has it."""

    tls: ssl.SSLContext | None = None

    def __init__(self, method: AuthType, secret: UserSecret) -> None:
        self.credential = Credential(method, secret)
        self.packets: list[StartupMessage | CancelRequest] = []
        self.errors: list[RouterError] = []
        self.handed: list[Session] = []
        self.ends = 0

    def introduced(self, arrival: Arrival, packet: StartupMessage) -> None:
        self.packets.append(packet)
        arrival.ask(self.credential)

    def proven(self, arrival: Arrival) -> None:
        self.handed.append(Session())
        arrival.link.write(b"*")
        self.handed[-1].on_data(arrival.hand_over(self.handed[-1]))

    def cancels(self, arrival: Arrival, request: CancelRequest) -> None:
        self.packets.append(request)
        arrival.leave()

    def failed(self, arrival: Arrival, error: RouterError) -> None:
        self.errors.append(error)

    def over(self, arrival: Arrival) -> None:
        self.ends += 1


class Session:
    """Who gets the connection of a client that is logged in."""

    def __init__(self) -> None:
        self.data = b""

    def on_data(self, data: bytes) -> None:
        self.data += data

    def on_drained(self) -> None:
        pass

    def on_eof(self) -> bool:
        return False

    def on_closed(self, reason: str) -> None:
        pass


class Client:
    """The other side of a login, which is in the engine; nothing goes on but what it does."""

    def __init__(self, host: Host) -> None:
        self.engine = Engine()
        self.gate = Gate(self.engine, lambda: 1)
        ours, self.sock = socket.socketpair()
        ours.setblocking(False)
        self.sock.settimeout(10)
        self.host = host
        self.arrival = Arrival(
            host, self.engine, ours, "peer", self.gate, deadline=0.0, by_load_balancer=False
        )

    def send(self, data: bytes, cuts: list[int]) -> None:
        """Send bytes in pieces of these sizes, over and over."""
        position = number = 0
        while position < len(data):
            size = cuts[number % len(cuts)]
            link = self.arrival.link
            if link.closed:
                return
            # As the link does with what it reads, whoever its handler is by now.
            link.feed(data[position : position + size])
            assert len(self.arrival._buffer) <= MOST_KEPT + size
            position += size
            number += 1

    def said(self) -> bytes:
        """What has been answered since the last time."""
        self.sock.setblocking(False)
        said = b""
        try:
            while piece := self.sock.recv(65536):
                said += piece
        except BlockingIOError:
            pass
        return said


@contextmanager
def arriving(method: AuthType = AuthType.TRUST, host: type[Host] = Host) -> Iterator[Client]:
    """A client of whom nothing has been heard."""
    client = Client(host(method, UserSecret("ann", "sesame")))
    assert client.gate.used == 1
    yield client
    client.engine.close()
    client.sock.close()
    # However it went, its place is free, and that has been told once.
    assert client.gate.used == 0
    assert client.host.ends == 1
    assert client.arrival.is_over


CUTS = st.lists(st.integers(1, 300), min_size=1, max_size=10)


@given(cuts=CUTS, rest=st.binary(max_size=300), name=st.text("ab ", max_size=20))
def test_a_client_that_needs_no_password_is_let_in_with_all_that_it_sent(
    cuts: list[int], rest: bytes, name: str
) -> None:
    data = messages.startup_message(
        {"user": "ann", "database": "d", "application_name": name}, codes.PROTOCOL_3_0
    )
    with arriving() as client:
        client.send(data + rest, cuts)
        assert [packet.parameters for packet in client.host.packets] == [  # type: ignore[union-attr]
            {"user": "ann", "database": "d", "application_name": name}
        ]
        assert [session.data for session in client.host.handed] == [rest]
        assert client.said() == b"*"


@given(
    cuts=CUTS,
    rest=st.binary(max_size=100),
    method=st.sampled_from([AuthType.MD5, AuthType.SCRAM_SHA_256]),
    is_right=st.booleans(),
)
def test_a_client_proves_who_it_is_however_its_answers_are_cut(
    cuts: list[int], rest: bytes, method: AuthType, is_right: bool
) -> None:
    with arriving(method) as client:
        theirs = ServerAuthenticator("ann", "sesame" if is_right else "password")
        client.send(STARTUP, cuts)
        while not client.arrival.is_over:
            said = client.said()
            assert said[:1] == b"R"
            (length, code) = struct.unpack_from("!II", said, 1)
            assert len(said) == length + 1
            answer = theirs.receive(code, said[9:])
            assert answer is not None
            client.send(messages.password_message(answer), cuts)
        said = client.said()
        if is_right:
            client.send(rest, cuts)
            assert [session.data for session in client.host.handed] == [rest]
            assert client.host.errors == []
            assert said.endswith(b"*")
        else:
            assert client.host.handed == []
            assert [error.sqlstate for error in client.host.errors] == ["28P01"]
            assert b"28P01" in said


@given(cuts=CUTS, data=st.binary(max_size=3000))
def test_whatever_comes_ends_in_time_or_is_waited_for(cuts: list[int], data: bytes) -> None:
    with arriving(AuthType.SCRAM_SHA_256) as client:
        client.send(data, cuts)
        assert not client.host.handed
        assert len(client.host.errors) <= 1


@given(
    cuts=CUTS,
    kind=st.sampled_from(["p", "Q", "X"]),
    length=st.one_of(st.integers(0, 6000), st.integers(0, 2**32 - 1)),
)
def test_no_more_is_kept_of_an_answer_than_one_may_have(
    cuts: list[int], kind: str, length: int
) -> None:
    with arriving(AuthType.MD5) as client:
        client.send(STARTUP, cuts)
        head = kind.encode() + struct.pack("!I", length)
        client.send(head + bytes(20_000), [1000])
        assert [error.sqlstate for error in client.host.errors] in (["08P01"], ["28P01"])
        assert not client.host.handed


@given(cuts=CUTS, asked=st.lists(st.sampled_from(["ssl", "gss"]), max_size=4))
def test_encryption_is_refused_as_often_as_one_may_ask(
    cuts: list[int], asked: list[str]
) -> None:
    requests = {"ssl": messages.ssl_request(), "gss": GSSENC_REQUEST}
    may_ask = len(set(asked)) == len(asked)
    with arriving() as client:
        for each in asked:
            client.send(requests[each], cuts)
        client.send(STARTUP, cuts)
        assert len(client.host.handed) == may_ask
        assert client.said().startswith(b"N" * len(set(asked)) if may_ask else b"N")


@given(behind=st.binary(min_size=1, max_size=20), request_=st.booleans())
def test_what_stands_behind_a_request_for_encryption_is_refused(
    behind: bytes, request_: bool
) -> None:
    request = messages.ssl_request() if request_ else GSSENC_REQUEST
    with arriving() as client:
        client.send(request + behind, [1000])
        assert [error.sqlstate for error in client.host.errors] == ["08P01"]
        assert not client.host.packets


class Slow(Host):
    """Has everybody wait before asking."""

    def introduced(self, arrival: Arrival, packet: StartupMessage) -> None:
        self.packets.append(packet)
        arrival.wait()


@given(cuts=CUTS, size=st.one_of(st.integers(8180, 8204), st.integers(0, 20_000)))
def test_who_sends_much_while_it_is_to_wait_is_not_read_from(
    cuts: list[int], size: int
) -> None:
    with arriving(host=Slow) as client:
        link = client.arrival.link
        client.send(STARTUP, cuts)
        ahead = bytes(size)
        position = number = 0
        while position < size and not link._paused:
            piece = ahead[position : position + cuts[number % len(cuts)]]
            link.feed(piece)
            position += len(piece)
            number += 1
        assert link._paused == (position > 8192)
        assert position <= 8192 + max(cuts)
        client.arrival.go_on(lambda: client.arrival.ask(client.host.credential))
        assert client.host.handed[0].data == ahead[:position]
        assert not link._paused


@pytest.mark.parametrize("waits", [False, True])
def test_a_client_that_sends_no_more_is_let_in_if_that_is_for_others_to_do(waits: bool) -> None:
    with arriving(host=Slow if waits else Host) as client:
        client.send(STARTUP if waits else STARTUP[:-1], [1000])
        assert client.arrival.on_eof() is waits
        client.arrival.leave()


def test_a_client_that_leaves_is_forgotten() -> None:
    with arriving(AuthType.MD5) as client:
        client.send(STARTUP + message("p", b"")[:3], [7])
        client.arrival.link.abort("connection closed by peer")
        assert client.host.errors == []
