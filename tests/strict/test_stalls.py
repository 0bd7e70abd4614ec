"""Peers that do not read for a while, on both sides: nobody is cut off."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.router import config_text, start, wait_until
from tests.support.wire import COPY_DONE, WireClient, copy_data, kinds, query, startup

if TYPE_CHECKING:
    from pathlib import Path

    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.network import CutNetwork
    from tests.support.postgres import Database

# Longer than what other poolers have for TCP_USER_TIMEOUT, in seconds; it starts when the
# kernel's buffers are full.
STALL = 13.0
ROWS = 40
LINE = b"x" * 500_000 + b"\n"


@pytest.mark.slow
def test_a_result_and_a_copy_survive_a_long_stall(
    database: Database, module_router: ModuleRouter, pool_for: PoolFor
) -> None:
    database.execute("CREATE TABLE stalled (v text)")
    database.execute(
        "CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN new; END'"
    )
    database.execute(
        "CREATE TRIGGER stall BEFORE INSERT ON stalled FOR EACH ROW EXECUTE FUNCTION stall()"
    )
    port = module_router({"db": pool_for(size=3)}).port
    with (
        WireClient.login(port, "db", receive_buffer=4096) as reader,
        WireClient.login(port, "db") as writer,
        WireClient.login(port, "db") as holder,
    ):
        holder.query("BEGIN")
        holder.query("SELECT pg_advisory_xact_lock(4711)")
        assert kinds(writer.ask(query("COPY stalled FROM STDIN"), until="G")) == "G"
        data = copy_data(LINE) * ROWS + COPY_DONE
        sending = threading.Thread(target=writer.send, args=(data,))
        sending.start()
        reader.send(query(f"SELECT repeat('x', 500000) FROM generate_series(1, {ROWS})"))
        time.sleep(STALL)  # the time itself is what is tested
        assert sending.is_alive(), "the server has taken all, and was never behind the lock"
        holder.query("COMMIT")
        assert kinds(reader.read_until("Z")) == "T" + "D" * ROWS + "CZ"
        sending.join()
        assert kinds(writer.read_until("Z")) == "CZ"
        assert writer.value("SELECT count(*) FROM stalled") == str(ROWS)


@pytest.mark.slow
def test_a_client_that_vanishes_in_a_result_gives_its_server_back(
    cut_network: CutNetwork, pool_for: PoolFor, tmp_path: Path
) -> None:
    times = "".join(f"tcp_keepalives_{name} = 1\n" for name in ("idle", "count", "interval"))

    def text(port: int) -> str:
        general = config_text(port, {"db": pool_for()}, times)
        return general.replace('host = "127.0.0.1"', 'host = "0.0.0.0"')

    router = start(tmp_path, text)
    login = startup({"user": "postgres", "database": "db"})
    endless = query("SELECT repeat('x', 500000) FROM generate_series(1, 1000000)")
    cut_network.connect(router.port, login + endless)
    wait_until("its result fills the buffers", lambda: router.pool("db")["sv_active"] == "1")
    cut_network.cut()
    with WireClient.login(router.port, "db") as heir:
        assert heir.value("SELECT 1") == "1"
    wait_until("it is logged", lambda: "nothing has come from the peer for" in router.log())
    router.stop()
