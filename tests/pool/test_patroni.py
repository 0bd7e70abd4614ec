"""What Patroni's REST API tells, read: whatever it is."""

from __future__ import annotations

import contextlib
import json
from functools import partial

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.demo.server import HOST
from router.errors import ServerProtocolError
from router.pool import patroni
from router.pool.patroni import LONGEST, MOST_MEMBERS, Member, Trust, ask, members_of

# From Patroni's documentation of GET /cluster.
DOCUMENTED = b"""{"members": [
 {"name": "patroni1", "role": "replica", "state": "streaming",
  "api_url": "http://10.0.0.1:8008/patroni",
  "host": "10.0.0.1", "port": 5432, "timeline": 1, "lag": 512, "tags": {"noloadbalance": true}},
 {"name": "patroni2", "role": "leader", "state": "running",
  "api_url": "http://10.0.0.2:8008/patroni",
  "host": "10.0.0.2", "port": 5433, "timeline": 1, "pending_restart": true},
 {"name": "patroni3", "role": "sync_standby", "state": "starting", "host": "10.0.0.3",
  "port": 5432,
  "lag": "unknown", "tags": {"noloadbalance": false, "nofailover": true}}],
 "scope": "demo", "pause": true, "scheduled_switchover": {"at": "2023-09-24T10:36:00+02:00"}}"""


def test_the_documented_answer_is_understood() -> None:
    found = members_of(DOCUMENTED)
    assert found == (
        Member("patroni1", "10.0.0.1", 5432, "replica", "streaming", 512, True),
        Member("patroni2", "10.0.0.2", 5433, "leader", "running", None, False),
        Member("patroni3", "10.0.0.3", 5432, "sync_standby", "starting", None, False),
    )
    assert [each.is_running for each in found] == [True, True, False]
    assert [each.is_leader for each in found] == [False, True, False]


@pytest.mark.parametrize(
    "change",
    [
        {"host": ""},
        {"host": None},
        {"host": 5},
        {"host": "/tmp"},
        {"host": "a\nb"},
        {"host": "a" * 300},
        {"port": 0},
        {"port": 65536},
        {"port": "5432"},
        {"port": True},
        {"port": 5432.0},
    ],
)
def test_a_member_without_a_usable_address_is_left_out(change: dict[str, object]) -> None:
    well = {"name": "a", "host": "h", "port": 5432, "role": "leader", "state": "running"}
    body = json.dumps({"members": [well | {"host": "other"}, well | change]}).encode()
    assert [each.host for each in members_of(body)] == ["other"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"members": {}}',
        b"nonsense",
        b"\xff\xfe\xfd",
        b"[" * LONGEST,
        b'{"members": [' + b'{"a":' * 10_000,
        b'{"members": [' + b"1" * 100_000 + b"]}",
        json.dumps({"members": [{}] * (MOST_MEMBERS + 1)}).encode(),
    ],
)
def test_what_is_no_answer_is_an_error(body: bytes) -> None:
    with pytest.raises(ServerProtocolError):
        members_of(body)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(["name", "host", "port", "role", "state", "lag", "tags", "other"])


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(members=st.lists(st.dictionaries(KEYS, VALUES) | VALUES, max_size=5))
def test_whatever_the_members_are_they_are_read_or_left_out(members: list[object]) -> None:
    for each in members_of(json.dumps({"members": members}).encode()):
        assert each.host
        assert 1 <= each.port <= 65535
        assert each.lag is None or each.lag >= 0
        assert max(map(len, (each.name, each.role, each.state))) < 256


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(body=st.binary(max_size=200))
def test_bytes_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(ServerProtocolError):
        members_of(body)


@pytest.mark.parametrize("lag", [-1, "unknown", None, 1.5, True, [1]])
def test_a_lag_that_is_none_is_not_known(lag: object) -> None:
    [found] = members_of(one(lag=lag))
    assert found.lag is None


@pytest.mark.parametrize("tag", ["true", 1, [1], {"a": 1}, False, None])
def test_only_a_tag_that_is_true_spares_a_member(tag: object) -> None:
    [found] = members_of(one(tags={"noloadbalance": tag}))
    assert not found.is_spared


def test_words_are_cut() -> None:
    [found] = members_of(one(name="n" * 300, role="r" * 300, state="s" * 300))
    assert (found.name, found.role, found.state) == ("n" * 255, "r" * 255, "s" * 255)


def one(**more: object) -> bytes:
    """The answer of a cluster with one member."""
    well = {"name": "a", "host": "h", "port": 5432, "role": "leader", "state": "running"}
    return json.dumps({"members": [well | more]}).encode()


class Api:
    """An API that takes one question, answers with bytes and waits for the end."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.asked = b""
        self.has_ended = False

    async def ask(self, path: str = "") -> tuple[Member, ...]:
        """Have it asked, and see that the connection is closed then."""
        outcome: tuple[Member, ...] | ServerProtocolError
        async with trio.open_nursery() as nursery:
            [listener] = await nursery.start(partial(trio.serve_tcp, self._serve, 0, host=HOST))
            port = listener.socket.getsockname()[1]
            with trio.fail_after(60):
                try:
                    outcome = await ask(f"http://{HOST}:{port}{path}", Trust())
                except ServerProtocolError as error:
                    outcome = error
                while not self.has_ended:
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        if isinstance(outcome, ServerProtocolError):
            raise outcome
        return outcome

    async def _serve(self, stream: trio.SocketStream) -> None:
        while b"\r\n\r\n" not in self.asked:
            self.asked += await stream.receive_some()
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(self._answer)
            while await stream.receive_some():
                pass
        self.has_ended = True


def http(body: bytes, status: str = "200 OK") -> bytes:
    """An answer that leaves its connection open."""
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


@pytest.mark.parametrize("path", ["", "/", "/behind", "/behind/"])
async def test_the_question_is_that_of_a_polite_client(path: str) -> None:
    api = Api(http(one()))
    [found] = await api.ask(path)
    assert found.name == "a"
    first, *headers = api.asked.decode().split("\r\n")
    assert first == f"GET {path.rstrip('/')}/cluster HTTP/1.1"
    assert any(line.lower().startswith("host: 127.0.0.1:") for line in headers)


@pytest.mark.parametrize("status", ["201 Created", "301 Moved", "404 Not Found", "503 No"])
async def test_any_other_status_is_no_answer(status: str) -> None:
    with pytest.raises(ServerProtocolError, match=f"HTTP status {status[:3]}"):
        await Api(http(one(), status)).ask()


@pytest.mark.parametrize("more", [0, 1])
async def test_an_answer_may_have_so_many_bytes(more: int) -> None:
    body = one().ljust(LONGEST + more)
    if not more:
        assert len(await Api(http(body)).ask()) == 1
        return
    with pytest.raises(ServerProtocolError, match="longer than"):
        await Api(http(body)).ask()


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"]
)
async def test_what_is_no_http_is_no_answer(answer: bytes) -> None:
    with pytest.raises(ServerProtocolError, match="no HTTP"):
        await Api(answer).ask()


@pytest.mark.parametrize(
    ("url", "port"),
    [("http://h", 80), ("https://h", 443), ("http://h:8008", 8008), ("https://h:8008", 8008)],
)
async def test_a_url_without_a_port_means_that_of_its_scheme(
    url: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dial(host: str, port: int) -> None:
        raise OSError(f"{host} at {port}")

    monkeypatch.setattr(patroni, "dial", dial)
    with pytest.raises(OSError, match=f"h at {port}$"):
        await ask(url, Trust())
