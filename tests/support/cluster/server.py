"""A throw-away server that tests stop, kill, silence, promote, or leave to each other."""

from __future__ import annotations

import signal
from enum import Enum

from router.demo import server
from router.demo.server import STOP_SECONDS, wait_until

from .reaper import is_alive, postmaster_pid, send
from .workspace import left_running


class StopMode(Enum):
    """How a server takes its leave, in pg_ctl's words."""

    SMART = signal.SIGTERM
    """Wait until the last client has gone."""
    FAST = signal.SIGINT
    """Send the clients away."""
    IMMEDIATE = signal.SIGQUIT
    """Drop everything: the next start recovers as after a crash."""
    KILL = signal.SIGKILL
    """No shutdown at all: as if the machine had gone."""


class Server(server.Server):
    """A PostgreSQL server, this process's own child or one that another process has started."""

    def __repr__(self) -> str:
        state = "running" if self.is_running() else "stopped"
        return f"<Server {self.data_dir.name} {self.host}:{self.port} [{state}]>"

    @property
    def pid(self) -> int | None:
        """Return the postmaster's process id, or None when the server does not run."""
        return postmaster_pid(self.data_dir)

    def is_running(self) -> bool:
        """Tell whether there is a postmaster."""
        return self.pid is not None

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        self.launch()
        self.wait_until_ready()

    def stop(self, mode: StopMode = StopMode.FAST) -> None:
        """Stop the server, if it runs, and wait until it is gone."""
        pid = self._process.pid if self._process is not None else self.pid
        if pid is not None:
            send(pid, mode.value)
            send(pid, signal.SIGCONT)  # a stopped process would never see the first
            self._wait_until_gone(pid)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def restart(self, mode: StopMode = StopMode.FAST) -> None:
        """Stop the server and start it again on the same port."""
        self.stop(mode)
        self.start()

    def signal(self, number: signal.Signals) -> None:
        """Send the postmaster a signal: stopped, it accepts connections and says nothing."""
        pid = self.pid
        if pid is not None:
            send(pid, number)

    def reload(self) -> None:
        """Have the server read its configuration again."""
        self.signal(signal.SIGHUP)

    def promote(self) -> None:
        """Make this standby a primary and wait until it is one."""
        if self.execute("SELECT pg_promote(true, 30)") != [(True,)]:
            raise self._failure("was not promoted")

    def disown(self) -> None:
        """Leave the running server to others: it is no longer this process's to wait for."""
        if self._process is not None:
            left_running.append(self._process)
            self._process = None

    def _wait_until_gone(self, pid: int) -> None:
        if wait_until(lambda: not is_alive(pid), STOP_SECONDS):
            return
        send(pid, signal.SIGKILL)
        raise self._failure(f"did not stop within {STOP_SECONDS:.0f} seconds")
