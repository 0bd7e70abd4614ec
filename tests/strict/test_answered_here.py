"""What the router answers itself, in the extended protocol: as PostgreSQL would, by message."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.admin.builders import AdminClient
from tests.support.wire import (
    FLUSH,
    SYNC,
    Message,
    WireClient,
    bind,
    close,
    describe,
    execute,
    message,
    parse,
    query,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.postgres import Database
    from tests.support.router import RouterProcess


class Texts(NamedTuple):
    """Statements that are alike: one with a row of one column, and one without rows."""

    row: str
    none: str


SELECTED = Texts("SELECT current_user", "SET work_mem TO '4MB'")
SHOWN = Texts("SHOW server_version", "SET work_mem TO '4MB'")
SESSION = Texts("SHOW SERVER ROLE", "SET PRIMARY READS TO 'on'")
ADMIN_DATABASE = Texts("SHOW VERSION", "RELOAD")

Script = tuple[bytes | str, ...]


SCRIPTS: dict[str, Callable[[Texts], Script]] = {
    "no limit": lambda on: (parse(on.row) + bind() + describe() + execute() + SYNC, "Z"),
    "a limit that is reached": lambda on: (
        parse(on.row) + bind() + execute(limit=1) + execute(limit=1) + execute() + SYNC,
        "Z",
    ),
    "a limit that is not reached": lambda on: (
        parse(on.row) + bind() + execute(limit=2) + execute(limit=2) + SYNC,
        "Z",
    ),
    "a negative limit": lambda on: (
        parse(on.row) + bind() + execute(limit=2**32 - 1) + SYNC,
        "Z",
    ),
    "executed again": lambda on: (parse(on.row) + bind() + execute() * 3 + SYNC, "Z"),
    "executed again without rows": lambda on: (
        parse(on.none) + bind() + execute() + execute() + SYNC,
        "Z",
    ),
    "a limit without rows": lambda on: (parse(on.none) + bind() + execute(limit=1) + SYNC, "Z"),
    "two portals": lambda on: (
        parse(on.row, "s") + bind(name="s", portal="a") + bind(name="s", portal="b"),
        execute("a", 1) + execute("b") + execute("a") + execute("b", 1) + SYNC,
        "Z",
    ),
    "gone with the transaction": lambda on: (
        *(parse(on.row) + bind(portal="a") + SYNC, "Z", execute("a") + SYNC, "Z"),
        *(describe("P", "a") + SYNC, "Z", close("P", "a") + SYNC, "Z"),
    ),
    "the same portal twice": lambda on: (
        parse(on.row) + bind(portal="a") + bind(portal="a") + SYNC,
        "Z",
    ),
    "the unnamed portal twice": lambda on: (
        parse(on.row) + bind() + execute() + bind() + execute() + SYNC,
        "Z",
    ),
    "closed": lambda on: (
        *(parse(on.row, "s") + bind(name="s", portal="a") + close("P", "a"), ""),
        *(execute("a") + SYNC, "Z", close("S", "s") + close("S", "s") + SYNC, "Z"),
        *(bind(name="s") + SYNC, "Z", describe("S", "s") + SYNC, "Z"),
    ),
    "described": lambda on: (
        parse(on.row, "s") + describe("S", "s") + bind(name="s", formats=[1]) + describe(),
        parse(on.none) + describe("S") + bind() + describe() + SYNC,
        "Z",
    ),
    "flushed": lambda on: (
        *(parse(on.row) + FLUSH, "1", describe("S") + FLUSH, "tT", bind() + FLUSH, "2"),
        *(execute(limit=1) + FLUSH, "s", execute(limit=1) + FLUSH, "C", SYNC, "Z"),
    ),
    "a name that is taken": lambda on: (
        parse(on.row, "s") + parse(on.none, "s") + SYNC,
        *("Z", bind(name="s") + execute() + SYNC, "Z"),
    ),
    "nothing prepared": lambda _: (
        *(bind() + SYNC, "Z", describe("S") + SYNC, "Z", execute() + SYNC, "Z"),
        *(bind(name="s") + SYNC, "Z", describe("P") + SYNC, "Z"),
    ),
    "the unnamed statement ends with a query": lambda on: (
        *(parse(on.row) + SYNC, "Z", query(on.row), "Z", bind() + SYNC, "Z"),
    ),
    "formats": lambda on: (
        *(parse(on.row, "s") + bind(name="s", formats=[0, 0]) + SYNC, "Z"),
        *(bind(name="s", formats=[7]) + SYNC, "Z"),
        *(bind(name="s", formats=[7]) + execute() + SYNC, "Z"),
        *(bind(name="s", formats=[65535]) + describe() + execute() + SYNC, "Z"),
        *(parse(on.none) + bind(formats=[7]) + execute() + SYNC, "Z"),
        *(parse(on.none) + bind(formats=[1, 1]) + execute() + SYNC, "Z"),
    ),
    "too many values": lambda on: (
        *(parse(on.row, "s") + bind(b"1", name="s") + SYNC, "Z"),
        *(parse(on.none) + bind(b"1", None) + SYNC, "Z"),
    ),
}
# Those that need a server, too.
SERVED: dict[str, Callable[[Texts], Script]] = {
    "a name that is free again": lambda on: (
        *(query("SELECT 1"), "Z", parse(on.row, "s") + bind(name="s", portal="a") + SYNC, "Z"),
        *(bind(name="s", portal="a") + execute("a") + SYNC, "Z"),
    ),
    "skipped, and executed later": lambda on: (
        *(query("BEGIN"), "Z", parse(on.row) + bind(portal="a") + SYNC, "Z"),
        *(query("SAVEPOINT x"), "Z", parse("SELECT 1/0") + bind() + execute("a") + SYNC, "Z"),
        *(query("ROLLBACK TO x"), "Z", execute("a", 1) + execute("a") + SYNC, "Z"),
    ),
    "in a failed transaction": lambda on: (
        *(query("BEGIN"), "Z", parse(on.row) + bind(portal="a") + SYNC, "Z"),
        *(query("SELECT 1/0"), "Z", execute("a") + SYNC, "Z", parse(on.row) + SYNC, "Z"),
        *(query("ROLLBACK"), "Z", execute("a") + SYNC, "Z"),
    ),
}
# Bodies of messages that are malformed.
BAD = {
    "B": (
        *(b"", b"a", b"\0", b"\0a", b"\0\0", b"\0\0\0", b"\0\0\0\0", b"\0\0\0\0\0"),
        *(b"\0\0\0\2\0\1\0\1", b"\0\0\0\0\0\0", b"\0\0\0\0\0\0\0", b"\0\0\0\0\0\0\0\2\0\0"),
        *(b"\0\0\0\0\0\0\0\0x", b"\0\0\0\2\0\0\0\0\0\0\0\0", b"\0\0\0\0\xff\xff\0\0"),
        *(b"\0\0\0\1\0\0\0\0\0\0", b"\0\0\0\0\0\1\xff\xff\xff\xfe\0\0"),
    ),
    "E": (b"", b"a", b"\0", b"\0\0\0\0", b"\0\0\0\0\0\0"),
    "D": (b"", b"P", b"S", b"P\0x", b"S\0\0", b"X\0"),
    "C": (b"", b"P", b"S", b"P\0x", b"S\0\0", b"X\0"),
}
for kind, bodies in BAD.items():
    for body in bodies:
        SCRIPTS[f"{kind}{body.hex()}"] = lambda on, kind=kind, body=body: (  # type: ignore[misc]
            parse(on.row) + bind() + message(kind, body) + SYNC,
            "Z",
        )
# What stands behind the text in a Parse, and a Parse that has none.
for number, body in enumerate((b"", b"\0", b"\0\1\0\0\0", b"\0\0x", b"\xff\xff")):
    SCRIPTS[f"Parse {number}"] = lambda on, body=body: (  # type: ignore[misc]
        message("P", b"\0" + on.row.encode() + b"\0" + body) + SYNC,
        "Z",
    )
for body in (b"", b"\0", b"s", b"s\0", b"s\0SHOW"):
    SCRIPTS[f"P{body.hex()}"] = lambda _, body=body: (message("P", body) + SYNC, "Z")  # type: ignore[misc]


@pytest.fixture(scope="module")
def router(module_router: ModuleRouter, pool_for: PoolFor) -> RouterProcess:
    """One with a pool of a single server for each mode."""
    return module_router({mode: pool_for(mode=mode) for mode in ("transaction", "session")})


def played(client: WireClient, script: Script) -> list[Message]:
    """Play a script."""
    found: list[Message] = []
    for part in script:
        if isinstance(part, str):
            found += client.read_until(part)
        else:
            client.send(part)
    return found


def masked(messages: Sequence[Message]) -> list[object]:
    """What must be equal: not names and values of columns, and of a tag only its number."""
    found: list[object] = []
    for each in messages:
        if each.kind == "E":
            fields = each.fields
            text = fields["M"]
            found.append([fields["S"], fields["C"], text])
        elif each.kind == "T":
            count = int.from_bytes(each.body[:2], "big")
            found.append(["T", count, each.body[-2:]])
        elif each.kind == "C":
            found.append(["C", re.findall(rb"\d+", each.body)])
        elif each.kind == "D":
            found.append("D")
        elif each.kind != "N":
            found.append([each.kind, each.body])
    return found


def by_postgres(database: Database, script: Script, *, held: bool = False) -> list[object]:
    """What PostgreSQL says."""
    with WireClient.login(database.port, database.name) as client:
        if held:
            client.query("BEGIN")
        return masked(played(client, script))


def is_for_transactions(name: str) -> bool:
    """Whether a script sets nothing: the router's own settings are not for transactions."""
    script = SCRIPTS[name]
    return script(SESSION) == script(SESSION._replace(none=""))


@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize(
    ("name", "held"),
    [
        (name, held)
        for name in (*SCRIPTS, *SERVED)
        for held in (False, True)
        if not held or (name in SCRIPTS and is_for_transactions(name))
    ],
)
def test_a_session_answers_as_postgresql_does(
    router: RouterProcess, database: Database, name: str, held: bool, mode: str
) -> None:
    script = SCRIPTS.get(name) or SERVED[name]
    expected = by_postgres(database, script(SELECTED), held=held)
    with WireClient.login(router.port, mode) as client:
        if held:
            client.query("BEGIN")
        found = played(client, script(SESSION))
    assert masked(found) == expected


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_admin_database_answers_as_postgresql_does(database: Database, name: str) -> None:
    client = AdminClient()
    parts = [part for part in SCRIPTS[name](ADMIN_DATABASE) if isinstance(part, bytes)]
    found = [Message(*each) for part in parts for each in client.send(part).messages]
    assert masked(found) == by_postgres(database, SCRIPTS[name](SHOWN))
