"""Clients share prepared statements, but never what their settings make of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.support.router import PoolText, primary_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster.server import Server
    from tests.support.router import RouterProcess

# The literals are read when the statement is parsed, once for all executions.
MOMENT = "SELECT extract(epoch FROM '2020-06-01 00:00'::timestamptz)::bigint"
DAY = "SELECT to_char('02/03/2020'::date, 'MM')"
LETTERS = "SELECT octet_length(convert_to('é', 'UTF8'))"


@pytest.fixture
def router(postgres: Server, start_router: Callable[..., RouterProcess]) -> RouterProcess:
    """A router with one server connection, so that clients cannot but share."""
    return start_router({"db": PoolText([primary_of(postgres)], pool_size=1)})


def asked(router: RouterProcess, sql: str, **settings: str) -> object:
    """The answer of a prepared statement to a new client with some settings."""
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    with psycopg.connect(router.dsn("db"), autocommit=True, options=options) as connection:
        row = connection.execute(sql, prepare=True).fetchone()
    assert row is not None
    return row[0]


def test_a_time_zone_is_its_clients_own(router: RouterProcess) -> None:
    for _ in range(2):
        assert asked(router, MOMENT, TimeZone="UTC") == 1590969600
        assert asked(router, MOMENT, TimeZone="Asia/Tokyo") == 1590969600 - 9 * 3600


def test_a_date_style_is_its_clients_own(router: RouterProcess) -> None:
    for _ in range(2):
        assert asked(router, DAY, DateStyle="ISO,MDY") == "02"
        assert asked(router, DAY, DateStyle="ISO,DMY") == "03"


def test_a_setting_that_is_changed_later_is_its_clients_own_as_well(
    router: RouterProcess,
) -> None:
    with router.connect("db") as one, router.connect("db") as other:
        for connection in (one, other):
            connection.execute("SET TimeZone TO 'UTC'")
        assert one.execute(MOMENT, prepare=True).fetchone() == (1590969600,)
        one.execute("SET TimeZone TO 'Asia/Tokyo'")
        one.execute("DEALLOCATE ALL")
        assert one.execute(MOMENT, prepare=True).fetchone() == (1590969600 - 9 * 3600,)
        assert other.execute(MOMENT, prepare=True).fetchone() == (1590969600,)
        with one.transaction():
            one.execute("SET LOCAL TimeZone TO 'UTC'")
            assert one.execute(MOMENT + " ", prepare=True).fetchone() == (1590969600,)
        assert other.execute(MOMENT + " ", prepare=True).fetchone() == (1590969600,)


def test_an_encoding_is_its_clients_own(router: RouterProcess) -> None:
    for _ in range(2):
        # The same two bytes are one letter in UTF-8, and two in Latin 1.
        with psycopg.connect(router.dsn("db"), autocommit=True) as connection:
            row = connection.execute(LETTERS.encode(), prepare=True).fetchone()
            assert row == (2,)
        with psycopg.connect(
            router.dsn("db"), autocommit=True, client_encoding="latin1"
        ) as connection:
            row = connection.execute(LETTERS.encode(), prepare=True).fetchone()
            assert row == (4,)
