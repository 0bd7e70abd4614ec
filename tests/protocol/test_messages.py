"""Messages that the router builds, byte by byte as the manual's "Message Formats" has them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import PoolTimeout
from router.protocol import codes, messages
from router.protocol.binds import bind_head
from tests.support.wire import Message

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def read(data: bytes) -> Message:
    """The one message in some bytes."""
    assert struct.unpack_from("!I", data, 1)[0] == len(data) - 1
    return Message(chr(data[0]), data[5:])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (messages.ready_for_query(), b"Z\0\0\0\5I"),
        (messages.ready_for_query(ord("T")), b"Z\0\0\0\5T"),
        (messages.command_complete("SELECT 1"), b"C\0\0\0\rSELECT 1\0"),
        (messages.parameter_status("TimeZone", "UTC"), b"S\0\0\0\x11TimeZone\0UTC\0"),
        (messages.backend_key_data(258, b"abcd"), b"K\0\0\0\x0c\0\0\1\2abcd"),
        (messages.authentication(b"\0\0\0\0"), messages.AUTHENTICATION_OK),
        (messages.query(b"SELECT 1"), b"Q\0\0\0\rSELECT 1\0"),
        (messages.parse(b"s", b"SELECT 1\0\0\0"), b"P\0\0\0\x11s\0SELECT 1\0\0\0"),
        (bind_head(b"p", b"s", 6) + bytes(6), b"B\0\0\0\x0ep\0s\0" + bytes(6)),
        (messages.describe_statement(b"s"), b"D\0\0\0\7Ss\0"),
        (messages.close_statement(b"s"), b"C\0\0\0\7Ss\0"),
        (messages.copy_fail("no"), b"f\0\0\0\7no\0"),
        (messages.password_message(b"x\0"), b"p\0\0\0\6x\0"),
        (messages.ssl_request(), b"\0\0\0\x08\x04\xd2\x16\x2f"),
        (messages.cancel_request(1, b"abcd"), b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\1abcd"),
        (
            messages.startup_message({"user": "ann"}),
            b"\0\0\0\x12\0\3\0\0user\0ann\0\0",
        ),
        (
            messages.negotiate_protocol_version(codes.PROTOCOL_3_2, [b"_pq_.x"]),
            b"v\0\0\0\x13\0\3\0\2\0\0\0\1_pq_.x\0",
        ),
    ],
)
def test_a_message_is_what_the_manual_says(data: bytes, expected: bytes) -> None:
    assert data == expected


def test_rows_are_in_text_format_and_null_is_a_length_of_its_own() -> None:
    assert read(messages.data_row(["a", 12, None, ""])).row == [b"a", b"12", None, b""]


def test_columns_say_their_type() -> None:
    described = read(messages.row_description([("name", messages.TEXT_OID), ("n", 23)]))
    assert described.body[:2] == b"\0\2"
    assert described.body[2:].startswith(b"name\0")
    assert struct.pack("!IhIhih", 0, 0, 25, -1, -1, 0) in described.body
    assert struct.pack("!IhIhih", 0, 0, 23, 4, -1, 0) in described.body


@given(TEXT, TEXT, TEXT)
def test_an_error_can_be_read_back(text: str, hint: str, detail: str) -> None:
    data = messages.error_response(text, "57014", hint=hint, detail=detail)
    fields = messages.parse_error_fields(read(data).body)
    wanted = {"S": "ERROR", "V": "ERROR", "C": "57014", "M": text, "H": hint, "D": detail}
    assert fields == {key: value for key, value in wanted.items() if value or key == "M"}


def test_an_error_of_the_router_carries_its_code_and_hint() -> None:
    error = PoolTimeout("no connection", hint="wait")
    message = read(messages.error_from(error, severity="FATAL"))
    assert message.fields == {
        "S": "FATAL",
        "V": "FATAL",
        "C": "53300",
        "M": "no connection",
        "H": "wait",
    }


def test_a_nul_cannot_end_a_string_early() -> None:
    data = messages.error_response("one\0Vtwo", "XX000")
    assert read(data).fields["M"] == "oneVtwo"
    assert messages.command_complete("A\0B") == messages.command_complete("AB")


@given(st.binary())
def test_fields_of_a_foreign_error_are_read_whatever_they_hold(body: bytes) -> None:
    messages.parse_error_fields(body)
