"""What Patroni's REST API tells, read: whatever it is."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.errors import ServerProtocolError
from router.pool.patroni import LONGEST, MOST_MEMBERS, Member, members_of

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
