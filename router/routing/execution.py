"""PREPARE and EXECUTE as statements of SQL: what is run, with which values.

A Bind says the same by a message of its own. Here the statement lives on one server connection
under a name of the client's, and the values are expressions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from .constants import NULL
from .sql.reader import arguments_of
from .tokens import calls, closing, unquoted
from .types import KeyType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .types import Analysis, KeyTerm, KeyValue
    from .verdicts import FunctionRules, Judgement

# Types of parameters that leave a key what it is; one that is not declared is the column's own.
_TYPES: Final = {
    KeyType.BIGINT: frozenset(("bigint", "int8", "integer", "int", "int4", "smallint", "int2")),
    KeyType.UUID: frozenset(("uuid",)),
    KeyType.TEXT: frozenset(("text", "varchar", "character varying")),
}


def with_execution(
    analysis: Analysis,
    tokens: list[str],
    judgement: Judgement,
    rules: FunctionRules,
    kind: KeyType | None,
) -> Analysis:
    """Add what a lone PREPARE or EXECUTE says to the analysis of its text.

    Without a `kind` of keys there are none.
    """
    if kind is not None and tokens[0] == "prepare" and judgement.inner:
        untyped = analysis.untyped | frozenset(_converted(tokens, kind))
        return replace(analysis, prepares=unquoted(tokens[1]), untyped=untyped)
    run = execute_in(tokens, judgement)
    if not run:
        return analysis
    runs_only = tokens[0] != "create" and all(map(rules.is_harmless, calls(run[2:])))
    name, arguments = _executed(run, kind)
    return replace(analysis, executes=name, runs_only=runs_only, arguments=arguments)


def execute_in(tokens: list[str], judgement: Judgement) -> list[str]:
    """Return the tokens of an EXECUTE, or of one inside of another statement, if it is one."""
    if tokens[0] == "execute":
        return tokens
    return list(judgement.inner) if judgement.inner[:1] == ("execute",) else []


def _converted(tokens: list[str], kind: KeyType) -> Iterator[int]:
    """Number the parameters of a PREPARE that are declared to be of another type than keys."""
    if tokens[2:3] != ["("]:
        return
    words: list[str] = []
    number = 1
    for token in [*tokens[3 : closing(tokens, 2)], ","]:
        if token != ",":
            words.append(token)
            continue
        if " ".join(words) not in _TYPES[kind]:
            yield number
        words = []
        number += 1


def _executed(
    tokens: list[str], kind: KeyType | None
) -> tuple[str, tuple[KeyTerm | None, ...]]:
    """Return the name and the arguments of an EXECUTE."""
    name = unquoted(tokens[1]) if len(tokens) > 1 else ""
    if kind is None or tokens[2:3] != ["("]:
        return name, ()
    return name, arguments_of(tokens[2 : closing(tokens, 2) + 1], kind)


def values_of(analysis: Analysis, of: Analysis) -> dict[int, KeyValue | None]:
    """Return the values that an EXECUTE gives to the sharding keys of what it runs.

    Args:
        analysis: of the EXECUTE.
        of: of the PREPARE.
    """
    found: dict[int, KeyValue | None] = {}
    terms = (term for table in of.keys for terms in table for term in terms)
    for number in {n for term in terms if not term.is_array for n in term.parameters}:
        if number in of.untyped or not 0 < number <= len(analysis.arguments):
            continue
        term = analysis.arguments[number - 1]
        if term is not None and (term.key is not None or term.constant == NULL):
            found[number] = term.key
    return found
