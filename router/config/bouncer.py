"""From a pgbouncer.ini to a pgcat.toml, and to a list of what could not be carried over."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ..errors import ConfigError
from ..printable import printable
from .declared import declarations, show_path
from .general import General
from .keys import LARGEST, Unit
from .peers import Peer, peer_number
from .pools import PoolConfig, User

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .bouncer_ini import Ini, Values
    from .keys import Section

Value = str | int | bool | list["Value"]

# PgBouncer's defaults that differ from those here, of settings that are carried over.
_DEFAULTS: Final[Values] = {
    "listen_port": "6432",
    "max_client_conn": "100",
    "query_wait_timeout": "120",
    "server_connect_timeout": "15",
    "server_round_robin": "0",
    "log_connections": "1",
    "log_disconnections": "1",
    "client_login_timeout": "60",
}
# Settings with a key of the same meaning: its name, and what 0 stands for if not for itself.
_NEVER: Final = 365 * 24 * 3600 * 1000
_GENERAL: Final[dict[str, tuple[str, int | None]]] = {
    "listen_port": ("port", None),
    "listen_backlog": ("listen_backlog", None),
    "unix_socket_dir": ("unix_socket_dir", None),
    "query_wait_timeout": ("query_wait_timeout", _NEVER),
    "server_idle_timeout": ("idle_timeout", _NEVER),
    "server_lifetime": ("server_lifetime", 1),
    "server_connect_timeout": ("server_login_timeout", _NEVER),
    "client_login_timeout": ("client_login_timeout", _NEVER),
    "idle_transaction_timeout": ("idle_client_in_transaction_timeout", None),
    "server_check_delay": ("healthcheck_delay", None),
    "server_round_robin": ("server_round_robin", None),
    "max_prepared_statements": ("prepared_statements_cache_size", None),
    "tcp_keepidle": ("tcp_keepalives_idle", 5),
    "tcp_keepcnt": ("tcp_keepalives_count", 5),
    "tcp_keepintvl": ("tcp_keepalives_interval", 5),
    "tcp_user_timeout": ("tcp_user_timeout", None),
    "log_connections": ("log_client_connections", None),
    "application_name_add_host": ("application_name_add_host", None),
    "log_disconnections": ("log_client_disconnections", None),
    "client_tls_cert_file": ("tls_certificate", None),
    "client_tls_key_file": ("tls_private_key", None),
    "server_tls_ca_file": ("server_tls_ca_file", None),
}
# Dealt with in functions of their own.
_ELSEWHERE: Final = (
    "listen_addr",
    "auth_type",
    "auth_file",
    "admin_users",
    "stats_users",
    "pool_mode",
    "default_pool_size",
    "min_pool_size",
    "server_tls_sslmode",
    "client_tls_sslmode",
    "server_reset_query",
)
# What has no counterpart and needs none.
_NEEDLESS: Final = {
    "ignore_startup_parameters": "all parameters are passed on to servers",
    "track_extra_parameters": "all that a server reports is tracked",
    "server_reset_query_always": "connections are cleaned by what the client did",
    "server_check_query": "servers are asked with a query of the router's own",
    "server_login_retry": "attempts are repeated, ever less often",
    "server_fast_close": "what has to be closed is closed when it is free",
    "pkt_buf": "buffers are sized by need",
    "sbuf_loopcnt": "clients take turns",
    "disable_pqexec": "several statements in one query are allowed",
}
# What is another program's affair here, or nobody's; all others are simply not there.
_REASONS: Final = {
    "auth_query": "not there yet: each user needs a [pools.NAME.users.N] with a password",
    "auth_user": "goes with auth_query",
    "auth_dbname": "goes with auth_query",
    "auth_hba_file": "there is none; TLS is not asked for by client address",
    "auth_ident_file": "goes with auth_hba_file",
    "logfile": "the log goes to stdout",
    "syslog": "the log goes to stdout",
    "syslog_ident": "the log goes to stdout",
    "syslog_facility": "the log goes to stdout",
    "pidfile": "is the affair of systemd, or of whatever starts the router",
    "user": "is the affair of systemd, or of whatever starts the router",
    "verbose": "the option --log-level of the command line",
    "tcp_keepalive": "keepalive is always on",
}


@dataclass(slots=True)
class Imported:
    """The outcome.

    Attributes:
        lost: what is not carried over or not quite: a key of the ini, and why.
        needless: what is not needed here.
    """

    general: dict[str, Value] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    needless: list[str] = field(default_factory=list)
    tables: list[tuple[tuple[str, ...], dict[str, Value]]] = field(default_factory=list)

    def lose(self, key: str, why: str) -> None:
        """Note what is not carried over."""
        self.lost.append(f"{printable(key)}: {why}")

    def text(self, source: str) -> str:
        """The file."""
        lines = [f"# Made by `pgcat import` from {printable(source)}."]
        for title, notes in (
            ("Not carried over, or not as it was:", self.lost),
            ("Not needed here:", self.needless),
        ):
            if notes:
                lines += ["#", f"# {title}", *(f"#   {note}" for note in notes)]
        for path, table in self.tables:
            lines += ["", f"[{show_path(path)}]"]
            lines += [f"{key} = {_written(key, value)}" for key, value in table.items()]
        return "\n".join(lines) + "\n"


def convert(ini: Ini, userlist: Values, databases: Sequence[str] = ()) -> Imported:
    """Make a configuration of PgBouncer's.

    Args:
        ini: the file.
        userlist: passwords by user.
        databases: those that are to get a pool by the line of `*`.

    Raises:
        ConfigError: there is nothing that a pool could be made of.
    """
    out = Imported()
    settings = {**_DEFAULTS, **ini.settings}
    out.tables.append((("general",), out.general))
    _listen(settings, out)
    _administrators(settings, userlist, out)
    for name, value in settings.items():
        _setting(name, value, name in ini.settings, out)
    _tls(settings, out)
    _reset_query(settings, out)
    lines = _expanded(ini.databases, databases, out)
    if not lines:
        raise ConfigError(
            "[databases] names none that a pool could be made of",
            ["databases.*: name the databases that clients use with --database NAME"],
        )
    for name, line in lines.items():
        _pool(name, line, ini, userlist, out)
    for name, line in ini.peers.items():
        _peer(name, line, out)
    return out


def _peer(name: str, line: Values, out: Imported) -> None:
    """Carry over a process of the group, all of which have to be routers."""
    peer: dict[str, Value] = {}
    for key, value in {"port": "6432", **line}.items():
        carried = _carried(Peer, key, value, None) if key in declarations(Peer) else None
        if carried is None:
            out.lose(f"peers.{name}.{key}", "there is nothing like it")
        else:
            peer[key] = carried
    if "host" not in peer or peer_number(name) is None:
        out.lose(f"peers.{name}", "no peer_id with a host: left out")
        return
    out.tables.append((("peers", name), peer))


# --- [pgbouncer]


def _listen(settings: Values, out: Imported) -> None:
    addresses = [each.strip() for each in settings.get("listen_addr", "").split(",")]
    first = addresses[0]
    if not first:
        out.lose("pgbouncer.listen_addr", "not set, so only a Unix socket: made 127.0.0.1")
    if len(addresses) > 1:
        out.lose("pgbouncer.listen_addr", f"one address only: {printable(first)}")
    out.general["host"] = {"*": "0.0.0.0", "": "127.0.0.1"}.get(first, first)


def _administrators(settings: Values, userlist: Values, out: Imported) -> None:
    for setting, keys in (("admin_users", "admin"), ("stats_users", "stats")):
        names = [each.strip() for each in settings.get(setting, "").split(",") if each.strip()]
        if not names and keys == "stats":
            continue
        others = ", ".join(map(printable, names[1:]))
        if others:
            out.lose(f"pgbouncer.{setting}", f"one user only, so not: {others}")
        name = names[0] if names else "pgbouncer"
        password = userlist.get(name, "")
        if keys == "stats" and name == out.general.get("admin_username"):
            out.lose("pgbouncer.stats_users", f"{printable(name)} is the administrator")
            continue
        if not password:
            password = secrets.token_urlsafe(18)
            out.lose(f"pgbouncer.{setting}", f"{keys}_password has been made up")
        out.general[f"{keys}_username"] = name
        out.general[f"{keys}_password"] = password
    kind, _ = _auth_type(settings)
    if kind != "md5" and kind != "trust":
        out.general["admin_auth_type"] = kind


def _setting(name: str, value: str, is_set: bool, out: Imported) -> None:
    """Carry over one setting, or tell why not."""
    key, zero = _GENERAL.get(name, (name, None))
    path = f"pgbouncer.{name}"
    if name in _ELSEWHERE or (not is_set and name not in _DEFAULTS):
        return
    if name in _NEEDLESS:
        out.needless.append(f"{path}: {_NEEDLESS[name]}")
    elif key not in declarations(General) or name in ("auth_query", "auth_user"):
        told = f"{_REASONS.get(name, 'there is nothing like it')}"
        out.lose(path, told)
    else:
        carried = _carried(General, key, value, zero)
        if carried is None:
            out.lose(path, f"not understood: {printable(value)}")
            return
        out.general[key] = carried
        if zero is not None and _is_zero(value):
            out.lose(path, f"0 cannot be said: made {carried}")
    if name == "server_connect_timeout" and key in out.general:
        out.general["connect_timeout"] = out.general[key]


def _carried(section: type[Section], key: str, value: str, zero: int | None) -> Value | None:
    """A value as a key here has it; None if it cannot be read."""
    declared = declarations(section)[key]
    if declared.base is bool:
        return _is_on(value)
    if declared.base is not int:
        return value
    if key == "unix_socket_mode":
        return int(value, 8) if value.isdecimal() else None
    try:
        number = float(value)
    except ValueError:
        return None
    if not 0 <= number < LARGEST / 1000:
        return None
    if number == 0 and zero is not None:
        return zero
    return round(number * 1000) if declared.unit is Unit.MILLISECONDS else round(number)


def _is_zero(value: str) -> bool:
    return value.strip("0") in ("", ".")


def _is_on(value: str) -> bool:
    return value.strip().lower() in ("1", "yes", "true", "on")


def _tls(settings: Values, out: Imported) -> None:
    mode = settings.get("client_tls_sslmode", "disable")
    if mode == "disable":
        out.general.pop("tls_certificate", None)
        out.general.pop("tls_private_key", None)
    elif mode not in ("allow", "prefer"):
        out.lose(
            f"pgbouncer.client_tls_sslmode = {printable(mode)}",
            "TLS is offered, not required, and certificates of clients are not asked for",
        )
    mode = settings.get("server_tls_sslmode", "prefer")
    if mode in ("require", "verify-ca", "verify-full"):
        out.general["server_tls"] = True
        out.general["verify_server_certificate"] = mode != "require"
    if mode in ("allow", "prefer"):
        out.lose(
            f"pgbouncer.server_tls_sslmode = {mode}",
            "TLS is asked for or not: made server_tls = false",
        )
    elif mode == "verify-ca":
        out.lose(f"pgbouncer.server_tls_sslmode = {mode}", "the host name is verified, too")
    if mode not in ("verify-ca", "verify-full"):
        out.general.pop("server_tls_ca_file", None)


def _reset_query(settings: Values, out: Imported) -> None:
    reset = settings.get("server_reset_query", "DISCARD ALL")
    if reset.strip().rstrip(";").upper() in ("DISCARD ALL", ""):
        if "server_reset_query" in settings:
            why = "connections are cleaned by what the client did"
            out.needless.append(f"pgbouncer.server_reset_query: {why}")
    else:
        out.lose("pgbouncer.server_reset_query", "the clean-up is the router's own")


def _auth_type(settings: Mapping[str, str]) -> tuple[str, str]:
    """The auth_type here, and what is different about it."""
    wanted = settings.get("auth_type", "md5")
    if wanted in ("trust", "md5", "scram-sha-256"):
        return wanted, ""
    if wanted == "any":
        return "trust", "made trust: users have to be known"
    if wanted == "plain":
        return "md5", "made md5: passwords are not asked for in plain text"
    return "md5", "made md5: there is nothing like it"


# --- [databases] and [users]


def _expanded(
    lines: Mapping[str, Values], wanted: Sequence[str], out: Imported
) -> dict[str, Values]:
    """The databases that get a pool."""
    found = {name: line for name, line in lines.items() if name != "*"}
    fallback = lines.get("*")
    if fallback is None:
        missing = [name for name in wanted if name not in found]
        for name in missing:
            out.lose(f"databases.{name}", "there is no line for it, nor one of *")
        return found
    made = [name for name in wanted if name not in found]
    out.lose(
        "databases.*",
        "databases that are not named have no pool"
        + (f"; made by it: {', '.join(map(printable, made))}" if made else ""),
    )
    return {**found, **dict.fromkeys(made, fallback)}


_SERVER_KEYS: Final = ("host", "port", "dbname", "user", "password", "connect_query")
_USER_KEYS: Final = ("pool_size", "min_pool_size", "pool_mode")


def _pool(name: str, line: Values, ini: Ini, userlist: Values, out: Imported) -> None:
    path = f"databases.{name}"
    pool: dict[str, Value] = {}
    pool["pool_mode"] = line.get("pool_mode", ini.settings.get("pool_mode", "session"))
    for key, value in line.items():
        if key in _SERVER_KEYS or key in _USER_KEYS:
            continue
        key = "reserve_pool_size" if key == "reserve_pool" else key
        carried = None
        if key in declarations(PoolConfig) and not key.startswith("auth_"):
            carried = _carried(PoolConfig, key, value, 1 if key == "server_lifetime" else None)
        if carried is None:
            out.lose(f"{path}.{key}", _REASONS.get(key, "there is nothing like it"))
        else:
            pool[key] = carried
    out.tables.append((("pools", name), pool))
    if "connect_query" in line:
        prewarmer: dict[str, Value] = {"enabled": True, "queries": [line["connect_query"]]}
        out.tables.append((("pools", name, "plugins", "prewarmer"), prewarmer))
    servers = _servers(path, line, ini.settings, out)
    users = list(_users(name, line, ini, userlist, out))
    if not users:
        raise ConfigError(
            "no users are known",
            [f"{path}: give the auth_file, or a user in its line"],
        )
    for number, user in enumerate(users):
        out.tables.append((("pools", name, "users", str(number)), user))
    shard: dict[str, Value] = {"database": line.get("dbname", name), "servers": servers}
    out.tables.append((("pools", name, "shards", "0"), shard))


def _servers(path: str, line: Values, settings: Values, out: Imported) -> list[Value]:
    host = line.get("host", "") or settings.get("unix_socket_dir", "/tmp")
    hosts = [each.strip() for each in host.split(",") if each.strip()]
    ports = [int(each) for each in line.get("port", "5432").split(",") if each.isdecimal()]
    port = ports[0] if ports else 5432
    if len(hosts) == 1:
        return [[hosts[0], port, "primary"]]
    out.lose(
        f"{path}.host",
        "which of several is the primary is not known: all made replicas, of which any gets "
        "any statement, as in PgBouncer; set their roles",
    )
    return [[each, port, "replica"] for each in hosts]


def _users(
    name: str, line: Values, ini: Ini, userlist: Values, out: Imported
) -> Iterator[dict[str, Value]]:
    kind, difference = _auth_type(ini.settings)
    forced = line.get("user")
    logins = dict(userlist)
    if not logins and forced is not None:
        logins[forced] = line.get("password", "")
    if difference:
        _once(out, "pgbouncer.auth_type", difference)
    if forced is not None and len(logins) > 1:
        why = "clients share no pool, though all log in as this user: each has pool_size"
        out.lose(f"databases.{name}.user", why)
    for username, password in logins.items():
        user: dict[str, Value] = {"username": username}
        if password or kind == "trust":
            user["password"] = password
        user["auth_type"] = kind if password or kind == "trust" else "md5"
        if not password and kind != "trust":
            _once(out, f"users.{username}", "without a password: cannot log in, left out")
            continue
        if kind == "scram-sha-256" and password.startswith("md5"):
            user["auth_type"] = "md5"
            _once(out, f"users.{username}", "has an MD5 hash: made auth_type md5")
        if forced is not None:
            user["server_username"] = forced
            known = line.get("password", userlist.get(forced, ""))
            if known:
                user["server_password"] = known
        elif password.startswith("SCRAM-SHA-256$"):
            why = "has a verifier, with which the router cannot log in to servers that want "
            _once(out, f"users.{username}", f"{why}a password: set server_password")
        _sizes(user, line, ini, out)
        yield user


def _sizes(user: dict[str, Value], line: Values, ini: Ini, out: Imported) -> None:
    own = ini.users.get(str(user["username"]), {})
    size = own.get("pool_size", line.get("pool_size"))
    for key, value in (
        ("pool_size", size or ini.settings.get("default_pool_size", "20")),
        ("min_pool_size", line.get("min_pool_size", ini.settings.get("min_pool_size", "0"))),
        *own.items(),
    ):
        carried = None
        if key in declarations(User):
            carried = _carried(User, key, value, None)
        if carried is None or (key == "pool_size" and not carried):
            _once(out, f"users.{user['username']}.{key}", "there is nothing like it")
        else:
            user[key] = carried
    user.setdefault("pool_size", 20)


def _once(out: Imported, key: str, why: str) -> None:
    """Note what is the same for all databases."""
    if f"{printable(key)}: {why}" not in out.lost:
        out.lose(key, why)


# --- TOML


def _written(key: str, value: Value) -> str:
    """A value as people write it for a key."""
    if key == "unix_socket_mode" and isinstance(value, int):
        return f"0o{value:o}"
    return _toml(value)


def _toml(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"[{', '.join(map(_toml, value))}]"
