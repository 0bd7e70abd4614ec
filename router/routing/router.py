"""Decides for one statement of one client which kind of server of which shard runs it.

The role: what the client has fixed with SET SERVER ROLE; else, with read/write splitting, what
the statement needs; else default_role. The shard: what a comment in the statement says; else
what the client has chosen with SET SHARD or SET SHARDING KEY; else the sharding keys that the
statement names; else default_shard. A statement's shard is its own and does not stick to those
that follow, unless sharding_key_policy is "sticky".
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ..errors import NoSingleShard, RoutingError
from .cache import AnalysisCache, Entry, bind
from .classify import ClassifierOptions, classify_fingerprint, too_complex
from .columns import ShardedTables
from .comments import CommentRouter
from .copy_text import read_copy
from .decisions import UNBOUND
from .execution import values_of
from .fingerprint import UnknownLexeme, short_fingerprint_of
from .learning import Learner
from .limits import TooComplex
from .omnisharded import with_literals
from .placement import CHOSEN, STATEMENT_RULES, Placement
from .refusals import TOO_COMPLEX, copy_not_split, not_to_be_split, unknown_statement
from .rows import MOST_ROWS, Rows, rows_of
from .state import RoutingState
from .tags import body_without_tags
from .tallies import WITHOUT_KEY, Tallies
from .types import Analysis, Role, Route, ServerRole, Verdict
from .verdicts import FunctionRules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .activity import Activity
    from .columns import KeyColumn
    from .copy_text import CopyText
    from .decisions import Parameters
    from .sharding import Sharder
    from .types import RouterOptions

_UNSEEN: Final = Analysis.unknown("not inspected")
# The first statement of a transaction does not tell what others it will have.
_SOME_WRITE: Final = Analysis.unknown("it begins a transaction")
_SOME_READ: Final = Analysis((), Verdict.READ, "its transaction is read-only")
# What is remembered for all clients must hold for those with odd text as well.
_NO_CHOICES: Final = RoutingState(has_odd_text=True)
_MAX_ROUTES: Final = 1000
# Why a statement has a role that somebody has chosen, and that need not be what it needs.
_BY_DEFAULT: Final = "default_role"
_BY_CHOICE: Final = "SET SERVER ROLE"
_FIXED_ROLES: Final = (_BY_DEFAULT, _BY_CHOICE)


class QueryRouter(Learner):
    """Routes the statements of one pool.

    Attributes:
        options: the pool's settings.
        is_static: whether a statement's text has no say, so that nobody needs to look at it.
        finds_shards: whether a statement's text may demand a shard.
        activity: what has been written lately, if that matters.
        cache: what is known about texts, with its counters.
        refuses: whether statements on sharded tables without a single shard are refused.
        static_route: that of all statements of clients that have chosen nothing, if texts have
            no say.
        sharder: reads sharding keys and finds their shards.
        tallies: how often it has decided what.
        too_complex: how many statements were routed without a look at all of them, or refused.
    """

    __slots__ = (
        "_automatic_cache",
        "_comments",
        "_default_route",
        "_default_rule",
        "_default_tally",
        "_is_sticky",
        "_placement",
        "_routes",
        "_splits",
        "activity",
        "cache",
        "finds_shards",
        "is_static",
        "options",
        "refuses",
        "sharder",
        "static_route",
        "tallies",
        "too_complex",
    )

    def __init__(self, options: RouterOptions, activity: Activity | None = None) -> None:
        """Check the options that only routing can check.

        Raises:
            ConfigError: one of them cannot be used.
        """
        self.options: Final = options
        self.activity: Final = activity if options.query_parser_enabled else None
        self._placement: Final = Placement(options)
        self.sharder: Final[Sharder] = self._placement.sharder
        self.refuses: Final = self._placement.refuses
        self._splits: Final = (
            options.query_parser_enabled and options.query_parser_read_write_splitting
        )
        self._is_sticky: Final = self._placement.is_sticky
        self._comments: Final = CommentRouter(options, self.sharder)
        self._routes: Final[dict[tuple[Role | None, int | None, str, str], Route]] = {}
        self.tallies: Final = Tallies()
        self._default_tally: Final = self.tallies.of_rule("default_shard")
        self._default_rule: Final = (
            "default_shard" if options.shard_count > 1 else "single shard"
        )
        self._default_route: Final = self._interned(
            options.default_role, self._placement.default, _BY_DEFAULT, self._default_rule
        )
        self.is_static: Final = not (options.query_parser_enabled or self._comments.is_needed)
        self.static_route: Final = self._default_route if self.is_static else None
        self.finds_shards: Final = (
            not self.is_static and options.shard_count > 1 and not self._is_sticky
        )
        sharded = ShardedTables.of(
            options.automatic_sharding_key, options.omnisharded_tables, self.sharder.type
        )
        super().__init__(
            ClassifierOptions(
                FunctionRules(
                    frozenset(options.read_functions), frozenset(options.write_functions)
                ),
                sharded if sharded.matter and options.shard_count > 1 else None,
                options.query_parser_max_tokens,
            )
        )
        self.cache: Final = self._new_cache(inspects=options.query_parser_enabled)
        self._automatic_cache: AnalysisCache[Entry] | None = None
        self.too_complex = 0

    def __repr__(self) -> str:
        return f"<QueryRouter {self.options.shard_count} shards, {len(self.cache)} texts>"

    # --- the questions

    def route(self, text: bytes, state: RoutingState) -> Route:
        """Find the place for the text of a simple query.

        Raises:
            RoutingError: there is none.
        """
        if state.is_default:
            if self.static_route is not None:
                return self.static_route
            entry = self.cache.look_up(text)
            if entry.route is not None:
                return entry.route
            self.note_prepared(entry.fingerprint, text, state)
            return self.route_analysis(entry.analysis, state)
        if self.is_static and state.choice is not ServerRole.AUTO:
            return self.route_unknown(state)
        entry = self._look_up(text, state)
        self.note_prepared(entry.fingerprint, text, state)
        # Keys come behind the shard that the client has chosen: nobody needs to read them.
        is_chosen = state.shard is not None and not state.is_stuck and not self._is_sticky
        analysis = entry.fingerprint if is_chosen else entry.analysis
        return self.route_analysis(analysis, state)

    def analyse(self, text: bytes) -> Analysis | None:
        """Find out all about the text of a prepared statement; None if it has no say."""
        return None if self.is_static else self._look_up(text, None).analysis

    def classify(self, text: bytes) -> Analysis:
        """Find out what a text does, even if that has no say in where it goes."""
        return self._inspecting_cache.look_up(text).fingerprint

    def route_analysis(
        self,
        analysis: Analysis | None,
        state: RoutingState,
        parameters: Parameters = UNBOUND,
    ) -> Route:
        """Find the place for one execution of a statement that `analyse` has seen.

        Args:
            analysis: what `analyse` returned.
            state: what the client has chosen.
            parameters: values for the numbers in `Analysis.key_parameters`, as far as known.

        Raises:
            RoutingError: there is none.
        """
        if analysis is None:
            return self.route_unknown(state)
        if analysis.limit:
            self.too_complex += 1
        if self._is_sticky:
            self._placement.stick(analysis, state, parameters)
        try:
            shard, rule = self._shard(analysis, state, parameters)
        except NoSingleShard as error:
            if error.kind == TOO_COMPLEX and not analysis.limit:
                self.too_complex += 1  # it is the values that are too many
            raise
        role, reason = self._role(analysis, state)
        return self._interned(role, shard, reason, self._counted(rule, analysis))

    def demanded_shard(
        self,
        analysis: Analysis,
        state: RoutingState,
        parameters: Parameters = UNBOUND,
    ) -> int | None:
        """Find the shard that a statement itself names, by a comment or by keys.

        Arguments are those of `route_analysis`.

        Returns:
            None: it names none, or the client's own choice goes before it.

        Raises:
            RoutingError: it can be run nowhere.
        """
        shard, rule = self._shard(analysis, state, parameters)
        return shard if rule in STATEMENT_RULES else None

    def home_of(self, analysis: Analysis, state: RoutingState) -> int | None:
        """Find the shard that has the rows of a table that no setting names, if one is used."""
        if not self.refuses or state.shard is not None:
            return None
        texts = state.texts_of(analysis.executes) if analysis.executes else ()
        prepared = any(self._look_up(text, state).analysis.plain for text in texts)
        return self._placement.default if analysis.plain or prepared else None

    def shards_of_rows(
        self, text: bytes, state: RoutingState, parameters: Parameters = UNBOUND
    ) -> tuple[Rows, list[int]]:
        """Take an INSERT apart whose rows belong to several shards; whose is each of them?

        Each row is judged by the text with this row alone, and so as it would be by itself.

        Raises:
            RoutingError: it cannot be taken apart, or a row has no shard.
        """
        rows = rows_of(text)
        if rows is None:
            raise not_to_be_split("the text is not understood")
        if len(rows.rows) > MOST_ROWS:
            raise not_to_be_split(f"there are more than {MOST_ROWS}")
        known: dict[bytes, Analysis] = {}
        shards = []
        for number in range(len(rows.rows)):
            try:
                fingerprint, literals = short_fingerprint_of(rows.alone(number))
            except (UnknownLexeme, TooComplex) as error:
                raise not_to_be_split(str(error)) from None
            if fingerprint not in known:
                known[fingerprint] = classify_fingerprint(fingerprint, self.classifier)
            analysis = bind(known[fingerprint], literals, self.sharder.literal)
            shard = self.demanded_shard(analysis, state, parameters)
            if shard is None or not analysis.is_rows:
                raise not_to_be_split(f"the key of row {number + 1} is not known")
            shards.append(shard)
        return rows, shards

    def copied(self, text: bytes, state: RoutingState) -> tuple[CopyText, str]:
        """Read a COPY from the client whose rows are to be split; what is the key of its table?

        Raises:
            RoutingError: it cannot be split, as far as its text tells.
        """
        found = read_copy(text)
        assert self.sharded is not None
        key = self.sharded.key_of(found.schema, found.table)[0]
        if not key:
            raise copy_not_split("the key of its table is not known")
        if found.columns is not None and key not in found.columns:
            raise copy_not_split(f'the key "{key}" is none of its columns')
        if state.has_odd_text:
            raise copy_not_split("client_encoding is or was another one than UTF8")
        return found, key

    def route_unknown(self, state: RoutingState) -> Route:
        """Find the place for what nobody has looked at.

        Raises:
            InvalidShard: the client's shard is not configured any more.
        """
        if state.is_default and not self._splits:
            return self._default_route
        role, reason = self._role(_UNSEEN, state)
        shard, rule = self._placement.shard(_UNSEEN, state, UNBOUND)
        return self._interned(role, shard, reason, rule)

    def bare(self, body: bytes) -> bytes:
        """The body of a Parse without tags, where comments do not matter."""
        return body if self.reads_comments else body_without_tags(body)

    @property
    def home(self) -> int:
        """The shard that transactions on all shards have the rest of their statements on."""
        return self._placement.default or 0

    def may_spread(self, route: Route) -> bool:
        """Whether a transaction that was placed so may go on all shards: no key has a say."""
        return route.tally is self._default_tally and self._placement.default is not None

    def with_key(self, route: Route) -> Route:
        """The same of a transaction in which a key has had its say since."""
        return replace(route, tally=self.tallies.of_rule("automatic_sharding_key"))

    @property
    def reads_comments(self) -> bool:
        """Whether comments say where statements go."""
        return self._comments.is_needed

    def transaction_route(
        self, found: Route, state: RoutingState, *, is_read_only: bool
    ) -> Route:
        """Find the place for a whole transaction.

        Args:
            found: the place for its first statement alone.
            state: what the client has chosen.
            is_read_only: nothing in it can write, so that it may run where reads do.
        """
        choice = state.choice
        if choice is not ServerRole.AUTO and not (
            choice is ServerRole.DEFAULT and self._splits
        ):
            return found
        role, reason = self._role(_SOME_READ if is_read_only else _SOME_WRITE, state)
        return replace(
            found,
            role=role,
            reason=reason,
            is_read=role is Role.REPLICA,
            is_proven=role is not Role.PRIMARY,
        )

    # --- the same for people: see `explain`

    def inspect(self, text: bytes, state: RoutingState) -> tuple[Analysis, str]:
        """Analyse a text as for `route`; tells how the cache knew it, too."""
        if self.is_static and state.choice is not ServerRole.AUTO:
            return _UNSEEN, "off"
        cache = self._cache_for(state)
        known = cache.known(text)
        return cache.look_up(text).analysis, known

    def decide(
        self,
        analysis: Analysis,
        state: RoutingState,
        parameters: Parameters,
    ) -> tuple[Route, str]:
        """Find the place as `route_analysis` does, and the rule that gave the shard.

        Raises:
            RoutingError: there is none.
        """
        before, counted = state.overrides, self.too_complex
        try:
            route = self.route_analysis(analysis, state, parameters)
            return route, self._shard(analysis, state, parameters)[1]
        finally:
            state.restore(before)  # it may have stuck to the shard
            self.too_complex = counted

    # --- what it knows

    @property
    def caches(self) -> list[AnalysisCache[Entry]]:
        """What is known about texts: one, and one that inspects them, if needed."""
        return (
            [self.cache]
            if self._automatic_cache is None
            else [
                self.cache,
                self._automatic_cache,
            ]
        )

    @property
    def omnisharded_tables(self) -> tuple[tuple[str, str], ...] | None:
        """(schema or "", name) of those, if all others are to be learned that have no key."""
        sharded = self.sharded
        return tuple(sorted(sharded.omnisharded)) if sharded and self.refuses else None

    @property
    def wanted_tables(self) -> tuple[KeyColumn, ...]:
        """The key columns of the tables whose columns `learn_columns` is to be told.

        One with the table "" stands for all tables that have a column of its name.
        """
        return () if self.sharded is None or self.is_static else self.sharded.keys

    def forget(self) -> None:
        """Forget all analyses."""
        self.cache.clear()
        if self._automatic_cache is not None:
            self._automatic_cache.clear()

    # --- role and shard

    def _role(self, analysis: Analysis, state: RoutingState) -> tuple[Role | None, str]:
        choice = state.choice
        if choice is ServerRole.AUTO or (choice is ServerRole.DEFAULT and self._splits):
            if analysis.executes and analysis.runs_only:
                analysis = self._executed(analysis, state)
            if not analysis.is_read:
                return Role.PRIMARY, analysis.reason
            if self.activity is not None:
                reason = self.activity.needs_primary(analysis)
                if reason:
                    return Role.PRIMARY, reason
            reads_anywhere = state.reads_from_primary(self.options)
            return None if reads_anywhere else Role.REPLICA, analysis.reason
        if choice is ServerRole.DEFAULT:
            return self.options.default_role, _BY_DEFAULT
        return state.role, _BY_CHOICE

    def _shard(
        self, analysis: Analysis, state: RoutingState, parameters: Parameters
    ) -> tuple[int | None, str]:
        """Find the shard of a statement, or of what it executes, and the rule that gave it."""
        found = self._placement.shard(analysis, state, parameters)
        if not analysis.executes or not self.refuses or found[1] != "default_shard":
            return found
        texts = state.texts_of(analysis.executes)
        if not texts:
            raise unknown_statement(analysis.executes)
        places = set()
        for text in texts:
            prepared = self._look_up(text, state).analysis
            values = values_of(analysis, prepared)
            places.add(self._placement.shard(prepared, state, values))
        return places.pop() if len(places) == 1 else self._placement.differ(places)

    def _executed(self, analysis: Analysis, state: RoutingState) -> Analysis:
        """What an EXECUTE does: what it runs, if that is known to be a read."""
        found = state.prepared_as(analysis.executes)
        if found is None:
            return analysis
        executed = self.classify(found[1])
        return executed if executed.is_read else analysis

    def note_prepared(self, analysis: Analysis, text: bytes, state: RoutingState) -> None:
        """A text is about to be sent: remember it if it is a PREPARE."""
        if analysis.prepares and self.refuses:
            state.note_prepared(analysis.prepares, text)

    # --- remembering

    def _look_up(self, text: bytes, state: RoutingState | None) -> Entry:
        return self._cache_for(state).look_up(text)

    def _cache_for(self, state: RoutingState | None) -> AnalysisCache[Entry]:
        if state is None or state.choice is not ServerRole.AUTO:
            return self.cache
        return self._inspecting_cache

    @property
    def _inspecting_cache(self) -> AnalysisCache[Entry]:
        if self.options.query_parser_enabled:
            return self.cache
        if self._automatic_cache is None:
            self._automatic_cache = self._new_cache(inspects=True)
        return self._automatic_cache

    def _new_cache(self, *, inspects: bool) -> AnalysisCache[Entry]:
        options = self.options
        return AnalysisCache(
            lambda fingerprint: classify_fingerprint(fingerprint, self.classifier),
            self._entry,
            max_length=options.query_parser_max_length if inspects else -1,
            beyond=too_complex if inspects else _unseen,
            entries=options.cache_entries,
            size=options.cache_bytes,
            reads_comments=self._comments.is_needed,
        )

    def _entry(self, text: bytes, analysis: Analysis, literals: Sequence[bytes]) -> Entry:
        if self._comments.is_needed:
            analysis = self._comments.note(text, analysis)
        if not analysis.is_read_through:
            analysis = self._placement.unread(text, analysis, self.sharded)
        analysis = with_literals(analysis, literals)
        if not analysis.keys and not analysis.arguments:
            literals = ()
        entry = Entry(analysis, literals, self.sharder.literal)
        if (self._is_sticky and (analysis.keys or analysis.has_comment)) or (
            analysis.executes or (self.refuses and analysis.prepares)
        ):
            # It changes the client's state, each time, or depends on it.
            return entry
        bound = entry.analysis
        try:
            shard, rule = self._placement.shard(bound, _NO_CHOICES)
        except RoutingError:
            entry.keep(bound)
            return entry
        # With activity, the role depends on the time. What is too complex is counted each time.
        if self.activity is None and not analysis.limit:
            role, reason = self._role(analysis, _NO_CHOICES)
            counted = self._counted(rule, analysis)
            entry.route = self._interned(role, shard, reason, counted)
        else:
            entry.keep(bound)
        return entry

    def _counted(self, rule: str, analysis: Analysis) -> str:
        """The rule that gave a shard, by which it is counted."""
        if rule != "default_shard" or self.refuses:
            return rule
        return WITHOUT_KEY if analysis.obstacle is not None or analysis.keys else rule

    def _interned(self, role: Role | None, shard: int | None, reason: str, rule: str) -> Route:
        key = role, shard, reason, rule
        found = self._routes.get(key)
        if found is None:
            found = Route(
                role,
                shard,
                reason,
                is_chosen=rule in CHOSEN,
                is_read=role is Role.REPLICA and reason not in _FIXED_ROLES,
                tally=self.tallies.of_rule(rule),
                is_proven=role is not Role.PRIMARY and reason not in _FIXED_ROLES,
            )
            if len(self._routes) < _MAX_ROUTES:
                self._routes[key] = found
        return found


def _unseen(limit: str) -> Analysis:
    """Make the analysis of a text where the parser is off."""
    return _UNSEEN
