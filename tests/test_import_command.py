"""`pgcat import`: PgBouncer's files become one that can be used, and what is lost is told."""

from __future__ import annotations

import re
import stat
from typing import TYPE_CHECKING

import psycopg
import pytest

from router import cli
from router.config import loader
from router.demo.server import free_port
from router.errors import ConfigError
from tests.support import router as support

if TYPE_CHECKING:
    from pathlib import Path

    from router.config.model import Config
    from tests.support.cluster.server import Server

Capture = pytest.CaptureFixture[str]

MD5 = "md5" + "0" * 32
SCRAM = (
    "SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$"
    "iAz0IQWMV4hwwyfAKzmDZlOtPMKBpyGW9M2Gv6TW0N0=:u5a2r4oDQqRxqnlmVkl5Ue4A2FYoPYTAPKsRBFSyCc8="
)
USERS = f"""\
;; comment
"admin" "admin_secret"
"ann" "plain ""quoted"" \\\\ text"
"bob" "{MD5}"
"eve" "{SCRAM}"
"nobody" ""
"""
USUAL = """\
;; as the packages of Debian have it
[databases]
app = host=10.0.0.1 port=5433 dbname=app_db pool_size=50 min_pool_size=2 pool_mode=session
reports=host=10.0.0.2 user=reader password='it''s secret' connect_query='SET a = 1'
"odd name" = host=10.0.0.3 reserve_pool=5 auth_user=look auth_query=x
* = host=10.0.0.9

[users]
ann = pool_mode=statement max_user_connections=10

[pgbouncer]
listen_addr = *
listen_port = 6433
auth_type = md5
auth_file = userlist.txt
auth_query = SELECT 1
admin_users = admin, other
stats_users = stats
pool_mode = transaction
default_pool_size = 25
server_reset_query = DISCARD ALL
server_idle_timeout = 0
query_wait_timeout = 2.5
ignore_startup_parameters = extra_float_digits
logfile = /var/log/pgbouncer.log
made_up = 1
"""


class Imports:
    """Runs the command on files of a directory."""

    def __init__(self, directory: Path, capsys: Capture) -> None:
        self.directory = directory
        self.capsys = capsys
        self.output = directory / "pgcat.toml"
        self.told = ""

    def run(self, ini: str, userlist: str = USERS, *words: str) -> int:
        """Write the files, and make another one of them."""
        (self.directory / "pgbouncer.ini").write_text(ini)
        (self.directory / "userlist.txt").write_text(userlist)
        path = str(self.directory / "pgbouncer.ini")
        code = cli.main(["import", path, "-o", str(self.output), "--force", *words])
        self.told = self.capsys.readouterr().err
        return code

    def config(self, ini: str, userlist: str = USERS, *words: str) -> Config:
        """The configuration that comes of it, which passes a check."""
        assert self.run(ini, userlist, *words) == 0, self.told
        assert cli.main(["check", str(self.output)]) == 0
        return loader.load(self.output).config


@pytest.fixture
def imports(tmp_path: Path, capsys: Capture) -> Imports:
    """A directory for them."""
    return Imports(tmp_path, capsys)


def test_a_usual_file_is_carried_over(imports: Imports) -> None:
    config = imports.config(USUAL)
    general = config.general
    assert (general.host, general.port) == ("0.0.0.0", 6433)
    assert general.admin_username == "admin"
    assert general.admin_password.get_secret_value() == "admin_secret"
    assert general.query_wait_timeout == 2500
    assert general.server_login_timeout == general.connect_timeout == 15_000
    assert general.server_round_robin is False
    assert list(config.pools) == ["app", "reports", "odd name"]
    app = config.pools["app"]
    assert app.pool_mode.value == "session"
    assert app.shards[0].database == "app_db"
    [server] = app.shards[0].servers
    assert (server.host, server.port, server.role.value) == ("10.0.0.1", 5433, "primary")
    users = {user.username: user for user in app.users}
    assert set(users) == {"admin", "ann", "bob", "eve"}
    assert {user.pool_size for user in app.users} == {50}
    assert {user.min_pool_size for user in app.users} == {2}
    ann = users["ann"]
    assert ann.password is not None
    assert ann.password.get_secret_value() == 'plain "quoted" \\\\ text'
    assert ann.pool_mode is not None
    assert ann.pool_mode.value == "statement"
    reports = config.pools["reports"]
    assert reports.pool_mode.value == "transaction"
    assert {user.server_username for user in reports.users} == {"reader"}
    [secret] = {user.server_password for user in reports.users}
    assert secret is not None
    assert secret.get_secret_value() == "it's secret"
    assert {user.pool_size for user in reports.users} == {25}
    assert reports.plugins is not None
    assert reports.plugins.prewarmer is not None
    assert reports.plugins.prewarmer.queries == ("SET a = 1",)


def test_processes_of_a_group_are_carried_over(imports: Imports) -> None:
    ini = USUAL + (
        "so_reuseport = 1\npeer_id = 3\nunix_socket_dir = /run/three\n[peers]\n"
        "3 = host=/run/three\n4 = host=/run/four port=6433 pool_size=7\n"
        "5 = port=1\n6 = host=six pool_size=x nonsense=1\n"
    )
    config = imports.config(ini)
    assert (config.general.so_reuseport, config.general.peer_id) == (True, 3)
    peers = {
        name: (each.host, each.port, each.pool_size) for name, each in config.peers.items()
    }
    assert peers == {
        "3": ("/run/three", 6432, 20),
        "4": ("/run/four", 6433, 7),
        "6": ("six", 6432, 20),
    }
    for key in ("peers.5", "peers.6.pool_size", "peers.6.nonsense"):
        assert f"not as it was: {key}: " in imports.told


def test_what_is_lost_is_told_in_the_file_and_on_stderr(imports: Imports) -> None:
    imports.config(USUAL)
    text = imports.output.read_text()
    for key in (
        "databases.*",
        "databases.reports.user",
        "databases.odd name.auth_user",
        "databases.odd name.auth_query",
        "users.eve",
        "users.nobody",
        "pgbouncer.auth_query",
        "pgbouncer.admin_users",
        "pgbouncer.stats_users",
        "pgbouncer.server_idle_timeout",
        "pgbouncer.logfile",
        "pgbouncer.made_up",
    ):
        assert re.search(rf"^#   {re.escape(key)}: ", text, re.MULTILINE), key
        assert f"not carried over, or not as it was: {key}: " in imports.told
    for key in ("pgbouncer.server_reset_query", "pgbouncer.ignore_startup_parameters"):
        assert f"not needed: {key}: " in imports.told
    for secret in ("admin_secret", "it's secret", SCRAM, MD5):
        assert secret not in imports.told


def test_every_setting_of_the_file_is_carried_over_or_told(imports: Imports) -> None:
    names = [
        line.split("=")[0].strip() for line in USUAL.partition("[pgbouncer]")[2].split("\n")
    ]
    imports.config(USUAL)
    text = imports.output.read_text()
    carried = {
        "listen_addr": "host",
        "listen_port": "port",
        "auth_type": "auth_type",
        "auth_file": "users.0",
        "pool_mode": "pool_mode",
        "default_pool_size": "pool_size",
        "query_wait_timeout": "query_wait_timeout",
    }
    for name in filter(None, names):
        assert f"pgbouncer.{name}: " in text or carried[name] in text


def test_the_file_is_for_its_owner_alone_and_is_not_replaced(imports: Imports) -> None:
    imports.config(USUAL)
    assert stat.S_IMODE(imports.output.stat().st_mode) == 0o600
    path = str(imports.directory / "pgbouncer.ini")
    assert cli.main(["import", path, "-o", str(imports.output)]) == 1
    assert "is there already" in imports.capsys.readouterr().err


def test_a_fallback_makes_pools_for_those_that_are_named(imports: Imports) -> None:
    ini = "[databases]\n* = host=h pool_size=7\n[pgbouncer]\nauth_file = userlist.txt\n"
    assert imports.run(ini) == 1
    assert "--database NAME" in imports.told
    config = imports.config(ini, USERS, "--database", "a", "--database", "b")
    assert list(config.pools) == ["a", "b"]
    assert [pool.shards[0].database for pool in config.pools.values()] == ["a", "b"]
    assert config.pools["a"].pool_mode.value == "session", "as in PgBouncer"
    assert "databases.*: databases that are not named have no pool; made by it: a, b" in (
        imports.told
    )


def test_verifiers_and_hashes_are_kept_with_scram(imports: Imports) -> None:
    ini = "[databases]\na = host=h password=x user=u\n[pgbouncer]\n"
    ini += "auth_type = scram-sha-256\nauth_file = userlist.txt\n"
    config = imports.config(ini)
    users = {user.username: user for user in config.pools["a"].users}
    assert users["eve"].auth_type.value == "scram-sha-256"
    assert users["eve"].password is not None
    assert users["eve"].password.get_secret_value() == SCRAM
    assert users["bob"].auth_type.value == "md5"
    assert "users.bob: has an MD5 hash: made auth_type md5" in imports.told
    assert "users.eve" not in imports.told, "servers are logged in to as u"


def test_several_hosts_are_replicas_until_somebody_says_otherwise(imports: Imports) -> None:
    ini = "[databases]\na = host=h1,h2 port=5433\n[pgbouncer]\nauth_file = userlist.txt\n"
    servers = imports.config(ini).pools["a"].shards[0].servers
    assert [(each.host, each.port, each.role.value) for each in servers] == [
        ("h1", 5433, "replica"),
        ("h2", 5433, "replica"),
    ]
    assert "databases.a.host: which of several is the primary is not known" in imports.told


def test_a_database_without_a_host_is_behind_a_unix_socket(imports: Imports) -> None:
    ini = "[databases]\na =\n[pgbouncer]\nauth_file = userlist.txt\nunix_socket_dir = /run/pg\n"
    config = imports.config(ini)
    assert config.pools["a"].shards[0].servers[0].host == "/run/pg"


def test_without_a_userlist_the_forced_user_is_the_only_one(imports: Imports) -> None:
    ini = "[databases]\na = host=h user=app password=pw\n[pgbouncer]\nauth_type = any\n"
    [user] = imports.config(ini, "").pools["a"].users
    assert (user.username, user.auth_type.value) == ("app", "trust")
    assert "pgbouncer.auth_type: made trust" in imports.told


def test_included_files_are_read(imports: Imports) -> None:
    (imports.directory / "more.ini").write_text("[databases]\nb = host=h\n")
    ini = "%include more.ini\n[pgbouncer]\nauth_file = userlist.txt\n"
    assert list(imports.config(ini).pools) == ["b"]
    (imports.directory / "more.ini").write_text("%include more.ini")
    assert imports.run(ini) == 1
    assert "files include each other" in imports.told


@pytest.mark.parametrize(
    ("ini", "message"),
    [
        ("[databases]\na\n", "line 2: neither a section nor KEY = VALUE"),
        ("[nonsense]\na = 1\n", "line 2: PgBouncer has no section [nonsense]"),
        ("[databases]\na = host='x\n", "line 2: not KEY=VALUE"),
        ("[databases]\na = host=h\n", "no users are known"),
        ("[pgbouncer]\n", "names none that a pool could be made of"),
        ("[pgbouncer]\nauth_file = /no/such\n", "cannot read /no/such: No such file"),
    ],
)
def test_what_is_no_file_of_pgbouncer_is_refused(
    ini: str, message: str, imports: Imports
) -> None:
    assert imports.run(ini, "") == 1
    assert message in imports.told


def test_tls_and_times_are_carried_over_as_far_as_they_go(imports: Imports) -> None:
    ini = "[databases]\na = host=h server_lifetime=60\n[pgbouncer]\nauth_file = userlist.txt\n"
    ini += "server_tls_sslmode = verify-ca\nclient_tls_sslmode = require\ntcp_keepidle = 9\n"
    ini += "listen_addr = 10.0.0.1, 10.0.0.2\nserver_lifetime = 0\nserver_login_retry = 3\n"
    ini += "server_reset_query = RESET ALL\nclient_login_timeout = soon\n"
    config = imports.config(ini)
    assert config.general.server_tls
    assert config.general.verify_server_certificate
    assert config.general.tcp_keepalives_idle == 9
    assert config.general.host == "10.0.0.1"
    assert config.general.server_lifetime == 1
    assert config.pools["a"].server_lifetime == 60_000
    for key in (
        "listen_addr",
        "server_tls_sslmode",
        "client_tls_sslmode",
        "server_lifetime",
        "server_reset_query",
        "client_login_timeout",
    ):
        assert f"not as it was: pgbouncer.{key}" in imports.told


def test_limits_of_pgbouncer_are_those_of_the_same_name(imports: Imports) -> None:
    ini = "[databases]\na = host=h reserve_pool=3 max_db_connections=50\n"
    ini += "[users]\nann = max_user_connections=4\n[pgbouncer]\nauth_file = userlist.txt\n"
    ini += "max_client_conn = 500\nreserve_pool_timeout = 3.5\nquery_timeout = 30\n"
    ini += "unix_socket_dir = /run/pg\nunix_socket_mode = 0770\n"
    config = imports.config(ini)
    general, pool = config.general, config.pools["a"]
    assert (general.max_client_conn, general.reserve_pool_timeout) == (500, 3500)
    assert (general.query_timeout, general.unix_socket_dir) == (30_000, "/run/pg")
    assert general.unix_socket_mode == 0o770
    assert "unix_socket_mode = 0o770" in imports.output.read_text()
    assert (pool.reserve_pool_size, pool.max_db_connections) == (3, 50)
    assert {user.username: user.max_user_connections for user in pool.users}["ann"] == 4


def test_a_result_that_cannot_be_used_is_written_and_said_to_be_so(imports: Imports) -> None:
    ini = "[databases]\na = host=h\n[pgbouncer]\nauth_file = userlist.txt\n"
    ini += "client_tls_sslmode = allow\nclient_tls_cert_file = /no/such.pem\n"
    assert imports.run(ini) == 1
    assert "general.tls_certificate" in imports.told
    with pytest.raises(ConfigError):
        loader.load(imports.output)


@pytest.mark.slow
def test_the_result_serves(imports: Imports, postgres: Server, tmp_path: Path) -> None:
    port = free_port()
    ini = f"[databases]\napp = host={postgres.host} port={postgres.port} dbname=postgres "
    ini += "user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
    ini += f"listen_port = {port}\nauth_type = md5\nauth_file = userlist.txt\n"
    ini += "pool_mode = transaction\nadmin_users = admin\n"
    imports.config(ini, '"ann" "secret"\n"admin" "admin_secret"\n')
    assert cli.main(["check", "--connect", str(imports.output)]) == 0
    text = imports.output.read_text()
    process = support.start(tmp_path, lambda own: text.replace(str(port), str(own)))
    try:
        with process.connect("app", "ann", "secret") as connection:
            assert connection.execute("SELECT 1").fetchall() == [(1,)]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            process.connect("app", "ann", "wrong")
        assert process.admin("SHOW POOLS")
    finally:
        process.stop()
