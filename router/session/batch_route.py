"""Where an extended batch goes: decided by its statements and the values bound to them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import AmbiguousShard, NoSingleShard
from ..protocol import codes
from ..routing.types import Role, ServerRole
from .bound_keys import bound_values
from .controls import control_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..routing.router import QueryRouter
    from ..routing.state import RoutingState
    from ..routing.types import Analysis, Route
    from .lease import Lease
    from .operation import Operation


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
        state: what the client has chosen.
        operations: what has been collected.
        complete: whether the Sync is among them; else more is to come that must run in the
            same place, which must then be ready for anything.

    Raises:
        RoutingError: there is no such place.
    """
    # A client can ask for what its pool does without: then Parse has not looked at the texts.
    is_late = state.choice is ServerRole.AUTO and not router.options.query_parser_enabled
    if router.is_static and not is_late:
        return router.route_unknown(state)
    found: Route | None = None
    prepared: Analysis | None = None
    for operation in operations:
        if operation.answered is not None or _is_control(operation):
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
                values = bound_values(
                    router,
                    state,
                    statement,
                    analysis,
                    operation.data,
                    is_whole=not operation.missing,
                )
                route = router.route_analysis(analysis, state, values)
            found = route if found is None else _both(found, route)
        elif statement is not None and operation.kind in b"PD":
            prepared = analysis
    if not complete or any(_is_control(operation) for operation in operations):
        unknown = router.route_unknown(state)
        if found is None:
            return unknown
        return replace(found, role=unknown.role, is_proven=unknown.is_proven)
    if found is not None:
        return found
    return _route_of_prepared(router, state, prepared)


def _route_of_prepared(
    router: QueryRouter, state: RoutingState, prepared: Analysis | None
) -> Route:
    """Where to prepare and describe what is not run: wherever it could be read.

    What has no single shard is described alike by all of them. It is refused when it is bound.
    """
    try:
        return router.route_analysis(prepared, state)
    except NoSingleShard:
        return router.route_unknown(state)


def only_prepares(lease: Lease, operations: Sequence[Operation]) -> bool:
    """Whether what comes behind these, in the same batch, may run on another server.

    Drivers prepare and describe a statement before they bind values to it. Until then only its
    text says something of its place.
    """
    if lease.is_kept_for_good or lease.pool.router.is_static:
        return False
    return operations[-1].kind != codes.SYNC and all(
        operation.kind == codes.FLUSH
        or (
            operation.kind in b"PDC"
            and operation.statement is not None
            and operation.answered is None
            and operation.error is None
        )
        for operation in operations
    )


def _is_control(operation: Operation) -> bool:
    """Whether it is about what begins or ends a transaction, which has no place of its own."""
    statement = operation.statement
    if operation.kind != codes.BIND or statement is None:
        return False
    return control_of(statement) is not None


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
