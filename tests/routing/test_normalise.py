"""What the parser is given: our tokens, not its own idea of where one ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from router.routing.classify import ClassifierOptions, classify
from router.routing.columns import ShardedTables
from router.routing.fingerprint import fingerprint_of
from router.routing.tokens import fold, statements_of

from .statements import READS, WRITES
from .test_destinations import TABLE

if TYPE_CHECKING:
    from router.routing.types import Analysis

KEYED: Final = ClassifierOptions(sharded=ShardedTables.of("t.id"))
OPERATORS: Final = "+-*/<>=~!@#%^&|`?"


def analyse(sql: str) -> Analysis:
    return classify(sql, KEYED)


def parameters(analysis: Analysis) -> list[int]:
    """The parameters that are keys."""
    return [
        n for table in analysis.keys for terms in table for t in terms for n in t.parameters
    ]


NEIGHBOURS: Final = """
INSERT INTO t(id,v) VALUES ($1,$2)
INSERT INTO t(id,v)VALUES($1,$2)RETURNING id
INSERT INTO t(id,v) VALUES($1::int,$2::int)
INSERT INTO t(id,v) VALUES ($1,$2||$3)
INSERT INTO t(v,w,id) VALUES ($2,$3,$1)
INSERT INTO t(id,v) VALUES ($1,$2) ON CONFLICT(id)DO UPDATE SET v=$2,w=$3
INSERT INTO t(id,v) SELECT $1,$2
SELECT $2||$3,$4+$5,$6::text,$7 FROM t WHERE id=$1
SELECT * FROM t WHERE v IN($2,$3)AND id=$1
SELECT * FROM t WHERE id=$1::bigint AND v=$2::int
SELECT * FROM t WHERE(id,v)=($1,$2)
SELECT * FROM t WHERE v BETWEEN $2-$3 AND $4*$5 AND id=$1
SELECT * FROM t WHERE j->$2->>$3=$4 AND $1=id
SELECT * FROM t WHERE v[$2:$3]=$4 AND id=$1
SELECT * FROM t WHERE v<>$2 AND v!=$3 AND v>=$4 AND v<=$5 AND id=$1
SELECT * FROM t WHERE v=ANY(ARRAY[$2,$3])AND id=$1
SELECT f($2,$3)FROM t WHERE id=$1 LIMIT $4 OFFSET $5
UPDATE t SET v=$2,w=$3 WHERE id=$1
UPDATE t SET(v,w)=($2,$3)WHERE id=$1
DELETE FROM t WHERE id=$1 AND v=$2||$3
"""


@pytest.mark.parametrize("sql", [s for s in NEIGHBOURS.splitlines() if s])
def test_a_parameter_needs_no_space_around_it(sql: str) -> None:
    analysis = analyse(sql)
    assert parameters(analysis) == [1]
    assert not analysis.unkeyed
    assert analysis.verdict is analyse(" ".join(tokens_of(sql))).verdict


def tokens_of(sql: str) -> list[str]:
    return [
        t for _, tokens in statements_of(fold(fingerprint_of(sql.encode())[0])) for t in tokens
    ]


def squeezed(tokens: list[str]) -> str:
    """Write tokens with no space that PostgreSQL could do without."""
    text = ""
    for token in tokens:
        needs_space = text and (
            (is_word_like(text[-1]) and (is_word_like(token[0]) or token[0] in "'$"))
            or (text[-1] in OPERATORS and token[0] in OPERATORS)
            or (text[-1] == "'" and token[-1] == "'")
            or (text[-1] == ":" and token[0] in ":=")
        )
        text += f" {token}" if needs_space else token
    return text


def is_word_like(character: str) -> bool:
    return character.isalnum() or character in "_$" or character >= "\x80"


def with_parameters(tokens: list[str]) -> list[str]:
    """Put a parameter in the place of each number and each plain string."""
    found: dict[str, str] = {}
    return [
        found.setdefault(t, f"${len(found) + 1}") if t.strip("'").isdigit() else t
        for t in tokens
    ]


SINGLE: Final = [
    sql
    for sql in [*READS.splitlines(), *WRITES.splitlines(), *(line.sql for line in TABLE)]
    if len(kinds := classify(sql).kinds) == 1 and kinds[0]
]


@pytest.mark.parametrize("sql", SINGLE)
@pytest.mark.parametrize("has_parameters", [False, True], ids=["literals", "parameters"])
def test_spaces_that_mean_nothing_change_nothing(sql: str, has_parameters: bool) -> None:
    tokens = with_parameters(tokens_of(sql)) if has_parameters else tokens_of(sql)
    assert analyse(squeezed(tokens)) == analyse(" ".join(tokens))
