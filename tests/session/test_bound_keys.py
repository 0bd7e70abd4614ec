"""The sharding keys among the values of a Bind."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from router.errors import InvalidShardingKey
from router.protocol.binds import declared_types
from router.routing.decisions import UNBOUND
from router.routing.keyplan import KeyPlan
from router.routing.sharding import Sharder
from router.routing.types import Analysis, KeyTerm, RouterOptions, Verdict
from router.session.bound_keys import key_values
from router.turns import work

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BIGINTS = Sharder(RouterOptions())
UUIDS = Sharder(RouterOptions(sharding_function="pg_uuid_hash"))
TEXTS = Sharder(RouterOptions(sharding_function="pg_text_hash"))
ONE = UUID("01234567-89ab-cdef-0123-456789abcdef")


def bind(*values: bytes | None, formats: tuple[int, ...] = ()) -> bytes:
    """What follows the names in a Bind."""
    parts = [struct.pack(f"!H{len(formats)}H", len(formats), *formats)]
    parts.append(struct.pack("!H", len(values)))
    for value in values:
        if value is None:
            parts.append(struct.pack("!i", -1))
        else:
            parts.append(struct.pack("!i", len(value)) + value)
    return b"".join(parts) + struct.pack("!H", 0)


def parse(*types: int) -> bytes:
    """What follows the name in a Parse."""
    return b"SELECT\0" + struct.pack(f"!H{len(types)}I", len(types), *types)


def bound_keys(
    data: bytes,
    wanted: dict[int, bool],
    body: bytes,
    sharder: Sharder,
    untyped: Iterable[int] = (),
) -> Mapping[int, object]:
    """The keys in a Bind: `wanted` are their numbers, and whether each is an array."""
    terms = tuple(KeyTerm(parameters=(n,), is_array=is_array) for n, is_array in wanted.items())
    analysis = Analysis((), Verdict.READ, "", keys=((terms,),), untyped=frozenset(untyped))
    return key_values(data, KeyPlan(analysis, declared_types(body), sharder))


def keys(
    sharder: Sharder, data: bytes, *wanted: int, body: bytes = parse()
) -> Mapping[int, object]:
    return bound_keys(data, dict.fromkeys(wanted, False), body, sharder)


def test_each_value_has_its_own_format() -> None:
    data = bind(b"5", b"\0\0\0\6", b"x", formats=(0, 1, 0))
    assert keys(BIGINTS, data, 1, 2) == {1: 5, 2: 6}


def test_one_format_is_that_of_all_values() -> None:
    data = bind(b"\0\5", b"\0\6", formats=(1,))
    assert keys(BIGINTS, data, 1, 2) == {1: 5, 2: 6}


def test_text_and_uuids_are_read_in_both_formats() -> None:
    assert keys(TEXTS, bind(b"a", b"b", formats=(0, 1)), 1, 2) == {1: "a", 2: "b"}
    data = bind(str(ONE).encode(), ONE.bytes, formats=(0, 1))
    assert keys(UUIDS, data, 1, 2) == {1: ONE, 2: ONE}


def test_null_is_told_apart_from_what_is_not_known() -> None:
    float8 = 701
    data = bind(None, bytes(8), formats=(1,))
    assert keys(BIGINTS, data, 1, 2, body=parse(float8, float8)) == {1: None}


def test_a_declared_type_belongs_to_the_value_in_its_place() -> None:
    varchar = 1043
    data = bind(b"\0\5", b"42", b"\0\6", formats=(1,))
    assert keys(BIGINTS, data, 1, 2, 3, body=parse(0, varchar)) == {1: 5, 2: 42, 3: 6}


def test_the_members_of_an_array_are_keys() -> None:
    data = bind(b"{1,2}", b"3")
    assert bound_keys(data, {1: True, 2: False}, parse(), BIGINTS) == {1: (1, 2), 2: 3}
    assert bound_keys(bind(b"{{1}}"), {1: True}, parse(), BIGINTS) == {}


def test_what_is_not_there_is_missing() -> None:
    assert keys(BIGINTS, bind(b"5"), 1, 2) == {1: 5}
    assert keys(BIGINTS, b"", 1) == {}
    whole = bind(b"5", b"6", formats=(0, 0))
    for end in range(len(whole)):
        assert keys(BIGINTS, whole[:end], 1, 2).keys() <= {1, 2}


def test_a_value_that_is_no_key_is_refused() -> None:
    with pytest.raises(InvalidShardingKey):
        keys(UUIDS, bind(b"5"), 1)
    with pytest.raises(InvalidShardingKey):
        keys(TEXTS, bind(b"\xff"), 1)


def test_a_parameter_that_is_used_elsewhere_counts_only_with_its_type() -> None:
    data = bind((1).to_bytes(8), formats=(1,))
    args = {1: False}
    assert bound_keys(data, args, parse(), BIGINTS, {1}) == {}
    assert bound_keys(data, args, parse(20), BIGINTS, {1}) == {1: 1}
    assert bound_keys(data, args, parse(), BIGINTS, {2}) == {1: 1}
    assert bound_keys(bind(b"1"), args, parse(), BIGINTS, {1}) == {1: 1}


def test_the_parameters_of_a_prepare_are_bound_later() -> None:
    terms = (KeyTerm(parameters=(1,)),)
    analysis = Analysis((), Verdict.READ, "", keys=((terms,),), prepares="p")
    plan = KeyPlan(analysis, (), BIGINTS)
    assert not plan.last
    assert not plan.misses({})
    assert key_values(bind(b"5"), plan) is UNBOUND


def test_a_plan_tells_which_keys_a_bind_has_not_given() -> None:
    terms = (KeyTerm(parameters=(2,)), KeyTerm(parameters=range(4, 9, 2), is_array=True))
    plan = KeyPlan(Analysis((), Verdict.READ, "", keys=((terms,),)), (), BIGINTS)
    assert [number for number in range(12) if plan.wants(number)] == [2, 4, 6, 8]
    assert plan.misses({})
    assert plan.misses({2: 1, 4: (1,), 6: (1,)})
    assert not plan.misses({2: 1, 4: (1,), 6: (1,), 8: None})


def test_the_same_bytes_are_another_key_in_another_format() -> None:
    data = bind(b"12345678", b"12345678", b"1234", formats=(0, 1, 1))
    found = keys(BIGINTS, data, 1, 2, 3)
    assert found == {1: 12345678, 2: 0x3132333435363738, 3: 0x31323334}
    varchar = 1043
    found = keys(BIGINTS, bind(b"12", b"12", formats=(1,)), 1, 2, body=parse(21, varchar))
    assert found == {1: 0x3132, 2: 12}


def test_keys_are_work_by_their_number() -> None:
    for count in (1, 80, 800):
        before = work.units
        array = b"{%b}" % b",".join([b"5"] * count)
        assert bound_keys(bind(array), {1: True}, parse(), BIGINTS) == {1: (5,)}
        assert work.units - before == count // 8
        before = work.units
        wanted = dict.fromkeys(range(1, count + 1), False)
        assert len(bound_keys(bind(*[b"5"] * count), wanted, parse(), BIGINTS)) == count
        assert work.units - before == count // 8
