"""A restart that loses nobody: a new process takes the listening sockets over, on SIGUSR2.

The new one runs by what is installed and configured by now. Once it listens, the old one stops
accepting, lets those log in who are at it, and serves its clients until they have left. Cancel
requests come by the new process, whoever they are for: it passes on what it does not know.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Final, Self

import trio

from .ending import Ending, Mode
from .errors import ConfigError
from .sockets import Sockets
from .supervisor import Supervisor, listening_socket

if TYPE_CHECKING:
    from .session.login import Login

log = logging.getLogger("router.app")

# The environment variable that tells a process what it has got.
_VARIABLE: Final = "PGCAT_SUCCEEDS"
# How long the new process may take until it listens, in seconds.
_PATIENCE: Final = 60.0
_READY: Final = b"ready"
# A process id, and a secret of up to 256 bytes.
_LONGEST_REQUEST: Final = 260


class Predecessor:
    """The process that has handed its sockets over to this one, and those before it.

    Attributes:
        sockets: what it has handed over.
        channels: to each, the latest first; those of processes that have ended lead nowhere.
    """

    def __init__(self, sockets: Sockets, channels: list[socket.socket]) -> None:
        self.sockets: Final = sockets
        self.channels: Final = channels

    @classmethod
    def find(cls) -> Self | None:
        """The one that has started this process; None if it was somebody else.

        Raises:
            ConfigError: what it has handed over cannot be used.
        """
        told = os.environ.pop(_VARIABLE, None)
        if told is None:
            return None
        try:
            numbers = json.loads(told)
            channels = [socket.socket(fileno=int(number)) for number in numbers["channels"]]
            for channel in channels:
                os.set_inheritable(channel.fileno(), False)
                channel.setblocking(False)
            sockets = Sockets(
                [listening_socket(number) for number in numbers["clients"]],
                [listening_socket(number) for number in numbers["metrics"]],
                bool(numbers["owns_paths"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            raise ConfigError(f"{_VARIABLE} is set, and not by a router") from None
        return cls(sockets, channels)

    def take_over(self) -> None:
        """This process listens now."""
        self._send(self.channels[0], _READY)

    def cancel(self, pid: int, secret: bytes) -> None:
        """Pass on a cancel request for what is no client here."""
        for channel in self.channels:
            self._send(channel, struct.pack("!I", pid) + secret)

    @staticmethod
    def _send(channel: socket.socket, message: bytes) -> None:
        with contextlib.suppress(OSError):  # it has ended, or has got too many of them
            channel.send(message)


class Succession:
    """Hands over to a new process when told to.

    Attributes:
        sockets: what is handed over.
        predecessor: the processes before this one, which may have clients yet.
    """

    def __init__(
        self,
        sockets: Sockets,
        predecessor: Predecessor | None,
        login: Login,
        ending: Ending,
        supervisor: Supervisor,
    ) -> None:
        self.sockets: Final = sockets
        self.predecessor: Final = predecessor
        self._login: Final = login
        self._ending: Final = ending
        self._supervisor: Final = supervisor
        self._is_busy = False

    async def run(self) -> None:
        """Start a process, hand over to it, and then heed the cancel requests that it gets.

        If the new process does not come to listen, everything stays as it is.
        """
        if self._is_busy or self._ending.mode is not None:
            log.info("SIGUSR2: there is a new process already, or this one is stopping")
            return
        self._is_busy = True
        channel, theirs = trio.socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with channel:
            with theirs:
                process = self._start(theirs.fileno())
            if process is None or not await self._is_taken_over(channel, process):
                self._is_busy = False
                return
            log.info("SIGUSR2: process %d has taken over", process.pid)
            self._supervisor.hand_over(process.pid)
            self.sockets.let_go()
            with trio.move_on_after(_PATIENCE):
                await self._login.settle()
            self._ending.begin(Mode.CLIENTS, "SIGUSR2")
            await self._heed(channel)

    def _start(self, channel: int) -> subprocess.Popen[bytes] | None:
        before = [] if self.predecessor is None else self.predecessor.channels
        given = {
            "clients": [sock.fileno() for sock in self.sockets.clients],
            "metrics": [sock.fileno() for sock in self.sockets.metrics],
            "channels": [channel, *(sock.fileno() for sock in before)],
        }
        told = json.dumps({**given, "owns_paths": self.sockets.owns_paths})
        try:
            return subprocess.Popen(
                sys.orig_argv,
                executable=sys.executable,
                pass_fds=[number for numbers in given.values() for number in numbers],
                env={**os.environ, _VARIABLE: told},
            )
        except OSError as error:
            log.error("SIGUSR2: cannot start a new process: %s", error.strerror)
            return None

    async def _is_taken_over(
        self, channel: trio.socket.SocketType, process: subprocess.Popen[bytes]
    ) -> bool:
        log.info("SIGUSR2: process %d is to take over", process.pid)
        said = b""
        with trio.move_on_after(_PATIENCE):
            with contextlib.suppress(OSError):
                said = await channel.recv(_LONGEST_REQUEST)
        if said == _READY:
            return True
        process.kill()
        await trio.to_thread.run_sync(process.wait)
        log.error("SIGUSR2: process %d did not come to listen: this one goes on", process.pid)
        return False

    async def _heed(self, channel: trio.socket.SocketType) -> None:
        with contextlib.suppress(OSError):
            while request := await channel.recv(_LONGEST_REQUEST):
                (pid,) = struct.unpack_from("!I", request)
                self._login.cancel(pid, request[4:])
        log.warning("SIGUSR2: the process that has taken over has ended")
