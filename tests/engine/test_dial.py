"""Connecting to one of several addresses: who has failed, and what becomes of the others."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
import trio

from router.engine import dial

from .peers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Sequence

REFUSES, HANGS, ANSWERS, LATER = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"


class Guide:
    """Notes who has failed."""

    def __init__(self) -> None:
        self.noted: list[str] = []

    def found(self, addresses: Sequence[str]) -> None:
        """Nothing is known of them."""

    def known(self) -> Sequence[str]:
        """Whoever answers."""
        return (ANSWERS,)

    def pick(self, addresses: Sequence[str]) -> str:
        """As they come."""
        return addresses[0]

    def failed(self, address: str) -> bool:
        """Note it."""
        self.noted.append(address)
        return True


class FakeSocket:
    """Of trio's, as far as it is used: what comes of connecting is in the address.

    Attributes:
        made: all of them.
        go: lets those go on that answer together.
    """

    made: list[FakeSocket]
    go: trio.Event

    def __init__(self, *kind: int) -> None:
        self._sock = socket.socket()
        self.fd = self._sock.fileno()
        self.is_closed = False
        self.made.append(self)

    async def connect(self, address: tuple[str, int]) -> None:
        """Refuse, hang, or succeed together with the others."""
        host = address[0]
        if host == REFUSES:
            raise ConnectionRefusedError
        if host == HANGS:
            await trio.sleep_forever()
        if len(self.made) > 1 and host == LATER:
            self.go.set()
        else:
            await self.go.wait()

    def detach(self) -> int:
        """Give the descriptor away."""
        return self._sock.detach()

    def close(self) -> None:
        """Close it, unless it is somebody else's."""
        self.is_closed = True
        self._sock.close()


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> list[FakeSocket]:
    """Those that have been made."""
    made: list[FakeSocket] = []
    monkeypatch.setattr(FakeSocket, "made", made, raising=False)
    monkeypatch.setattr(FakeSocket, "go", trio.Event(), raising=False)
    monkeypatch.setattr(trio.socket, "socket", FakeSocket)
    return made


def lead_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have every name lead there."""

    async def resolve(host: str, port: int) -> dict[str, dial.Target]:
        kind = socket.AF_INET, socket.SOCK_STREAM, 0, ""
        return {address: (*kind, (address, port)) for address in addresses}

    monkeypatch.setattr(dial, "resolve", resolve)


async def test_who_refuses_and_who_has_not_answered_in_time_have_failed(
    monkeypatch: pytest.MonkeyPatch, fakes: list[FakeSocket]
) -> None:
    lead_to(monkeypatch, REFUSES, HANGS, ANSWERS)
    FakeSocket.go.set()
    guide = Guide()
    with trio.fail_after(PATIENCE):
        sock, address = await dial.dial("db", 1, guide)
    assert address == ANSWERS
    assert guide.noted == [REFUSES, HANGS]
    sock.close()


async def test_of_two_that_answer_together_one_is_closed(
    monkeypatch: pytest.MonkeyPatch, fakes: list[FakeSocket]
) -> None:
    lead_to(monkeypatch, ANSWERS, LATER)
    with trio.fail_after(PATIENCE):
        sock, address = await dial.dial("db", 1)
    winner, other = sorted(fakes, key=lambda fake: fake.fd != sock.fileno())
    assert winner.fd == sock.fileno()
    assert address == (ANSWERS if winner is fakes[0] else LATER)
    assert other.is_closed
    assert other._sock.fileno() == -1, "it has been given away"
    sock.close()


async def test_who_wins_when_nobody_waits_any_more_is_closed(
    monkeypatch: pytest.MonkeyPatch, fakes: list[FakeSocket]
) -> None:
    lead_to(monkeypatch, ANSWERS)
    FakeSocket.go.set()
    won: list[socket.socket] = []
    with trio.CancelScope() as scope:

        class Winner(socket.socket):
            def __init__(self, fileno: int | None = None) -> None:
                super().__init__(fileno=fileno)
                if fileno is not None:
                    won.append(self)
                    scope.cancel()

        monkeypatch.setattr(socket, "socket", Winner)
        await dial.dial("db", 1)
    assert scope.cancelled_caught
    assert [sock.fileno() for sock in won] == [-1]


@pytest.mark.parametrize(
    ("errno", "is_known"), [(socket.EAI_AGAIN, True), (socket.EAI_NONAME, False)]
)
async def test_without_an_answer_of_name_servers_the_addresses_serve_that_there_were(
    monkeypatch: pytest.MonkeyPatch, fakes: list[FakeSocket], errno: int, is_known: bool
) -> None:
    async def resolve(host: str, port: int) -> dict[str, dial.Target]:
        if host == "db":
            raise socket.gaierror(errno, "no answer")
        kind = socket.AF_INET, socket.SOCK_STREAM, 0, ""
        return {host: (*kind, (host, port))}

    monkeypatch.setattr(dial, "resolve", resolve)
    FakeSocket.go.set()
    with trio.fail_after(PATIENCE):
        if is_known:
            sock, address = await dial.dial("db", 1, Guide())
            sock.close()
            assert address == ANSWERS
        else:
            with pytest.raises(socket.gaierror):
                await dial.dial("db", 1, Guide())
        with pytest.raises(socket.gaierror):
            await dial.dial("db", 1)
