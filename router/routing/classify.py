"""SQL text -> `Analysis`: what its statements are, and whether a hot standby can run them.

The verdict is reached by tokens (see `verdicts`), and a read must also be confirmed by a parser
that knows PostgreSQL's grammar: text that it does not understand goes to the primary.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from .cache import bind
from .execution import with_execution
from .fingerprint import UnknownLexeme, short_fingerprint_of
from .limits import (
    MAX_DEPTH,
    MAX_LENGTH,
    MAX_PARSED,
    MAX_STATEMENTS,
    TOKENS_PER_STATEMENT,
    TooComplex,
    too_many,
)
from .obstacles import Obstacles
from .omnisharded import Omnisharded
from .sql.keys import NOT_READ, Keys
from .sql.reader import Reading, read
from .tokens import deepest, fold, statements_of
from .types import Analysis, StatementVerdict, Verdict
from .verdicts import FunctionRules, Judgement, judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .columns import ShardedTables

_PARSED_KINDS: Final = frozenset(("create", "alter", "drop", "truncate"))


@dataclass(frozen=True, slots=True)
class ClassifierOptions:
    """How one pool wants its statements classified."""

    rules: FunctionRules = field(default_factory=FunctionRules)
    sharded: ShardedTables | None = None
    max_parsed: int = MAX_PARSED


_DEFAULTS: Final = ClassifierOptions()


def classify(sql: str | bytes, options: ClassifierOptions = _DEFAULTS) -> Analysis:
    """Analyse a text of any number of statements; this never fails, whatever the text."""
    if isinstance(sql, str):
        sql = sql.encode("utf-8", "surrogateescape")
    if len(sql) > MAX_LENGTH:
        return too_complex(f"longer than {MAX_LENGTH} bytes")
    try:
        fingerprint, literals = short_fingerprint_of(sql)
    except UnknownLexeme:
        return Analysis.unknown("cannot be parsed")
    except TooComplex as error:
        return too_complex(str(error))
    return bind(classify_fingerprint(fingerprint, options), literals)


def too_complex(limit: str) -> Analysis:
    """Make the analysis of a text that has too much of something."""
    return replace(Analysis.unknown(f"too complex: {limit}"), limit=limit)


def classify_fingerprint(fingerprint: bytes, options: ClassifierOptions) -> Analysis:
    """Analyse the fingerprint of a text."""
    try:
        pieces = statements_of(fold(fingerprint))
        if len(pieces) > MAX_STATEMENTS:
            raise too_many(MAX_STATEMENTS, "statements")
    except UnicodeDecodeError:
        return Analysis.unknown("text is not valid UTF-8")
    except TooComplex as error:
        return too_complex(str(error))
    if not pieces:
        return Analysis((), Verdict.WRITE, "no statement")
    judgements: list[Judgement] = []
    tables: dict[str, None] = {}
    tables_known = True
    found = Keys()
    omnisharded = Omnisharded(options.sharded)
    obstacles = Obstacles(options.sharded, is_alone=len(pieces) == 1)
    parser = _Parser(options)
    for _, tokens in pieces:
        judgement, reading = parser.confirmed(judge(tokens, options.rules), tokens)
        judgements.append(judgement)
        change = omnisharded.add(judgement, reading, tokens)
        obstacles.add(judgement, reading, tokens, parser.limit, change)
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
    limit = parser.limit or found.limit
    analysis = Analysis(
        statements,
        decisive.verdict,
        f"{decisive.reason} (not parsed: {limit})" if parser.limit else decisive.reason,
        self_contained=len(judgements) == 1 and judgements[0].is_contained,
        tables=tuple(tables),
        tables_known=tables_known,
        keys=found.conditions,
        unkeyed=found.unkeyed,
        untyped=found.untyped,
        is_everywhere=omnisharded.is_everywhere and decisive.verdict is Verdict.READ,
        error=omnisharded.error or found.error,
        obstacle=obstacles.first(has_keys=bool(found.conditions)),
        limit=limit,
        plain=obstacles.plain,
    )
    if len(pieces) > 1:
        return analysis
    is_clear = analysis.error is None and analysis.obstacle is None
    if is_clear and _is_of_rows(pieces[0][1], found):
        analysis = replace(analysis, is_rows=True)
    kind = None if options.sharded is None else options.sharded.type
    return with_execution(analysis, pieces[0][1], judgements[0], options.rules, kind)


def _is_of_rows(tokens: list[str], found: Keys) -> bool:
    """Say whether a statement is an INSERT of rows whose keys it gives, and no more."""
    return (
        tokens[0] == "insert"
        and "values" in tokens
        and "select" not in tokens
        and len(found.changes) == len(found.conditions) == 1
        and not (found.unkeyed or found.limit)
    )


class _Parser:
    """Reads the statements of one text, as many as there may be tokens.

    Attributes:
        limit: what there was too much of to parse all of them, or "".
    """

    def __init__(self, options: ClassifierOptions) -> None:
        self._options = options
        self._room = options.max_parsed + TOKENS_PER_STATEMENT
        self.limit = ""

    def confirmed(
        self, judgement: Judgement, tokens: Sequence[str]
    ) -> tuple[Judgement, Reading | None]:
        """Have the parser confirm the judgement on a query, and read what only it can read."""
        if judgement.inner:
            tokens = judgement.inner
        elif not judgement.is_query and tokens[0] not in _PARSED_KINDS:
            return judgement, None
        self._room -= len(tokens) + TOKENS_PER_STATEMENT
        if self._room < 0 and 0 <= deepest(tokens) <= MAX_DEPTH:
            # What the tokens say stands: it is proven by them alone.
            most = self._options.max_parsed
            self.limit = f"more tokens than query_parser_max_tokens, {most}"
            return judgement, None
        reason = "cannot be parsed"
        try:
            reading = read(tokens, self._options.sharded, self._options.max_parsed)
        except TooComplex as error:
            reading = None
            self.limit = str(error)
            reason = "too complex"
        if not judgement.is_query or (reading is not None and reading.is_query):
            return judgement, reading
        kind = judgement.statement.kind
        statement = StatementVerdict(kind, Verdict.WRITE, reason)
        return replace(judgement, statement=statement, is_contained=False), None


def _in_context(judgements: list[Judgement]) -> tuple[StatementVerdict, ...]:
    """Take into account that the end of a read-only block is no write."""
    statements = []
    is_read_only = False
    for judgement in judgements:
        statement = judgement.statement
        if judgement.opens_read_only:
            is_read_only = True
        elif judgement.closes and is_read_only:
            is_read_only = False
            statement = StatementVerdict(
                statement.kind, Verdict.READ, "ends a READ ONLY transaction"
            )
        statements.append(statement)
    return tuple(statements)
