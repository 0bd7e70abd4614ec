"""The first packet of a connection, and the start-up parameters in it."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..errors import ClientProtocolError
from . import codes

if TYPE_CHECKING:
    from collections.abc import Mapping

# What ends a word in `options`, and what takes that away.
_ESCAPED: Final = re.compile(r"[\s\\]")


@dataclass(frozen=True, slots=True)
class SSLRequest:
    """The client asks for TLS."""


@dataclass(frozen=True, slots=True)
class GSSENCRequest:
    """The client asks for GSSAPI encryption."""


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """The client asks for another connection's statement to be cancelled.

    Attributes:
        pid: the process id of BackendKeyData.
        secret: the rest of the key; its length is not fixed since protocol 3.2.
    """

    pid: int
    secret: bytes


@dataclass(frozen=True, slots=True)
class StartupMessage:
    """The client introduces itself.

    Attributes:
        asked: the protocol version that it asked for.
        parameters: all that it sent, in order, without the `_pq_.` options.
        options: names of the `_pq_.` options, as bytes.
    """

    asked: int
    parameters: dict[str, str]
    options: tuple[bytes, ...]

    @property
    def user(self) -> str:
        """The user name, which PostgreSQL requires."""
        return self.parameters["user"]

    @property
    def database(self) -> str:
        """The database; PostgreSQL's default is the user's name."""
        return self.parameters.get("database") or self.user

    @property
    def version(self) -> int:
        """The protocol version that is spoken: of what it asked for, what the router knows."""
        return min(self.asked, codes.PROTOCOL_3_2)

    @property
    def needs_negotiation(self) -> bool:
        """Whether NegotiateProtocolVersion must be sent."""
        return self.asked > self.version or bool(self.options)

    @property
    def takes_long_keys(self) -> bool:
        """Whether the key of BackendKeyData may be longer than 4 bytes."""
        return self.version >= codes.PROTOCOL_3_2


FirstPacket = SSLRequest | GSSENCRequest | CancelRequest | StartupMessage


def packet_length(header: bytes) -> int:
    """Read and check the Int32 length that opens a connection; it counts itself.

    Raises:
        ClientProtocolError: for a length that PostgreSQL would not take either.
    """
    (length,) = struct.unpack("!I", header)
    if not 8 <= length <= codes.MAX_STARTUP_LENGTH:
        raise ClientProtocolError("invalid length of startup packet")
    return int(length)


def parse_first_packet(body: bytes) -> FirstPacket:
    """Read what follows the length of the first packet.

    Raises:
        ClientProtocolError: 0A000 for a foreign protocol version, 08P01 for what cannot be
            read, 28000 for a missing user name.
    """
    (code,) = struct.unpack_from("!I", body)
    if code == codes.SSL_REQUEST:
        return SSLRequest()
    if code == codes.GSSENC_REQUEST:
        return GSSENCRequest()
    if code == codes.CANCEL_REQUEST:
        # Protocol 3.2 bounds the key at 256 bytes.
        if not 12 <= len(body) <= 264:
            raise ClientProtocolError("invalid length of cancel request")
        return CancelRequest(struct.unpack_from("!I", body, 4)[0], body[8:])
    major, minor = code >> 16, code & 0xFFFF
    if major != 3:
        raise ClientProtocolError(
            f"unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2",
            sqlstate="0A000",
        )
    return _startup_message(code, body)


def _startup_message(asked: int, body: bytes) -> StartupMessage:
    # Pairs of strings, ended by one more NUL.
    if not body.endswith(b"\0\0") and body[4:] != b"\0":
        raise ClientProtocolError(
            "invalid startup packet layout: expected terminator as last byte"
        )
    fields = body[4:-1].split(b"\0")
    if fields and fields[-1] == b"":
        fields.pop()
    if len(fields) % 2:
        raise ClientProtocolError("invalid startup packet layout: a parameter has no value")
    parameters: dict[str, str] = {}
    options: list[bytes] = []
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        if not name:
            raise ClientProtocolError("invalid startup packet layout: a parameter has no name")
        if name.startswith(b"_pq_."):
            options.append(name)
        else:
            key = name.decode("utf-8", "surrogateescape")
            parameters[key] = value.decode("utf-8", "surrogateescape")
    if not parameters.get("user"):
        raise ClientProtocolError(
            "no PostgreSQL user name specified in startup packet", sqlstate="28000"
        )
    return StartupMessage(asked, parameters, tuple(options))


# Parameters of the StartupMessage that are not settings.
NOT_SETTINGS: Final = frozenset(("user", "database", "options", "replication"))


def settings_in(parameters: Mapping[str, str]) -> dict[str, str]:
    """The settings among start-up parameters by lower-case name; `options` come first.

    Raises:
        ClientProtocolError: 22023 for a switch in `options` that is no setting.
    """
    options = split_options(parameters.get("options", ""))
    settings = {name.lower(): value for name, value in options.items()}
    for name, value in parameters.items():
        if name not in NOT_SETTINGS:
            settings[name.lower()] = value
    return settings


def startup_parameters(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings as parameters of a StartupMessage, where they can be nothing but settings."""
    plain: dict[str, str] = {}
    options: list[str] = []
    for name, value in settings.items():
        if name in NOT_SETTINGS or name.startswith("_pq_."):
            options.append("-c " + _ESCAPED.sub(r"\\\g<0>", f"{name}={value}"))
        else:
            plain[name] = value
    if options:
        plain["options"] = " ".join(options)
    return plain


def split_options(text: str) -> dict[str, str]:
    """Read the settings in an `options` parameter: `-c name=value` and `--name=value`.

    A backslash escapes the character after it, as in PostgreSQL's own command line splitting.

    Raises:
        ClientProtocolError: 22023 for any other switch; none of them is a setting.
    """
    words = _split_words(text)
    settings: dict[str, str] = {}
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "-c" and position < len(words):
            assignment = words[position]
            position += 1
        elif (word.startswith("-c") and len(word) > 2) or (
            word.startswith("--") and len(word) > 2
        ):
            assignment = word[2:]
        else:
            raise _bad_option(word)
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise _bad_option(word)
        settings[name.replace("-", "_")] = value
    return settings


def _bad_option(word: str) -> ClientProtocolError:
    return ClientProtocolError(
        f"invalid command-line argument for server process: {word}",
        sqlstate="22023",
        hint="In options, use -c name=value.",
    )


def _split_words(text: str) -> list[str]:
    words: list[str] = []
    word = ""
    inside = escaped = False
    for char in text:
        if escaped:
            word += char
            escaped = False
        elif char == "\\":
            inside = escaped = True
        elif char.isspace():
            if inside:
                words.append(word)
            word, inside = "", False
        else:
            word += char
            inside = True
    if inside:
        words.append(word)
    return words
