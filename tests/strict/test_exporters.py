"""What exporters of PgBouncer's figures for Prometheus ask, and what they need of the answers.

The columns are those that prometheus-community/pgbouncer_exporter reads, and what else it does
to the answers is done as well: a label must be a text or an integer, a figure must be a number
or NULL, and no two rows may have the same labels.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.support.router import (
    ADMIN,
    ADMIN_PASSWORD,
    WATCHER,
    WATCHER_PASSWORD,
    PoolText,
    RouterProcess,
    primary_of,
)
from tests.support.wire import WireClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.strict.conftest import ModuleRouter
    from tests.support.cluster.server import Server
    from tests.support.postgres import Database

LABELS = {
    "DATABASES": ("name", "host", "port", "database", "force_user", "pool_mode"),
    "STATS_TOTALS": ("database",),
    "POOLS": ("database", "user"),
}
FIGURES = {
    "DATABASES": (
        "pool_size",
        "max_connections",
        "current_connections",
        "paused",
        "disabled",
    ),
    "STATS_TOTALS": (
        "query_count",
        "query_time",
        "bytes_received",
        "bytes_sent",
        "wait_time",
        "xact_count",
        "xact_time",
        "client_parse_count",
        "server_parse_count",
        "bind_count",
    ),
    "POOLS": (
        "cl_active",
        "cl_active_cancel_req",
        "cl_waiting",
        "cl_waiting_cancel_req",
        "sv_active",
        "sv_active_cancel",
        "sv_being_canceled",
        "sv_idle",
        "sv_used",
        "sv_tested",
        "sv_login",
        "maxwait",
    ),
}
# It asks for these as well, which PgBouncer 1.25 does not have either.
OLD = {"DATABASES": {"reserve_pool"}, "STATS_TOTALS": {"requests"}, "POOLS": set[str]()}
UNCOUNTED = {"client_parse_count", "server_parse_count", "bind_count", "sv_being_canceled"}
LISTS = {
    "databases",
    "users",
    "pools",
    "free_clients",
    "used_clients",
    "login_clients",
    "free_servers",
    "used_servers",
    "dns_names",
    "dns_zones",
    "dns_queries",
}
# The types of which Go's driver makes a string or an integer.
LABEL_TYPES = {20, 21, 23, 25}

Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture(scope="module")
def router(module_router: ModuleRouter, postgres: Server, database: Database) -> RouterProcess:
    """One with a sharded pool of two users, and clients that have done something."""
    more = '[pools.app.users.1]\nusername = "two"\npool_size = 1\nserver_username = "postgres"'
    more += '\nauth_type = "trust"\npassword = ""'
    entry = primary_of(postgres)
    app = PoolText([entry, entry], databases=[database.name, "postgres"], more_users=more)
    router = module_router(
        {"app": app, "other": PoolText([entry])},
        "max_client_conn = 90\nmax_user_connections = 80",
    )
    logins = [("app", "postgres"), ("app", "two"), ("other", "postgres")]
    for name, user in logins:
        with WireClient.login(router.port, name, user=user) as client:
            for _ in range(3):
                client.query("SELECT 1")
    return router


@pytest.fixture(params=["administrator", "watcher"])
def console(router: RouterProcess, request: pytest.FixtureRequest) -> Iterator[Connection]:
    """The connection of an exporter; the texts of all values are what Go's driver is given."""
    who = (ADMIN, ADMIN_PASSWORD)
    if request.param == "watcher":
        who = (WATCHER, WATCHER_PASSWORD)
    options = "options='' connect_timeout=10 sslmode=disable client_encoding=UTF8"
    with closing(
        psycopg.connect(
            f"{router.dsn('pgbouncer', *who)} {options}",
            autocommit=True,
            cursor_factory=psycopg.ClientCursor,
        )
    ) as connection:
        yield connection


def ask(console: Connection, sql: str) -> tuple[dict[str, int], list[dict[str, str | None]]]:
    """The types of the columns, and the rows as texts."""
    cursor = console.execute(sql)
    assert cursor.description is not None
    assert cursor.pgresult is not None
    types = {column.name: column.type_code for column in cursor.description}
    result = cursor.pgresult
    rows = [
        {
            name: None if value is None else value.decode()
            for column, name in enumerate(types)
            for value in (result.get_value(row, column),)
        }
        for row in range(result.ntuples)
    ]
    return types, rows


@pytest.mark.parametrize("name", LABELS)
def test_the_tables_have_what_an_exporter_reads(console: Connection, name: str) -> None:
    types, rows = ask(console, f"SHOW {name.lower()};")
    assert set(LABELS[name]) | set(FIGURES[name]) <= types.keys()
    assert not OLD[name] & types.keys()
    assert {types[label] for label in LABELS[name]} <= LABEL_TYPES
    labels = [tuple(row[label] for label in LABELS[name]) for row in rows]
    assert len(set(labels)) == len(labels) >= 2
    for row in rows:
        for figure in FIGURES[name]:
            value = row[figure]
            assert (value is None) == (figure in UNCOUNTED), figure
            assert value is None or float(value) >= 0


def test_the_figures_are_those_of_the_traffic(console: Connection) -> None:
    rows = {row["database"]: row for row in ask(console, "SHOW STATS_TOTALS;")[1]}
    assert (rows["app"]["query_count"], rows["app"]["xact_count"]) == ("6", "6")
    assert (rows["other"]["query_count"], rows["other"]["xact_count"]) == ("3", "3")
    pools = {(row["database"], row["user"]) for row in ask(console, "SHOW POOLS;")[1]}
    assert pools >= {("app", "postgres"), ("app", "two"), ("other", "postgres")}


def test_the_ping_of_an_exporter_is_answered(console: Connection) -> None:
    assert len(ask(console, "SHOW STATS")[1]) == 2


def test_lists_are_names_and_numbers_in_two_columns(console: Connection) -> None:
    types, rows = ask(console, "SHOW LISTS;")
    assert list(types) == ["list", "items"]
    found = {row["list"]: row["items"] for row in rows}
    assert found.keys() >= LISTS
    assert all(float(items or "x") >= 0 for items in found.values())


def test_the_limits_are_found_in_the_configuration(console: Connection) -> None:
    types, rows = ask(console, "SHOW CONFIG;")
    assert list(types) == ["key", "value", "default", "changeable"]
    found = {row["key"]: row["value"] for row in rows}
    assert len(found) == len(rows)
    assert (found["max_client_conn"], found["max_user_connections"]) == ("90", "80")
    assert all(row[name] is not None for row in rows for name in ("key", "changeable"))


def test_the_version_is_one_column_of_one_row(console: Connection) -> None:
    types, rows = ask(console, "SHOW VERSION;")
    assert (list(types), len(rows)) == (["version"], 1)
