"""SQL text -> `Analysis`: what its statements are, and whether a hot standby can run them.

The verdict is reached by tokens (see `verdicts`), and a read must also be confirmed by a parser
that knows PostgreSQL's grammar: text that it does not understand goes to the primary.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from .cache import bind
from .execution import with_execution
from .obstacles import Obstacles
from .reach import Reach
from .shape import UnknownLexeme, shape_of
from .sql.keys import NOT_READ, Keys
from .sql.reader import Reading, read
from .sql.trees import MAX_DEPTH
from .tokens import deepest, fold, statements_of
from .types import Analysis, Statement, Verdict
from .verdicts import FunctionRules, Judgement, judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .columns import ShardedTables

MAX_PARSED: Final = 16 << 10
"""Longest shape of a statement that is given to the parser, which takes its time."""
MAX_PARSED_FOR_KEYS: Final = 128 << 10
"""The same where only the parser can find the sharding key."""
MAX_JUDGED: Final = 1 << 20
"""Longest text that is looked at; what is longer goes to the primary."""
MAX_STATEMENTS: Final = 500
"""Most statements in a text that is looked at."""

_PARSED_KINDS: Final = frozenset(("create", "alter", "drop", "truncate"))


@dataclass(frozen=True, slots=True)
class ClassifierOptions:
    """How one pool wants its statements classified."""

    rules: FunctionRules = field(default_factory=FunctionRules)
    sharded: ShardedTables | None = None

    @property
    def max_parsed(self) -> int:
        """Longest shape of a statement that is parsed."""
        return MAX_PARSED if self.sharded is None else MAX_PARSED_FOR_KEYS


_DEFAULTS: Final = ClassifierOptions()


def classify(sql: str | bytes, options: ClassifierOptions = _DEFAULTS) -> Analysis:
    """Analyse a text of any number of statements; this never fails, whatever the text."""
    if isinstance(sql, str):
        sql = sql.encode("utf-8", "surrogateescape")
    if len(sql) > MAX_JUDGED:
        return Analysis.unknown("text is too long")
    try:
        shape, literals = shape_of(sql)
    except UnknownLexeme:
        return Analysis.unknown("cannot be parsed")
    return bind(classify_shape(shape, options), literals)


def classify_shape(shape: bytes, options: ClassifierOptions) -> Analysis:
    """Analyse the shape of a text."""
    try:
        pieces = statements_of(fold(shape))
    except UnicodeDecodeError:
        return Analysis.unknown("text is not valid UTF-8")
    if not pieces:
        return Analysis((), Verdict.WRITE, "no statement")
    if len(pieces) > MAX_STATEMENTS:
        return Analysis.unknown("too many statements in one text")
    judgements: list[Judgement] = []
    tables: dict[str, None] = {}
    tables_known = True
    found = Keys()
    reach = Reach(options.sharded)
    obstacles = Obstacles(options.sharded, is_alone=len(pieces) == 1)
    for text, tokens in pieces:
        judgement, reading = _confirm(judge(tokens, options.rules), text, tokens, options)
        judgements.append(judgement)
        reach.add(judgement, reading)
        obstacles.add(judgement, reading, tokens)
        tables.update(dict.fromkeys(judgement.tables))
        if reading is not None:
            tables.update(dict.fromkeys(reading.tables))
            found = found.joined(reading.keys)
        elif judgement.is_query or judgement.inner or tokens[0] in _PARSED_KINDS:
            tables_known = False
            if options.sharded is not None and tokens[0] not in _PARSED_KINDS:
                found = found.joined(NOT_READ)
    statements = _in_context(judgements)
    decisive = next((s for s in statements if s.verdict is Verdict.WRITE), statements[0])
    analysis = Analysis(
        statements,
        decisive.verdict,
        decisive.reason,
        self_contained=len(judgements) == 1 and judgements[0].is_contained,
        tables=tuple(tables),
        tables_known=tables_known,
        keys=found.conditions,
        unkeyed=found.unkeyed,
        untyped=found.untyped,
        is_everywhere=reach.is_everywhere and decisive.verdict is Verdict.READ,
        error=found.error or reach.error,
        obstacle=obstacles.first,
    )
    if options.sharded is None or len(pieces) > 1:
        return analysis
    return with_execution(analysis, pieces[0][1], judgements[0], options.sharded.type)


def _confirm(
    judgement: Judgement, text: str, tokens: Sequence[str], options: ClassifierOptions
) -> tuple[Judgement, Reading | None]:
    """Have the parser confirm the judgement on a query, and read what only it can read."""
    if judgement.inner:
        tokens = judgement.inner
        text = " ".join(tokens)
    elif not judgement.is_query and tokens[0] not in _PARSED_KINDS:
        return judgement, None
    if len(text) > options.max_parsed and 0 <= deepest(tokens) <= MAX_DEPTH:
        return judgement, None
    reading = read(tokens, options.sharded)
    if not judgement.is_query or (reading is not None and reading.is_query):
        return judgement, reading
    kind = judgement.statement.kind
    statement = Statement(kind, Verdict.WRITE, "cannot be parsed")
    return replace(judgement, statement=statement, is_contained=False), None


def _in_context(judgements: list[Judgement]) -> tuple[Statement, ...]:
    """Take into account that the end of a read-only block is no write."""
    statements = []
    is_read_only = False
    for judgement in judgements:
        statement = judgement.statement
        if judgement.opens_read_only:
            is_read_only = True
        elif judgement.closes and is_read_only:
            is_read_only = False
            statement = Statement(statement.kind, Verdict.READ, "ends a READ ONLY transaction")
        statements.append(statement)
    return tuple(statements)
