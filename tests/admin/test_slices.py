"""Tables of many rows are made a slice at a time, and others have their turns between."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from router.admin.replies import SLICE
from router.errors import ShuttingDown
from router.protocol import messages

from .builders import CLIENT, AdminClient, FakeView, bind, decode, execute, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from router.snapshots import ClientSnapshot


class CountingView(FakeView):
    """Notes how many rows have been asked for."""

    made = 0

    def each_client(self) -> Iterator[ClientSnapshot]:
        for row in self.client_rows:
            self.made += 1
            yield row


def view_of(count: int) -> CountingView:
    return CountingView(client_rows=[replace(CLIENT, client_id=n) for n in range(count)])


SIMPLE = messages.query(b"SHOW CLIENTS")
EXTENDED = parse("SHOW CLIENTS") + bind() + execute() + messages.SYNC
COUNTS = (0, 1, SLICE - 1, SLICE, SLICE + 1, 2 * SLICE, 7 * SLICE + 3)


@pytest.mark.parametrize("asked", [SIMPLE, EXTENDED], ids=["simple", "extended"])
@pytest.mark.parametrize("count", COUNTS)
def test_no_turn_makes_more_than_a_slice(asked: bytes, count: int) -> None:
    view = view_of(count)
    client = AdminClient(view)
    client.session.on_data(asked)
    most = view.made
    while client.link.deferred:
        before = view.made
        client.link.deferred = False
        client.session.on_data(b"")
        most = max(most, view.made - before)
    assert most <= SLICE
    got = decode(client.link.take())
    assert [row[0] for row in got.rows] == [f"0x{n:08X}" for n in range(count)]
    assert got.kinds.count("C") == got.kinds.count("Z") == 1
    assert got.kinds[-2:] == "CZ"


COUNTING = [
    ("pgcat", "LISTS"),
    ("pgcat", "FDS"),
    ("pgcat", "SOCKETS"),
    ("pgcat", "ACTIVE_SOCKETS"),
    ("pgbouncer", "CLIENTS"),
    ("pgbouncer", "DATABASES"),
    ("pgbouncer", "LISTS"),
    ("pgbouncer", "USERS"),
]


@pytest.mark.parametrize(("database", "table"), COUNTING)
@pytest.mark.parametrize("count", COUNTS)
def test_who_looks_at_all_clients_does_so_a_slice_at_a_time(
    database: str, table: str, count: int
) -> None:
    view = view_of(count)
    client = AdminClient(view, database=database)
    client.session.on_data(messages.query(f"SHOW {table}".encode()))
    most, looks = view.made, 1
    while client.link.deferred:
        before = view.made
        client.link.deferred = False
        client.session.on_data(b"")
        most, looks = max(most, view.made - before), looks + 1
    assert view.made == count
    assert most <= SLICE
    assert looks >= count // SLICE
    got = decode(client.link.take())
    assert got.kinds[-2:] == "CZ"
    if table == "LISTS":
        free, used = (int(dict(got.rows)[f"{kind}_clients"]) for kind in ("free", "used"))
        assert count == (used if database == "pgbouncer" else free + used)
    elif table == "USERS":
        assert sum(int(row[-1]) for row in got.rows) == count
    elif table == "FDS":
        assert sum(row[1] == "client" for row in got.rows) == count


@pytest.mark.parametrize("asked", [SIMPLE, EXTENDED], ids=["simple", "extended"])
def test_what_comes_meanwhile_is_answered_behind_it(asked: bytes) -> None:
    client = AdminClient(view_of(3 * SLICE))
    client.session.on_data(asked)
    client.session.on_data(messages.query(b"SHOW VERSION; SHOW CLIENTS"))
    while client.link.deferred:
        client.link.deferred = False
        client.session.on_data(b"")
    got = decode(client.link.take())
    assert got.kinds.count("D") == 6 * SLICE + 1
    assert got.tags == ["SHOW"] * 3
    assert got.kinds.count("Z") == 2


def test_who_leaves_in_the_middle_of_a_table_is_let_go() -> None:
    view = view_of(5 * SLICE)
    client = AdminClient(view)
    client.session.on_data(SIMPLE)
    client.session.on_closed("gone")
    client.session.on_drained()
    assert view.made == SLICE


def test_who_is_sent_away_in_the_middle_of_a_table_is_told_so() -> None:
    client = AdminClient(view_of(5 * SLICE))
    client.session.on_data(SIMPLE)
    client.session.expel()
    got = decode(client.link.take())
    assert got.error["C"] == ShuttingDown().sqlstate
    assert not got.rows
