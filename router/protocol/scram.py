"""SCRAM-SHA-256 as PostgreSQL does it, without channel binding (RFC 5802, RFC 7677).

`ScramServer` checks a client that logs in to the router; `ScramClient` logs the router in to a
server. Each takes and returns the bare SCRAM messages; `auth` wraps them in protocol messages.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from ..errors import ClientProtocolError, ServerProtocolError
from .saslprep import prepare_password

MECHANISM: Final = "SCRAM-SHA-256"
ITERATIONS: Final = 4096
# A server names its iteration count before it has proved anything, and the router waits while
# PBKDF2 runs: 0.3 microseconds an iteration, 1.3 ms for PostgreSQL's default of 4096. A third
# of a second, once per password and salt, is the most that a server may ask for.
MAX_ITERATIONS: Final = 1_000_000

_KEY_LENGTH: Final = 32
_SALT_LENGTH: Final = 16
_NONCE_LENGTH: Final = 18
_VERIFIER: Final = re.compile(
    r"SCRAM-SHA-256\$(\d{1,10}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)",
    re.ASCII,
)
# A fresh key in each process: salts must not be predictable.
_SALT_KEY: Final = secrets.token_bytes(32)
# RFC 5802, section 7: printable = %x21-2B / %x2D-7E
_NONCE: Final = re.compile(rb"[\x21-\x2b\x2d-\x7e]+")


# --- keys


def salt_of(user: str, key: bytes = _SALT_KEY) -> bytes:
    """The salt of a user, known or not, the same as long as `key` stays.

    One that changed from one attempt to the next, or only with a reload, would tell which.
    """
    return _hmac(key, b"salt" + user.encode("utf-8", "surrogateescape"))[:_SALT_LENGTH]


def salted_password(password: str, salt: bytes, iterations: int) -> bytes:
    """Derive the key that all others come from; costs 0.3 microseconds an iteration."""
    return hashlib.pbkdf2_hmac("sha256", prepare_password(password), salt, iterations)


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What a client needs to log in, for one salt and iteration count."""

    client_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @classmethod
    def from_password(cls, password: str, salt: bytes, iterations: int) -> ScramKeys:
        """Derive the keys, at the cost of a PBKDF2."""
        salted = salted_password(password, salt, iterations)
        return cls(_hmac(salted, b"Client Key"), _hmac(salted, b"Server Key"))


@dataclass(frozen=True, slots=True)
class ScramSecrets:
    """What a server stores to check a password.

    Make it once per user: deriving costs a PBKDF2, a login with it some 20 microseconds.
    """

    iterations: int
    salt: bytes = field(repr=False)
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @classmethod
    def from_password(
        cls, password: str, salt: bytes | None = None, iterations: int = ITERATIONS
    ) -> ScramSecrets:
        """Derive from a plain password, at the cost of a PBKDF2."""
        salt = secrets.token_bytes(_SALT_LENGTH) if salt is None else salt
        keys = ScramKeys.from_password(password, salt, iterations)
        return cls(iterations, salt, _sha256(keys.client_key), keys.server_key)

    @classmethod
    def from_verifier(cls, verifier: str) -> ScramSecrets | None:
        """Read a value of pg_authid.rolpassword; None if it is no SCRAM-SHA-256 verifier."""
        match = _VERIFIER.fullmatch(verifier)
        if match is None:
            return None
        salt, stored_key, server_key = (_decode(part.encode()) for part in match.groups()[1:])
        if not salt or stored_key is None or server_key is None or int(match[1]) < 1:
            return None
        if len(stored_key) != _KEY_LENGTH or len(server_key) != _KEY_LENGTH:
            return None
        return cls(int(match[1]), salt, stored_key, server_key)

    @classmethod
    def mock(
        cls, user: str, key: bytes = _SALT_KEY, iterations: int = ITERATIONS
    ) -> ScramSecrets:
        """Make up secrets that no password fits."""
        name = user.encode("utf-8", "surrogateescape")
        stored_key, server_key = _hmac(key, b"stored" + name), _hmac(key, b"server" + name)
        return cls(iterations, salt_of(user, key), stored_key, server_key)

    def verifier(self) -> str:
        """Print in the form of pg_authid.rolpassword."""
        salt, stored, server = map(_encode, (self.salt, self.stored_key, self.server_key))
        return f"{MECHANISM}${self.iterations}:{salt}${stored}:{server}"


# --- the two sides


class _State(Enum):
    """What is awaited from the peer."""

    FIRST = auto()
    FINAL = auto()
    DONE = auto()


class ScramServer:
    """Checks one login of a client.

    Attributes:
        client_key: after a login that succeeded, the key with which the router can log in as
            this user to servers that store the same verifier; b"" before.
    """

    __slots__ = ("_auth_message", "_gs2_header", "_nonce", "_secrets", "_state", "client_key")

    def __init__(self, secrets_: ScramSecrets, *, nonce: str | None = None) -> None:
        self._secrets = secrets_
        self._nonce = _new_nonce(nonce)
        self._state = _State.FIRST
        self._gs2_header = b""
        self._auth_message = b""
        self.client_key = b""

    def first(self, message: bytes) -> bytes:
        """Answer a client-first-message with the server-first-message.

        Raises:
            ClientProtocolError: it is malformed, or asks for what was not offered.
        """
        self._expect(_State.FIRST)
        self._gs2_header, bare = _split_gs2_header(message)
        attributes = bare.split(b",")
        if attributes[0].startswith(b"m="):
            raise ClientProtocolError(
                "client requires an unsupported SCRAM extension", sqlstate="0A000"
            )
        # The name is ignored, as PostgreSQL does: the start-up packet's counts.
        _value(attributes, 0, b"n=", "client-first-message")
        client_nonce = _value(attributes, 1, b"r=", "client-first-message")
        if not _NONCE.fullmatch(client_nonce):
            raise ClientProtocolError("non-printable characters in SCRAM nonce")
        self._nonce = client_nonce + self._nonce
        salt = _encode(self._secrets.salt).encode()
        reply = b"r=%s,s=%s,i=%d" % (self._nonce, salt, self._secrets.iterations)
        self._auth_message = bare + b"," + reply
        self._state = _State.FINAL
        return reply

    def final(self, message: bytes) -> bytes | None:
        """Answer a client-final-message with the server-final-message; None if the proof fails.

        Raises:
            ClientProtocolError: it is malformed, or belongs to another exchange.
        """
        self._expect(_State.FINAL)
        self._state = _State.DONE
        without_proof, _, _ = message.rpartition(b",p=")
        proof = self._read_final(message)
        auth_message = self._auth_message + b"," + without_proof
        signature = _hmac(self._secrets.stored_key, auth_message)
        client_key = _xor(proof, signature)
        if not hmac.compare_digest(_sha256(client_key), self._secrets.stored_key):
            return None
        self.client_key = client_key
        server_signature = _hmac(self._secrets.server_key, auth_message)
        return b"v=" + _encode(server_signature).encode()

    def _read_final(self, message: bytes) -> bytes:
        """Check a client-final-message and return its proof."""
        attributes = message.split(b",")
        binding = _value(attributes, 0, b"c=", "client-final-message")
        if binding != base64.b64encode(self._gs2_header):
            raise ClientProtocolError(
                "unexpected SCRAM channel-binding attribute in client-final-message"
            )
        nonce = _value(attributes, 1, b"r=", "client-final-message")
        if not hmac.compare_digest(nonce, self._nonce):
            raise ClientProtocolError("invalid SCRAM response: nonce does not match")
        proof = _decode(_value(attributes, len(attributes) - 1, b"p=", "client-final-message"))
        if proof is None or len(proof) != _KEY_LENGTH or len(attributes) < 3:
            raise _malformed_by_client("malformed proof in client-final-message")
        return proof

    def _expect(self, state: _State) -> None:
        if self._state is not state:
            raise ClientProtocolError("unexpected SCRAM message")


class ScramClient:
    """Logs in to a server once."""

    __slots__ = ("_auth_message", "_bare", "_keys", "_nonce", "_state")

    def __init__(self, *, nonce: str | None = None) -> None:
        self._nonce = _new_nonce(nonce)
        # PostgreSQL ignores the name, libpq leaves it empty.
        self._bare = b"n=,r=" + self._nonce
        self._auth_message = b""
        self._keys: ScramKeys | None = None
        self._state = _State.FIRST

    def first(self) -> bytes:
        """Build the client-first-message."""
        return b"n,," + self._bare

    def challenge(self, message: bytes) -> tuple[bytes, int]:
        """Read a server-first-message and return its salt and iteration count.

        Raises:
            ServerProtocolError: it is malformed, or dearer than MAX_ITERATIONS.
        """
        if self._state is not _State.FIRST:
            raise ServerProtocolError("unexpected SCRAM message from the server")
        attributes = message.split(b",")
        nonce, salt, count = (
            _server_value(attributes, index, name)
            for index, name in enumerate((b"r=", b"s=", b"i="))
        )
        if not (nonce.startswith(self._nonce) and len(nonce) > len(self._nonce)):
            raise ServerProtocolError("invalid SCRAM response from the server: nonce mismatch")
        decoded = _decode(salt)
        if not decoded:
            raise _malformed_by_server("invalid salt")
        self._nonce = nonce
        self._auth_message = self._bare + b"," + message
        self._state = _State.FINAL
        return decoded, _iteration_count(count)

    def final(self, keys: ScramKeys) -> bytes:
        """Build the client-final-message, once `challenge` has said which keys are needed."""
        self._keys = keys
        without_proof = b"c=biws,r=" + self._nonce
        self._auth_message += b"," + without_proof
        signature = _hmac(_sha256(keys.client_key), self._auth_message)
        return without_proof + b",p=" + base64.b64encode(_xor(keys.client_key, signature))

    def verify(self, message: bytes) -> None:
        """Check the server-final-message: the server knows the password too.

        Raises:
            ServerProtocolError: it does not, or the message is out of place or malformed.
        """
        if self._state is not _State.FINAL or self._keys is None:
            raise ServerProtocolError("unexpected SCRAM message from the server")
        self._state = _State.DONE
        attributes = message.split(b",")
        if attributes[0].startswith(b"e="):
            reason = attributes[0][2:].decode("ascii", "replace")
            raise ServerProtocolError(
                f"server reported an error in the SCRAM exchange: {reason}"
            )
        signature = _decode(_server_value(attributes, 0, b"v="))
        if signature is None:
            raise _malformed_by_server("invalid server signature")
        expected = _hmac(self._keys.server_key, self._auth_message)
        if not hmac.compare_digest(signature, expected):
            raise ServerProtocolError("incorrect SCRAM server signature")


# --- reading messages


def _split_gs2_header(message: bytes) -> tuple[bytes, bytes]:
    """Split a client-first-message into its gs2-header and client-first-message-bare."""
    flag, _, rest = message.partition(b",")
    if flag.startswith(b"p="):
        raise _malformed_by_client(
            "the client selected SCRAM-SHA-256 without channel binding, "
            "but the SCRAM message includes channel binding data"
        )
    if flag not in (b"n", b"y"):
        raise _malformed_by_client("unexpected channel-binding flag in client-first-message")
    identity, comma, bare = rest.partition(b",")
    if identity.startswith(b"a="):
        raise ClientProtocolError(
            "client uses authorization identity, but it is not supported", sqlstate="0A000"
        )
    if identity or not comma:
        raise _malformed_by_client("unexpected attribute in client-first-message")
    return flag + b",,", bare


def _value(attributes: list[bytes], index: int, name: bytes, where: str) -> bytes:
    """The value of the attribute that must stand at a place of a client's message."""
    if index >= len(attributes) or not attributes[index].startswith(name):
        raise _malformed_by_client(f'attribute "{name[:1].decode()}" expected in {where}')
    return attributes[index][2:]


def _server_value(attributes: list[bytes], index: int, name: bytes) -> bytes:
    """The value of the attribute that must stand at a place of a server's message."""
    if index >= len(attributes) or not attributes[index].startswith(name):
        raise _malformed_by_server(f'attribute "{name[:1].decode()}" expected')
    return attributes[index][2:]


def _iteration_count(text: bytes) -> int:
    # The length first: int() of a long run of digits is work that an attacker could ask for.
    if not text.isdigit() or len(text) > 10:
        raise _malformed_by_server("invalid iteration count")
    count = int(text)
    if count < 1:
        raise _malformed_by_server("invalid iteration count")
    if count > MAX_ITERATIONS:
        raise ServerProtocolError(
            f"server asks for {count} SCRAM iterations, at most {MAX_ITERATIONS} are accepted"
        )
    return count


def _malformed_by_client(detail: str) -> ClientProtocolError:
    return ClientProtocolError(f"malformed SCRAM message: {detail}")


def _malformed_by_server(detail: str) -> ServerProtocolError:
    return ServerProtocolError(f"malformed SCRAM message from the server: {detail}")


# --- primitives


def _new_nonce(nonce: str | None) -> bytes:
    return (
        base64.b64encode(secrets.token_bytes(_NONCE_LENGTH))
        if nonce is None
        else nonce.encode()
    )


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(text: bytes) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return None


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
