"""What a client may not do for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.support.router import PoolText, primary_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster.server import Server
    from tests.support.router import RouterProcess


def test_a_transaction_that_is_left_open_is_ended(
    start_router: Callable[..., RouterProcess], postgres: Server
) -> None:
    pool = PoolText([primary_of(postgres)], pool_size=1)
    router = start_router({"db": pool}, "idle_client_in_transaction_timeout = 100")
    with router.connect("db") as idle, router.connect("db") as other:
        idle.execute("BEGIN")
        assert other.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            idle.execute("SELECT 1")


def test_a_client_outside_of_a_transaction_may_be_idle(
    start_router: Callable[..., RouterProcess], postgres: Server
) -> None:
    pool = PoolText([primary_of(postgres)], pool_size=1)
    router = start_router({"db": pool}, "idle_client_in_transaction_timeout = 50")
    with router.connect("db") as idle, router.connect("db") as other:
        idle.execute("BEGIN")
        idle.execute("COMMIT")
        assert other.execute("SELECT pg_sleep(0.2)").fetchone() == ("",)
        assert idle.execute("SELECT 1").fetchone() == (1,)


def test_a_client_that_gets_no_server_again_and_again_is_ended(
    start_router: Callable[..., RouterProcess], postgres: Server
) -> None:
    options = "checkout_failure_limit = 2\nconnect_timeout = 100"
    pool = PoolText([primary_of(postgres)], pool_size=1, options=options)
    router = start_router({"db": pool})
    with router.connect("db") as holder, router.connect("db") as client:
        holder.execute("BEGIN")
        for _ in range(2):
            with pytest.raises(psycopg.errors.TooManyConnections):
                client.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError):
            client.execute("SELECT 1")
        assert client.closed
