"""The sharding keys among the values of a Bind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import ClientProtocolError, RoutingError
from ..protocol.binds import Parameters, declared_types
from ..routing.decisions import UNBOUND
from ..routing.types import KeyType, KeyValue

if TYPE_CHECKING:
    from collections.abc import Container

    from ..routing.sharding import Sharder
    from ..routing.types import Analysis

BoundKey = KeyValue | tuple[KeyValue, ...] | None
"""The value of a parameter: a key, those of an array, or NULL."""

BoundKeys = Mapping[int, BoundKey]
"""Those of the parameters that are sharding keys, by number."""


def key_values(data: bytes, analysis: Analysis, body: bytes, sharder: Sharder) -> BoundKeys:
    """Read the sharding keys among the values of a Bind, as `bound_keys` does.

    Args:
        data: what follows the names in the Bind.
        analysis: of its statement.
        body: that of the statement's Parse.
        sharder: the pool's.
    """
    if analysis.prepares:
        return UNBOUND  # the parameters are those of an EXECUTE to come
    wanted = analysis.parameter_kinds
    if not wanted:
        return {}
    return bound_keys(data, wanted, body, sharder, analysis.untyped)


def check_all_are_here(analysis: Analysis, values: Container[int]) -> None:
    """See that of a Bind that is too long to hold the keys are at hand."""
    if any(number not in values for number in analysis.parameter_kinds):
        raise RoutingError(
            "the sharding key comes too late in a message that is too long to wait for",
            sqlstate="0A000",
            hint="Bind it before the long values, or choose the shard with SET SHARD.",
        )


def bound_keys(
    data: bytes,
    wanted: Mapping[int, bool],
    body: bytes,
    sharder: Sharder,
    untyped: Container[int] = (),
) -> dict[int, BoundKey]:
    """Read the sharding keys among the values of a Bind.

    Args:
        data: what follows the names: formats, then values.
        wanted: numbers of the parameters, counted from 1, and whether each is an array.
        body: that of the Parse, which may tell their types.
        sharder: reads them.
        untyped: those whose type must be told by the Parse to be known.

    Returns:
        The keys by number, None for NULL. Those that are not there, that the server would
        convert, or that the message is too short for are missing: the server will say what
        is wrong with it.

    Raises:
        InvalidShardingKey: a value is no key.
    """
    found: dict[int, BoundKey] = {}
    try:
        types = declared_types(body)
        parameters = Parameters(data)
        last = max(wanted)
        while parameters.number < last and parameters.advance():
            number = parameters.number
            if number not in wanted:
                continue
            if parameters.is_null:
                found[number] = None
                continue
            binary = parameters.is_binary
            oid = types[number - 1] if number <= len(types) else 0
            if oid == 0 and number in untyped and (binary or sharder.type is KeyType.TEXT):
                continue
            key: BoundKey = (
                sharder.parameter_array(parameters.value, binary=binary, oid=oid)
                if wanted[number]
                else sharder.parameter(parameters.value, binary=binary, oid=oid)
            )
            if key is not None:
                found[number] = key
    except ClientProtocolError:
        pass
    return found
