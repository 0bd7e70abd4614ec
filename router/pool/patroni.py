"""What Patroni's REST API tells of a cluster: GET /cluster, asked and read."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

import trio

from ..engine.dial import dial
from ..engine.tls import client_context
from ..errors import ServerProtocolError
from ..reasons import reason

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# The longest answer that is read, in bytes, and the most members that one may have.
LONGEST: Final = 256 * 1024
MOST_MEMBERS: Final = 64
_PIECE: Final = 16 * 1024
# Of a name, a role, a state.
_LONGEST_WORD: Final = 255
# The states of servers that clients may be sent to.
_RUNNING: Final = frozenset(("running", "streaming", "in archive recovery"))
_LEADERS: Final = frozenset(("leader", "master", "primary", "standby_leader"))


@dataclass(frozen=True, slots=True)
class Member:
    """A server of the cluster, as Patroni has it.

    Attributes:
        role, state: in Patroni's words.
        lag: behind the leader, in bytes; None if it is not known.
        is_spared: it has the tag noloadbalance.
    """

    name: str
    host: str
    port: int
    role: str
    state: str
    lag: int | None
    is_spared: bool

    @property
    def is_running(self) -> bool:
        """Whether it takes connections, says Patroni."""
        return self.state in _RUNNING

    @property
    def is_leader(self) -> bool:
        """Whether it leads the cluster, says Patroni."""
        return self.role in _LEADERS


def members_of(body: bytes) -> tuple[Member, ...]:
    """Read an answer; members that have no address yet are left out.

    Raises:
        ServerProtocolError: it is none.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise ServerProtocolError("the answer is no JSON") from None
    listed = answer.get("members") if isinstance(answer, dict) else None
    if not isinstance(listed, list):
        raise ServerProtocolError("the answer has no array of members")
    if len(listed) > MOST_MEMBERS:
        raise ServerProtocolError(f"the answer has {len(listed)} members")
    found = [
        _member(cast("Mapping[str, object]", each)) if isinstance(each, dict) else None
        for each in listed
    ]
    members = {(each.host, each.port): each for each in found if each is not None}
    return tuple(sorted(members.values(), key=lambda each: (each.name, each.host, each.port)))


def _member(told: Mapping[str, object]) -> Member | None:
    host, port, tags, lag = (told.get(key) for key in ("host", "port", "tags", "lag"))
    if not _is_host(host) or type(port) is not int or not 1 <= port <= 65535:
        return None
    return Member(
        name=_word(told.get("name")),
        host=str(host),
        port=port,
        role=_word(told.get("role")),
        state=_word(told.get("state")),
        lag=lag if type(lag) is int and lag >= 0 else None,
        is_spared=isinstance(tags, dict) and tags.get("noloadbalance") is True,
    )


def _is_host(host: object) -> bool:
    """Whether it can be looked up; a directory, where a Unix socket is, is none."""
    if not isinstance(host, str) or not host or host.startswith("/") or not host.isprintable():
        return False
    try:
        return len(host.encode("idna")) <= _LONGEST_WORD
    except UnicodeError:
        return False


def _word(told: object) -> str:
    return told[:_LONGEST_WORD] if isinstance(told, str) else ""


@dataclass(frozen=True, slots=True)
class Trust:
    """Who APIs with https have to be, and who asks; files in PEM.

    Attributes:
        ca_file: who vouches for APIs; None is the system's.
        certificate, private_key: what is shown to those that ask for it.
    """

    ca_file: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None


async def ask(url: str, trust: Trust) -> tuple[Member, ...]:
    """Ask the API at a URL for the members of its cluster.

    Raises:
        OSError: it cannot be reached.
        trio.BrokenResourceError: the connection broke.
        ServerProtocolError: its answer is none, or it is not whom we trust.
    """
    where = urlsplit(url)
    host, is_tls = where.hostname or "", where.scheme == "https"
    sock, _ = await dial(host, where.port or (443 if is_tls else 80))
    stream: trio.abc.Stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    try:
        if is_tls:
            context = client_context(
                verify=True,
                ca_file=trust.ca_file,
                certificate=trust.certificate,
                private_key=trust.private_key,
            )
            stream = trio.SSLStream(
                stream, context, server_hostname=host, https_compatible=True
            )
        return members_of(await _get(stream, where.netloc, f"{where.path.rstrip('/')}/cluster"))
    except trio.BrokenResourceError as broken:
        if isinstance(broken.__cause__, ssl.SSLError):
            raise ServerProtocolError(f"TLS failed: {reason(broken)}") from None
        if is_tls and trust.certificate is None:
            # It says why, but what follows may be faster.
            why = "the connection broke; if it wants to know who asks, set patroni_certificate"
            raise ServerProtocolError(why) from None
        raise
    finally:
        await trio.aclose_forcefully(stream)


async def _get(stream: trio.abc.Stream, host: str, path: str) -> bytes:
    import h11  # only those who ask pay for it

    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_PIECE)
    headers = [("Host", host), ("Accept", "application/json"), ("Connection", "close")]
    request = h11.Request(method="GET", target=path, headers=headers)
    await stream.send_all(
        (connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b"")
    )
    body = bytearray()
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(_PIECE)))
            elif isinstance(event, h11.Response) and event.status_code != 200:
                raise ServerProtocolError(f"the answer is HTTP status {event.status_code}")
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > LONGEST:
                    raise ServerProtocolError(f"the answer is longer than {LONGEST} bytes")
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                return bytes(body)
    except h11.RemoteProtocolError:
        raise ServerProtocolError("the answer is no HTTP") from None
