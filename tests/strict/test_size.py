"""Large values and results, slow readers, many clients: the router's memory stays small."""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.wire import (
    COPY_DONE,
    SYNC,
    WireClient,
    copy_data,
    execute,
    kinds,
    parse,
    query,
    run,
    sqlstates,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.postgres import Database
    from tests.support.router import RouterProcess

MB = 1 << 20
VALUE = 200 * MB
ALLOWED = 20 * MB
IDLE_CLIENTS = 1000
IDLE_COST = 10_000

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def router(module_router: ModuleRouter, pool_for: PoolFor) -> RouterProcess:
    """One whose pool lets two at a time work."""
    started = module_router({"db": pool_for(size=2)})
    with WireClient.login(started.port, "db") as client:
        # Warm: what every router needs once is not what is measured.
        client.query("SELECT repeat('x', 1000000)")
        client.ask(run("SELECT length($1)", b"x" * MB), SYNC)
    return started


class Peak:
    """The most memory that a process had since this began."""

    def __init__(self, router: RouterProcess) -> None:
        self._proc = Path(f"/proc/{router.process.pid}")
        (self._proc / "clear_refs").write_text("5")  # forget the peak so far
        self._before = self._read("VmRSS")

    def _read(self, name: str) -> int:
        for line in (self._proc / "status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"no {name}")

    def growth(self) -> int:
        """In bytes."""
        return self._read("VmHWM") - self._before


@pytest.fixture
def peak(router: RouterProcess) -> Peak:
    """Of the router, from here on."""
    return Peak(router)


@pytest.fixture
def client(router: RouterProcess) -> Iterator[WireClient]:
    """A client with small buffers, so that the kernel holds little for it."""
    with WireClient.login(router.port, "db", receive_buffer=256 * 1024) as made:
        yield made


def drain(client: WireClient, size: int) -> int:
    """Read so many bytes and throw them away; returns how many it was."""
    left = size
    buffer = bytearray(MB)
    while left:
        received = client.sock.recv_into(buffer, min(left, MB))
        assert received, "closed"
        left -= received
    return size


def send_filler(client: WireClient, size: int) -> None:
    """Send so many x."""
    block = b"x" * MB
    for _ in range(size // MB):
        client.send(block)


def test_a_200_mb_value_goes_up_as_a_parameter(client: WireClient, peak: Peak) -> None:
    body = 2 + 2 + 2 + 4 + VALUE + 2
    client.send(parse("SELECT length($1)"))
    client.send(b"B" + struct.pack("!I", body + 4) + b"\0\0" + struct.pack("!HHI", 0, 1, VALUE))
    send_filler(client, VALUE)
    client.send(struct.pack("!H", 0) + execute() + SYNC)
    answers = client.read_until("Z")
    assert kinds(answers) == "12DCZ"
    assert answers[2].row == [str(VALUE).encode()]
    assert peak.growth() < ALLOWED


def test_a_200_mb_value_goes_up_in_a_simple_query(client: WireClient, peak: Peak) -> None:
    head, tail = b"SELECT length('", b"')\0"
    client.send(b"Q" + struct.pack("!I", 4 + len(head) + VALUE + len(tail)) + head)
    send_filler(client, VALUE)
    client.send(tail)
    assert client.read_until("Z")[1].row == [str(VALUE).encode()]
    assert peak.growth() < ALLOWED


def test_a_200_mb_value_comes_down(client: WireClient, peak: Peak) -> None:
    client.send(query(f"SELECT repeat('x', {VALUE})"))
    description = client.sock.recv(1, 0x100)
    assert description == b"T"
    size = struct.unpack("!I", client.sock.recv(4, 0x100))[0]
    drain(client, size - 4)
    head = client.sock.recv(11, 0x100)  # MSG_WAITALL
    assert head[:1] == b"D"
    drain(client, VALUE)
    assert kinds(client.read_until("Z")) == "CZ"
    assert client.value("SELECT 1") == "1"
    assert peak.growth() < ALLOWED


def test_two_million_rows_come_down_to_a_slow_reader(client: WireClient, peak: Peak) -> None:
    count = 2_000_000
    client.send(query(f"SELECT g FROM generate_series(1, {count}) g"))
    client.read_until("T")
    # By hand, since two million objects would take their time.
    pending, found = b"", b""
    with memoryview(bytearray(64 * 1024)) as buffer:
        while not found.endswith(b"Z\0\0\0\5I"):
            received = client.sock.recv_into(buffer)
            assert received, "closed"
            found = (pending + bytes(buffer[:received]))[-64:]
            pending = found
    assert f"SELECT {count}".encode() in found
    assert peak.growth() < ALLOWED


def test_a_client_that_does_not_read_disturbs_nobody(
    router: RouterProcess, client: WireClient, peak: Peak
) -> None:
    client.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 200000)"))
    client.read_until("T")
    with WireClient.login(router.port, "db") as other:
        for _ in range(200):
            assert other.value("SELECT 1") == "1"
    assert peak.growth() < ALLOWED
    client.reset()
    with WireClient.login(router.port, "db") as other:
        assert other.value("SELECT 1") == "1"


def test_64_mb_go_up_by_copy(client: WireClient, database: Database, peak: Peak) -> None:
    database.execute("CREATE TABLE copied (v text)")
    rows = copy_data((b"x" * 1023 + b"\n") * 64)
    client.ask(query("COPY copied FROM STDIN"), until="G")
    for _ in range(1024):
        client.send(rows)
    answers = client.ask(COPY_DONE)
    assert not sqlstates(answers)
    assert client.value("SELECT sum(length(v)) FROM copied") == str(1023 * 64 * 1024)
    assert peak.growth() < ALLOWED


def test_a_copy_that_fails_early_swallows_what_is_still_sent(
    client: WireClient, peak: Peak
) -> None:
    client.ask(query("COPY t FROM STDIN"), until="G")
    client.send(copy_data(b"nonsense\n"))
    rows = copy_data((b"x" * 1023 + b"\n") * 64)
    for _ in range(1024):
        client.send(rows)
    assert sqlstates(client.ask(COPY_DONE)) == ["22P02"]
    assert client.value("SELECT 1") == "1"
    assert peak.growth() < ALLOWED


def test_a_hundred_thousand_notices_come_down(client: WireClient, peak: Peak) -> None:
    client.send(
        query(
            "DO $$ BEGIN FOR i IN 1..100000 LOOP RAISE NOTICE '% %', i, repeat('x', 200);"
            " END LOOP; END $$"
        )
    )
    answers = client.read_until("Z")
    assert Counter(kinds(answers)) == {"N": 100_000, "C": 1, "Z": 1}
    assert peak.growth() < ALLOWED


def test_a_thousand_idle_clients_cost_little(router: RouterProcess) -> None:
    def connect(count: int) -> list[WireClient]:
        return [WireClient.login(router.port, "db") for _ in range(count)]

    first = connect(50)
    assert all(client.value("SELECT 1") == "1" for client in first)
    before = router.rss()
    clients = connect(IDLE_CLIENTS)
    assert all(client.value("SELECT 1") == "1" for client in clients)
    cost = (router.rss() - before) / IDLE_CLIENTS
    for client in (*first, *clients):
        client.close()
    assert cost < IDLE_COST
