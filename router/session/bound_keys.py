"""The sharding keys among the values of a Bind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ClientProtocolError, NoSingleShard, RoutingError
from ..protocol.binds import Parameters, declared_types
from ..routing.decisions import UNBOUND
from ..routing.keyplan import BoundKeys, KeyPlan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..protocol.prepared import Statement
    from ..routing.keyplan import BoundKey
    from ..routing.router import QueryRouter
    from ..routing.state import RoutingState
    from ..routing.types import Analysis


def bound_values(
    router: QueryRouter,
    state: RoutingState,
    statement: Statement[Analysis | None],
    analysis: Analysis,
    data: bytes,
    *,
    is_whole: bool,
) -> Mapping[int, BoundKey]:
    """Read the sharding keys among the values of a Bind.

    Args:
        router: the pool's.
        state: what the client has chosen.
        statement: what is bound.
        analysis: of it, which may be a newer one than its own.
        data: what follows the names in the Bind, or as much of that as there is.
        is_whole: whether that is all.

    Raises:
        RoutingError: a value is no key, there are too many, or they are not at hand.
    """
    plan = statement.plan
    if (
        not isinstance(plan, KeyPlan)
        or plan.analysis is not analysis
        or plan.sharder is not router.sharder
    ):
        plan = statement.plan = plan_of(statement.body, analysis, router)
    try:
        values = key_values(data, plan)
    except NoSingleShard:
        router.too_complex += 1
        raise
    if not is_whole and state.shard is None and plan.misses(values):
        raise RoutingError(
            "the sharding key comes too late in a message that is too long to wait for",
            sqlstate="0A000",
            hint="Bind it before the long values, or choose the shard with SET SHARD.",
        )
    return values


def plan_of(body: bytes, analysis: Analysis, router: QueryRouter) -> KeyPlan:
    """Find out what the Binds of a statement are to be read for; `body` is its Parse's."""
    try:
        types = declared_types(body)
    except ClientProtocolError:
        types = ()  # the server says what is wrong with it
    return KeyPlan(analysis, types, router.sharder)


def key_values(data: bytes, plan: KeyPlan) -> Mapping[int, BoundKey]:
    """Read the sharding keys among the values of a Bind.

    Args:
        data: what follows the names: formats, then values.
        plan: of the statement.

    Returns:
        The keys by number, None for NULL. Those that are not there, that the server would
        convert, or that the message is too short for are missing: the server will say what
        is wrong with it.

    Raises:
        RoutingError: a value is no key, or there are too many.
    """
    if plan.analysis.prepares:
        return UNBOUND  # the parameters are those of an EXECUTE to come
    keys = BoundKeys(plan)
    last = plan.last
    if not last:
        return keys.values
    try:
        parameters = Parameters(data)
        while parameters.number < last and parameters.advance():
            if plan.wants(parameters.number):
                value = None if parameters.is_null else parameters.value
                keys.add(parameters.number, value, is_binary=parameters.is_binary)
    except ClientProtocolError:
        pass
    return keys.values
