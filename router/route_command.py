"""`pgcat route`: where statements would go by a configuration file, without any server."""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .config import loader
from .config.effective import router_options
from .errors import ConfigError, RoutingError
from .routing import commands, explain
from .routing.keyplan import BoundKeys, KeyPlan
from .routing.router import QueryRouter
from .routing.state import RoutingState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .config.model import Config
    from .routing.types import Analysis

    Row = dict[str, str | None]

EXIT_OK: Final = 0
EXIT_NOWHERE: Final = 1
# EX_CONFIG of sysexits.h.
EXIT_CONFIG: Final = 78

_EPILOG: Final = """\
examples:
  pgcat route pgcat.toml --pool app "SELECT * FROM events WHERE id = 1234"
  pgcat route pgcat.toml --pool app --param 1234 "SELECT * FROM events WHERE id = $1"
  pgcat route pgcat.toml --pool app --shard 2 --role replica "SELECT 1" "COMMIT"
  pgcat route pgcat.toml --pool app --json "TABLE events" | jq -r '.[].shard'

In a session, EXPLAIN ROUTE gives the same answer with what the router has learned from the
servers: columns of tables, functions, what has been written a moment ago.

exit status: 0, 1 if a statement has no place to run, 78 if the file cannot be used.
"""


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(
        prog="pgcat route",
        description="Tell where statements go, and why, by a configuration file alone.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("config", metavar="CONFIG", type=Path, help="the configuration file")
    found.add_argument("sql", metavar="SQL", nargs="+", help="a statement")
    found.add_argument("--pool", required=True, help="the database that clients ask for")
    found.add_argument("--user", help="the user (default: the pool's first)")
    found.add_argument("--shard", help="as after SET SHARD TO")
    found.add_argument("--key", help="as after SET SHARDING KEY TO")
    found.add_argument("--role", help="as after SET SERVER ROLE TO")
    found.add_argument(
        "--param",
        metavar="VALUE",
        action="append",
        default=[],
        help="the value of $1, of $2 and so on",
    )
    found.add_argument("--json", action="store_true", help="JSON instead of tables")
    return found


def run(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(words)
    try:
        router = _router(loader.load(options.config).config, options.pool, options.user)
    except ConfigError as error:
        print(f"pgcat: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_CONFIG
    choices = (("SHARD", options.shard), ("SHARDING KEY", options.key))
    try:
        state = _state(router, (*choices, ("SERVER ROLE", options.role)))
    except RoutingError as error:
        print(f"pgcat: {error.message}\n{error.hint}", file=sys.stderr)  # noqa: T201
        return EXIT_NOWHERE
    rows = [_row(router, state, sql, options.param) for sql in options.sql]
    if options.json:
        named = [{"sql": sql, **row} for sql, row in zip(options.sql, rows, strict=True)]
        print(json.dumps(named, indent=2, ensure_ascii=False))  # noqa: T201
    else:
        for sql, row in zip(options.sql, rows, strict=True):
            _print(sql, row)
    return EXIT_NOWHERE if any(row["sqlstate"] for row in rows) else EXIT_OK


def _router(config: Config, name: str, username: str | None) -> QueryRouter:
    """The router of a pool and user.

    Raises:
        ConfigError: there is none.
    """
    pool = config.pools.get(name)
    if pool is None:
        raise ConfigError(f'no pool "{name}"; there are: {", ".join(config.pools)}')
    for user in pool.users:
        if username in (None, user.username):
            return QueryRouter(router_options(pool))
    known = ", ".join(user.username for user in pool.users)
    raise ConfigError(f'pool "{name}" has no user "{username}"; it has: {known}')


def _state(router: QueryRouter, choices: Sequence[tuple[str, str | None]]) -> RoutingState:
    """What a client has chosen who has sent the SET commands.

    Raises:
        RoutingError: one of them is refused.
    """
    state = RoutingState()
    for subject, value in choices:
        if value is not None:
            wording = commands.Wording(commands.Verb(f"SET {subject}"), value.encode())
            command = wording.command(shards=router.options.shard_count)
            state.execute(command, router.options, random.Random(), router.sharder)
    return state


def _row(router: QueryRouter, state: RoutingState, sql: str, params: Sequence[str]) -> Row:
    def values(analysis: Analysis) -> explain.Values:
        plan = KeyPlan(analysis, (), router.sharder)
        keys = BoundKeys(plan)
        for number, value in enumerate(params, 1):
            if plan.wants(number):
                keys.add(number, value.encode(), is_binary=False)
        return keys.values

    decision = explain.decide(router, sql.encode(), state, values if params else None)
    return dict(zip(explain.COLUMNS, explain.row(router, decision), strict=True))


def _print(sql: str, row: Row) -> None:
    table = Table(title=Text(sql), title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in row.items():
        if value is not None:
            table.add_row(name, Text(value))
    Console().print(table)
