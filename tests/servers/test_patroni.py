"""Servers that Patroni's REST API tells: members come and go, and roles are asked for."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING

import pytest

from tests.support.cluster.server import StopMode
from tests.support.patroni import Patroni, member
from tests.support.router import PoolText, config_text, wait_until
from tests.support.wire import WireClient

from .conftest import CHECKS
from .test_replicas import PORT, SPLITTING, on, ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.certificates import Certificates
    from tests.support.cluster.cluster import Cluster, Shard
    from tests.support.cluster.server import Server
    from tests.support.postgres import PostgresRun, PrivateCluster
    from tests.support.router import RouterProcess

    Start = Callable[..., RouterProcess]

WRITE = "SELECT txid_current()"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(postgres_run: PostgresRun) -> Iterator[Cluster]:
    """A primary and two replicas that nobody stops."""
    made = postgres_run.private(replicas=2)
    made.wait_for_replication()
    yield made
    made.close()


@pytest.fixture
def shard(cluster: Cluster) -> Shard:
    """Its shard."""
    return cluster.shards[0]


def pool_of(seed: Server, *apis: Patroni | str, more: str = "") -> PoolText:
    """A pool that is told of one server, and where Patroni is."""
    urls = ", ".join(f'"{api if isinstance(api, str) else api.url}"' for api in apis)
    key = f"patroni = [{urls}]" if apis else ""
    options = SPLITTING + "query_wait_timeout = 10000\n" + more
    entries = [(seed.host, seed.port, "auto")]
    return PoolText([entries], options=options, shard_options=[key])


def told(*members: dict[str, object]) -> set[str]:
    """Their ports."""
    return {str(each["port"]) for each in members}


def servers(router: RouterProcess) -> set[str]:
    """The ports of the servers that the router has."""
    return {row["port"] for row in router.admin("SHOW DATABASES") if row["name"] != "pgcat"}


def pids(router: RouterProcess, server: Server) -> set[str]:
    """The connections to a server."""
    return {
        row["remote_pid"]
        for row in router.admin("SHOW SERVERS")
        if row["port"] == str(server.port)
    }


def test_members_are_found_come_and_go_and_who_stays_keeps_its_connections(
    shard: Shard, start_router: Start
) -> None:
    primary, (one, other) = shard.primary, shard.replicas
    leads, follows = (
        member(primary, "leader"),
        [member(each, "replica") for each in (one, other)],
    )
    with Patroni(leads, follows[0]) as api:
        router = start_router({"db": pool_of(one, api)}, CHECKS)
        wait_until("they are found", lambda: servers(router) == told(leads, follows[0]))
        with (
            WireClient.login(router.port, "db") as writer,
            WireClient.login(router.port, "db") as reader,
        ):
            writer.query("BEGIN")
            writer.query(WRITE)
            on(reader, one)
            kept = pids(router, primary), pids(router, one)
            router.admin(f"BAN {one.host}:{one.port} FOREVER")
            api.tell(leads, *follows)
            wait_until("one comes", lambda: servers(router) == told(leads, *follows))
            with WireClient.login(router.port, "db") as more:
                wait_until("it reads", lambda: str(other.port) in ports(more))
                assert kept[0] <= pids(router, primary)
                assert kept[1] == pids(router, one)
                assert [row["port"] for row in router.admin("SHOW BANS")] == [str(one.port)]
                # A transaction ends where it is, and then that is over.
                api.tell(leads, follows[1])
                wait_until("one goes", lambda: servers(router) == told(leads, follows[1]))
                assert reader.value(PORT) == str(one.port)
                assert pids(router, one)
                reader.query("COMMIT")
                wait_until("it has none", lambda: not pids(router, one))
                assert ports(more) == {str(other.port)}
            writer.query("COMMIT")
            assert kept[0] <= pids(router, primary)
        rows = {row["member"]: row for row in router.admin("SHOW PATRONI")}
        row = rows[f"pg{primary.port}"]
        assert (row["role"], row["state"], row["used"]) == ("leader", "running", "1")
        assert (row["url"], row["error"]) == (api.url, "")
        # A reload keeps what has been found, in pools that it replaces as well.
        pool = pool_of(one, api, more="prepared_statements_cache_size = 7\n")
        router.reload(config_text(router.port, {"db": pool}, CHECKS))
        assert servers(router) == told(leads, follows[1])
        # Without the key it is the configuration that counts again.
        router.reload(config_text(router.port, {"db": pool_of(one)}, CHECKS))
        assert servers(router) == {str(one.port)}
        assert router.admin("SHOW PATRONI") == []


@pytest.mark.parametrize("kind", ["nonsense", "hung", "giant", "empty", "status", "deep"])
def test_while_an_api_tells_nothing_the_members_stay_and_another_is_asked(
    shard: Shard, start_router: Start, kind: str
) -> None:
    members = [member(shard.primary, "leader"), member(shard.replicas[0], "replica")]
    with Patroni(*members) as api, Patroni(*members, member(shard.replicas[1], "replica")) as b:
        router = start_router({"db": pool_of(shard.primary, api)}, CHECKS)
        wait_until("they are found", lambda: servers(router) == told(*members))
        if kind == "hung":
            api.body = None
        elif kind == "empty":
            api.tell()
        elif kind == "status":
            api.status = 503
        else:
            bodies = {
                "nonsense": b'{"members": [{"host": 5}',
                "giant": b'{"members": [' + b" " * 100_000_000 + b"]}",
                "deep": b"[" * 200_000,
            }
            api.body = bodies[kind]
        wait_until("it is told", lambda: router.admin("SHOW PATRONI")[0]["error"] != "")
        asked = api.asked
        wait_until("it is asked again", lambda: api.asked > asked + 1)
        assert servers(router) == told(*members)
        assert router.log().count("Patroni tells nothing") == 1
        assert router.rss() < 300_000_000
        with WireClient.login(router.port, "db") as client:
            client.query(WRITE)
        # The second of two is asked at once.
        pool = pool_of(shard.primary, api, b)
        router.reload(config_text(router.port, {"db": pool}, CHECKS))
        wait_until("the other tells", lambda: len(servers(router)) == 3)
        wait_until("it is told", lambda: router.admin("SHOW PATRONI")[0]["url"] == b.url)


def test_while_patroni_cannot_be_reached_at_the_start_what_is_configured_is_used(
    shard: Shard, start_router: Start
) -> None:
    with Patroni() as gone:
        url = gone.url
    router = start_router({"db": pool_of(shard.primary, url)}, CHECKS)
    with WireClient.login(router.port, "db") as client:
        client.query(WRITE)
    wait_until("it is told", lambda: "refused" in router.admin("SHOW PATRONI")[0]["error"])
    assert servers(router) == {str(shard.primary.port)}


def test_what_does_not_run_is_not_taken_in_and_who_is_spared_reads_last(
    shard: Shard, start_router: Start
) -> None:
    one, other = shard.replicas
    members: list[dict[str, object]] = [
        member(shard.primary, "leader"),
        member(one, "replica", tags={"noloadbalance": True}),
        member(other, "replica", state="creating replica", lag="unknown"),
        {"name": "nowhere", "role": "replica", "state": "running"},
    ]
    with Patroni(*members) as api:
        router = start_router({"db": pool_of(shard.primary, api)}, CHECKS)
        wait_until("they are found", lambda: servers(router) == told(*members[:2]))
        with WireClient.login(router.port, "db") as client:
            wait_until("it reads alone", lambda: ports(client) == {str(one.port)})
            members[2] = member(other, "sync_standby")
            api.tell(*members)
            wait_until("the other reads", lambda: ports(client) == {str(other.port)})
            # Who is in stays in, whatever Patroni says of its state: it is asked itself.
            members[2] = member(other, "replica", state="starting")
            api.tell(*members)
            asked = api.asked
            wait_until("it is told", lambda: api.asked > asked + 1)
            assert ports(client) == {str(other.port)}


def test_a_leader_that_is_in_recovery_gets_no_writes(shard: Shard, start_router: Start) -> None:
    members = [member(shard.primary, "replica"), member(shard.replicas[0], "leader")]
    with Patroni(*members) as api:
        router = start_router({"db": pool_of(shard.replicas[0], api)}, CHECKS)
        wait_until("they are found", lambda: servers(router) == told(*members))
        with WireClient.login(router.port, "db") as client:
            for _ in range(5):
                client.query("BEGIN")
                client.query(WRITE)
                assert client.value(PORT) == str(shard.primary.port)
                client.query("COMMIT")


def test_after_a_failover_writes_go_to_the_new_leader(
    private_cluster: PrivateCluster, start_router: Start
) -> None:
    [shard] = private_cluster(replicas=1).shards
    [replica] = shard.replicas
    with Patroni(member(shard.primary, "leader"), member(replica, "replica")) as api:
        router = start_router({"db": pool_of(shard.primary, api)}, CHECKS)
        with WireClient.login(router.port, "db") as client:
            client.query(WRITE)
            shard.primary.stop(StopMode.KILL)
            replica.promote()
            api.tell(member(replica, "leader"))
            client.query("BEGIN")
            client.query(WRITE)
            assert client.value(PORT) == str(replica.port)
            client.query("COMMIT")
            wait_until("it is alone", lambda: servers(router) == {str(replica.port)})
            client.query(WRITE)
            router.log_with(f"pg{replica.port} leads")


class Signed:
    """How APIs prove who they are, by the certificates that they have."""

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates

    def well(self, *, asks: bool = False) -> ssl.SSLContext:
        """By one that is right; `asks` wants to know who its clients are."""
        made = self._certificates
        context = self._context(made.certificate, made.key)
        if asks:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(made.ca)
        return context

    def of_another_host(self) -> ssl.SSLContext:
        """By one with another name."""
        return self._context(*self._certificates.elsewhere)

    def by_nobody(self) -> ssl.SSLContext:
        """By one that no authority has signed that the router knows."""
        stranger = self._certificates.stranger
        return self._context(stranger, stranger.with_suffix(".key"))

    @staticmethod
    def _context(certificate: Path, key: Path) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context


def trusting(certificates: Certificates, *, shows: bool = False) -> str:
    """The settings that have APIs checked, and the router known to them."""
    text = CHECKS + f'patroni_ca_file = "{certificates.ca}"\n'
    if shows:
        text += f'patroni_certificate = "{certificates.certificate}"\n'
        text += f'patroni_private_key = "{certificates.key}"\n'
    return text


@pytest.mark.parametrize("asks", [False, True])
def test_members_are_told_over_https(
    shard: Shard, start_router: Start, certificates: Certificates, asks: bool
) -> None:
    members = [member(shard.primary, "leader"), member(shard.replicas[0], "replica")]
    with Patroni(*members, tls=Signed(certificates).well(asks=asks)) as api:
        pool = pool_of(shard.primary, api)
        router = start_router({"db": pool}, trusting(certificates, shows=asks))
        wait_until("they are found", lambda: servers(router) == told(*members))
        assert router.admin("SHOW PATRONI")[0]["error"] == ""


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("by nobody", "TLS failed: certificate verify failed: self-signed certificate"),
        ("of another host", "TLS failed: certificate verify failed: IP address mismatch"),
        (
            "asks",
            "TLS failed: tlsv13 alert certificate required|the connection broke; if it wants",
        ),
        ("none", "TLS failed: "),
        ("no authority", "TLS failed: certificate verify failed: unable to get local issuer"),
    ],
)
def test_an_api_that_does_not_prove_who_it_is_is_not_believed(
    shard: Shard, start_router: Start, certificates: Certificates, kind: str, why: str
) -> None:
    signed = Signed(certificates)
    contexts: dict[str, Callable[[], ssl.SSLContext | None]] = {
        "by nobody": signed.by_nobody,
        "of another host": signed.of_another_host,
        "asks": lambda: signed.well(asks=True),
        "none": lambda: None,
        "no authority": signed.well,
    }
    members = [member(shard.primary, "leader"), member(shard.replicas[0], "replica")]
    with Patroni(*members, tls=contexts[kind]()) as api:
        url = api.url.replace("http:", "https:")
        general = CHECKS if kind == "no authority" else trusting(certificates)
        router = start_router({"db": pool_of(shard.primary, url)}, general)
        error = wait_until("it is told", lambda: router.admin("SHOW PATRONI")[0]["error"])
        assert re.match(f"{url}: ({why})", error), error
        router.log_with("Patroni tells nothing")
        asked = router.admin("SHOW PATRONI")[0]
        assert (asked["url"], asked["member"]) == (url, "None")
        assert servers(router) == {str(shard.primary.port)}
        assert api.asked == 0


def test_an_authority_may_be_replaced_in_its_file(
    shard: Shard, start_router: Start, certificates: Certificates, tmp_path: Path
) -> None:
    members = [member(shard.primary, "leader"), member(shard.replicas[0], "replica")]
    file = tmp_path / "ca.crt"
    file.write_bytes(certificates.stranger.read_bytes())
    with Patroni(*members, tls=Signed(certificates).well()) as api:
        general = CHECKS + f'patroni_ca_file = "{file}"\n'
        router = start_router({"db": pool_of(shard.primary, api)}, general)
        wait_until("it is told", lambda: router.admin("SHOW PATRONI")[0]["error"])
        (tmp_path / "new").write_bytes(certificates.ca.read_bytes())
        (tmp_path / "new").replace(file)
        wait_until("they are found", lambda: servers(router) == told(*members))
