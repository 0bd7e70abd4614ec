"""``EXPLAIN ROUTE``: where a statement would go, and why, for people.

The decision is that of `QueryRouter`; here it is asked for and put into words.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ..errors import ForEveryShard, RouterError, RoutingError
from ..firstwords import BEFORE, GAP
from .commands import worded
from .decisions import UNBOUND
from .fingerprint import UnknownLexeme, short_fingerprint_of
from .for_all import CopyForAll, CopyForSeveral, RowsForSeveral
from .limits import TooComplex
from .lists import parameters_in
from .types import Analysis, Role, Route, StatementVerdict, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .columns import ShardedTables
    from .router import QueryRouter
    from .state import RoutingState
    from .types import KeyTerm, KeyValue

    Values = Mapping[int, KeyValue | tuple[KeyValue, ...] | None]
    Parameters = Callable[[Analysis], Values]

COLUMNS: Final[tuple[str, ...]] = (
    "kind",
    "verdict",
    "role",
    "shard",
    "rule",
    "reason",
    "sharding_key",
    "key_value",
    "multiplexing",
    "cache",
    "tables",
    "sqlstate",
    "message",
)
"""The columns of the answer, all of them text; new ones come behind these."""

MAX_PARAMETERS: Final = 1000

_SHOWN: Final = 100
"""Keys of a list that are shown."""

ROUTER_RULE: Final = "router"
"""The rule of what the router answers without a server."""

EVERY_SHARD: Final = "every shard"
"""The rule of what is brought to all shards."""

_HEAD: Final = re.compile(
    rb"(?P<before>%(before)s)explain%(gap)s+route(?![\w.$])" % {b"before": BEFORE, b"gap": GAP},
    re.IGNORECASE,
)
_PARAMETER: Final = re.compile(rb"(?<![\w$\x80-\xff])\$([0-9]{1,5})(?![0-9])")
_QUOTED: Final = re.compile(rb'"[^"]*+"')


def explained(text: bytes) -> bytes | None:
    """The SQL that EXPLAIN ROUTE is asked about; None if it is other SQL.

    Comments before the words belong to it as well.

    Raises:
        RoutingError: there is none (42601).
    """
    match = _HEAD.match(text)
    if match is None:
        return None
    rest = text[match.end() :]
    if not rest.strip(b" \t\r\n;"):
        raise RoutingError(
            "EXPLAIN ROUTE needs a statement", sqlstate="42601", hint="EXPLAIN ROUTE SELECT 1"
        )
    return match["before"].strip() + rest.lstrip()


def parameter_count(sql: bytes) -> int:
    """How many parameters a text has: the highest n of its ``$n``.

    Raises:
        RoutingError: too many (54000).
    """
    try:
        fingerprint, literals = short_fingerprint_of(sql)
    except (UnknownLexeme, TooComplex):
        return 0
    numbers = map(int, _PARAMETER.findall(_QUOTED.sub(b" ", fingerprint)))
    count = max(*parameters_in(literals), *numbers, 0, 0)
    if count > MAX_PARAMETERS:
        raise RoutingError(
            f"EXPLAIN ROUTE takes up to {MAX_PARAMETERS} parameters", sqlstate="54000"
        )
    return count


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a text.

    Attributes:
        analysis: what is known about it.
        cache: how that came to be known: hit, fingerprint, miss, or off.
        values: of the parameters that are sharding keys.
        route: where it goes, or None.
        rule: what gave the shard.
        error: why it goes nowhere.
        shards: those of its rows, if it is split by them.
    """

    analysis: Analysis
    cache: str
    values: Values
    route: Route | None = None
    rule: str | None = None
    error: RouterError | None = None
    shards: str = ""

    def held(self, role: Role, shard: int, by: str) -> Decision:
        """The same where the server has been chosen earlier: by a transaction or a session."""
        route = Route(role, shard, f"the {by} stays on its server")
        return replace(self, route=route, rule=by, error=None)

    def on_all(self, *, in_turn: bool = False, shards: str = "") -> Decision:
        """The same if it is brought to all shards, or split among some."""
        reason = "on one after the other" if in_turn else "in one transaction"
        shards = shards or self.shards
        where = "split by its rows" if shards else "on all shards"
        every = Route(Role.PRIMARY, None, f"{where}, {reason}")
        return replace(self, route=every, rule=EVERY_SHARD, error=None, shards=shards)


def answered(reason: str, kind: str = "") -> Decision:
    """What becomes of a text that no server hears of."""
    statement = StatementVerdict(kind, Verdict.WRITE, reason)
    analysis = Analysis((statement,), Verdict.WRITE, reason)
    return Decision(analysis, "off", {}, rule=ROUTER_RULE)


def decide(
    router: QueryRouter,
    sql: bytes,
    state: RoutingState,
    parameters: Parameters | None = None,
) -> Decision:
    """Find out where a text goes; that it goes nowhere is an answer, too.

    Args:
        router: the pool's.
        sql: the text.
        state: what the client has chosen.
        parameters: gives the values for the numbers in `Analysis.key_parameters`, if any.
    """
    own = _own(router, sql, state)
    if own is not None:
        return own
    analysis, cache = router.inspect(sql, state)
    decision = Decision(analysis, cache, UNBOUND)
    try:
        if parameters is not None and analysis.key_parameters:
            decision = replace(decision, values=parameters(analysis))
        route, rule = router.decide(analysis, state, decision.values)
    except CopyForAll:
        return decision.on_all()
    except CopyForSeveral:
        try:
            router.copied(sql, state)
        except RoutingError as error:
            return replace(decision, error=error)
        return decision.on_all()
    except RowsForSeveral:
        return _split(decision, router, sql, state)
    except ForEveryShard as error:
        return decision.on_all(in_turn=error.in_turn)
    except RoutingError as error:
        return replace(decision, error=error)
    return replace(decision, route=route, rule=rule)


def _split(
    decision: Decision, router: QueryRouter, sql: bytes, state: RoutingState
) -> Decision:
    """What becomes of an INSERT of rows of several shards."""
    try:
        _, shards = router.shards_of_rows(sql, state, decision.values)
    except RoutingError as error:
        return replace(decision, error=error)
    return decision.on_all(shards=", ".join(map(str, sorted(set(shards)))))


def _own(router: QueryRouter, sql: bytes, state: RoutingState) -> Decision | None:
    """What becomes of a routing command; None if it is none."""
    decision = answered("the router answers it itself")
    try:
        wording = worded(sql)
        if wording is None:
            return None
        decision = answered("the router answers it itself", wording.verb.value)
        if not wording.has_parameter:
            command = wording.command(shards=router.options.shard_count, sharder=router.sharder)
            before = state.overrides
            state.execute(command, router.options, random.Random(0), router.sharder)
            state.restore(before)
    except RoutingError as error:
        return replace(decision, rule=None, error=error)
    return decision


def row(router: QueryRouter, decision: Decision) -> tuple[str | None, ...]:
    """The decision as the values of COLUMNS; None is NULL."""
    analysis, route, error = decision.analysis, decision.route, decision.error
    is_seen = decision.cache != "off"
    role = shard = None
    if route is not None:
        role = "any" if route.role is None else route.role.value
        shard = _drawn(router) if route.shard is None else str(route.shard)
        if decision.rule == EVERY_SHARD:
            shard = decision.shards or "all"
    return (
        "; ".join(kind for kind in analysis.kinds if kind) or None,
        ("read" if analysis.verdict is Verdict.READ else "write") if is_seen else None,
        role,
        shard,
        decision.rule,
        analysis.reason if route is None else route.reason,
        _listed(_key_columns(router.sharded, analysis)),
        _listed(_key_values(decision)),
        _multiplexing(analysis) if is_seen else None,
        decision.cache,
        _listed(analysis.tables),
        None if error is None else error.sqlstate,
        None if error is None else error.message,
    )


def _multiplexing(analysis: Analysis) -> str:
    """Whether it may share a server connection with statements of other clients."""
    return "yes" if analysis.self_contained and analysis.is_read else "no"


def _drawn(router: QueryRouter) -> str:
    """How a shard is drawn: also for tables on every shard, whatever the default is."""
    healthy = "random_healthy"
    return healthy if router.options.default_shard == healthy else "random"


def _listed(names: Iterator[str] | tuple[str, ...]) -> str | None:
    return ", ".join(dict.fromkeys(names)) or None


def _key_columns(sharded: ShardedTables | None, analysis: Analysis) -> Iterator[str]:
    """The columns with sharding keys of the tables that are used."""
    for table in analysis.tables:
        schema, _, name = table.rpartition(".")
        column = "" if sharded is None else sharded.key_of(schema, name)[0]
        if column:
            yield f"{table}.{column}"


def _key_values(decision: Decision) -> Iterator[str]:
    analysis = decision.analysis
    if analysis.comment_key is not None:
        yield str(analysis.comment_key)
    for conditions in analysis.keys:
        for terms in conditions:
            for term in terms:
                yield _key_value(term, decision.values)


def _key_value(term: KeyTerm, values: Values) -> str:
    if term.keys is not None:
        return ", ".join("?" if key is None else str(key) for key in term.keys[:_SHOWN])
    if not term.parameters:
        return "?" if term.key is None else str(term.key)
    return ", ".join(_bound_value(number, values) for number in term.parameters[:_SHOWN])


def _bound_value(number: int, values: Values) -> str:
    value = values.get(number)
    if value is None:
        return f"${number}"
    listed = ", ".join(map(str, value[:_SHOWN])) if isinstance(value, tuple) else str(value)
    return f"${number} = {listed}"
