"""Who may log in, and that one cannot tell from outside who that is."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from router.config.values import AuthType
from router.errors import AuthenticationError, ClientError
from router.protocol.auth import ClientAuthenticator, Method, ServerAuthenticator
from router.protocol.passwords import UserSecret, md5_hash
from router.protocol.scram import ScramSecrets
from router.session.credentials import Credential, Credentials
from tests.config.builders import config

if TYPE_CHECKING:
    from collections.abc import Sequence

VERIFIER = ScramSecrets.from_password("secret", b"0123456789abcdef", 700).verifier()
POPULATIONS = {
    "md5": [("ann", "secret", "md5"), ("bob", md5_hash("bob", "secret"), "md5")],
    "scram": [("ann", "secret", "scram-sha-256"), ("bob", "other", "scram-sha-256")],
    "verifier": [("ann", VERIFIER, "scram-sha-256"), ("bob", VERIFIER, "md5")],
    "md5 and trust": [("ann", "secret", "md5"), ("bob", "", "trust")],
}


def credentials(
    users: Sequence[tuple[str, str, str]], before: Credentials | None = None
) -> Credentials:
    """Those of a database `app` with these users; the administrator is as the first of them."""
    tables = {
        str(number): {
            "username": name,
            "password": password,
            "auth_type": method,
            "pool_size": 1,
        }
        for number, (name, password, method) in enumerate(users)
    }
    changes: dict[str, object] = {"pools/app/users": tables}
    changes["general/admin_auth_type"] = users[0][2]
    return Credentials(config(changes), before)


def transcript(found: Credential, user: str) -> list[tuple[object, ...]]:
    """What somebody with a wrong password gets to see, but for what is random."""
    ours = ClientAuthenticator(found.method.value, user, found.secret)
    theirs = ServerAuthenticator(user, UserSecret(user, "wrong"))
    seen: list[tuple[object, ...]] = []
    request = ours.first()
    try:
        while request is not None:
            code, data = int.from_bytes(request[:4]), request[4:]
            if code == Method.SASL_CONTINUE:
                _nonce, salt, iterations = data.split(b",")
                seen.append((code, len(data), len(salt), iterations))
            else:
                seen.append((code, len(data)))
            answer = theirs.receive(code, data)
            assert answer is not None
            request = ours.receive(answer).send
    except ClientError as error:
        seen.append((type(error), error.message.replace(user, "USER"), error.sqlstate))
    return seen


def salt_of(found: Credential, user: str) -> bytes:
    """The salt that somebody is given."""
    ours = ClientAuthenticator(found.method.value, user, found.secret)
    ours.first()
    send = ours.receive(b"SCRAM-SHA-256\0\0\0\0\x0cn,,n=,r=abcd").send
    assert send is not None
    return send.split(b",")[1]


@pytest.mark.parametrize("users", POPULATIONS.values(), ids=POPULATIONS)
async def test_the_unknown_see_what_the_known_see(users: list[tuple[str, str, str]]) -> None:
    known = credentials(users)
    await known.derive()
    seen = transcript(known.client("ann", "app"), "ann")
    assert seen[-1] == (
        AuthenticationError,
        'password authentication failed for user "USER"',
        "28P01",
    )
    for user, database in (("carl", "app"), ("ann", "nowhere"), ("carl", "nowhere")):
        assert transcript(known.client(user, database), user) == seen
    for user in ("ann", "carl"):
        methods = {known.client(user, name).method for name in ("app", "nowhere", "else")}
        assert len(methods) == 1, "what is to be seen depends on the user only"
    assert transcript(known.admin("carl"), "carl") == transcript(known.admin("admin"), "admin")


@pytest.mark.parametrize("users", POPULATIONS.values(), ids=POPULATIONS)
async def test_nobody_costs_a_derivation_once_all_is_derived(
    users: list[tuple[str, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = credentials(users)
    await known.derive()
    derive, derived = hashlib.pbkdf2_hmac, []

    def count(*arguments: object) -> bytes:
        derived.append(arguments)
        return derive(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(hashlib, "pbkdf2_hmac", count)
    for user, database in (("ann", "app"), ("carl", "app"), ("ann", "nowhere")):
        derived.clear()
        (code, _), *_ = transcript(known.client(user, database), user)
        # One is the client's own, whose part the test plays.
        assert len(derived) == (code == Method.SASL)


async def test_a_salt_stays_as_long_as_the_process() -> None:
    users = POPULATIONS["scram"]
    first = credentials(users)
    second = credentials([*users, ("dora", "x", "scram-sha-256")], first)
    for user, database in (("ann", "app"), ("carl", "app"), ("carl", "nowhere")):
        salts = {salt_of(each.client(user, database), user) for each in (first, second)}
        assert len(salts) == 1
    assert salt_of(first.client("ann", "app"), "ann") != salt_of(
        first.client("bob", "app"), "bob"
    )
    assert salt_of(first.client("ann", "app"), "ann") == salt_of(
        first.client("ann", "nowhere"), "ann"
    )


async def test_a_reload_derives_only_what_is_new() -> None:
    users = POPULATIONS["scram"]
    first = credentials(users)
    await first.derive()
    second = credentials(users, first)
    assert second.client("ann", "app").secret is first.client("ann", "app").secret
    changed = credentials([("ann", "changed", "scram-sha-256")], second)
    assert changed.client("ann", "app").secret is not first.client("ann", "app").secret
    assert len(changed._secrets) == 2  # the administrator's is the other


def test_the_kinds_of_a_mixed_database_occur_among_its_unknown_users() -> None:
    mixed = credentials(
        [("ann", "x", "md5"), ("bob", "x", "scram-sha-256"), ("c", "", "trust")]
    )
    found = {name: mixed.client(name, "app").method for name in map(str, range(50))}
    assert set(found.values()) == {AuthType.MD5, AuthType.SCRAM_SHA_256}
    assert found == {name: mixed.client(name, "app").method for name in found}


async def test_the_salts_of_a_name_are_the_same_wherever_it_asks() -> None:
    for users in (POPULATIONS["scram"], POPULATIONS["verifier"][:1]):
        known = credentials(users)
        await known.derive()
        for user in ("ann", "carl"):
            found = {
                salt_of(known.client(user, name), user) for name in ("app", "nowhere", "else")
            }
            assert len(found) == 1


@pytest.mark.parametrize("users", POPULATIONS.values(), ids=POPULATIONS)
def test_who_has_proven_who_he_is_is_told_the_truth(users: list[tuple[str, str, str]]) -> None:
    known = credentials(users)
    for user, _, _ in users:
        assert known.client(user, "app").refusal is None
        found = known.client(user, "no\nwhere" * 20)
        assert found.secret is known.client(user, "app").secret
        assert found.refusal is not None
        assert found.refusal.sqlstate == "3D000"
        assert found.refusal.message.startswith('database "no\\nwhere')
        assert len(found.refusal.message) < 120
    assert known.client("carl", "nowhere").refusal is None


def test_the_operator_is_told() -> None:
    known = credentials([("ann", "x", "md5")])
    assert known.client("ann", "app").flaw == ""
    assert known.client("bob", "app").flaw == 'no user "bob" is configured for database "app"'
    assert known.client("ann", "app\n").flaw == 'no database "app\n" is configured'
    error = AuthenticationError("failed")
    error.flaw = known.client("ann", "app\n").flaw
    assert error.line == 'failed: no database "app\\n" is configured'


def test_an_admin_database_that_trusts_everybody_asks_nobody() -> None:
    trusting = credentials([("ann", "", "trust")])
    assert trusting.admin("admin").method is AuthType.TRUST
    assert trusting.admin("somebody").method is AuthType.TRUST
    assert trusting.client("somebody", "app").method is AuthType.MD5
