"""Where an extended batch goes: decided by its statements and the values bound to them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import AmbiguousShard, ClientProtocolError, RoutingError
from ..protocol import codes
from ..protocol.binds import Parameters, declared_types
from ..routing.decisions import UNBOUND
from ..routing.types import KeyType, KeyValue, Role, RoleChoice

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from ..routing.router import QueryRouter
    from ..routing.sharding import Sharder
    from ..routing.state import RoutingState
    from ..routing.types import Analysis, Route
    from .operations import Operation

BoundKey = KeyValue | tuple[KeyValue, ...] | None
"""The value of a parameter: a key, those of an array, or NULL."""


def batch_route(
    router: QueryRouter,
    state: RoutingState,
    operations: Sequence[Operation],
    *,
    complete: bool,
) -> Route:
    """Find the place for a batch.

    Args:
        router: the pool's.
        state: the client's choices.
        operations: what has been collected.
        complete: whether the Sync is among them; else more is to come that must run in the
            same place, which must then be ready for anything.

    Raises:
        RoutingError: there is no such place.
    """
    # A client can ask for what its pool does without: then Parse has not looked at the texts.
    is_late = state.choice is RoleChoice.AUTO and not router.options.parser_enabled
    if router.is_static and not is_late:
        return router.route_unknown(state)
    found: Route | None = None
    prepared: Analysis | None = None
    for operation in operations:
        if operation.own is not None:
            continue
        statement = operation.statement
        analysis = None if statement is None else statement.analysis
        if is_late and statement is not None:
            analysis, _ = router.inspect(statement.text, state)
        if operation.kind == codes.BIND:
            if statement is None or analysis is None:
                route = router.route_unknown(state)
            else:
                router.note_prepared(analysis, statement.text, state)
                values = key_values(operation.data, analysis, statement.body, router.sharder)
                if operation.missing and state.shard is None:
                    check_all_are_here(analysis, values)
                route = router.route_analysis(analysis, state, values)
            found = route if found is None else _both(found, route)
        elif statement is not None and operation.kind in b"PD":
            prepared = analysis
    if not complete:
        unknown = router.route_unknown(state)
        return unknown if found is None else replace(found, role=unknown.role)
    if found is not None:
        return found
    # Nothing is run: a statement can be prepared and described wherever it could be read.
    return router.route_analysis(prepared, state)


def _both(one: Route, other: Route) -> Route:
    """The place where both can run."""
    if one.shard is not None and other.shard is not None and one.shard != other.shard:
        raise AmbiguousShard(
            f"the statements of the batch belong to shards {one.shard} and {other.shard}",
            hint="Send a Sync between them.",
        )
    if one.role is Role.PRIMARY or (one.role is not None and other.role is None):
        one, other = other, one
    # `other` now has the stricter role.
    shard = one.shard if other.shard is None else other.shard
    return replace(other, shard=shard, is_chosen=one.is_chosen or other.is_chosen)


def key_values(
    data: bytes, analysis: Analysis, body: bytes, sharder: Sharder
) -> Mapping[int, BoundKey]:
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
