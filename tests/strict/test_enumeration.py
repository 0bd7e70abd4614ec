"""Somebody who tries names, against the router itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from router.protocol.auth import Method, ServerAuthenticator
from tests.support.router import PoolText, wait_until
from tests.support.wire import WireClient, message, startup

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.router import RouterProcess


def attempt(port: int, user: str, database: str) -> list[tuple[object, ...]]:
    """Log in with a wrong password; returns what is to be seen, but for what is random."""
    ours = ServerAuthenticator(user, "wrong")
    seen: list[tuple[object, ...]] = []
    with WireClient(port) as client:
        client.send(startup({"user": user, "database": database}))
        while (answer := client.read_message()).kind == "R":
            code, data = int.from_bytes(answer.body[:4]), answer.body[4:]
            fingerprint = data.split(b",i=")[1:] if code == Method.SASL_CONTINUE else []
            seen.append((answer.kind, code, len(data), *fingerprint))
            reply = ours.receive(code, data)
            assert reply is not None
            client.send(message("p", reply))
        fields = {code: text.replace(user, "USER") for code, text in answer.fields.items()}
        assert client.read_to_end() == []
    return [*seen, (answer.kind, fields)]


@pytest.mark.parametrize("method", ["md5", "scram-sha-256"])
def test_a_name_that_is_not_there_looks_as_a_wrong_password(
    start_router: Callable[..., RouterProcess], method: str
) -> None:
    user = f'password = "secret"\nauth_type = "{method}"'
    pool = PoolText([[("127.0.0.1", 1, "primary")]], user="ann", user_options=user)
    general = f'validate_config = false\nadmin_auth_type = "{method}"'
    router = start_router({"db": pool}, general)
    wrong = attempt(router.port, "ann", "db")
    assert [kind for kind, *_ in wrong] == ["R", "E"] if method == "md5" else ["R", "R", "E"]
    _, fields = wrong[-1]
    assert fields == {
        "S": "FATAL",
        "V": "FATAL",
        "C": "28P01",
        "M": 'password authentication failed for user "USER"',
    }
    for name, database in (("bob", "db"), ("ann", "none"), ("bob", "none"), ("bob", "pgcat")):
        assert attempt(router.port, name, database) == wrong
    assert attempt(router.port, "admin", "pgcat") == wrong
    with pytest.raises(psycopg.OperationalError, match='database "none" does not exist'):
        psycopg.connect(router.dsn("none", "ann", "secret"))
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(router.dsn("none", "bob", "secret"))
    causes = ('no user "bob" is configured', 'no database "none" is', "not the admin_username")
    wait_until("the log has the causes", lambda: all(map(router.log().__contains__, causes)))


@pytest.mark.parametrize("method", ["md5", "scram-sha-256", "trust"])
def test_whoever_proves_to_be_somebody_elsewhere_is_told_what_is_not_his(
    start_router: Callable[..., RouterProcess], method: str
) -> None:
    user = f'password = "secret"\nauth_type = "{method}"'
    shards = [[("127.0.0.1", 1, "primary")]]
    pools = {
        "one": PoolText(shards, user="ann", user_options=user),
        "two": PoolText(shards, user="bob", user_options=user),
    }
    router = start_router(pools, "validate_config = false")
    for database, sqlstate, text in (
        ("three", "3D000", 'database "three" does not exist'),
        ("two", "42501", 'permission denied for database "two"'),
        ("two\n" * 90, "3D000", "does not exist"),
    ):
        with WireClient(router.port) as client:
            client.send(startup({"user": "ann", "database": database}))
            proof = ServerAuthenticator("ann", "secret")
            while (answer := client.read_message()).kind == "R":
                reply = proof.receive(int.from_bytes(answer.body[:4]), answer.body[4:])
                if reply is not None:
                    client.send(message("p", reply))
            assert (answer.fields["S"], answer.sqlstate) == ("FATAL", sqlstate)
            assert text in answer.fields["M"]
            assert len(answer.body) < 500
            assert client.read_to_end() == []
