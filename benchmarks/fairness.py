"""How long others wait while one client sends as much as it can without waiting for answers."""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import struct
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .memory import QUERY, connect

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from multiprocessing.sharedctypes import Synchronized
    from multiprocessing.synchronize import Event

    from .targets import Target

# How many others there are; each sends its next query when it has the answer to the last one.
OTHERS: Final = 4
_BLOCK: Final = 128 * 1024


def _message(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack("!ci", kind, len(body) + 4) + body


_SYNC: Final = _message(b"S")
_BATCH: Final = (
    _message(b"P", b"\0" + QUERY + b"\0\0")
    + _message(b"B", b"\0\0\0\0\0\0\0\0")
    + _message(b"E", b"\0\0\0\0\0")
)
# What the one client sends, over and over.
FLOODS: Final = {
    "nothing": b"",
    "Query": _message(b"Q", QUERY),
    "Parse, Bind, Execute, Sync": _BATCH + _SYNC,
    "Parse, Bind, Execute": _BATCH,
    "Sync": _SYNC,
}


@dataclass(frozen=True, slots=True)
class Wait:
    """What the others had to wait, in seconds, while a flood lasted.

    Attributes:
        flood: a key of FLOODS.
        queries: how many the others got done.
        sent: bytes of the flood that were taken.
    """

    target: str
    flood: str
    queries: int
    p50: float
    p99: float
    longest: float
    sent: int


def measure(
    targets: Sequence[Target], seconds: float, progress: Callable[[str], None]
) -> list[Wait]:
    """Have each flood before each target, one target right after the other."""
    found = []
    for flood in FLOODS:
        for target in targets:
            progress(f"{target.name}: {flood}")
            found.append(_measure(target, flood, seconds))
    return found


def _measure(target: Target, flood: str, seconds: float) -> Wait:
    context = multiprocessing.get_context("spawn")
    sent = context.Value("q", 0)
    is_over = context.Event()
    process = context.Process(
        target=_flood, args=(target.port, FLOODS[flood], is_over, sent), daemon=True
    )
    process.start()
    latencies: list[list[float]] = [[] for _ in range(OTHERS)]
    try:
        time.sleep(1.0)  # the flood has begun, and what it makes pile up has piled up
        end = time.monotonic() + seconds
        threads = [
            threading.Thread(target=_ask, args=(target.port, end, latencies[number]))
            for number in range(OTHERS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        is_over.set()
        process.join(10)
        process.kill()
    waits = sorted(wait for each in latencies for wait in each)
    cuts = statistics.quantiles(waits, n=100) if len(waits) > 1 else [seconds] * 99
    longest = waits[-1] if waits else seconds
    return Wait(target.name, flood, len(waits), cuts[49], cuts[98], longest, sent.value)


def _ask(port: int, end: float, latencies: list[float]) -> None:
    """Be one of the others."""
    with contextlib.closing(connect(port)) as connection:
        while (started := time.monotonic()) < end:
            connection.sendall(FLOODS["Query"])
            data = b""
            while not data.endswith(b"Z\0\0\0\x05I"):
                received = connection.recv(8192)
                if not received:
                    return
                data += received
            latencies.append(time.monotonic() - started)


def _flood(port: int, message: bytes, is_over: Event, sent: Synchronized[int]) -> None:
    """Send a message over and over, and throw away what comes back."""
    with contextlib.closing(connect(port)) as connection:
        connection.settimeout(1.0)
        threading.Thread(target=_discard, args=(connection,), daemon=True).start()
        block = message * (_BLOCK // len(message)) if message else b""
        while not is_over.is_set():
            if not block:
                is_over.wait(0.1)
                continue
            try:
                sent.value += connection.send(block)
            except TimeoutError:
                continue
            except OSError:
                return


def _discard(connection: socket.socket) -> None:
    buffer = bytearray(1 << 20)
    while True:
        try:
            if not connection.recv_into(buffer):
                return
        except TimeoutError:
            continue
        except OSError:
            return
