"""The [general] section."""

from __future__ import annotations

import ipaddress
from pathlib import Path  # noqa: TC003 - pydantic evaluates it
from typing import Annotated, Final

from pydantic import AfterValidator, Field, SecretStr

from .keys import (
    Api,
    Count,
    Fixed,
    Flag,
    Form,
    Host,
    Key,
    Millis,
    Name,
    OffOrMillis,
    Port,
    PositiveMillis,
    Ratio,
    Reload,
    Seconds,
    Section,
    Text,
    Unit,
)
from .peers import PeerId  # noqa: TC001 - pydantic evaluates it
from .values import AuthType, ProtocolVersion, ReadYourWrites

# The limits of Linux for the three options.
KeepaliveSeconds = Annotated[int, Field(strict=True, ge=1, le=32767), Unit.SECONDS]
KeepaliveCount = Annotated[int, Field(strict=True, ge=1, le=127)]
UserTimeout = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1), Unit.MILLISECONDS]

# Why keys have no effect yet.
NO_AUTH_QUERY: Final = "users without a password cannot log in yet"

Rows = Annotated[int, Field(strict=True, ge=10, le=2000)]
Backlog = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]


_ONCE: Final = Reload.AT_ONCE

# Those that chmod takes; PgBouncer's default lets everybody in who has a password.
SocketMode = Annotated[int, Field(strict=True, ge=0, le=0o777)]


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"must be a network, such as 10.0.0.0/8 or ::1 ({error})") from None
    return text


def _directory(name: str) -> str:
    # sun_path has room for 107 bytes; the name of the socket takes up to 15 of them.
    if not name.startswith("/") or len(name.encode()) > 92:
        raise ValueError("must be the path of a directory, from / on, of at most 92 bytes")
    return name


Network = Annotated[Text, AfterValidator(_network)]
Networks = Annotated[
    tuple[Network, ...], Form('an array of networks, such as "10.0.0.0/8" or "::1"')
]
Directory = Annotated[Name, AfterValidator(_directory), Form("a directory")]


class General(Section):
    """Settings of the process, and defaults for all pools."""

    host: Annotated[
        Host, Key("Address to listen on, for clients and for metrics.", Reload.RESTART)
    ] = "0.0.0.0"
    port: Annotated[Port, Key("Port to listen on.", Reload.RESTART)] = 5432
    listen_backlog: Annotated[
        Backlog, Key("Connections that the kernel may hold until accepted.", Reload.RESTART)
    ] = 4096
    so_reuseport: Annotated[
        Flag,
        Key(
            "Let other processes listen on that port: the kernel spreads clients over them.",
            Reload.RESTART,
        ),
    ] = False
    peer_id: Annotated[
        PeerId,
        Key(
            "Which of the processes of a group this is, from 1 on: cancel requests then find "
            "their way between those of [peers]. 0 is none.",
            Reload.RESTART,
        ),
    ] = 0
    unix_socket_dir: Annotated[
        Directory | None,
        Key(
            "Directory for a Unix socket `.s.PGSQL.PORT` for clients, beside TCP.",
            Reload.RESTART,
            unset="no such socket",
        ),
    ] = None
    unix_socket_mode: Annotated[
        SocketMode, Key("Its permissions, such as `0o770`: who may connect.", Reload.RESTART)
    ] = 0o777
    proxy_protocol_networks: Annotated[
        Networks,
        Key(
            "Networks of load balancers, whose connections begin with a header of the PROXY "
            "protocol, version 2, that has the client's address; all others must have none.",
            Reload.CONNECTIONS,
        ),
    ] = ()
    application_name_add_host: Annotated[
        Flag,
        Key(
            "Add the client's address to application_name at its start: servers then show who "
            "it is, but have to be told with each change of clients.",
            Reload.CONNECTIONS,
        ),
    ] = False
    worker_threads: Annotated[
        Count, Key("Number of threads in PgCat.", unused="there is one thread")
    ] = 4
    admin_username: Annotated[Name, Key("User of the admin database.", Reload.CONNECTIONS)]
    admin_password: Annotated[
        SecretStr, Key("Password of the admin database.", Reload.CONNECTIONS)
    ]
    admin_auth_type: Annotated[
        AuthType, Key("How the admin proves to be the admin.", Reload.CONNECTIONS)
    ] = AuthType.MD5
    stats_username: Annotated[
        Name | None,
        Key(
            "User of the admin database who may only look.", Reload.CONNECTIONS, unset="nobody"
        ),
    ] = None
    stats_password: Annotated[
        SecretStr | None, Key("Password of that user.", Reload.CONNECTIONS, unset="none")
    ] = None
    enable_prometheus_exporter: Annotated[
        Flag, Key("Serve metrics over HTTP.", Reload.RESTART)
    ] = False
    prometheus_exporter_port: Annotated[
        Port, Key("Port of the metrics endpoint.", Reload.RESTART)
    ] = 9930
    validate_config: Annotated[
        Flag,
        Key(
            "Connect to servers at the start and at reloads, not only for the first client.",
            Reload.AT_ONCE,
            aliases=("verify_config",),
        ),
    ] = True
    autoreload: Annotated[
        Millis | None,
        Key(
            "How often to look whether this file has changed, a file of a value, or that of "
            "tls_certificate or tls_private_key; 0 is off.",
            Reload.AT_ONCE,
            unset="off",
        ),
    ] = None
    shutdown_timeout: Annotated[
        Millis, Key("How long a graceful shutdown waits for clients.", Reload.AT_ONCE)
    ] = 60_000

    max_client_conn: Annotated[
        Count,
        Key("Clients that may be logged in, without administrators; 0 is any number.", _ONCE),
    ] = 0
    max_db_client_connections: Annotated[
        Count, Key("Clients of each database; 0 is any number.")
    ] = 0
    max_user_client_connections: Annotated[
        Count, Key("Clients of each user, in all databases together; 0 is any number.")
    ] = 0
    max_logins_in_progress: Annotated[
        Count,
        Key(
            "Clients that may be logging in at a time; others wait to be accepted. "
            "0 is any number.",
            _ONCE,
        ),
    ] = 1000
    max_waiting_clients: Annotated[
        Count,
        Key("Clients of one pool that may wait for a connection; 0 is any number."),
    ] = 0
    max_db_connections: Annotated[
        Count,
        Key(
            "Connections to each server that all users of a database have together; "
            "0 is any number."
        ),
    ] = 0
    max_user_connections: Annotated[
        Count,
        Key(
            "Connections to each server that a user has in all databases together; "
            "0 is any number."
        ),
    ] = 0
    max_server_connections: Annotated[
        Count,
        Key("Connections to each server that all pools have together; 0 is any number."),
    ] = 0
    reserve_pool_size: Annotated[
        Count, Key("Connections above pool_size for clients that have waited for long.")
    ] = 0
    reserve_pool_timeout: Annotated[
        Millis, Key("How long a client has to have waited for that.")
    ] = 5000

    connect_timeout: Annotated[
        PositiveMillis,
        Key("How long a client waits for a connection to one server, and TCP for its own."),
    ] = 1000
    query_wait_timeout: Annotated[
        Millis,
        Key(
            "How long a statement waits for a connection in all, whatever servers are tried; "
            "0 is connect_timeout for each of them."
        ),
    ] = 0
    idle_timeout: Annotated[
        PositiveMillis,
        Key("Server connections unused for longer are closed, down to min_pool_size."),
    ] = 600_000
    server_lifetime: Annotated[
        PositiveMillis, Key("Server connections older than this are closed once unused.")
    ] = 3_600_000
    client_login_timeout: Annotated[
        PositiveMillis,
        Key("How long a client may take to log in, once it is connected.", Reload.CONNECTIONS),
    ] = 60_000
    server_login_timeout: Annotated[
        PositiveMillis, Key("How long connecting and logging in to a server may take.")
    ] = 15_000
    idle_client_in_transaction_timeout: Annotated[
        Millis, Key("A client that idles for longer in a transaction is dropped; 0 is off.")
    ] = 0
    client_idle_timeout: Annotated[
        Millis,
        Key(
            "A client that asks for nothing for longer, outside of a transaction, is dropped; "
            "0 is off. Turned on by a reload, it counts for those who log in from then on."
        ),
    ] = 0
    query_timeout: Annotated[
        Millis, Key("A statement that takes longer on its server is cancelled; 0 is off.")
    ] = 0
    transaction_timeout: Annotated[
        Millis,
        Key("A transaction that takes longer is ended, and its client dropped; 0 is off."),
    ] = 0
    healthcheck_timeout: Annotated[
        PositiveMillis,
        Key("How long a server, or a connection, may take to answer a check."),
    ] = 1000
    healthcheck_delay: Annotated[
        Millis,
        Key("How often servers are checked; connections unused for longer are, before use."),
    ] = 30_000
    ban_time: Annotated[Seconds, Key("How long a replica that failed gets no clients.")] = 60
    server_round_robin: Annotated[
        Flag,
        Key(
            "Reuse the connection that rested longest, else the one used last; "
            "and open them at all addresses of a host in turn, else at one."
        ),
    ] = True
    prepared_statements_cache_size: Annotated[
        Count,
        Fixed("Prepared statements kept on each server connection; 0 is off."),
    ] = 500

    read_your_writes: Annotated[
        ReadYourWrites,
        Key('"session": no replica answers a read before it has all that the client wrote.'),
    ] = ReadYourWrites.OFF
    read_your_writes_timeout: Annotated[
        Millis,
        Key("How long a read waits for a replica to have that, before the primary gets it."),
    ] = 100
    tcp_keepalives_idle: Annotated[
        KeepaliveSeconds,
        Key("Silence before the first TCP keepalive probe.", Reload.CONNECTIONS),
    ] = 5
    tcp_keepalives_count: Annotated[
        KeepaliveCount,
        Key("Probes without an answer before a connection counts as dead.", Reload.CONNECTIONS),
    ] = 5
    tcp_keepalives_interval: Annotated[
        KeepaliveSeconds, Key("Time between TCP keepalive probes.", Reload.CONNECTIONS)
    ] = 5
    tcp_user_timeout: Annotated[
        UserTimeout,
        Key(
            "How long a peer may leave data unread or unacknowledged; 0: as long as it lives.",
            Reload.CONNECTIONS,
        ),
    ] = 0

    log_client_connections: Annotated[
        Flag, Key("Log clients that connect at level info.", Reload.AT_ONCE)
    ] = False
    log_client_disconnections: Annotated[
        Flag, Key("Log clients that leave at level info.", Reload.AT_ONCE)
    ] = False
    log_min_duration_statement: Annotated[
        OffOrMillis,
        Key(
            "Log the fingerprint of statements that take so long; 0 logs all, -1 none. A pool "
            "has ten lines a second, which count what they leave out."
        ),
    ] = -1
    log_statement_text: Annotated[
        Flag, Key("Log the text of these, with all the values in it, and not the fingerprint.")
    ] = False

    opentelemetry_endpoint: Annotated[
        Api | None,
        Key(
            "Send spans of statements that are traced to this collector, by OTLP over HTTP:"
            " http://127.0.0.1:4318/v1/traces.",
            Reload.RESTART,
            unset="none",
        ),
    ] = None
    opentelemetry_service_name: Annotated[
        Name, Key("Whose spans these are.", Reload.RESTART)
    ] = "pgcat"

    opentelemetry_sampling_ratio: Annotated[
        Ratio,
        Key(
            "Share of the statements without a `traceparent` that are traced, each as a trace "
            "of its own. Of those with one its flag decides.",
            _ONCE,
        ),
    ] = 0.0

    query_statistics: Annotated[
        Flag,
        Key("Count what becomes of statements, by fingerprint: SHOW QUERIES.", _ONCE),
    ] = True
    query_statistics_max: Annotated[
        Rows,
        Key("Rows that SHOW QUERIES has at most; the rest is in its rows `(others)`.", _ONCE),
    ] = 500

    tls_certificate: Annotated[
        Path | None,
        Key(
            "Certificate chain (PEM) for TLS with clients.", Reload.CONNECTIONS, unset="no TLS"
        ),
    ] = None
    tls_private_key: Annotated[
        Path | None,
        Key("Private key (PEM) of the certificate.", Reload.CONNECTIONS, unset="no TLS"),
    ] = None
    server_max_protocol_version: Annotated[
        ProtocolVersion,
        Key(
            "Version of the protocol to ask servers for: with 3.2 those that speak it, as "
            "PostgreSQL 18, use cancel keys of 256 bits; a proxy before them may refuse it.",
            Reload.CONNECTIONS,
        ),
    ] = ProtocolVersion.V3_0
    server_tls: Annotated[Flag, Fixed("Ask servers for TLS.")] = False
    verify_server_certificate: Annotated[
        Flag, Fixed("Check the servers' certificates and host names.")
    ] = False
    server_tls_ca_file: Annotated[
        Path | None,
        Fixed(
            "CA certificates (PEM) that vouch for servers.",
            unset="the system's",
        ),
    ] = None

    patroni_ca_file: Annotated[
        Path | None,
        Key(
            "CA certificates (PEM) that vouch for Patroni's REST APIs with https.",
            Reload.AT_ONCE,
            unset="the system's",
        ),
    ] = None
    patroni_certificate: Annotated[
        Path | None,
        Key(
            "Certificate chain (PEM) that is shown to APIs with https that ask for one.",
            Reload.AT_ONCE,
            unset="none",
        ),
    ] = None
    patroni_private_key: Annotated[
        Path | None,
        Key("Private key (PEM) of that certificate.", Reload.AT_ONCE, unset="none"),
    ] = None

    dns_cache_enabled: Annotated[
        Flag,
        Key(
            "Let go of server connections when their host has other addresses.", Reload.AT_ONCE
        ),
    ] = False
    dns_max_ttl: Annotated[
        Seconds, Key("How often addresses are looked up for that.", Reload.AT_ONCE)
    ] = 30

    auth_query: Annotated[
        Text | None,
        Key(
            "Query that fetches the password hash of a user, `$1`, from a server.",
            unused=NO_AUTH_QUERY,
        ),
    ] = None
    auth_query_user: Annotated[
        Name | None, Key("User that runs auth_query.", unused=NO_AUTH_QUERY)
    ] = None
    auth_query_password: Annotated[
        SecretStr | None, Key("Password of that user.", unused=NO_AUTH_QUERY)
    ] = None
