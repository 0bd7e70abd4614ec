"""Who may log in and how, and what is made up for those who may not.

Somebody who tries names must not find out which of them there are. So whoever is unknown is
asked in the way of those who are known, works as hard, and gets the same answer as for a wrong
password; the difference is in the log. All of that depends on the user only: whoever names a
database that is not there, or not his, has to prove that he is the user of this name elsewhere,
and is then told the truth.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import trio

from ..config.values import AuthType
from ..errors import ClientError
from ..printable import printable
from ..protocol.passwords import UserSecret

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import SecretStr

    from ..config.model import Config

# Who is taken for whose like must not be predictable, nor change with a reload.
_KEY: Final = secrets.token_bytes(32)
# More of a name is not repeated, in bytes: it is whatever somebody has sent.
_LONGEST_NAME: Final = 63


@dataclass(frozen=True, slots=True)
class Credential:
    """What somebody has to prove.

    Attributes:
        flaw: why nobody can, or why that does not help, for the operator.
        refusal: what somebody is told who has proven it, if he may not go on.
    """

    method: AuthType
    secret: UserSecret
    flaw: str = ""
    refusal: ClientError | None = None


class Credentials:
    """Those of one configuration."""

    def __init__(self, config: Config, before: Credentials | None = None) -> None:
        """Take them from a configuration; what an earlier one has derived is kept."""
        self._secrets: Final[dict[tuple[str, str | None], UserSecret]] = (
            {} if before is None else before._secrets.copy()
        )
        general = config.general
        self._admins: Final = {
            general.admin_username: self._known(
                general.admin_username, general.admin_password, general.admin_auth_type
            )
        }
        if general.stats_username is not None:
            self._admins.setdefault(
                general.stats_username,
                self._known(
                    general.stats_username, general.stats_password, general.admin_auth_type
                ),
            )
        self._trusts_admins: Final = general.admin_auth_type is AuthType.TRUST
        self._databases: Final = {
            pool.name: {
                user.username: self._known(user.username, user.password, user.auth_type)
                for user in pool.users
            }
            for pool in config.pools.values()
        }
        self._everybody: Final = [
            each for users in self._databases.values() for each in users.values()
        ]
        self._by_user: Final = {each.secret.user: each for each in reversed(self._everybody)}
        self._underived: Final = [
            each.secret
            for each in (*self._admins.values(), *self._everybody)
            if each.method is AuthType.SCRAM_SHA_256
        ]
        self._deriving: Final = trio.Lock()
        used = {id(each.secret) for each in (*self._admins.values(), *self._everybody)}
        for key in [key for key, each in self._secrets.items() if id(each) not in used]:
            del self._secrets[key]

    def _known(self, user: str, password: SecretStr | None, method: AuthType) -> Credential:
        plain = None if password is None else password.get_secret_value()
        secret = self._secrets.get((user, plain))
        if secret is None:
            secret = self._secrets[user, plain] = UserSecret(user, plain)
        return Credential(method, secret, "" if plain else "no password is configured")

    @property
    def is_derived(self) -> bool:
        """Whether that has been done which `derive` does."""
        return not self._underived

    async def derive(self) -> None:
        """Derive the keys of all users, or wait until that is done.

        Were it left to the first login of each, the first of an unknown user would be quicker;
        and everybody would wait for it, as it takes a millisecond or more.
        """
        async with self._deriving:
            while self._underived:
                await trio.to_thread.run_sync(self._underived[-1].derive)
                self._underived.pop()

    # --- asking

    def client(self, user: str, database: str) -> Credential:
        """For a user of a database."""
        users = self._databases.get(database)
        if users is not None and user in users:
            return users[user]
        name = printable(database, _LONGEST_NAME)
        if users is None:
            flaw = f'no database "{database}" is configured'
            refusal = ClientError(f'database "{name}" does not exist', sqlstate="3D000")
        else:
            flaw = f'no user "{user}" is configured for database "{database}"'
            refusal = ClientError(f'permission denied for database "{name}"', sqlstate="42501")
        found = self._by_user.get(user)
        if found is None:
            return _made_up(user, self._everybody, flaw)
        return replace(found, flaw=flaw, refusal=refusal)

    def admin(self, user: str) -> Credential:
        """For a user of the admin database."""
        found = self._admins.get(user)
        if found is None and self._trusts_admins:
            return Credential(AuthType.TRUST, UserSecret(user, None))
        return found or _made_up(user, self._admins.values(), "not the admin_username")


def _made_up(user: str, others: Iterable[Credential], flaw: str) -> Credential:
    """What nobody can prove, of the kind that one of the others has, always the same one."""
    alike = [each for each in others if each.method is not AuthType.TRUST]
    if not alike:
        return Credential(AuthType.MD5, UserSecret(user, None), flaw)
    digest = hmac.digest(_KEY, user.encode("utf-8", "surrogateescape"), "sha256")
    number = int.from_bytes(digest)
    like = alike[number % len(alike)]
    return Credential(like.method, UserSecret.made_up(user, like.secret), flaw)
