"""The same bytes to PostgreSQL and through the router: the same messages must come back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.support.wire import SYNC, Message, WireClient, bind, execute, parse

from .copy_scripts import COPY, FUNCTIONS, LONG
from .scripts import EXTENDED, FLUSHED, PORTALS, SIMPLE, Script

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.postgres import Database
    from tests.support.router import RouterProcess

_STATEMENT_NAME = re.compile('prepared statement "[^"]*"')

GROUPS = {
    "simple": SIMPLE,
    "extended": EXTENDED,
    "flush": FLUSHED,
    "portals": PORTALS,
    "copy": COPY,
    "function": FUNCTIONS,
    "long": LONG,
}
SCRIPTS = {
    f"{group}: {name}": script for group in GROUPS for name, script in GROUPS[group].items()
}


def size(script: Script) -> int:
    """How many bytes a script sends."""
    return sum(len(part) for part in script if isinstance(part, bytes))


SHORT = [name for name, script in SCRIPTS.items() if size(script) < 5_000]
# Played once for every place where they can be cut in two.
CUT = [
    "extended: statement kept",
    "extended: query between Parse and Sync",
    "flush: each step",
    "copy: in extended, sync before done",
    "copy: in, fail",
]


@pytest.fixture(scope="module")
def router(module_router: ModuleRouter, pool_for: PoolFor) -> RouterProcess:
    """One with a pool of a single server for each mode."""
    return module_router({mode: pool_for(mode=mode) for mode in ("transaction", "session")})


class Player:
    """Plays scripts to PostgreSQL and to the router, and compares."""

    def __init__(self, database: Database, router: RouterProcess) -> None:
        self._database = database
        self._router = router
        self._own = WireClient.login(database.port, database.name)

    def play(
        self, client: WireClient, script: Script, *, pieces: int = 0, cut: int = 0
    ) -> list[Message]:
        """Run a script; with `pieces` every write is cut into so many bytes.

        With `cut` what comes before that offset is read by the other side before the rest.
        """
        found: list[Message] = []
        sent = 0
        for part in script:
            if part == "$":
                found += client.read_to_end()
            elif isinstance(part, str):
                found += client.read_until(part)
            elif pieces:
                for start in range(0, len(part), pieces):
                    client.send(part[start : start + pieces])
            elif sent < cut < sent + len(part):
                client.send(part[: cut - sent])
                client.wait_consumed()
                client.send(part[cut - sent :])
            else:
                client.send(part)
            sent += len(part) if isinstance(part, bytes) else 0
        return found

    def close(self) -> None:
        """Close its own connection."""
        self._own.close()

    def direct(self, script: Script) -> list[Message]:
        """Run a script in PostgreSQL."""
        self._own.query("TRUNCATE t")
        with WireClient.login(self._database.port, self._database.name) as client:
            return self.play(client, script)

    def routed(
        self, script: Script, mode: str, *, pieces: int = 0, cut: int = 0
    ) -> list[Message]:
        """Run a script through the router; afterwards the server must be clean for others."""
        self._own.query("TRUNCATE t")
        with WireClient.login(self._router.port, mode) as client:
            found = self.play(client, script, pieces=pieces, cut=cut)
        with WireClient.login(self._router.port, mode) as other:
            assert other.value("SELECT 'clean'") == "clean"
        return found


@pytest.fixture(scope="module")
def player(database: Database, router: RouterProcess) -> Iterator[Player]:
    """Plays scripts to both."""
    made = Player(database, router)
    yield made
    made.close()


def masked(messages: Sequence[Message]) -> list[tuple[str, object]]:
    """What must be equal: places in PostgreSQL's source are not.

    Nor is the line of a COPY that a message breaks off which the router keeps from the server.
    """
    return [
        (
            message.kind,
            {
                code: _STATEMENT_NAME.sub("prepared statement", text)
                for code, text in message.fields.items()
                if code not in "FLR"
                and (code != "W" or not message.fields["M"].startswith("unexpected message"))
            }
            if message.kind in "EN"
            else message.body,
        )
        for message in messages
    ]


@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_router_answers_as_postgresql_does(player: Player, name: str, mode: str) -> None:
    script = SCRIPTS[name]
    expected = masked(player.direct(script))
    assert masked(player.routed(script, mode)) == expected
    assert masked(player.routed(script, mode)) == expected, "when the server knows it all"


@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize("name", SHORT)
def test_one_byte_a_write_changes_nothing(player: Player, name: str, mode: str) -> None:
    script = SCRIPTS[name]
    assert masked(player.routed(script, mode, pieces=1)) == masked(player.direct(script))


@pytest.mark.parametrize("name", CUT)
def test_a_cut_anywhere_changes_nothing(player: Player, name: str) -> None:
    script = SCRIPTS[name]
    expected = masked(player.direct(script))
    for cut in range(1, size(script)):
        assert masked(player.routed(script, "transaction", cut=cut)) == expected, cut


def test_10000_batches_are_answered_though_nobody_reads_meanwhile(player: Player) -> None:
    batch = bind(b"7", name="s") + execute() + SYNC
    script: Script = (parse("SELECT $1::int", "s") + batch * 10_000, "Z" * 10_000)
    assert masked(player.routed(script, "transaction")) == masked(player.direct(script))
