"""Builders of the messages that the router itself sends, to clients and to servers.

Forwarded traffic never comes through here: it is sliced, not built.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from ..errors import RefusedByShard
from . import codes
from .framing import HEADER, header

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..errors import RouterError

_INT16 = struct.Struct("!H")
_INT32 = struct.Struct("!i")
_FIELD = struct.Struct("!IhIhih")

# Type oids of pg_type for the columns that the router makes up.
TEXT_OID: Final = 25
BOOL_OID: Final = 16
INT4_OID: Final = 23
NUMERIC_OID: Final = 1700
VOID_OID: Final = 2278

# Bytes of a value of those types that have a fixed length: bool, int8, int2, int4, oid, float4,
# float8 and uuid.
_SIZES: Final = {16: 1, 20: 8, 21: 2, 23: 4, 26: 4, 700: 4, 701: 8, 2950: 16}

PARSE_COMPLETE: Final = b"1\x00\x00\x00\x04"
BIND_COMPLETE: Final = b"2\x00\x00\x00\x04"
CLOSE_COMPLETE: Final = b"3\x00\x00\x00\x04"
NO_DATA: Final = b"n\x00\x00\x00\x04"
PORTAL_SUSPENDED: Final = b"s\x00\x00\x00\x04"
EMPTY_QUERY_RESPONSE: Final = b"I\x00\x00\x00\x04"
READY_IDLE: Final = b"Z\x00\x00\x00\x05I"
COPY_DONE: Final = b"c\x00\x00\x00\x04"
SYNC: Final = b"S\x00\x00\x00\x04"
FLUSH: Final = b"H\x00\x00\x00\x04"
TERMINATE: Final = b"X\x00\x00\x00\x04"
AUTHENTICATION_OK: Final = b"R\x00\x00\x00\x08\x00\x00\x00\x00"


def message(kind: int, body: bytes) -> bytes:
    """Frame a body: type byte, Int32 length that counts itself, body."""
    return HEADER.pack(kind, len(body) + 4) + body


def cstring(text: str) -> bytes:
    """Encode a String of the protocol; a NUL cannot be carried and is dropped."""
    return text.replace("\0", "").encode("utf-8", "surrogateescape") + b"\0"


# --- to clients


def authentication(body: bytes) -> bytes:
    """Wrap an Authentication body, whose first Int32 is the method."""
    return message(codes.AUTHENTICATION, body)


def parameter_status(name: str, value: str) -> bytes:
    """Tell a client the value of a setting."""
    return message(codes.PARAMETER_STATUS, cstring(name) + cstring(value))


def backend_key_data(pid: int, secret: bytes) -> bytes:
    """Give a client the key for its cancel requests."""
    return message(codes.BACKEND_KEY_DATA, struct.pack("!I", pid) + secret)


def negotiate_protocol_version(version: int, unknown_options: Sequence[bytes]) -> bytes:
    """Answer a newer version, or `_pq_.` options that the router does not know.

    The manual speaks of the minor version, but what PostgreSQL sends, and libpq expects, is the
    whole of it.
    """
    body = struct.pack("!II", version, len(unknown_options))
    return message(
        codes.NEGOTIATE_PROTOCOL_VERSION,
        body + b"".join(option + b"\0" for option in unknown_options),
    )


def ready_for_query(status: int = codes.IDLE) -> bytes:
    """Say that the next query may come, and the transaction status."""
    return b"Z\x00\x00\x00\x05" + bytes((status,))


def command_complete(tag: str) -> bytes:
    """End a command with its tag."""
    return message(codes.COMMAND_COMPLETE, cstring(tag))


def row_description(
    columns: Iterable[tuple[str, int]], formats: Sequence[int] | None = None
) -> bytes:
    """Describe columns given as (name, type oid), in text format unless formats are given."""
    fields = [
        cstring(name)
        + _FIELD.pack(0, 0, oid, _SIZES.get(oid, -1), -1, formats[number] if formats else 0)
        for number, (name, oid) in enumerate(columns)
    ]
    return message(codes.ROW_DESCRIPTION, _INT16.pack(len(fields)) + b"".join(fields))


def parameter_description(types: Sequence[int]) -> bytes:
    """Tell the type oids of a statement's parameters."""
    body = struct.pack(f"!H{len(types)}I", len(types), *types)
    return message(codes.PARAMETER_DESCRIPTION, body)


def data_row(values: Sequence[str | int | None]) -> bytes:
    """One row in text format; None is NULL."""
    parts = [_INT16.pack(len(values))]
    for value in values:
        if value is None:
            parts.append(b"\xff\xff\xff\xff")
        else:
            data = str(value).encode("utf-8", "surrogateescape")
            parts.append(_INT32.pack(len(data)) + data)
    return message(codes.DATA_ROW, b"".join(parts))


def error_response(
    text: str,
    sqlstate: str,
    *,
    severity: str = "ERROR",
    hint: str = "",
    detail: str = "",
    routine: str = "",
) -> bytes:
    """An ErrorResponse with severity, code and text, and what else is given."""
    return message(
        codes.ERROR_RESPONSE,
        _notice_body(text, sqlstate, severity, hint=hint, detail=detail, routine=routine),
    )


def error_from(error: RouterError, *, severity: str = "ERROR") -> bytes:
    """Turn an exception of the router into the ErrorResponse for it."""
    if isinstance(error, RefusedByShard):
        return error_of({**error.fields, "S": severity, "V": severity})
    return error_response(
        error.message,
        error.sqlstate,
        severity=severity,
        hint=error.hint,
        detail=error.detail,
        routine=error.routine,
    )


def error_of(fields: Mapping[str, str]) -> bytes:
    """An ErrorResponse with these fields, by field code; empty ones are left out."""
    parts = [code.encode() + cstring(value) for code, value in fields.items() if value]
    return message(codes.ERROR_RESPONSE, b"".join(parts) + b"\0")


def notification_parts(data: bytes) -> tuple[bytes, bytes]:
    """The channel and the payload of a whole NotificationResponse; b"" if it has none."""
    name, _, payload = data[9:].partition(b"\0")
    return name, payload.removesuffix(b"\0")


def notice_response(
    text: str, sqlstate: str = "00000", *, severity: str = "NOTICE", detail: str = ""
) -> bytes:
    """A NoticeResponse with severity, code and text, and what else is given."""
    return message(
        codes.NOTICE_RESPONSE, _notice_body(text, sqlstate, severity, hint="", detail=detail)
    )


def _notice_body(
    text: str, sqlstate: str, severity: str, *, hint: str, detail: str, routine: str = ""
) -> bytes:
    fields = [("S", severity), ("V", severity), ("C", sqlstate), ("M", text)]
    fields += [
        (code, value) for code, value in (("D", detail), ("H", hint), ("R", routine)) if value
    ]
    return b"".join(code.encode() + cstring(value) for code, value in fields) + b"\0"


def is_last(error: bytes) -> bool:
    """Whether an ErrorResponse with this body, or beginning of one, ends the connection."""
    return b"VFATAL" in error[:64] or b"VPANIC" in error[:64]


def is_farewell(notice: bytes) -> bool:
    """Whether a server warns, in a NoticeResponse with this body, that it is stopped at once.

    No error follows then, but the end of the connection: 57P01 if an administrator stops it,
    57P02 if another of its processes has crashed. Functions can raise such warnings, too.
    """
    head = notice[:96]
    return b"\0C57P01\0" in head or b"\0C57P02\0" in head


def is_of_stale_plan(sqlstate: bytes, error: bytes) -> bool:
    """Whether a statement would return other columns than when it was prepared."""
    return sqlstate == b"0A000" and (
        b"\0RRevalidateCachedQuery\0" in error  # whatever the language of the message
        or b"cached plan must not change result type" in error
    )


def parse_error_fields(body: bytes) -> dict[str, str]:
    """Read the fields of an ErrorResponse or NoticeResponse body, by field code."""
    fields: dict[str, str] = {}
    for part in body.split(b"\0"):
        if part:
            fields[chr(part[0])] = part[1:].decode("utf-8", "replace")
    return fields


def parse_data_row(body: bytes) -> tuple[str | None, ...]:
    """Read the values of a DataRow body in text format; None is NULL.

    Raises:
        struct.error: it is cut short.
    """
    (count,) = _INT16.unpack_from(body)
    values: list[str | None] = []
    pos = 2
    for _ in range(count):
        (length,) = _INT32.unpack_from(body, pos)
        pos += 4
        if length < 0:
            values.append(None)
        else:
            values.append(body[pos : pos + length].decode("utf-8", "replace"))
            pos += length
    return tuple(values)


# --- to servers


def startup_message(parameters: Mapping[str, str], protocol: int = codes.PROTOCOL_3_0) -> bytes:
    """The StartupMessage with parameters such as user and database."""
    body = b"".join(cstring(key) + cstring(value) for key, value in parameters.items()) + b"\0"
    return struct.pack("!II", len(body) + 8, protocol) + body


def ssl_request() -> bytes:
    """Ask the server for TLS before anything else."""
    return struct.pack("!II", 8, codes.SSL_REQUEST)


def cancel_request(pid: int, secret: bytes) -> bytes:
    """Ask for the running statement of a backend to be cancelled."""
    return struct.pack("!III", 12 + len(secret), codes.CANCEL_REQUEST, pid) + secret


def password_message(body: bytes) -> bytes:
    """A PasswordMessage, SASLInitialResponse or SASLResponse, which share one type byte."""
    return message(codes.PASSWORD, body)


def copy_fail(reason: str) -> bytes:
    """End a COPY FROM STDIN without its data."""
    return message(codes.COPY_FAIL, cstring(reason))


def query(sql: bytes) -> bytes:
    """A simple Query."""
    return HEADER.pack(codes.QUERY, len(sql) + 5) + sql + b"\0"


def parse(name: bytes, text_and_types: bytes) -> bytes:
    """A Parse; `text_and_types` is what follows the statement's name in the message."""
    return (
        header(codes.PARSE, len(name) + 5 + len(text_and_types)) + name + b"\0" + text_and_types
    )


def close_statement(name: bytes) -> bytes:
    """A Close of a prepared statement."""
    return HEADER.pack(codes.CLOSE, len(name) + 6) + b"S" + name + b"\0"


def close_portal(name: bytes) -> bytes:
    """A Close of a portal."""
    return HEADER.pack(codes.CLOSE, len(name) + 6) + b"P" + name + b"\0"


def execute(portal: bytes) -> bytes:
    """An Execute to the end."""
    return HEADER.pack(codes.EXECUTE, len(portal) + 9) + portal + bytes(5)


def describe_statement(name: bytes) -> bytes:
    """A Describe of a prepared statement."""
    return HEADER.pack(codes.DESCRIBE, len(name) + 6) + b"S" + name + b"\0"
