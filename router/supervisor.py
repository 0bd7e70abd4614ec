"""What systemd and its like are told, and what they hand over: sd_notify and LISTEN_FDS.

Both are a few lines of protocol over the environment, so there is no library.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import Final

from .errors import ConfigError
from .reasons import reason

log = logging.getLogger("router.app")

# The first descriptor that is handed over, as sd_listen_fds(3) has it.
_FIRST: Final = 3
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


class Supervisor:
    """Tells whoever has started the router how it is; nobody, if nobody wants to know."""

    def __init__(self, address: str | None = None) -> None:
        """Take the address of NOTIFY_SOCKET, if there is none."""
        if address is None:
            address = os.environ.get("NOTIFY_SOCKET", "")
        # An @ stands for the zero byte of Linux' abstract addresses.
        self._address: Final = "\0" + address[1:] if address.startswith("@") else address
        self._wants_to_know = bool(address)
        self._wants_signs: Final = "WATCHDOG_USEC" in os.environ

    def ready(self, status: str) -> None:
        """It serves, for the first time or after a reload."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """It reads its configuration."""
        # The clock is systemd's: CLOCK_MONOTONIC.
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=reloading")

    def stopping(self, status: str, seconds: float) -> None:
        """It stops, which may take so many seconds."""
        self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={seconds * 1e6:.0f}", f"STATUS={status}")

    def hand_over(self, pid: int) -> None:
        """Another process is the router from here on, and tells the rest."""
        self._tell(f"MAINPID={pid}")
        self._wants_to_know = False

    def alive(self) -> None:
        """It has had a turn; call it about every second."""
        if self._wants_signs:
            self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if not self._wants_to_know:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            # Once is enough: nobody listens.
            self._wants_to_know = False
            log.warning("cannot tell NOTIFY_SOCKET: %s", reason(error))


def handed_over() -> list[socket.socket]:
    """The listening sockets that systemd has opened for this process; none without any.

    Raises:
        ConfigError: one of them is something else.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = os.environ.get("LISTEN_FDS", "")
    # They are nobody else's.
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    if not count.isdecimal():
        return []
    return [listening_socket(number) for number in range(_FIRST, _FIRST + int(count))]


def listening_socket(number: int) -> socket.socket:
    """A descriptor that was handed over as the socket that it has to be.

    Raises:
        ConfigError: it is none that clients could come in by.
    """
    try:
        os.set_inheritable(number, False)
        sock = socket.socket(fileno=number)
        is_listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ConfigError(f"LISTEN_FDS: descriptor {number}: {reason(error)}") from None
    is_stream = sock.type == socket.SOCK_STREAM and sock.family in _FAMILIES
    if not is_stream or not is_listening:
        sock.detach()
        raise ConfigError(
            f"LISTEN_FDS: descriptor {number} is no listening stream socket",
            ["ListenStream= of the socket unit: must be a port, or the path of a socket"],
        )
    sock.setblocking(False)
    return sock
