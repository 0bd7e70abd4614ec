"""Hosts with several addresses: one that is dead costs time once."""

from __future__ import annotations

import socket
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from router.engine import dial
from router.engine.dial import HEAD_START
from router.engine.wire import connect
from router.errors import ServerRefused, ServerUnavailable
from router.pool import checks
from router.pool.addresses import Addresses
from router.pool.connect import Guide, deliver_cancel, open_server
from router.pool.health import Condition
from tests.support.harness import FakeEngine
from tests.support.postgres import PASSWORD

from .test_checks import engine, health_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from router.engine.dial import Target
    from router.engine.loop import Engine
    from router.pool.health import ServerHealth
    from tests.support.cluster.server import Server

__all__ = ["engine"]

ONE, OTHER = "127.0.0.1", "127.0.0.2"
NAME = "db.test"
# Where something is that has the port of a server which other tests use at the same time.
DEAF, SILENT, CALLED = "127.0.0.3", "127.0.0.4", "127.0.0.5"


class Resolver(trio.abc.HostnameResolver):
    """Knows one name, whose addresses are always told in the same order."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def getaddrinfo(  # type: ignore[override]
        self, host: object, port: int, *_: object, **__: object
    ) -> list[Target]:
        """Answer."""
        await trio.lowlevel.checkpoint()
        assert host == NAME.encode()
        kind = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, ""
        return [(*kind, (address, port)) for address in self.addresses]

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        """Nobody asks."""
        raise NotImplementedError


def use(*addresses: str) -> Resolver:
    """Have the name lead there, until the test's trio ends."""
    resolver = Resolver(*addresses)
    trio.socket.set_custom_hostname_resolver(resolver)
    return resolver


@contextmanager
def listening(host: str, port: int = 0, *, is_dead: bool = False) -> Iterator[socket.socket]:
    """Listen; if it is dead, connections to it hang, as to a machine that is gone."""
    with ExitStack() as stack:
        sock = stack.enter_context(socket.create_server((host, port), backlog=0))
        while is_dead:
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
            # The kernel finishes handshakes of this machine within the call, if it wants to.
            if filler.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) != b"\1":
                break
        yield sock


def port_of(sock: socket.socket) -> int:
    """Where it listens."""
    return int(sock.getsockname()[1])


def has_caller(sock: socket.socket) -> bool:
    """Whether somebody has connected to it."""
    sock.setblocking(False)
    try:
        sock.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def share(health: ServerHealth, *, is_spread: bool) -> None:
    """Have connections be spread over all addresses of the host, or not."""
    for part in health.parts:
        part.take_settings(replace(part.settings, server_round_robin=is_spread))


class Known(dial.Guide):
    """Goes by what is known of addresses alone."""

    def __init__(self, known: Addresses) -> None:
        self._known = known

    def found(self, addresses: Sequence[str]) -> None:
        """Note it."""
        self._known.note(addresses)

    def known(self) -> Sequence[str]:
        """Those that have been noted."""
        return self._known.found

    def pick(self, addresses: Sequence[str]) -> str:
        """The one that has worked last."""
        return self._known.pick(addresses)

    def failed(self, address: str) -> bool:
        """Note it."""
        return self._known.failed(address)


def order(known: Addresses, found: Sequence[str]) -> list[str]:
    """All addresses of a host, the first to try first."""
    known.note(found)
    rest = list(found)
    ordered = []
    while rest:
        ordered.append(known.pick(rest))
        rest.remove(ordered[-1])
    return ordered


async def test_a_dead_address_costs_time_once() -> None:
    use(ONE, OTHER)
    known = Addresses()
    with ExitStack() as stack:
        with listening(ONE, is_dead=True) as dead:
            port = port_of(dead)
            other = stack.enter_context(listening(OTHER, port))
            began = trio.current_time()
            wire = await connect(NAME, port, None, Known(known))
            assert trio.current_time() - began >= HEAD_START
            assert wire.ip == OTHER
            assert has_caller(other)
            wire.close()
            known.worked(wire.ip)
        # It would answer now, and nobody asks it.
        alive = stack.enter_context(listening(ONE, port))
        wire = await connect(NAME, port, None, Known(known))
        assert wire.ip == OTHER
        assert has_caller(other)
        assert not has_caller(alive)
        wire.close()


async def test_an_address_that_refuses_is_left_for_the_next() -> None:
    use(ONE, OTHER)
    with listening(OTHER) as other:
        wire = await connect(NAME, port_of(other), None)
        assert wire.ip == OTHER
        wire.close()


async def test_if_nobody_can_be_reached_the_error_is_the_systems() -> None:
    use(ONE, OTHER)
    with listening(OTHER) as other:
        port = port_of(other)
    with pytest.raises(ConnectionRefusedError):
        await connect(NAME, port, None)


async def test_a_name_without_addresses_is_an_error() -> None:
    use()
    with pytest.raises(OSError, match="no address"):
        await connect(NAME, 1, None)


async def test_when_all_addresses_are_dead_a_time_limit_ends_it() -> None:
    use(ONE, OTHER)
    with listening(ONE, is_dead=True) as one, listening(OTHER, port_of(one), is_dead=True):
        with trio.move_on_after(2 * HEAD_START) as scope:
            await connect(NAME, port_of(one), None)
    assert scope.cancelled_caught


def test_what_has_worked_comes_first_and_what_failed_last_comes_last() -> None:
    known = Addresses()
    assert order(known, ["a", "b", "c"]) == ["a", "b", "c"]
    known.worked("c")
    assert order(known, ["a", "b", "c"]) == ["c", "a", "b"]
    assert order(known, ["a", "b"]) == ["a", "b"]
    known.failed("c")
    assert order(known, ["c", "a", "b"]) == ["a", "b", "c"]
    known.failed("a")
    assert order(known, ["c", "a", "b"]) == ["b", "c", "a"]
    known.failed("b")
    assert order(known, ["c", "a", "b"]) == ["c", "a", "b"]
    known.worked("a")
    assert order(known, ["b", "c", "a"]) == ["a", "c", "b"]
    known.worked("c")
    assert order(known, ["b", "c", "a"]) == ["c", "a", "b"]


async def test_a_deaf_address_is_left_for_another_by_checks_and_by_pools(
    engine: Engine, postgres: Server
) -> None:
    use(DEAF, ONE)
    with listening(DEAF, postgres.port) as deaf:
        health = health_of(engine, postgres.port, PASSWORD, host=NAME, timeout=0.2)
        share(health, is_spread=False)
        await checks.check(engine, health)
        found = [health.condition]
        assert has_caller(deaf)
        health.parts[0].take_settings(health_of(engine, 1, PASSWORD).parts[0].settings)
        share(health, is_spread=False)
        await checks.check(engine, health)
        found.append(health.condition)
        assert found == [Condition.SUSPECT, Condition.UP]
        server = await open_server(engine, health.parts[0])
        assert server.ip == ONE
        server.close()
        assert not has_caller(deaf)


async def test_each_address_is_checked_where_connections_are_spread(
    engine: Engine, postgres: Server
) -> None:
    use(SILENT, ONE)
    with listening(SILENT, postgres.port) as deaf:
        health = health_of(engine, postgres.port, PASSWORD, host=NAME, timeout=2.0)
        share(health, is_spread=True)
        await checks.check(engine, health)
        assert has_caller(deaf)
        assert health.condition is Condition.UP
        assert health.facts is not None
        assert health.addresses.failed_ones == [SILENT]
        for _ in range(3):
            server = await open_server(engine, health.parts[0])
            assert server.ip == ONE
            server.close()
        assert not has_caller(deaf)


async def test_a_user_who_is_refused_says_nothing_about_an_address(
    engine: Engine, postgres: Server
) -> None:
    use(ONE, OTHER)
    health = health_of(engine, postgres.port, "wrong", host=NAME)
    with pytest.raises(ServerRefused):
        await open_server(engine, health.parts[0])
    assert health.addresses.failed_ones == []


def test_a_connection_that_fails_condemns_no_server_that_has_other_addresses(
    engine: Engine,
) -> None:
    health = health_of(engine, 1, PASSWORD, host=NAME)
    health.addresses.note([ONE, OTHER])
    found = []
    for other in (ONE, OTHER):
        health.addresses.failed(other)
        health.unreachable(ServerUnavailable("gone"))
        found.append(health.condition)
        assert health.wanted.is_set()
    assert found == [Condition.UP, Condition.DOWN]


@given(data=st.data())
def test_whatever_happens_the_healthy_addresses_share_what_is_opened(
    data: st.DataObject,
) -> None:
    known = Addresses()
    names = [f"a{number}" for number in range(5)]
    open_at: Counter[str] = Counter()
    broken: set[str] = set()
    found = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    for step in data.draw(st.lists(st.sampled_from("oooocfwm"), max_size=60)):
        if step == "m":  # the resolver tells of others, in any order
            found = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
        elif step == "f":
            name = data.draw(st.sampled_from(names))
            assert known.failed(name) is (name not in broken)
            broken.add(name)
        elif step == "w":
            name = data.draw(st.sampled_from(names))
            known.worked(name)
            broken.discard(name)
        elif step == "c" and +open_at:
            open_at[data.draw(st.sampled_from(sorted(+open_at)))] -= 1
        elif step == "o":
            known.note(found)
            chosen = known.pick(found, open_at)
            well = [name for name in found if name not in broken]
            assert known.has_hope is bool(well)
            assert known.failed_ones == [name for name in found if name in broken]
            if well:
                assert chosen in well
                assert open_at[chosen] == min(open_at[name] for name in well)
            open_at[chosen] += 1
    known.note(found)
    well = [name for name in found if name not in broken]
    # From wherever they are: as many more as it takes, and then all have the same number.
    for _ in range(sum(open_at.values()) * len(well) + len(well)):
        open_at[known.pick(found, open_at)] += 1
    counts = [open_at[name] for name in well]
    assert max(counts, default=0) - min(counts, default=0) <= 1


@given(
    names=st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True),
    rounds=st.integers(1, 4),
)
def test_connections_that_are_opened_at_once_go_to_different_addresses(
    names: list[str], rounds: int
) -> None:
    known = Addresses()
    known.note(names)
    opened = Counter(known.pick(names, {}) for _ in range(rounds * len(names)))
    assert opened == dict.fromkeys(names, rounds)


@given(data=st.data())
def test_connections_that_are_opened_at_once_spread_though_addresses_refuse(
    data: st.DataObject,
) -> None:
    names = data.draw(st.lists(st.sampled_from("abcdef"), min_size=2, unique=True))
    dead = data.draw(st.sets(st.sampled_from(names), max_size=len(names) - 1))
    health = health_of(FakeEngine(), 1, PASSWORD, host=NAME)
    [part] = health.parts
    guides = [Guide(part) for _ in range(data.draw(st.integers(1, 20)))]
    rest = {guide: list(names) for guide in guides}
    at: dict[Guide, str] = {}
    # Whatever the order in which their attempts come to something.
    trying = list(guides)
    while trying:
        guide = data.draw(st.sampled_from(trying))
        if guide not in at:
            guide.found(names)
        elif at[guide] in dead:
            guide.failed(at[guide])
        else:
            trying.remove(guide)
            continue
        at[guide] = guide.pick(rest[guide])
        rest[guide].remove(at[guide])
    counts = Counter(at.values())
    assert sorted(part.underway) == sorted(counts.elements())
    well = [counts[name] for name in names if name not in dead]
    assert max(well) - min(well) <= 1
    for guide in guides:
        with guide:
            pass
    assert part.underway == []


def test_what_was_heard_before_an_address_has_worked_does_not_count_any_more() -> None:
    addresses = Addresses()
    addresses.note(["a", "b"])
    addresses.heard = {"a": {1: 10}, "b": {2: 20}}
    addresses.worked("a")
    assert addresses.heard == {"b": {2: 20}}
    addresses.note(["a"])
    assert addresses.heard == {}


def test_what_has_failed_is_not_remembered_for_ever_of_addresses_that_are_gone() -> None:
    known = Addresses()
    for number in range(10_000):
        name = f"10.0.{number // 256}.{number % 256}"
        known.note([name, "well"])
        known.failed(name)
        known.heard[name] = {1: 2}
        known.reported.add(name)
    known.note(["well"])
    assert len(known._ranks) < 100
    assert (known._turns, known.heard, known.reported) == ({"well": 0}, {}, set())


async def test_a_cancel_request_goes_where_the_connection_leads_to(
    engine: Engine, postgres: Server
) -> None:
    resolver = use(ONE)
    with listening(CALLED, postgres.port) as other:
        health = health_of(engine, postgres.port, PASSWORD, host=NAME)
        server = await open_server(engine, health.parts[0])
        resolver.addresses = (CALLED,)
        await deliver_cancel(server.pool, server.pid, server.secret, server.ip)
        assert not has_caller(other)
        server.close()
