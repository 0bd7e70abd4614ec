"""The header of the PROXY protocol, version 2: a load balancer says who it passes on.

HAProxy's proxy-protocol.txt, section 2.2. Only those who are trusted may say so, and they must.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from ..errors import ClientProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_HEAD: Final = struct.Struct("!12sBBH")
# Addresses take up to 216 bytes, what load balancers add some hundred.
_LONGEST: Final = 2048
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_UNIX_SIZE: Final = 216


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Read networks such as 10.0.0.0/8.

    Raises:
        ValueError: one of them is none.
    """
    return tuple(map(ipaddress.ip_network, texts))


def is_from(ip: str, trusted: Iterable[Network]) -> bool:
    """Whether an address is in one of the networks."""
    if not ip:
        return False
    # That of a link has the name of an interface behind it.
    address = ipaddress.ip_address(ip.partition("%")[0])
    return any(address in network for network in trusted)


class Header(NamedTuple):
    """What a load balancer has said.

    Attributes:
        source: the client's address and port; None if the connection is the load balancer's
            own, or it does not know.
        size: how many bytes that took.
    """

    source: tuple[str, int] | None
    size: int


def read_header(data: bytes) -> Header | None:
    """Read the header, which must be there, at the beginning of what has come so far.

    Returns:
        None if there has to come more of it.

    Raises:
        ClientProtocolError: it is not there, or not as it should be.
    """
    if len(data) < 4:
        return None
    # Bit by bit, since a client without a header may send only 8 bytes and then wait.
    if data.startswith(b"PROX"):
        raise _invalid("is of version 1", "Have version 2 sent: send-proxy-v2 in HAProxy.")
    if not _SIGNATURE.startswith(data[:4]):
        raise _invalid("is missing")
    if len(data) < _HEAD.size:
        return None
    signature, command, family, size = _HEAD.unpack_from(data)
    if signature != _SIGNATURE:
        raise _invalid("is missing")
    if size > _LONGEST:
        raise _invalid(f"has {size} bytes, more than {_LONGEST}")
    end = _HEAD.size + size
    if len(data) < end:
        return None
    if command == _LOCAL:
        return Header(None, end)
    if command != _PROXY:
        raise _invalid(f"has the version and command {command:#04x}")
    return Header(_source(family, data[_HEAD.size : end]), end)


def _source(family: int, body: bytes) -> tuple[str, int] | None:
    if family == _TCP4 and len(body) >= 12:
        host, _, port = struct.unpack_from("!4s4sH", body)
        return str(ipaddress.IPv4Address(host)), port
    if family == _TCP6 and len(body) >= 36:
        host, _, port = struct.unpack_from("!16s16sH", body)
        return str(ipaddress.IPv6Address(host)), port
    if family == _UNSPECIFIED or (family == _UNIX and len(body) >= _UNIX_SIZE):
        return None
    raise _invalid(f"has the family {family:#04x} and {len(body)} bytes of addresses")


def _invalid(why: str, hint: str = "") -> ClientProtocolError:
    return ClientProtocolError(
        f"the PROXY protocol header {why}",
        hint=hint or "Connections from proxy_protocol_networks have to begin with one.",
    )
