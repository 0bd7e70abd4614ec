"""The first packet of a connection."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import ClientProtocolError
from router.protocol import codes
from router.protocol.startup import (
    CancelRequest,
    GSSENCRequest,
    SSLRequest,
    StartupMessage,
    packet_length,
    parse_first_packet,
    split_options,
)


def packet(code: int, rest: bytes = b"") -> bytes:
    """What follows the length."""
    return struct.pack("!I", code) + rest


def test_requests_are_told_apart() -> None:
    assert parse_first_packet(packet(codes.SSL_REQUEST)) == SSLRequest()
    assert parse_first_packet(packet(codes.GSSENC_REQUEST)) == GSSENCRequest()
    key = struct.pack("!I", 7) + b"secret"
    assert parse_first_packet(packet(codes.CANCEL_REQUEST, key)) == CancelRequest(7, b"secret")


def test_a_startup_message_has_its_parameters() -> None:
    body = b"user\0alice\0options\0\0_pq_.x\0y\0database\0db\0\0"
    found = parse_first_packet(packet(codes.PROTOCOL_3_0, body))
    assert isinstance(found, StartupMessage)
    assert (found.user, found.database) == ("alice", "db")
    assert found.parameters["options"] == ""
    assert found.options == (b"_pq_.x",)
    assert found.needs_negotiation


@given(st.integers(0, 0xFFFF))
def test_the_newest_version_that_both_speak_is_spoken(minor: int) -> None:
    found = parse_first_packet(packet(3 << 16 | minor, b"user\0alice\0\0"))
    assert isinstance(found, StartupMessage)
    assert found.version == 3 << 16 | min(minor, 2)
    assert found.needs_negotiation == (minor > 2)
    assert found.takes_long_keys == (minor >= 2)


def test_the_database_defaults_to_the_user() -> None:
    found = parse_first_packet(packet(codes.PROTOCOL_3_0, b"user\0alice\0database\0\0\0"))
    assert isinstance(found, StartupMessage)
    assert found.database == "alice"
    assert not found.needs_negotiation


@pytest.mark.parametrize(
    ("body", "sqlstate"),
    [
        (packet(4 << 16), "0A000"),
        (packet(2 << 16), "0A000"),
        (packet(codes.PROTOCOL_3_0, b"user\0alice\0"), "08P01"),
        (packet(codes.PROTOCOL_3_0, b"user\0alice"), "08P01"),
        (packet(codes.PROTOCOL_3_0, b"database\0db\0\0"), "28000"),
        (packet(codes.PROTOCOL_3_0, b"user\0\0\0"), "28000"),
        (packet(codes.PROTOCOL_3_0, b"\0"), "28000"),
        (packet(codes.CANCEL_REQUEST), "08P01"),
        (packet(codes.CANCEL_REQUEST, b"x" * 300), "08P01"),
        (b"GET / HTTP/1.1\r\n", "0A000"),
    ],
)
def test_what_cannot_be_read_is_refused(body: bytes, sqlstate: str) -> None:
    with pytest.raises(ClientProtocolError) as caught:
        parse_first_packet(body)
    assert caught.value.sqlstate == sqlstate


@pytest.mark.parametrize("length", [0, 4, 7, 10_001, 2**31, 2**32 - 1])
def test_a_length_out_of_range_is_refused(length: int) -> None:
    with pytest.raises(ClientProtocolError):
        packet_length(struct.pack("!I", length))


@pytest.mark.parametrize("length", [8, 9, 10_000])
def test_a_length_in_range_is_taken(length: int) -> None:
    assert packet_length(struct.pack("!I", length)) == length


@pytest.mark.parametrize(
    ("size", "is_taken"), [(3, False), (4, True), (256, True), (257, False)]
)
def test_the_key_of_a_cancel_request_has_as_many_bytes_as_a_protocol_allows(
    size: int, is_taken: bool
) -> None:
    body = packet(codes.CANCEL_REQUEST, struct.pack("!I", 7) + b"k" * size)
    if is_taken:
        assert parse_first_packet(body) == CancelRequest(7, b"k" * size)
    else:
        with pytest.raises(ClientProtocolError):
            parse_first_packet(body)


@given(st.binary(min_size=4, max_size=200))
def test_garbage_is_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(ClientProtocolError):
        parse_first_packet(body)


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", {}),
        ("-c search_path=a,b", {"search_path": "a,b"}),
        ("-csearch_path=x --work-mem=1MB", {"search_path": "x", "work_mem": "1MB"}),
        (r"-c application_name=two\ words", {"application_name": "two words"}),
        (r"  -c a=\\b  ", {"a": "\\b"}),
    ],
)
def test_options_are_split_as_a_command_line(text: str, settings: dict[str, str]) -> None:
    assert split_options(text) == settings


@pytest.mark.parametrize("text", ["-d 5", "-c", "-c name", "--=x", "stray"])
def test_an_option_that_is_no_setting_is_refused(text: str) -> None:
    with pytest.raises(ClientProtocolError) as caught:
        split_options(text)
    assert caught.value.sqlstate == "22023"
