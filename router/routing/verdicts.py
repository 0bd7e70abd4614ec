"""Whether a hot standby can run a statement, judged by its tokens alone.

PostgreSQL's grammar leaves a query few ways to write: INSERT, UPDATE, DELETE or MERGE (also as
the body of a CTE), INTO, a row lock, and functions with side effects. Each shows in the tokens.
What is not proven to be a read is a write: it costs the primary some work, whereas a write that
is sent to a standby costs the client an error.

Views and operators can hide a function that writes; nobody outside the server can tell. The
operator of the router names such functions in write_functions, and such views not at all.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

from ..firstwords import CHANGES, QUERIES
from .functions import CONTAINED_WRITES, HARMLESS, HARMLESS_VOLATILE, SLEEPING
from .inner import inner_of, table_at
from .learned import NOTHING, Learned
from .operator_functions import OPERATOR_FUNCTIONS
from .tokens import Call, calls, closing
from .types import StatementVerdict, Verdict
from .writes import hidden_write

_HAS_OBJECT: Final = frozenset(("create", "alter", "drop", "set", "start"))
_MODIFIERS: Final = frozenset(
    ("or", "replace", "temp", "temporary", "unlogged", "unique", "local", "recursive")
)
_ENDS: Final = frozenset(("commit", "end", "rollback", "abort"))
_PADDING: Final = frozenset(("work", "transaction"))


@dataclass(frozen=True, slots=True)
class FunctionRules:
    """What the operator of the router says about functions, over the built-in lists.

    Attributes:
        harmless, writing: names, with or without schema, of functions that read and write.
        learned: what the servers' catalogues say about others.
    """

    harmless: frozenset[str] = frozenset()
    writing: frozenset[str] = frozenset()
    learned: Learned = NOTHING

    def is_harmless(self, call: Call) -> bool:
        """Say whether a standby can run it and nothing is left behind."""
        told = self.told_of(call)
        return self.learned.reads(call, self.told_of) if told is None else told

    def told_of(self, call: Call) -> bool | None:
        """Say whether it is harmless; None: that is to be found out from what is learned."""
        qualified = f"{call.schema}.{call.name}"
        if call.name in self.writing or qualified in self.writing:
            return False
        if call.name in self.harmless or qualified in self.harmless:
            return True
        if self.learned.knows(call):
            return None
        if call.schema not in ("", "pg_catalog"):
            return False
        name = call.name
        return (
            name in HARMLESS
            or name in HARMLESS_VOLATILE
            or name in OPERATOR_FUNCTIONS
            or name in SLEEPING
        )


@dataclass(frozen=True, slots=True)
class Judgement:
    """A statement with what the caller needs for the next steps.

    Attributes:
        statement: the verdict.
        is_contained: whether it leaves nothing behind outside a transaction block.
        is_query: whether a parser is to confirm it.
        opens_read_only: whether it begins a read-only transaction block.
        closes: whether it ends a transaction block.
        inner: tokens of the query inside the statement, for the parser to read.
        tables: the relations that it names outside of any query.
    """

    statement: StatementVerdict
    is_contained: bool = False
    is_query: bool = False
    opens_read_only: bool = False
    closes: bool = False
    inner: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()


def judge(tokens: list[str], rules: FunctionRules) -> Judgement:
    """Judge one statement, which has at least one token."""
    first = tokens[0]
    if first in QUERIES or first in CHANGES:
        return _judge_query(tokens, rules)
    if first == "show":
        return Judgement(_read("SHOW", "SHOW of a setting"))
    if first == "explain":
        return _judge_explain(tokens, rules)
    if first == "copy":
        return _judge_copy(tokens, rules)
    if first == "begin" or tokens[:2] == ["start", "transaction"]:
        return _judge_begin(tokens)
    if first in _ENDS and all(token in _PADDING for token in tokens[1:]):
        kind = first.upper()
        return Judgement(_write(kind, f"{kind} ends a transaction block"), closes=True)
    kind = _kind(tokens)
    statement = _write(kind, f"{kind or 'it'} is not known to be a read")
    inner, tables = inner_of(tokens)
    return Judgement(statement, inner=tuple(inner), tables=tables)


def _judge_query(tokens: list[str], rules: FunctionRules) -> Judgement:
    kind = _query_kind(tokens)
    write = hidden_write(tokens)
    contained = write != "SELECT INTO"
    for call in calls(tokens):
        if rules.is_harmless(call):
            # A function that is stable may still set or lock something.
            is_known = call.name not in SLEEPING and not rules.learned.knows(call)
            contained = contained and is_known
            continue
        write = write or f"function {call.name} may write"
        contained = (
            contained
            and call.schema in ("", "pg_catalog")
            and (call.name in CONTAINED_WRITES and call.name not in rules.writing)
        )
    if write:
        return Judgement(_write(kind, write), is_contained=contained, is_query=True)
    reason = f"{kind} without side effects"
    return Judgement(_read(kind, reason), is_contained=contained, is_query=True)


def _query_kind(tokens: list[str]) -> str:
    """Return the command of a query: behind its WITH list, inside its brackets."""
    level = 0
    first = next((token for token in tokens if token != "("), "select")
    if first != "with":
        return first.upper() if first in QUERIES or first in CHANGES else "SELECT"
    for token in tokens:
        if token == "(":
            level += 1
        elif token == ")":
            level -= 1
        elif level == 0 and token != "with" and (token in QUERIES or token in CHANGES):
            return token.upper()
    return "SELECT"


def _judge_explain(tokens: list[str], rules: FunctionRules) -> Judgement:
    analysed = False
    start = 1
    if len(tokens) > 1 and tokens[1] == "(" and tokens[2:3] and tokens[2] not in QUERIES:
        start = closing(tokens, 1) + 1
        analysed = _analyses(tokens[2 : start - 1])
    while start < len(tokens) and tokens[start] in ("analyze", "analyse", "verbose"):
        analysed = analysed or tokens[start] != "verbose"
        start += 1
    inner = tokens[start:]
    if not inner or (inner[0] not in QUERIES and inner[0] not in CHANGES):
        deeper, tables = inner_of(inner) if inner else ([], ())
        if inner[:1] == ["execute"]:
            deeper = inner
        statement = _write("EXPLAIN", "EXPLAIN of what is no query")
        return Judgement(statement, inner=tuple(deeper), tables=tables)
    if not analysed:
        return Judgement(_read("EXPLAIN", "EXPLAIN without ANALYZE"), inner=tuple(inner))
    verdict = _judge_query(inner, rules).statement
    reason = f"EXPLAIN ANALYZE: {verdict.reason}"
    return Judgement(StatementVerdict("EXPLAIN", verdict.verdict, reason), inner=tuple(inner))


def _analyses(options: list[str]) -> bool:
    """Say whether EXPLAIN's bracketed options run the query: any but off and false does."""
    return any(
        option in ("analyze", "analyse") and options[i + 1 : i + 2] not in (["off"], ["false"])
        for i, option in enumerate(options)
    )


def _judge_copy(tokens: list[str], rules: FunctionRules) -> Judgement:
    if tokens[1:2] != ["("]:
        return _judge_copy_table(tokens)
    end = closing(tokens, 1)
    inner = tokens[2:end]
    statement = _copy(tokens[end + 1 :])
    verdict = _judge_query(inner, rules).statement if inner else statement
    if verdict.verdict is Verdict.WRITE:
        statement = _write("COPY", f"COPY: {verdict.reason}")
    return Judgement(statement, inner=tuple(inner))


def _judge_copy_table(tokens: list[str]) -> Judgement:
    start = 2 if tokens[1:2] == ["binary"] and tokens[2:3] != ["to"] else 1
    table, end = table_at(tokens, start)
    if tokens[end : end + 1] == ["("]:
        end = closing(tokens, end) + 1
    return Judgement(_copy(tokens[end:]), tables=(table,) if table else ())


def _copy(direction: list[str]) -> StatementVerdict:
    if direction[:2] == ["to", "stdout"]:
        return _read("COPY", "COPY TO STDOUT")
    return _write("COPY", "COPY other than TO STDOUT")


def _judge_begin(tokens: list[str]) -> Judgement:
    pairs = list(itertools.pairwise(tokens))
    kind = "BEGIN" if tokens[0] == "begin" else "START TRANSACTION"
    if "serializable" in tokens:
        return Judgement(_write(kind, f"{kind} SERIALIZABLE, which no standby can do"))
    if ("read", "only") in pairs and ("read", "write") not in pairs:
        return Judgement(_read(kind, f"{kind} READ ONLY"), opens_read_only=True)
    return Judgement(_write(kind, f"{kind} of a transaction that may write"))


def _kind(tokens: list[str]) -> str:
    """Return a command's words in capitals: two for those that have many objects."""
    first = tokens[0]
    if not first.isalpha():
        return ""
    if tokens[1:2] == ["prepared"] or tokens[:2] == ["prepare", "transaction"]:
        return f"{first} {tokens[1]}".upper()
    if first not in _HAS_OBJECT:
        return first.upper()
    rest = [token for token in tokens[1:5] if token not in _MODIFIERS]
    is_object = first != "set" and rest and rest[0].isalpha()
    return f"{first} {rest[0]}".upper() if is_object else first.upper()


def _read(kind: str, reason: str) -> StatementVerdict:
    return StatementVerdict(kind, Verdict.READ, reason)


def _write(kind: str, reason: str) -> StatementVerdict:
    return StatementVerdict(kind, Verdict.WRITE, reason)
