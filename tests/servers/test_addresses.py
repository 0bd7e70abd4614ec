"""A server whose host has several addresses: connections are spread over those that do."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from router.demo.server import free_port
from tests.pool.test_addresses import listening
from tests.support.proxy import Proxy
from tests.support.router import PoolText, config_text, start, wait_until
from tests.support.wire import Ended, WireClient, query, sqlstates, startup

from .conftest import CHECKS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.cluster.server import Server
    from tests.support.router import RouterProcess

NAME = "db.test"
ONE, TWO, THREE = "127.0.0.11", "127.0.0.12", "127.0.0.13"

pytestmark = pytest.mark.slow


class Named:
    """A router whose server is at a name, and proxies to the server at three addresses.

    Attributes:
        proxies: by address.
    """

    def __init__(self, directory: Path, server: Server) -> None:
        self._directory = directory
        self._file = directory / "addresses"
        self._clients: list[WireClient] = []
        self.port = free_port()
        self.proxies = {ip: Proxy(server.port, (ip, self.port)) for ip in (ONE, TWO, THREE)}
        self.router: RouterProcess

    def name(self, *addresses: str) -> None:
        """Have the name lead there from now on."""
        self._file.write_text(" ".join((NAME, *addresses)))

    def start(self, *addresses: str, general: str = CHECKS, role: str = "primary") -> None:
        """Start the router."""
        self.name(*addresses)
        pool = PoolText([[(NAME, self.port, role)]], pool_size=20)
        self.router = start(
            self._directory,
            lambda port: config_text(port, {"db": pool}, general),
            program=("tests.support.named", str(self._file)),
        )

    def begin(self, count: int) -> list[WireClient]:
        """More clients, each in a transaction, and so with a connection of its own."""
        clients = [WireClient.login(self.router.port, "db") for _ in range(count)]
        for client in clients:
            client.query("BEGIN")
        self.keep(clients)
        return clients

    def keep(self, clients: list[WireClient]) -> None:
        """Close these at the end."""
        self._clients += clients

    def spread(self) -> dict[str, int]:
        """How many connections there are to each address."""
        return Counter(row["addr"] for row in self.router.admin("SHOW SERVERS"))

    def host(self) -> dict[str, str]:
        """The row of SHOW DNS_HOSTS."""
        [row] = self.router.admin("SHOW DNS_HOSTS")
        return row

    def close(self) -> None:
        """End everything."""
        for client in self._clients:
            client.close()
        self.router.stop()
        for proxy in self.proxies.values():
            proxy.close()


@pytest.fixture
def named(tmp_path: Path, postgres: Server) -> Iterator[Named]:
    """The router is not started yet."""
    made = Named(tmp_path, postgres)
    yield made
    made.close()


def test_connections_are_spread_over_all_addresses(named: Named) -> None:
    named.start(ONE, TWO, THREE)
    named.begin(9)
    assert named.spread() == {ONE: 3, TWO: 3, THREE: 3}
    row = named.host()
    assert (row["hostname"], row["addrs"]) == (NAME, f"{ONE},{TWO},{THREE}")
    assert row["connections"] == f"{ONE}=3,{TWO}=3,{THREE}=3"
    assert row["failed"] == ""


@pytest.mark.parametrize(
    ("general", "role"), [("server_round_robin = false\n", "primary"), ("", "auto")]
)
def test_without_round_robin_and_where_a_role_is_told_one_address_has_all(
    named: Named, general: str, role: str
) -> None:
    named.start(ONE, TWO, THREE, general=CHECKS + general, role=role)
    named.begin(4)
    assert sorted(named.spread().values()) == [4]


@pytest.mark.parametrize("refuses", [True, False])
def test_connections_that_are_opened_at_once_are_spread(named: Named, refuses: bool) -> None:
    if refuses:
        named.proxies[ONE].refuse()
    named.start(ONE, TWO, THREE)
    clients = [WireClient.login(named.router.port, "db") for _ in range(12)]
    named.keep(clients)
    for client in clients:
        client.send(query("BEGIN"))
    for client in clients:
        client.read_until("Z")
    wanted = {TWO: 6, THREE: 6} if refuses else {ONE: 4, TWO: 4, THREE: 4}
    assert named.spread() == wanted


def test_an_address_that_is_gone_is_left_out_and_the_others_share(named: Named) -> None:
    gone = "127.0.0.14"
    with listening(gone, named.port, is_dead=True):
        named.start(gone, ONE, TWO)
        named.begin(6)
        assert named.spread() == {ONE: 3, TWO: 3}
        wait_until("it is told", lambda: named.host()["failed"] == gone)
        named.router.log_with(f"not used at {gone}")
    # It is there again, and gets its share of what is opened then.
    with Proxy(named.proxies[ONE]._target, (gone, named.port)):
        wait_until("it is told", lambda: named.host()["failed"] == "")
        named.begin(3)
        assert named.spread() == {gone: 3, ONE: 3, TWO: 3}
        named.router.log_with(f"is used at {gone} again")


def test_an_address_that_stands_still_is_found_and_costs_what_it_has(named: Named) -> None:
    named.start(ONE, TWO, general=CHECKS.replace("2000", "1000"))
    clients = named.begin(4)
    at = {client: client.value("SELECT pg_backend_pid()") for client in clients}
    addrs = {row["remote_pid"]: row["addr"] for row in named.router.admin("SHOW SERVERS")}
    stuck = [client for client in clients if addrs[at[client]] == ONE]
    well = [client for client in clients if client not in stuck]
    assert (len(stuck), len(well)) == (2, 2)
    named.proxies[ONE].stall()
    for client in clients:
        client.send(query("SELECT 1"))
    for client in well:
        client.read_until("Z")
    # The server is not down: it is well at its other address.
    for client in stuck:
        with pytest.raises(Ended) as ended:
            client.read_until("Z")
        assert sqlstates(ended.value.messages) == ["08006"]
    assert named.host()["failed"] == ONE
    named.begin(3)
    assert named.spread() == {TWO: 5}
    [health] = named.router.admin("SHOW HEALTH")
    assert health["condition"] == "up"
    named.proxies[ONE].resume()
    wait_until("it is told", lambda: named.host()["failed"] == "")
    named.begin(5)
    assert named.spread() == {ONE: 5, TWO: 5}


def test_a_new_address_gets_its_share_and_one_that_is_removed_is_drained(
    named: Named,
) -> None:
    named.start(ONE, TWO, general=CHECKS + "dns_cache_enabled = true\ndns_max_ttl = 1\n")
    clients = named.begin(4)
    named.name(TWO, THREE)
    named.router.log_with("has other addresses now")
    # Transactions go on to their end, where they are.
    for client in clients:
        client.query("SELECT 1")
    assert named.spread() == {ONE: 2, TWO: 2}
    for client in clients:
        client.query("COMMIT")
    wait_until("they are gone", lambda: named.spread() == {TWO: 2})
    named.begin(6)
    assert named.spread() == {TWO: 3, THREE: 3}


def test_when_all_addresses_fail_the_server_is_down(named: Named) -> None:
    named.start(ONE, TWO)
    named.begin(2)
    for ip in (ONE, TWO):
        named.proxies[ip].refuse()

    def condition() -> str:
        return named.router.admin("SHOW HEALTH")[0]["condition"]

    wait_until("it is down", lambda: condition() == "down")
    named.proxies[TWO].resume()
    wait_until("it is up", lambda: condition() == "up")
    named.begin(2)
    assert named.spread() == {TWO: 2}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_first_login_tries_one_address_after_the_other(named: Named, count: int) -> None:
    for ip in (ONE, TWO, THREE)[:count]:
        named.proxies[ip].refuse()
    named.start(ONE, TWO, THREE, general="healthcheck_delay = 60000\n")
    if count < 3:
        named.begin(1)
        assert list(named.spread()) == [(ONE, TWO, THREE)[count]]
    else:
        with WireClient(named.router.port) as client:
            client.send(startup({"user": "postgres", "database": "db"}))
            assert sqlstates(client.read_to_end()) == ["57P03"]


def test_while_no_name_server_answers_connections_go_where_they_went_before(
    named: Named,
) -> None:
    named.start(ONE, TWO, general=CHECKS + "dns_cache_enabled = true\ndns_max_ttl = 1\n")
    named.begin(2)
    named.name()
    named.router.log_with("cannot be looked up now: connections go to the addresses")
    named.begin(4)
    assert named.spread() == {ONE: 3, TWO: 3}
    [health] = named.router.admin("SHOW HEALTH")
    assert health["condition"] == "up"
    named.name(THREE)
    named.router.log_with("has other addresses now")
    named.begin(1)
    assert named.spread()[THREE] == 1


@pytest.mark.parametrize("how", ["moved", "silent"])
def test_the_connection_that_listens_leaves_an_address_that_does_not_do(
    named: Named, postgres: Server, how: str
) -> None:
    general = CHECKS.replace("2000", "1000") + "dns_cache_enabled = true\ndns_max_ttl = 1\n"
    named.start(ONE, general=general)
    [client] = clients = [WireClient.login(named.router.port, "db")]
    named.keep(clients)
    client.query("LISTEN channel")
    wait_until(
        "one listens for all",
        lambda: [row["listeners"] for row in named.router.admin("SHOW LISTENERS")] == ["1"],
    )
    wait_until("its own server is free", lambda: named.router.pool("db")["sv_active"] == "0")
    if how == "moved":
        named.name(TWO)
    else:
        named.name(ONE, TWO)
        named.proxies[ONE].stall()
    [notice] = client.read_until("N")
    assert (notice.fields["C"], notice.fields["D"]) == (
        "01000",
        f"the server is not used at {ONE} any more",
    )
    named.proxies[ONE].stall()
    postgres.execute("NOTIFY channel, 'hello'")
    [notification] = client.read_until("A")
    assert b"hello" in notification.body
