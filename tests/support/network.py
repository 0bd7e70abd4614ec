"""A network of its own that can be cut: the peer is then silent, as one that lost its power."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from .router import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

# Connects, says what it is told to, and reads nothing until it is told to go.
_PEER = """
import socket, sys
sock = socket.socket()
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
sock.connect((sys.argv[1], int(sys.argv[2])))
sock.sendall(bytes.fromhex(sys.argv[3]))
print("connected", flush=True)
sys.stdin.read()
"""


class CutNetwork:
    """A network namespace at the other end of a cable.

    Attributes:
        host: our address on the cable.
    """

    def __init__(self) -> None:
        number = os.getpid()
        self._name = f"pgcat-{number}"
        self._ours, self._theirs = f"pgc{number}a", f"pgc{number}b"
        net = f"10.{200 + number % 50}.{number // 50 % 250}"
        self.host = f"{net}.1"
        self._peers: list[subprocess.Popen[str]] = []
        _ip("netns", "add", self._name)
        try:
            _ip("link", "add", self._ours, "type", "veth", "peer", self._theirs)
            _ip("link", "set", self._theirs, "netns", self._name)
            _ip("addr", "add", f"{self.host}/30", "dev", self._ours)
            _ip("link", "set", self._ours, "up")
            _ip("-n", self._name, "addr", "add", f"{net}.2/30", "dev", self._theirs)
            _ip("-n", self._name, "link", "set", self._theirs, "up")
        except BaseException:
            self.close()
            raise

    def connect(self, port: int, greeting: bytes = b"") -> None:
        """Have a peer connect to us, which says something and reads nothing."""
        command = ["ip", "netns", "exec", self._name, sys.executable, "-c", _PEER]
        peer = subprocess.Popen(
            [*command, self.host, str(port), greeting.hex()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._peers.append(peer)
        assert peer.stdout is not None
        assert peer.stdout.readline() == "connected\n"

    def cut(self) -> None:
        """Nothing arrives any more, in either direction."""
        # Its other end stays up, or else our own kernel would know that there is no way.
        _ip("-n", self._name, "addr", "flush", "dev", self._theirs)

    def close(self) -> None:
        """Leave nothing behind."""
        for peer in self._peers:
            peer.kill()
            peer.communicate(timeout=PATIENCE)
        subprocess.run(["ip", "link", "del", self._ours], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", self._name], check=False, capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=PATIENCE)


@pytest.fixture
def cut_network() -> Iterator[CutNetwork]:
    """A network that can be cut; needs the rights of root."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2")
    try:
        network = CutNetwork()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr!r}")
    yield network
    network.close()
