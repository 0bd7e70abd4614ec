"""TLS on both sides, with OpenSSL's own programs and the system's PostgreSQL."""

from __future__ import annotations

import socket
import ssl
import threading
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.support.router import (
    ADMIN,
    ADMIN_PASSWORD,
    HOST,
    PATIENCE,
    PoolText,
    RouterProcess,
    primary_of,
    wait_until,
)
from tests.support.wire import SSL_REQUEST, SYNC, Message, WireClient, query, run, startup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.strict.conftest import ModuleRouter
    from tests.support.certificates import Certificates
    from tests.support.cluster.server import Server
    from tests.support.postgres import PostgresRun

MB = 1 << 20


@pytest.fixture(scope="module")
def tls_server(
    postgres_run: PostgresRun, system_bin_dir: Path, certificates: Certificates
) -> Iterator[Server]:
    """A PostgreSQL that has TLS."""
    cluster = postgres_run.private(bin_dir=system_bin_dir)
    server = cluster.primary
    show(server, certificates.certificate, certificates.key)
    server.configure({"ssl": "on", "ssl_cert_file": "tls.crt", "ssl_key_file": "tls.key"})
    server.restart()
    yield server
    cluster.close()


def show(server: Server, certificate: Path, key: Path) -> None:
    """Have a server show a certificate from its next start on."""
    for source, name in ((certificate, "tls.crt"), (key, "tls.key")):
        server.installation.write(server.data_dir / name, source.read_text().splitlines())
    (server.data_dir / "tls.key").chmod(0o600)


def trusting(authority: Path) -> str:
    """The settings that have servers checked against an authority."""
    return (
        "server_tls = true\nverify_server_certificate = true\n"
        f'server_tls_ca_file = "{authority}"\n'
    )


@pytest.fixture(scope="module")
def router(
    module_router: ModuleRouter, tls_server: Server, certificates: Certificates
) -> RouterProcess:
    """TLS towards clients, and verified TLS towards servers."""
    return module_router(
        {"db": PoolText([primary_of(tls_server)], pool_size=2)},
        f'tls_certificate = "{certificates.certificate}"\n'
        f'tls_private_key = "{certificates.key}"\n' + trusting(certificates.ca),
    )


def over_tls(client: WireClient, certificates: Certificates) -> None:
    """Go over to TLS, checking whom we talk to."""
    client.send(SSL_REQUEST)
    assert client.read_byte() == b"S"
    context = ssl.create_default_context(cafile=str(certificates.ca))
    client.sock = context.wrap_socket(client.sock, server_hostname="localhost")


@pytest.fixture
def client(router: RouterProcess, certificates: Certificates) -> Iterator[WireClient]:
    """A client by TLS, on a server by TLS."""
    with WireClient(router.port) as made:
        over_tls(made, certificates)
        made.send(startup({"user": "postgres", "database": "db"}))
        for answer in made.read_until("Z"):
            if answer.kind == "K":
                made.pid, made.secret = int.from_bytes(answer.body[:4], "big"), answer.body[4:]
        yield made


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_clients_come_by_tls(
    router: RouterProcess, certificates: Certificates, mode: str
) -> None:
    with psycopg.connect(
        router.dsn("db"), sslmode=mode, sslrootcert=str(certificates.ca)
    ) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert connection.pgconn.ssl_in_use


@pytest.mark.parametrize("version", ["3.0", "3.2"])
def test_clients_may_begin_with_tls(
    router: RouterProcess, certificates: Certificates, version: str
) -> None:
    """Without asking for it, as libpq since PostgreSQL 17."""
    options = f"sslnegotiation=direct sslmode=verify-full max_protocol_version={version}"
    with psycopg.connect(
        f"{router.dsn('db')} {options} sslrootcert={certificates.ca}"
    ) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert connection.pgconn.ssl_in_use


def direct(
    router: RouterProcess, certificates: Certificates, protocols: list[str]
) -> ssl.SSLSocket:
    """A connection that begins with TLS, and says what will be spoken there."""
    context = ssl.create_default_context(cafile=str(certificates.ca))
    if protocols:
        context.set_alpn_protocols(protocols)
    sock = socket.create_connection((HOST, router.port), PATIENCE)
    return context.wrap_socket(sock, server_hostname="localhost")


@pytest.mark.parametrize("protocols", [[], ["http/1.1"], ["postgres"]])
def test_who_begins_with_tls_has_to_say_that_it_speaks_postgresql(
    router: RouterProcess, certificates: Certificates, protocols: list[str]
) -> None:
    with direct(router, certificates, protocols) as sock:
        answer = b""
        while data := sock.recv(1024):
            answer += data
        assert b"without ALPN protocol negotiation extension" in answer


def test_who_began_with_tls_need_not_ask_for_it(
    router: RouterProcess, certificates: Certificates
) -> None:
    with direct(router, certificates, ["h2", "postgresql"]) as sock:
        assert sock.selected_alpn_protocol() == "postgresql"
        sock.sendall(SSL_REQUEST)
        answer = b""
        while data := sock.recv(1024):
            answer += data
        assert b"encryption was asked for twice" in answer


def test_the_first_bytes_of_tls_may_come_one_by_one(
    router: RouterProcess, certificates: Certificates
) -> None:
    context = ssl.create_default_context(cafile=str(certificates.ca))
    context.set_alpn_protocols(["postgresql"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection((HOST, router.port), PATIENCE) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    sock.send(bytes((byte,)))
                incoming.write(sock.recv(4096))
            else:
                break
        assert tls.selected_alpn_protocol() == "postgresql"


def test_tls_from_the_first_byte_ends_where_tls_is_off(
    start_router: Callable[..., RouterProcess], tls_server: Server
) -> None:
    router = start_router({"db": PoolText([primary_of(tls_server)])})
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(router.dsn("db"), sslmode="require", sslnegotiation="direct")
    with psycopg.connect(router.dsn("db")) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_client_that_trusts_another_authority_does_not_come_in(
    router: RouterProcess, certificates: Certificates
) -> None:
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        psycopg.connect(
            router.dsn("db"), sslmode="verify-ca", sslrootcert=str(certificates.stranger)
        )


def test_the_tls_of_an_administrator_is_shown(router: RouterProcess) -> None:
    for mode, expected in (("require", "TLSv1.3"), ("disable", "")):
        with psycopg.connect(
            router.dsn("pgcat", ADMIN, ADMIN_PASSWORD), sslmode=mode, autocommit=True
        ) as connection:
            cursor = connection.execute("SHOW CLIENTS")
            names = [column.name for column in cursor.description or ()]
            rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
            assert [row["tls"] for row in rows if row["database"] == "pgcat"] == [expected]


def test_clients_may_come_in_plain_text(router: RouterProcess) -> None:
    with WireClient.login(router.port, "db") as client:
        assert client.value("SELECT 1") == "1"


def uses_tls(router: RouterProcess) -> bool:
    """Whether the router's connection to the server is encrypted."""
    with WireClient.login(router.port, "db") as client:
        return client.value("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == "t"


def test_a_verified_server_is_used_by_tls(router: RouterProcess) -> None:
    assert uses_tls(router)


@pytest.mark.parametrize(("general", "expected"), [("", False), ("server_tls = true", True)])
def test_servers_are_reached_as_configured(
    start_router: Callable[..., RouterProcess],
    tls_server: Server,
    general: str,
    expected: bool,
) -> None:
    router = start_router({"db": PoolText([primary_of(tls_server)])}, general)
    assert uses_tls(router) is expected


def login_error(router: RouterProcess) -> Message:
    """The one answer to a login that fails."""
    with WireClient(router.port) as client:
        client.send(startup({"user": "postgres", "database": "db"}))
        [answer] = client.read_to_end()
        return answer


def test_a_server_of_another_authority_gets_no_login(
    start_router: Callable[..., RouterProcess], tls_server: Server, certificates: Certificates
) -> None:
    pools = {"db": PoolText([primary_of(tls_server)])}
    router = start_router(pools, trusting(certificates.stranger))
    answer = login_error(router)
    assert answer.sqlstate == "57P03"
    assert "TLS" in answer.fields["M"]


def test_an_authority_that_is_renewed_in_its_file_counts_at_once(
    start_router: Callable[..., RouterProcess],
    tls_server: Server,
    certificates: Certificates,
    tmp_path: Path,
) -> None:
    file, new = tmp_path / "ca.crt", tmp_path / "new.crt"
    file.write_bytes(certificates.stranger.read_bytes())
    router = start_router({"db": PoolText([primary_of(tls_server)])}, trusting(file))
    assert login_error(router).sqlstate == "57P03"
    new.write_bytes(certificates.ca.read_bytes())
    new.replace(file)
    with WireClient.login(router.port, "db") as client:
        assert client.value("SELECT 1") == "1"


def test_a_server_with_the_certificate_of_another_gets_no_login(
    start_router: Callable[..., RouterProcess], tls_server: Server, certificates: Certificates
) -> None:
    show(tls_server, *certificates.elsewhere)
    tls_server.restart()
    try:
        pools = {"db": PoolText([primary_of(tls_server)])}
        answer = login_error(start_router(pools, trusting(certificates.ca)))
        assert answer.sqlstate == "57P03"
        assert "TLS" in answer.fields["M"]
    finally:
        show(tls_server, certificates.certificate, certificates.key)
        tls_server.restart()


def test_a_server_that_refuses_tls_gets_no_login(
    start_router: Callable[..., RouterProcess], postgres: Server
) -> None:
    router = start_router({"db": PoolText([primary_of(postgres)])}, "server_tls = true")
    assert "refused TLS" in login_error(router).fields["M"]


def test_cleartext_behind_the_request_for_tls_is_refused(router: RouterProcess) -> None:
    with WireClient(router.port) as client:
        client.send(SSL_REQUEST + startup({"user": "postgres", "database": "db"}))
        [error] = client.read_to_end()
        assert error.fields["M"] == "received unencrypted data after SSL request"
    with WireClient.login(router.port, "db") as client:
        assert client.value("SELECT 1") == "1"


def test_a_handshake_of_garbage_ends_the_connection(router: RouterProcess) -> None:
    with WireClient(router.port) as client:
        client.send(SSL_REQUEST)
        assert client.read_byte() == b"S"
        client.send(b"\x16\x03\x01" + b"garbage" * 100)
        while client.sock.recv(1024):
            pass  # an alert
    with WireClient.login(router.port, "db") as client:
        assert client.value("SELECT 1") == "1"


def test_large_values_go_both_ways(client: WireClient) -> None:
    value = b"x" * (30 * MB)
    assert client.ask(run("SELECT length($1)", value), SYNC)[3].row == [b"%d" % len(value)]
    [[found]] = client.query(f"SELECT repeat('x', {30 * MB})")
    assert found == value
    assert len(client.query("SELECT g FROM generate_series(1, 200000) g")) == 200_000


def test_a_cancel_request_goes_by_tls(
    router: RouterProcess, certificates: Certificates, client: WireClient, tls_server: Server
) -> None:
    connection = psycopg.connect(router.dsn("db"), sslmode="require", autocommit=True)

    def is_running() -> bool:
        return tls_server.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        ) == [(1,)]

    def cancel_soon() -> None:
        wait_until("it runs", is_running)
        connection.cancel_safe(timeout=10)

    canceller = threading.Thread(target=cancel_soon)
    canceller.start()
    try:
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(60)")
    finally:
        canceller.join()
        connection.close()
    assert client.value("SELECT 1") == "1"


def test_a_tls_client_that_breaks_off_leaves_a_clean_server(
    router: RouterProcess, client: WireClient
) -> None:
    client.query("BEGIN")
    client.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)"))
    client.read_until("D")
    client.reset()
    with WireClient.login(router.port, "db") as other:
        assert other.ask(query("SELECT 1"))[-1].body == b"I"
    wait_until("it is gone", lambda: router.pool("db")["cl_active"] == "0")
