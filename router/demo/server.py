"""One throw-away PostgreSQL server."""

from __future__ import annotations

import contextlib
import errno
import random
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

from .account import ClusterError
from .installation import INSTALL_HINT, Installation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import psycopg
    from psycopg.rows import TupleRow

HOST = "127.0.0.1"
SUPERUSER = "postgres"
# Only for servers that hang: one that ends is noticed at once, and a machine may be busy.
START_SECONDS = 240.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.005
SOCKET_PATH_LIMIT = 90  # of the 107 bytes of sockaddr_un, less the file name

# The kernel gives ports of its ephemeral range (32768 and up by default) to outgoing
# connections: a server that listens there may find its port taken after a restart.
PORTS = range(15_000, 32_000)

# Nothing in a throw-away server has to survive a crash of the machine.
SETTINGS: Mapping[str, str] = {
    "listen_addresses": HOST,
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "100",
    "wal_level": "replica",
    "max_prepared_transactions": "10",
    "max_wal_senders": "10",
    "wal_keep_size": "128MB",
    "min_wal_size": "32MB",
    "max_wal_size": "128MB",
    # In the data directory, so that a killed server leaves nothing elsewhere.
    "dynamic_shared_memory_type": "mmap",
    "hot_standby": "on",
    "wal_retrieve_retry_interval": "50ms",
    "autovacuum": "off",
    "log_line_prefix": "%m [%p] %u@%d ",
}
HBA = (
    "local all all trust",
    f"host all {SUPERUSER} {HOST}/32 trust",
    f"host replication {SUPERUSER} {HOST}/32 trust",
)


class PortInUse(ClusterError):
    """Somebody else listens on the server's port."""


class Server:
    """A PostgreSQL server, a child of this process."""

    def __init__(self, installation: Installation, data_dir: Path, port: int) -> None:
        self.installation = installation
        self.data_dir = data_dir
        self.host = HOST
        self.port = port
        self.log_path = data_dir.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<Server {self.data_dir.name} {self.host}:{self.port}>"

    def configure(self, settings: Mapping[str, str]) -> None:
        """Write settings that hold from the next start or `reload`; later ones win."""
        lines = [f"{name} = '{value}'" for name, value in settings.items()]
        self.installation.write(self.data_dir / "postgresql.conf", lines, append=True)

    def set_hba(self, lines: Sequence[str]) -> None:
        """Replace pg_hba.conf: the given lines come after those that let the superuser in."""
        self.installation.write(self.data_dir / "pg_hba.conf", [*HBA, *lines])

    def follow(self, primary: Server) -> None:
        """Make this stopped server a streaming standby of `primary` from its next start.

        Both must be copies of one template, and the primary must still have all its WAL: then
        they share a system identifier and a past, and no base backup is needed.
        """
        conninfo = f"host={primary.host} port={primary.port} user={SUPERUSER} sslmode=prefer"
        self.configure({"primary_conninfo": conninfo, "hot_standby": "on"})
        self.installation.write(self.data_dir / "standby.signal", ())

    def launch(self) -> None:
        """Start the server without waiting until it answers; `wait_until_ready` comes next."""
        with self.log_path.open("ab") as log:
            self._process = self.installation.popen(
                "postgres", "-D", self.data_dir, "-p", str(self.port), stdout=log.fileno()
            )

    def wait_until_ready(self) -> None:
        """Wait until the launched server takes connections.

        Raises:
            ClusterError: it ended instead, or took too long; with the end of its log.
        """
        process = self._process
        assert process is not None, "not launched"

        def is_ready() -> bool:
            if process.poll() is not None:
                failure = self._failure(f"ended with status {process.returncode}")
                raise PortInUse(str(failure)) if "in use" in self.log_tail() else failure
            return self._status(process.pid) == "ready"

        if not wait_until(is_ready, START_SECONDS):
            raise self._failure(f"did not start within {START_SECONDS:.0f} seconds")

    def stop(self) -> None:
        """Have the server drop everything, if it was launched, and wait until it is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def connect(
        self, database: str = "postgres", user: str = SUPERUSER, password: str = ""
    ) -> psycopg.Connection[TupleRow]:
        """Open a connection straight to this server, in autocommit mode."""
        try:
            import psycopg
        except ImportError:
            raise ClusterError("psycopg is not installed: " + INSTALL_HINT) from None
        return psycopg.connect(
            host=self.host,
            port=self.port,
            dbname=database,
            user=user,
            password=password,
            autocommit=True,
            connect_timeout=60,
            sslmode="prefer",
            gssencmode="disable",
        )

    def execute(
        self, sql: str, params: Sequence[object] | None = None, *, database: str = "postgres"
    ) -> list[TupleRow]:
        """Run SQL as the superuser on a connection of its own; return the rows, if any."""
        with contextlib.closing(self.connect(database)) as connection:
            cursor = connection.execute(sql.encode(), params)
            return cursor.fetchall() if cursor.description else []

    def log_tail(self, lines: int = 15) -> str:
        """Return the end of the server's log."""
        try:
            text = self.log_path.read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _status(self, pid: int) -> str:
        """Return the last line of postmaster.pid, when that process has written it."""
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
        except OSError:
            return ""
        return lines[7].strip() if len(lines) > 7 and lines[0] == str(pid) else ""

    def _failure(self, what: str) -> ClusterError:
        return ClusterError(f"PostgreSQL in {self.data_dir} {what}\n{self.log_tail()}")


def throw_away_settings(data_dir: Path) -> dict[str, str]:
    """Return the settings of a server that nobody will miss."""
    sockets = str(data_dir.parent)
    settings = {
        **SETTINGS,
        "unix_socket_directories": sockets if len(sockets) < SOCKET_PATH_LIMIT else "",
    }
    if int((data_dir / "PG_VERSION").read_text()) >= 18:
        settings["io_method"] = "sync"  # three processes fewer
    return settings


def free_port() -> int:
    """Return a loopback port that nobody listens on, out of the kernel's way."""
    for _ in range(100):
        port = random.choice(PORTS)
        if is_free(port):
            return port
    raise ClusterError(f"no free port found from {PORTS.start} to {PORTS.stop}")


def is_free(port: int) -> bool:
    """Tell whether a loopback port could be listened on just now."""
    return not listen_errno(port)


def listen_errno(port: int) -> int:
    """Return why a loopback port cannot be listened on just now; 0 if it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return error.errno or errno.EADDRINUSE
    return 0


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Look again and again until the condition holds; False when the time is up."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
