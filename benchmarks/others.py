"""Other poolers, configured from their documentation like the router and PgBouncer.

pgagroal and pgpool-II are not here: the one wants its users entered by hand with a master key
before it pools by transaction, the other does not pool by transaction at all. Start them as you
see fit and name them with `--target`.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from router.demo.server import HOST, free_port

from .processes import processors
from .targets import DATABASE, LISTEN_BACKLOG, SCRAM, Target, router_config, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.support.cluster.server import Server

    from .targets import Options


@dataclass(frozen=True, slots=True)
class Other:
    """A pooler that can be started.

    Attributes:
        files: its configuration by the files' names; of a port, the server's port and options.
        arguments: what it is started with, given the folder of the files.
        can: whether it can be set up equally.
    """

    name: str
    files: Callable[[int, int, Options], dict[str, str]]
    arguments: Callable[[Path], Sequence[str]]
    can: Callable[[Options], bool]

    @contextlib.contextmanager
    def start(self, server: Server, program: str, options: Options) -> Iterator[Target]:
        """Start it under the account that PostgreSQL runs under.

        Raises:
            BenchmarkError: it ended, or does not listen.
        """
        port = free_port()
        installation = server.installation
        for name, text in self.files(port, server.port, options).items():
            installation.write(installation.cwd / name, [text])
        log_path = installation.cwd / f"{self.name}.out"
        arguments = self.arguments(installation.cwd)
        with log_path.open("wb") as log:
            process = installation.popen(program, *arguments, stdout=log.fileno())
        with running(process, port, log_path):
            yield Target(self.name, program, port, log_path, process.pid, login=options.login)

    def find(self) -> str | None:
        """Find the program on the PATH."""
        program = shutil.which(self.name)
        if program is not None and _is_script(Path(program)):
            return None  # the command of this very package has PgCat's name
        return program


def _is_script(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"#!"


def _pgcat(port: int, server_port: int, options: Options) -> dict[str, str]:
    lines = router_config(port, server_port, options).splitlines()
    lines = [line for line in lines if not line.startswith(("multiplexing", "listen_backlog"))]
    lines.insert(1, f"worker_threads = {processors()}")
    return {"others-pgcat.toml": "\n".join(lines)}


def _pgdog(port: int, server_port: int, options: Options) -> dict[str, str]:
    tls = options.certificate
    login = options.login
    return {
        "others-pgdog.toml": f"""\
[general]
host = "{HOST}"
port = {port}
workers = {processors()}
pooler_mode = "transaction"
default_pool_size = {options.pool_size}
auth_type = "{"scram" if login is SCRAM else "trust"}"
{f'tls_certificate = "{tls.certificate}"' if tls is not None else ""}
{f'tls_private_key = "{tls.key}"' if tls is not None else ""}
log_connections = false
log_disconnections = false

[[databases]]
name = "{DATABASE}"
host = "{HOST}"
port = {server_port}
""",
        "others-pgdog-users.toml": f"""\
[[users]]
name = "{login.user}"
database = "{DATABASE}"
password = "{login.password}"
""",
    }


def _odyssey(port: int, server_port: int, options: Options) -> dict[str, str]:
    login = options.login
    method = "scram-sha-256" if login is SCRAM else "none"
    return {
        "others-odyssey.conf": f"""\
daemonize no
log_to_stdout yes
log_session no
log_query no
log_stats no
workers {processors()}
listen {{
    host "{HOST}"
    port {port}
    backlog {LISTEN_BACKLOG}
}}
storage "postgres" {{
    type "remote"
    host "{HOST}"
    port {server_port}
}}
database "{DATABASE}" {{
    user "{login.user}" {{
        authentication "{method}"
        password "{login.password}"
        storage "postgres"
        storage_user "{login.user}"
        storage_password "{login.password}"
        pool "transaction"
        pool_size {options.pool_size}
        pool_timeout 0
        pool_discard no
        pool_cancel yes
        pool_rollback yes
        pool_reserve_prepared_statement yes
    }}
}}
"""
    }


OTHERS: Final = {
    other.name: other
    for other in (
        Other(
            "pgcat",
            _pgcat,
            lambda folder: [str(folder / "others-pgcat.toml")],
            lambda options: options.login is not SCRAM,  # it knows MD5 and trust alone
        ),
        Other(
            "pgdog",
            _pgdog,
            lambda folder: [
                f"--config={folder / 'others-pgdog.toml'}",
                f"--users={folder / 'others-pgdog-users.toml'}",
            ],
            lambda _: True,
        ),
        Other(
            "odyssey",
            _odyssey,
            lambda folder: [str(folder / "others-odyssey.conf")],
            lambda options: options.certificate is None,
        ),
    )
}
