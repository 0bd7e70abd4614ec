"""Statements that begin, end and divide transactions, or do nothing, alone in their texts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from ..firstwords import GAP, LEADS, beginnings, may_begin


class TransactionKind(Enum):
    """What such a statement does."""

    NOTHING = ""
    """It is empty."""
    BEGIN = "begin"
    SET = "set"
    """SET TRANSACTION, which is about the one that is open."""
    COMMIT = "commit"
    ROLLBACK = "rollback"
    SAVEPOINT = "savepoint"
    RELEASE = "release"
    ROLLBACK_TO = "rollback to"


@dataclass(frozen=True, slots=True)
class TransactionStatement:
    """One of them.

    Attributes:
        control: what it does.
        tag: of its CommandComplete; that of a COMMIT that finds its transaction failed is
            another.
        isolation: the level that it asks for, in capitals, or "".
        is_read_only: whether it says READ ONLY or READ WRITE, or None.
        is_deferrable: whether it says DEFERRABLE or NOT DEFERRABLE, or None.
        chains: AND CHAIN: another transaction of the same kind follows.
        name: of the savepoint, as a quoted identifier.
        has_comment: a comment stands in its text.
    """

    control: TransactionKind
    tag: str
    isolation: str = ""
    is_read_only: bool | None = None
    is_deferrable: bool | None = None
    chains: bool = False
    name: str = ""
    has_comment: bool = False

    @property
    def has_modes(self) -> bool:
        """Whether it says what kind of transaction there is to be."""
        return bool(self.isolation) or (
            self.is_read_only is not None or self.is_deferrable is not None
        )


_OPENINGS: Final = beginnings(b"begin", b"start")

BEGINNINGS: Final = (
    _OPENINGS
    | beginnings(
        b"commit",
        b"end",
        b"rollback",
        b"abort",
        b"savepoint",
        b"release",
        b"set",
    )
    | {b""}
)
"""How they begin, if not with one of LEADS."""

# Longer texts are not looked at, and so many are remembered; for all clients.
_LONGEST: Final = 300
_MOST: Final = 1000

_TOKEN: Final = re.compile(
    rb"(?P<gap>%b)|(?P<word>[A-Za-z_][A-Za-z_0-9]*+(?![\w$\x80-\xff]))"
    rb'|"(?P<quoted>[ -!#-~]{1,63}+)"|(?P<sign>[,;])' % GAP
)
_LEVELS: Final = (
    ("READ", "UNCOMMITTED"),
    ("READ", "COMMITTED"),
    ("REPEATABLE", "READ"),
    ("SERIALIZABLE",),
)
_LONGEST_NAME: Final = 63
# Words of these forms that PostgreSQL takes for no name.
_RESERVED: Final = re.compile(r"(?:current|session|system)_", re.IGNORECASE)
_SURELY_A_NAME: Final = re.compile(r"[0-9_]")

_known: Final[dict[bytes, TransactionStatement | None]] = {}


def read(sql: bytes) -> TransactionStatement | None:
    """Recognise such a statement; None for all else, and for what is not certain."""
    if len(sql) > _LONGEST or (sql[:3] not in BEGINNINGS and sql[:1] not in LEADS):
        return None
    if sql in _known:
        return _known[sql]
    if len(_known) >= _MOST:
        _known.clear()  # they are soon there again
    found = _known[sql] = _read(sql)
    return found


def opens(sql: bytes) -> bool:
    """Say whether the first statement of a text begins a transaction."""
    return may_begin(sql, _OPENINGS)


def _read(sql: bytes) -> TransactionStatement | None:
    words = list[str]()
    pos, is_over, has_comment = 0, False, False
    while pos < len(sql):
        match = _TOKEN.match(sql, pos)
        if match is None:
            return None
        pos = match.end()
        if match["gap"] is not None:
            has_comment |= match["gap"][:1] in b"-/"
            continue
        if match["sign"] == b";":
            is_over = bool(words) or is_over
            continue
        if is_over:
            return None
        if match["quoted"] is not None:
            words.append(f'"{match["quoted"].decode()}"')
        else:
            words.append(match.group().decode())
    if not words:
        return TransactionStatement(TransactionKind.NOTHING, "")
    return _Reader(words, has_comment=has_comment).statement()


class _Reader:
    """Reads the words of one statement."""

    def __init__(self, words: list[str], *, has_comment: bool) -> None:
        self._written: Final = words
        self._words: Final = [word.upper() for word in words]
        self._pos = 0
        self._has_comment: Final = has_comment

    def _takes(self, *words: str) -> bool:
        """Go past these words, if they come now."""
        end = self._pos + len(words)
        if tuple(self._words[self._pos : end]) != words:
            return False
        self._pos = end
        return True

    def statement(self) -> TransactionStatement | None:
        """What it is, if it is one to its end."""
        found = self._statement()
        return found if self._pos == len(self._words) else None

    def _statement(self) -> TransactionStatement | None:
        if self._takes("BEGIN"):
            self._noise()
            return self._with_modes(TransactionKind.BEGIN, "BEGIN")
        if self._takes("START", "TRANSACTION"):
            return self._with_modes(TransactionKind.BEGIN, "START TRANSACTION")
        if self._takes("SET", "TRANSACTION") or self._takes("SET", "LOCAL", "TRANSACTION"):
            found = self._with_modes(TransactionKind.SET, "SET")
            has_some = self._words[-1] != "TRANSACTION"
            return found if has_some else None
        if self._takes("COMMIT") or self._takes("END"):
            self._noise()
            return self._ending(TransactionKind.COMMIT, "COMMIT")
        if self._takes("SAVEPOINT"):
            return self._named(TransactionKind.SAVEPOINT, "SAVEPOINT")
        if self._takes("RELEASE"):
            self._takes("SAVEPOINT")
            return self._named(TransactionKind.RELEASE, "RELEASE")
        is_rollback = self._takes("ROLLBACK")
        if not is_rollback and not self._takes("ABORT"):
            return None
        self._noise()
        if is_rollback and self._takes("TO"):
            self._takes("SAVEPOINT")
            return self._named(TransactionKind.ROLLBACK_TO, "ROLLBACK")
        return self._ending(TransactionKind.ROLLBACK, "ROLLBACK")

    def _noise(self) -> None:
        if not self._takes("WORK"):
            self._takes("TRANSACTION")

    def _ending(self, control: TransactionKind, tag: str) -> TransactionStatement:
        chains = self._takes("AND", "CHAIN")
        if not chains:
            self._takes("AND", "NO", "CHAIN")
        return TransactionStatement(control, tag, chains=chains, has_comment=self._has_comment)

    def _with_modes(self, control: TransactionKind, tag: str) -> TransactionStatement:
        isolation, is_read_only, is_deferrable = "", None, None
        is_first = True
        while self._pos < len(self._words):
            start = self._pos
            if not is_first:
                self._takes(",")
            if self._takes("READ", "ONLY"):
                is_read_only = True
            elif self._takes("READ", "WRITE"):
                is_read_only = False
            elif self._takes("DEFERRABLE"):
                is_deferrable = True
            elif self._takes("NOT", "DEFERRABLE"):
                is_deferrable = False
            elif not self._takes("ISOLATION", "LEVEL") or not (level := self._level()):
                self._pos = start  # which is not the end, so that it is none
                break
            else:
                isolation = level
            is_first = False
        return TransactionStatement(
            control, tag, isolation, is_read_only, is_deferrable, has_comment=self._has_comment
        )

    def _level(self) -> str:
        for words in _LEVELS:
            if self._takes(*words):
                return " ".join(words)
        return ""

    def _named(self, control: TransactionKind, tag: str) -> TransactionStatement | None:
        if self._pos + 1 != len(self._words):
            return None
        word = self._written[self._pos]
        self._pos += 1
        if word[0] != '"':
            is_name = _SURELY_A_NAME.search(word) and not _RESERVED.match(word)
            # To go back to what is none is an error in any case.
            if (
                not (is_name or control is not TransactionKind.SAVEPOINT)
                or len(word) > _LONGEST_NAME
            ):
                return None
            word = f'"{word.lower()}"'
        return TransactionStatement(control, tag, name=word, has_comment=self._has_comment)
