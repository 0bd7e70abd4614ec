"""Passwords as PostgreSQL stores them, plain, MD5 or SCRAM, and what each of them can do."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Final, Protocol

from .scram import ScramKeys, ScramSecrets, salt_of

_MD5_HASH: Final = re.compile(r"md5[0-9a-f]{32}", re.ASCII)
# A server's salt changes with its password only; a few servers may differ in it.
_MAX_CACHED_KEYS: Final = 16


def md5_hash(user: str, password: str) -> str:
    """Hash a plain password as pg_authid stores it: "md5" and 32 hexadecimal digits."""
    return "md5" + _md5_hex(f"{password}{user}".encode("utf-8", "surrogateescape"))


def md5_response_to(stored: str, salt: bytes) -> bytes:
    """The body of the PasswordMessage that answers a salt, from what `md5_hash` returns."""
    return b"md5" + _md5_hex(stored[3:].encode() + salt).encode() + b"\0"


def _md5_hex(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


class Sealed(Protocol):
    """What has to be asked for its value; pydantic's SecretStr."""

    def get_secret_value(self) -> str:
        """The value."""


class UserSecret:
    """One user's password, in any form that PostgreSQL stores, and what follows from it.

    Keep it as long as the password is valid: it remembers derived keys, so that only the first
    login costs a PBKDF2.
    """

    __slots__ = ("_client_keys", "_md5", "_passed_through", "_plain", "_scram", "user")

    def __init__(self, user: str, password: str | None) -> None:
        """Take a plain password, an "md5..." hash or a SCRAM verifier.

        None and "" stand for an unknown user or one without a password: nothing fits them.
        """
        self.user = user
        self._plain: str | None = None
        self._md5: str | None = None
        self._scram = ScramSecrets.from_verifier(password) if password else None
        self._client_keys: dict[tuple[bytes, int], ScramKeys] = {}
        self._passed_through: ScramKeys | None = None
        if not password or self._scram is not None:
            return
        if _MD5_HASH.fullmatch(password):
            self._md5 = password
        else:
            self._plain = password

    @classmethod
    def of(cls, user: str, password: Sealed | None) -> UserSecret:
        """Take a password that a configuration keeps from being shown."""
        return cls(user, None if password is None else password.get_secret_value())

    @classmethod
    def made_up(cls, user: str, like: UserSecret) -> UserSecret:
        """One that nothing fits, and that looks to a client as `like` does."""
        made = cls(user, None)
        if like.is_verifier and like.scram is not None:
            made._scram = ScramSecrets.mock(user, iterations=like.scram.iterations)
        return made

    def __repr__(self) -> str:
        return f"<UserSecret {self.user!r}>"

    @property
    def plain(self) -> str | None:
        """The plain password, if that is what is known."""
        return self._plain

    @property
    def md5(self) -> str | None:
        """The MD5 hash, None if only a SCRAM verifier is known."""
        if self._md5 is None and self._plain is not None:
            self._md5 = md5_hash(self.user, self._plain)
        return self._md5

    @property
    def scram(self) -> ScramSecrets | None:
        """What a SCRAM proof is checked against, None if only an MD5 hash is known."""
        if self._scram is None and self._plain is not None:
            self._scram = ScramSecrets.from_password(self._plain, salt_of(self.user))
        return self._scram

    def derive(self) -> None:
        """Derive now what `scram` would derive when it is asked."""
        _ = self.scram

    @property
    def is_verifier(self) -> bool:
        """Whether only a SCRAM verifier is known, so that MD5 is not possible."""
        return self._scram is not None and self._plain is None

    @property
    def can_use_scram(self) -> bool:
        """Whether a server that asks for SCRAM can be answered."""
        return self._plain is not None or self._passed_through is not None

    def client_keys(self, salt: bytes, iterations: int) -> ScramKeys | None:
        """What is needed to log in to a server as this user, None if it is not known."""
        if self._plain is None:
            is_same = self._scram is not None and (
                (self._scram.salt, self._scram.iterations) == (salt, iterations)
            )
            return self._passed_through if is_same else None
        found = self._client_keys.get((salt, iterations))
        if found is None:
            found = ScramKeys.from_password(self._plain, salt, iterations)
            if len(self._client_keys) >= _MAX_CACHED_KEYS:
                self._client_keys.clear()
            self._client_keys[salt, iterations] = found
        return found

    def learn_client_key(self, client_key: bytes) -> None:
        """Keep the key that a client proved to have, for servers with the same verifier."""
        if self._plain is None and self._scram is not None:
            self._passed_through = ScramKeys(client_key, self._scram.server_key)


def secret_of(user: str, secret: UserSecret | str | None) -> UserSecret:
    """The secret itself, or the one that belongs to a user and a password."""
    if isinstance(secret, UserSecret):
        return secret
    # Unknown users are not cached: their names come from whoever can connect.
    return UserSecret(user, None) if secret is None else _shared(user, secret)


@lru_cache(maxsize=4096)
def _shared(user: str, password: str) -> UserSecret:
    """The one secret for a user and a password, for callers that keep only the text.

    Were it made anew, every login would cost a PBKDF2.
    """
    return UserSecret(user, password)
