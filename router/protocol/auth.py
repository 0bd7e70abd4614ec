"""Authentication on both sides, sans I/O: trust, MD5, SCRAM-SHA-256, and cleartext to servers.

Bodies are what follows the Int32 length of a message. The body of an Authentication message
begins with the Int32 that names its method; a `ServerAuthenticator` takes the two apart.
"""

from __future__ import annotations

import hmac
import secrets
import struct
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from typing import Final

from ..errors import (
    AuthenticationError,
    ClientProtocolError,
    ConfigError,
    ServerError,
    ServerProtocolError,
)
from .passwords import UserSecret, md5_response_to, secret_of
from .scram import MECHANISM, ScramClient, ScramSecrets, ScramServer

# PostgreSQL's PG_MAX_AUTH_TOKEN_LENGTH: whoever frames a login need not collect more.
MAX_PASSWORD_BODY: Final = 65535

METHODS: Final = ("trust", "md5", "scram-sha-256")

_INT32: Final = struct.Struct("!i")


class Method(IntEnum):
    """First Int32 of an Authentication message."""

    OK = 0
    KERBEROS_V5 = 2
    CLEARTEXT_PASSWORD = 3
    MD5_PASSWORD = 5
    SCM_CREDENTIAL = 6
    GSS = 7
    GSS_CONTINUE = 8
    SSPI = 9
    SASL = 10
    SASL_CONTINUE = 11
    SASL_FINAL = 12


_UNSUPPORTED: Final = {
    Method.KERBEROS_V5: "Kerberos V5",
    Method.SCM_CREDENTIAL: "SCM credential",
    Method.GSS: "GSSAPI",
    Method.GSS_CONTINUE: "GSSAPI",
    Method.SSPI: "SSPI",
}


# --- a client logs in to us


@dataclass(frozen=True, slots=True)
class AuthStep:
    """What to do after a client's message.

    Attributes:
        send: the body of an Authentication message to send now, if any.
        done: the client is who it says; AuthenticationOk follows.
    """

    send: bytes | None
    done: bool


class _ClientState(Enum):
    """What is awaited from the client."""

    METHOD = auto()
    MD5 = auto()
    MECHANISM = auto()
    SCRAM_FIRST = auto()
    SCRAM_FINAL = auto()
    DONE = auto()
    FAILED = auto()


class ClientAuthenticator:
    """The server's part of one login.

    The method is trust, md5 or scram-sha-256. An unknown user is `secret=None`, and is led
    through the same steps as a wrong password.
    """

    __slots__ = ("_method", "_salt", "_scram", "_secret", "_state", "user")

    def __init__(
        self,
        method: str,
        user: str,
        secret: UserSecret | str | None,
        *,
        salt: bytes | None = None,
        nonce: str | None = None,
    ) -> None:
        self.user = user
        self._secret = secret_of(user, secret)
        if method not in METHODS:
            raise ConfigError(f"authentication method {method!r} is not one of {METHODS}")
        # As in PostgreSQL: "md5" with a SCRAM verifier in store means SCRAM.
        is_scram = method == "md5" and self._secret.is_verifier
        self._method = "scram-sha-256" if is_scram else method
        self._salt = secrets.token_bytes(4) if salt is None else salt
        self._scram: ScramServer | None = None
        if self._method == "scram-sha-256":
            found = self._secret.scram or ScramSecrets.mock(user)
            self._scram = ScramServer(found, nonce=nonce)
        self._state = _ClientState.METHOD

    def __repr__(self) -> str:
        return f"<ClientAuthenticator {self.user!r} {self._method} {self._state.name}>"

    @property
    def is_done(self) -> bool:
        """Whether the client has proved who it is."""
        return self._state is _ClientState.DONE

    def first(self) -> bytes | None:
        """The body of the Authentication message to send first; None: the login is done."""
        if self._method == "trust":
            self._state = _ClientState.DONE
            return None
        if self._scram is None:
            self._state = _ClientState.MD5
            return _INT32.pack(Method.MD5_PASSWORD) + self._salt
        self._state = _ClientState.MECHANISM
        return _INT32.pack(Method.SASL) + MECHANISM.encode() + b"\0\0"

    def receive(self, body: bytes) -> AuthStep:
        """Take the body of a PasswordMessage, SASLInitialResponse or SASLResponse.

        Raises:
            AuthenticationError: the client did not prove who it is, whatever the cause.
            ClientProtocolError: the message is malformed or out of place.
        """
        state, self._state = self._state, _ClientState.FAILED
        if len(body) > MAX_PASSWORD_BODY:
            raise ClientProtocolError("invalid password packet size")
        if state is _ClientState.MD5:
            return self._receive_md5(body)
        if self._scram is None:
            raise ClientProtocolError("unexpected password message")
        if state is _ClientState.MECHANISM:
            return self._receive_mechanism(self._scram, body)
        if state is _ClientState.SCRAM_FIRST:
            return self._receive_first(self._scram, body)
        if state is _ClientState.SCRAM_FINAL:
            return self._receive_final(self._scram, body)
        raise ClientProtocolError("unexpected password message")

    def _receive_md5(self, body: bytes) -> AuthStep:
        # A user without a hash is compared with one that nobody can produce.
        known = self._secret.md5
        stored = known or "md5" + secrets.token_hex(16)
        is_equal = hmac.compare_digest(body, md5_response_to(stored, self._salt))
        if not is_equal or known is None:
            raise self._failure()
        return self._finish(None)

    def _receive_mechanism(self, scram: ScramServer, body: bytes) -> AuthStep:
        """Take a SASLInitialResponse: mechanism, Int32 length or -1, data."""
        mechanism, nul, rest = body.partition(b"\0")
        if not nul or len(rest) < 4:
            raise ClientProtocolError("invalid SASLInitialResponse message")
        if mechanism != MECHANISM.encode():
            raise ClientProtocolError(
                "client selected an invalid SASL authentication mechanism"
            )
        (length,) = _INT32.unpack_from(rest)
        data = rest[4:]
        if length == -1 and not data:
            # Without an initial response the client expects an empty challenge.
            self._state = _ClientState.SCRAM_FIRST
            return AuthStep(_INT32.pack(Method.SASL_CONTINUE), done=False)
        if length != len(data):
            raise ClientProtocolError("invalid SASLInitialResponse message")
        return self._receive_first(scram, data)

    def _receive_first(self, scram: ScramServer, data: bytes) -> AuthStep:
        challenge = scram.first(data)
        self._state = _ClientState.SCRAM_FINAL
        return AuthStep(_INT32.pack(Method.SASL_CONTINUE) + challenge, done=False)

    def _receive_final(self, scram: ScramServer, data: bytes) -> AuthStep:
        outcome = scram.final(data)
        if outcome is None:
            raise self._failure()
        self._secret.learn_client_key(scram.client_key)
        return self._finish(_INT32.pack(Method.SASL_FINAL) + outcome)

    def _finish(self, body: bytes | None) -> AuthStep:
        self._state = _ClientState.DONE
        return AuthStep(body, done=True)

    def _failure(self) -> AuthenticationError:
        return AuthenticationError(f'password authentication failed for user "{self.user}"')


# --- we log in to a server


class _ServerState(Enum):
    """How far a login to a server has come."""

    METHOD = auto()
    PASSWORD_SENT = auto()
    CHALLENGE = auto()
    SIGNATURE = auto()
    VERIFIED = auto()
    DONE = auto()
    FAILED = auto()


_MAY_END: Final = (_ServerState.METHOD, _ServerState.PASSWORD_SENT, _ServerState.VERIFIED)
_UNPROVEN: Final = (_ServerState.CHALLENGE, _ServerState.SIGNATURE)


class ServerAuthenticator:
    """The client's part of one login.

    `allow_cleartext` says that the connection may carry the password itself, as TLS may.
    """

    __slots__ = ("_allow_cleartext", "_scram", "_secret", "_state", "user")

    def __init__(
        self,
        user: str,
        secret: UserSecret | str | None,
        *,
        allow_cleartext: bool = False,
        nonce: str | None = None,
    ) -> None:
        self.user = user
        self._secret = secret_of(user, secret)
        self._allow_cleartext = allow_cleartext
        self._scram = ScramClient(nonce=nonce)
        self._state = _ServerState.METHOD

    def __repr__(self) -> str:
        return f"<ServerAuthenticator {self.user!r} {self._state.name}>"

    @property
    def is_done(self) -> bool:
        """Whether AuthenticationOk has come, in its place."""
        return self._state is _ServerState.DONE

    def receive(self, code: int, data: bytes) -> bytes | None:
        """Take an Authentication message, `data` being what follows its method's Int32.

        Returns:
            The body of the PasswordMessage, SASLInitialResponse or SASLResponse to send.

        Raises:
            ServerProtocolError: the message is malformed, out of place or not supported.
            ServerError: our password is missing, or may not be sent in the clear.
        """
        state, self._state = self._state, _ServerState.FAILED
        if code == Method.OK:
            self._receive_ok(state)
            return None
        if code == Method.SASL_CONTINUE and state is _ServerState.CHALLENGE:
            return self._receive_challenge(data)
        if code == Method.SASL_FINAL and state is _ServerState.SIGNATURE:
            self._scram.verify(data)
            self._state = _ServerState.VERIFIED
            return None
        if code in _UNSUPPORTED:
            name = _UNSUPPORTED[Method(code)]
            raise ServerProtocolError(f"server asks for {name} authentication: not supported")
        if state is not _ServerState.METHOD:
            raise ServerProtocolError(
                f"unexpected authentication request {code} from the server"
            )
        if code == Method.CLEARTEXT_PASSWORD:
            return self._cleartext()
        if code == Method.MD5_PASSWORD:
            return self._md5(data)
        if code == Method.SASL:
            return self._initial_response(data)
        raise ServerProtocolError(f"unknown authentication request {code} from the server")

    def _receive_ok(self, state: _ServerState) -> None:
        """Only a server that has completed what it began may say that all is well."""
        if state not in _MAY_END:
            what = "AuthenticationOk before the server has proved itself"
            raise ServerProtocolError(
                what if state in _UNPROVEN else "unexpected AuthenticationOk"
            )
        self._state = _ServerState.DONE

    def _cleartext(self) -> bytes:
        if not self._allow_cleartext:
            raise ServerError(
                "server asks for a cleartext password over a connection without TLS",
                sqlstate="28000",
                hint="Turn on server_tls, or let the server use scram-sha-256.",
            )
        if self._secret.plain is None:
            raise self._no_password("cleartext")
        self._state = _ServerState.PASSWORD_SENT
        return self._secret.plain.encode("utf-8", "surrogateescape") + b"\0"

    def _md5(self, salt: bytes) -> bytes:
        if len(salt) != 4:
            raise ServerProtocolError("malformed MD5 authentication request from the server")
        if self._secret.md5 is None:
            raise self._no_password("md5")
        self._state = _ServerState.PASSWORD_SENT
        return md5_response_to(self._secret.md5, salt)

    def _initial_response(self, mechanisms: bytes) -> bytes:
        if MECHANISM.encode() not in mechanisms.split(b"\0"):
            names = mechanisms.strip(b"\0").replace(b"\0", b", ").decode("ascii", "replace")
            raise ServerProtocolError(
                "none of the server's SASL authentication mechanisms are supported: "
                f"{names[:100]}"
            )
        if not self._secret.can_use_scram:
            raise self._no_password(MECHANISM)
        first = self._scram.first()
        self._state = _ServerState.CHALLENGE
        return MECHANISM.encode() + b"\0" + _INT32.pack(len(first)) + first

    def _receive_challenge(self, data: bytes) -> bytes:
        salt, iterations = self._scram.challenge(data)
        keys = self._secret.client_keys(salt, iterations)
        if keys is None:
            raise self._no_password(MECHANISM)
        self._state = _ServerState.SIGNATURE
        return self._scram.final(keys)

    def _no_password(self, method: str) -> ServerError:
        return ServerError(
            f'server asks for {method} authentication, but no password of user "{self.user}" '
            "that serves for it is known",
            sqlstate="28P01",
        )
