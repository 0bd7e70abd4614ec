"""`pgcat check` and `pgcat schema`: whether a configuration is in order, without serving it."""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .config import loader
from .errors import ConfigError
from .printable import printable
from .reasons import reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .config.model import Config
    from .pool.probe import Probe

EXIT_OK: Final = 0
EXIT_PROBLEMS: Final = 1
# As argparse has it for a command line that is wrong.
EXIT_UNCHECKED: Final = 2

_EPILOG: Final = """\
examples:
  pgcat check /etc/pgcat.toml            all mistakes at once, each with the path of its key
  pgcat check --connect pgcat.toml       and log in to every server as every user
  pgcat check --json pgcat.toml | jq -r '.problems[].key'
  pgcat check --strict pgcat.toml        for CI: warnings count as well

exit status: 0 if all is in order, 1 if there are problems, 2 if the file cannot be read.
"""

_SCHEMA_EPILOG: Final = """\
examples:
  pgcat schema > pgcat.schema.json

The first line of a pgcat.toml that tells editors with Taplo (VS Code's Even Better TOML, Helix,
Neovim) where it is:

  #:schema ./pgcat.schema.json
"""

_PART: Final = r'(?:[\w-]+|"(?:[^"\\]|\\.)*")'
_KEYED: Final = re.compile(rf"({_PART}(?:\.{_PART})*): (.*)", re.DOTALL)


@dataclass(slots=True)
class ServerReport:
    """What was found out about one server.

    Attributes:
        pools: connections that each database may open there.
        limit: that all together may, 0 is any number.
        available: connections that it has for them, 0 if nobody knows.
        lag_bytes: behind the primary, or None.
    """

    host: str
    port: int
    pools: dict[str, int] = field(default_factory=dict)
    limit: int = 0
    available: int = 0
    version: str = ""
    role: str = ""
    lag_bytes: int | None = None
    logins: list[dict[str, str | int]] = field(default_factory=list)

    def want(self, probe: Probe) -> None:
        """Add what a pool may open."""
        database = probe.address.pool
        wanted = self.pools.get(database, 0) + probe.pool_size
        self.pools[database] = min(wanted, probe.database_limit or wanted)
        self.limit = probe.server_limit

    @property
    def wanted(self) -> int:
        """Connections that all pools together may open there."""
        wanted = sum(self.pools.values())
        return min(wanted, self.limit or wanted)

    @property
    def name(self) -> str:
        """What problems call it."""
        return f"{self.host}:{self.port}"


@dataclass(slots=True)
class Report:
    """All that was found; the lines of problems and warnings begin with a key or a server."""

    file: str
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    servers: list[ServerReport] | None = None


def parser() -> argparse.ArgumentParser:
    """The options of `pgcat check`."""
    found = argparse.ArgumentParser(
        prog="pgcat check",
        description="Tell whether a configuration can be used, and what is hardly meant so.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("config", metavar="CONFIG", type=Path, help="the configuration file")
    found.add_argument(
        "--connect", action="store_true", help="log in to every server as every user, too"
    )
    found.add_argument("--json", action="store_true", help="JSON instead of text")
    found.add_argument("--strict", action="store_true", help="let warnings be problems")
    return found


def run(words: Sequence[str]) -> int:
    """Run `pgcat check`; returns the exit code."""
    options = parser().parse_args(words)
    report = Report(str(options.config))
    try:
        options.config.open("rb").close()
    except OSError as error:
        why = f"cannot read {options.config}: {reason(error)}"
        print(f"pgcat: {why}", file=sys.stderr)  # noqa: T201
        return EXIT_UNCHECKED
    try:
        loaded = loader.load(options.config)
    except ConfigError as error:
        report.problems += error.problems or [error.message]
    else:
        report.warnings += loaded.warnings
        if options.connect:
            _connect(loaded.config, report)
    is_good = not report.problems and not (options.strict and report.warnings)
    print(_json(report, is_good=is_good) if options.json else _text(report))  # noqa: T201
    return EXIT_OK if is_good else EXIT_PROBLEMS


def run_schema(words: Sequence[str]) -> int:
    """Run `pgcat schema`; returns the exit code."""
    found = argparse.ArgumentParser(
        prog="pgcat schema",
        description="Print a JSON schema of the configuration file, for editors.",
        epilog=_SCHEMA_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.parse_args(words)
    from .config.reference import json_schema

    print(json.dumps(json_schema(), indent=2))  # noqa: T201
    return EXIT_OK


# --- servers


def _connect(config: Config, report: Report) -> None:
    import trio

    from .pool.probe import probe_all

    judge(trio.run(probe_all, config), report)


def judge(probes: Sequence[Probe], report: Report) -> None:
    """Put into the report what servers have said."""
    servers: dict[tuple[str, int], ServerReport] = {}
    primaries: dict[tuple[str, int], Probe] = {}
    for probe in probes:
        address = probe.address
        server = servers.setdefault(
            (address.host, address.port), ServerReport(address.host, address.port)
        )
        server.want(probe)
        _note_login(probe, server, report)
        if probe.facts is not None and not probe.facts.is_standby:
            primaries.setdefault((address.pool, address.shard), probe)
    for probe in probes:
        _measure(probe, primaries, servers[probe.address.host, probe.address.port])
    for server in servers.values():
        if server.available and server.wanted > server.available:
            report.warnings.append(
                f"{server.name}: the pools may open {server.wanted} connections, "
                f"and it has {server.available} for them"
            )
    report.servers = list(servers.values())


def _note_login(probe: Probe, server: ServerReport, report: Report) -> None:
    address, error = probe.address, probe.error
    login: dict[str, str | int] = {
        "pool": address.pool,
        "user": probe.user,
        "shard": address.shard,
    }
    server.logins.append(login)
    whose = f"{server.name}: {printable(address.pool)}/{printable(probe.user)}"
    if error is not None:
        login["error"] = error.line
        hint = f" ({error.hint})" if error.hint else ""
        report.problems.append(f"{whose}: {error.line}{hint}")
        return
    server.version = printable(probe.version)
    server.available = probe.connections
    facts = probe.facts
    if facts is None:
        report.problems.append(f"{whose}: it does not tell whether it is a primary")
        return
    server.role = "standby" if facts.is_standby else "primary"
    if not address.is_auto and address.is_primary == facts.is_standby:
        here = f"shard {address.shard} of {printable(address.pool)}"
        problem = f"{server.name}: is a {server.role}, and {address.role} in {here}"
        if problem not in report.problems:
            report.problems.append(problem)


def _measure(
    probe: Probe, primaries: dict[tuple[str, int], Probe], server: ServerReport
) -> None:
    """How far a standby is behind the primary of its shard; they were not asked at once."""
    primary = primaries.get((probe.address.pool, probe.address.shard))
    if primary is None or primary.facts is None or probe.facts is None:
        return
    if probe.facts.is_standby:
        behind = max(primary.facts.position - probe.facts.position, 0)
        server.lag_bytes = min(behind, behind if server.lag_bytes is None else server.lag_bytes)


# --- output


def _json(report: Report, *, is_good: bool) -> str:
    entries: dict[str, object] = {
        "file": report.file,
        "ok": is_good,
        "problems": [_keyed(line) for line in report.problems],
        "warnings": [_keyed(line) for line in report.warnings],
    }
    if report.servers is not None:
        entries["servers"] = [
            {
                "host": server.host,
                "port": server.port,
                "version": server.version,
                "role": server.role,
                "lag_bytes": server.lag_bytes,
                "pool_connections": server.wanted,
                "available_connections": server.available,
                "logins": server.logins,
            }
            for server in report.servers
        ]
    return json.dumps(entries, indent=2, ensure_ascii=False)


def _keyed(line: str) -> dict[str, str | None]:
    """A line taken apart: what it is about, if that is a key or a server."""
    found = _KEYED.fullmatch(line)
    if found is None:
        server, colon, message = line.partition(": ")
        is_server = bool(colon) and server.rpartition(":")[2].isdecimal()
        if is_server:
            return {"key": None, "server": server, "message": message}
        return {"key": None, "message": line}
    return {"key": found[1], "message": found[2]}


def _text(report: Report) -> str:
    lines = [f"{report.file}: {_verdict(report)}"]
    lines += [f"  problem  {line}" for line in report.problems]
    lines += [f"  warning  {line}" for line in report.warnings]
    for server in report.servers or ():
        lines += _server_lines(server)
    return "\n".join(lines)


def _verdict(report: Report) -> str:
    counts = ((len(report.problems), "problem"), (len(report.warnings), "warning"))
    told = [f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts if count]
    return ", ".join(told) or "in order"


def _server_lines(server: ServerReport) -> list[str]:
    told = [server.role or "unknown"]
    if server.version:
        told.append(f"PostgreSQL {server.version}")
    if server.lag_bytes is not None:
        told.append(f"{server.lag_bytes} bytes behind")
    room = f"of {server.available} " if server.available else ""
    told.append(f"pools may open {server.wanted} {room}connections")
    return [
        f"  {server.name}  {', '.join(told)}",
        *(
            f"    {login['pool']}/{login['user']} shard {login['shard']}: "
            f"{login.get('error', 'logged in')}"
            for login in server.logins
        ),
    ]
