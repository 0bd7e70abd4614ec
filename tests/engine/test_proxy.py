"""The header of the PROXY protocol."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.engine.proxy import is_from, networks, read_header
from router.errors import ClientProtocolError

if TYPE_CHECKING:
    import ipaddress

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
PORTS = st.integers(0, 65535)
MORE = st.binary(max_size=100)


def header(command: int, family: int, body: bytes) -> bytes:
    """A header as a load balancer sends it."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


def read(data: bytes) -> tuple[tuple[str, int] | None, bytes]:
    """What a header says, and what is behind it; it may come in any pieces."""
    for size in range(len(data) + 1):
        found = read_header(data[:size])
        if found is not None:
            assert size == found.size
            assert read_header(data) == found
            return found.source, data[found.size :]
    raise AssertionError("waits for more")


@given(source=st.ip_addresses(), port=PORTS, more=MORE)
def test_the_address_is_that_of_the_client(
    source: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, more: bytes
) -> None:
    family = 0x11 if source.version == 4 else 0x21
    addresses = source.packed * 2 + struct.pack("!HH", port, 5432)
    data = header(0x21, family, addresses + more)
    assert read(data + b"rest") == ((str(source), port), b"rest")


@given(command=st.sampled_from([0x20, 0x21]), more=MORE)
def test_a_check_of_the_load_balancer_has_no_client(command: int, more: bytes) -> None:
    assert read(header(command, 0x00, more) + b"rest") == (None, b"rest")


def test_a_unix_socket_before_it_is_no_address() -> None:
    assert read(header(0x21, 0x31, bytes(216))) == (None, b"")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (struct.pack("!II", 8, 80877103), "is missing"),  # SSLRequest, and then it waits
        (struct.pack("!II", 30, 196608) + b"user\0somebody\0\0", "is missing"),
        (SIGNATURE[:11] + b"X" + bytes(4), "is missing"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 5 6\r\n", "is of version 1"),
        (SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 2049), "has 2049 bytes"),
        (header(0x22, 0x11, bytes(12)), "has the version and command 0x22"),
        (header(0x11, 0x11, bytes(12)), "has the version and command 0x11"),
        (header(0x21, 0x12, bytes(12)), "has the family 0x12"),  # datagrams
        (header(0x21, 0x11, bytes(11)), "has the family 0x11 and 11 bytes"),
        (header(0x21, 0x21, bytes(35)), "has the family 0x21 and 35 bytes"),
        (header(0x21, 0x31, bytes(215)), "has the family 0x31 and 215 bytes"),
    ],
)
def test_what_is_no_header_is_refused_as_soon_as_it_is_seen(data: bytes, why: str) -> None:
    with pytest.raises(ClientProtocolError, match=f"the PROXY protocol header {why}"):
        read(data)


def test_who_is_trusted() -> None:
    trusted = networks(["10.0.0.0/8", "::1", "fe80::/10"])
    assert is_from("10.1.2.3", trusted)
    assert is_from("::1", trusted)
    assert is_from("fe80::1%eth0", trusted)
    assert not is_from("11.1.2.3", trusted)
    assert not is_from("::2", trusted)
    assert not is_from("", trusted)  # a Unix socket
    assert not is_from("10.1.2.3", ())
