"""What functions written in SQL and PL/pgSQL do, judged by the tokens of their bodies.

A body reads if it consists of queries that are reads, assignments and control flow. So what is
left to know is which functions it calls. All else, whatever it may be, is a write: changes of
data, dynamic SQL, settings, transactions, temporary tables, what is not understood.

PL/pgSQL cuts its own statements: an expression ends at the first THEN, LOOP or semicolon that
stands in no brackets, and INTO with its targets may stand anywhere in a query.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..firstwords import QUERIES
from .fingerprint import UnknownLexeme, fingerprint_of
from .limits import MAX_BODY, MAX_DEPTH, TooComplex
from .modules import HARMLESS_SYMBOLS
from .tokens import Call, calls, fold, is_word, tokens_of
from .writes import hidden_write

if TYPE_CHECKING:
    from collections.abc import Sequence

_LEVELS: Final = frozenset(("debug", "log", "info", "notice", "warning", "exception"))
_BLOCK_STARTS: Final = frozenset(("<<", "declare", "begin"))
_ENDS: Final = frozenset(("end", "else", "elsif", "elseif", "when", "exception"))
# Of cursors: what they do touches no data.
_AT_CURSORS: Final = frozenset(("fetch", "move", "close"))
_CONFLICTS: Final = frozenset(("error", "use_variable", "use_column"))
_LIBRARIES: Final = "$libdir/"
# The head of a function, as pg_get_functiondef writes it, before a body that is no string.
_ATOMIC: Final = re.compile(
    r"^(?:BEGIN ATOMIC\n(.*)^END\s*\Z|(RETURN .*)\Z)", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Body:
    """How one function is defined.

    Attributes:
        language: ``sql``, ``plpgsql``, ``c``, or ``atomic`` for a whole CREATE FUNCTION with a
            body that is no string.
        text: its source; for C the library and the symbol in it.
    """

    language: str
    text: str


class _Writes(Exception):
    """Something in a body is a write, or is not understood."""


def calls_of(body: Body) -> frozenset[Call] | None:
    """Return the functions that a body calls; None if it may write by itself."""
    text, language = body.text, body.language
    if len(text) > MAX_BODY:
        return None
    if language == "c":
        library, _, symbol = text.removeprefix(_LIBRARIES).partition(" ")
        is_known = text.startswith(_LIBRARIES) and symbol in HARMLESS_SYMBOLS.get(library, ())
        return frozenset() if is_known else None
    if language == "atomic":
        match = _ATOMIC.search(text)
        if match is None:
            return None
        text = match[1] or f"SELECT{match[2][len('RETURN') :]}"
    elif language not in ("sql", "plpgsql"):
        return None
    found: set[Call] = set()
    try:
        tokens = tokens_of(fold(fingerprint_of(text.encode())[0]))
        if language == "plpgsql":
            _Function(tokens, found).read()
        else:
            _read_queries(tokens, found)
    except (_Writes, UnknownLexeme, UnicodeError, TooComplex):
        return None
    return frozenset(found)


def _read_queries(tokens: list[str], found: set[Call]) -> None:
    start = 0
    for end, token in enumerate([*tokens, ";"]):
        if token == ";":
            if end > start:
                _query(tokens[start:end], found)
            start = end + 1


def _query(tokens: list[str], found: set[Call]) -> None:
    if not tokens or tokens[0] not in QUERIES or hidden_write(tokens):
        raise _Writes
    found.update(calls(tokens))


def _expression(tokens: Sequence[str], found: set[Call]) -> None:
    """Look at what PL/pgSQL puts behind a SELECT of its own."""
    _query(["select", *tokens], found)


class _Function:
    """Reads the body of a PL/pgSQL function, statement by statement."""

    def __init__(self, tokens: list[str], found: set[Call]) -> None:
        self._tokens: Final = tokens
        self._found: Final = found
        self._at = 0
        self._depth = 0

    def read(self) -> None:
        """Look at all of it.

        Raises:
            _Writes: it is not proven to be a read.
        """
        if "execute" in self._tokens:
            raise _Writes
        while self._is("#"):
            # Nothing ends an option but its line.
            if self._ahead(1) != "variable_conflict" or self._ahead(2) not in _CONFLICTS:
                raise _Writes
            self._at += 3
        self._block()
        if self._is(";"):
            self._at += 1
        if self._at != len(self._tokens):
            raise _Writes

    # --- tokens

    def _ahead(self, count: int = 0) -> str:
        at = self._at + count
        return self._tokens[at] if at < len(self._tokens) else ""

    def _is(self, *tokens: str) -> bool:
        return tuple(self._tokens[self._at : self._at + len(tokens)]) == tokens

    def _take(self, *tokens: str) -> None:
        if not self._is(*tokens):
            raise _Writes
        self._at += len(tokens)

    def _until(self, *ends: str) -> list[str]:
        """Take the tokens up to one of these that stands in no brackets, and leave that."""
        level = 0
        for i in range(self._at, len(self._tokens)):
            token = self._tokens[i]
            if level == 0 and token in ends:
                taken = self._tokens[self._at : i]
                self._at = i
                return taken
            if token in ("(", "["):
                level += 1
            elif token in (")", "]"):
                level -= 1
            elif token == ";":
                break
        raise _Writes

    def _statement_end(self) -> list[str]:
        taken = self._until(";")
        self._at += 1
        return taken

    def _label(self) -> None:
        if self._is("<<"):
            if not is_word(self._ahead(1) or ";") or self._ahead(2) != ">>":
                raise _Writes
            self._at += 3

    # --- blocks

    def _block(self) -> None:
        """Read a block, up to its END and the label behind that."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _Writes
        self._label()
        if self._is("declare"):
            self._at += 1
            while not self._is("begin"):
                if self._is("declare"):
                    self._at += 1
                else:
                    self._declaration(self._statement_end())
        self._take("begin")
        self._statements()
        if self._is("exception"):
            self._at += 1
            while self._is("when"):
                if "(" in self._until("then"):
                    raise _Writes
                self._at += 1
                self._statements()
        self._take("end")
        if not self._is(";") and self._at < len(self._tokens):
            self._at += 1  # its label
        self._depth -= 1

    def _declaration(self, tokens: list[str]) -> None:
        if not tokens or not is_word(tokens[0]):
            raise _Writes
        if "cursor" in tokens[1:4]:
            self._cursor(tokens)
            return
        for i, token in enumerate(tokens):
            if token in (":=", "=", "default"):
                _expression(tokens[i + 1 :], self._found)
                return
        # A name and its type, which may have a size in brackets.

    def _cursor(self, tokens: list[str]) -> None:
        """Look at ``c [NO SCROLL] CURSOR [(arguments)] FOR query``."""
        for i, token in enumerate(tokens):
            if token in ("for", "is"):
                _query(tokens[i + 1 :], self._found)
                return
        raise _Writes

    # --- statements

    def _statements(self) -> None:
        while self._ahead() and not self._is_at_end():
            self._statement()

    def _is_at_end(self) -> bool:
        # A variable can have such a name, but is then not read here.
        return self._ahead() in _ENDS

    def _statement(self) -> None:
        first = self._ahead()
        if self._is_assignment():
            self._assignment(self._statement_end())
        elif first in _BLOCK_STARTS:
            self._label_or_block()
        elif first in QUERIES:
            self._sql(self._statement_end())
        else:
            self._by_word(first)

    def _label_or_block(self) -> None:
        at = self._at
        self._label()
        if self._ahead() in ("loop", "while", "for", "foreach"):
            self._statement()
            return
        self._at = at
        self._block()
        self._take(";")

    def _by_word(self, first: str) -> None:
        self._at += 1
        if first == "if":
            self._if()
        elif first == "case":
            self._case()
        elif first in ("loop", "while", "for", "foreach"):
            self._loop(first)
        elif first == "return":
            self._return(self._statement_end())
        elif first in ("perform", "assert"):
            _expression(self._statement_end(), self._found)
        elif first == "raise":
            tokens = self._statement_end()
            _expression(
                tokens[1:] if tokens[:1] and tokens[0] in _LEVELS else tokens, self._found
            )
        elif first in ("exit", "continue"):
            self._exit(self._statement_end())
        elif first == "open":
            self._open(self._statement_end())
        elif first == "null":
            self._take(";")
        elif first in _AT_CURSORS or (first == "get" and "diagnostics" in self._tokens):
            if "(" in self._statement_end():
                raise _Writes
        else:
            raise _Writes

    def _if(self) -> None:
        while True:
            _expression(self._until("then"), self._found)
            self._at += 1
            self._statements()
            if self._ahead() not in ("elsif", "elseif"):
                break
            self._at += 1
        if self._is("else"):
            self._at += 1
            self._statements()
        self._take("end", "if", ";")

    def _case(self) -> None:
        searched = self._until("when")
        if searched:
            _expression(searched, self._found)
        while self._is("when"):
            self._at += 1
            _expression(self._until("then"), self._found)
            self._at += 1
            self._statements()
        if self._is("else"):
            self._at += 1
            self._statements()
        self._take("end", "case", ";")

    def _loop(self, first: str) -> None:
        head = [] if first == "loop" else self._until("loop")
        self._take("loop") if first != "loop" else None
        if first == "while":
            _expression(head, self._found)
        elif head:
            self._over(head)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _Writes
        self._statements()
        self._depth -= 1
        self._take("end", "loop")
        if not self._is(";"):
            self._at += 1  # its label
        self._take(";")

    def _over(self, head: list[str]) -> None:
        """Look at what a FOR or FOREACH runs over.

        FOR takes any statement that returns rows, besides numbers and cursors; none begins
        with a number, or with a word that is not followed by another.
        """
        if "in" not in head:
            raise _Writes
        place = head.index("in")
        over = head[place + 1 :]
        if "(" in head[:place] or not over:
            raise _Writes
        if over[0] in QUERIES:
            _query(over, self._found)
            return
        is_array = over[0] == "array"
        if is_array or over[0] == "reverse":
            over = over[1:]
        if not is_array and (not over or _is_statement(over)):
            raise _Writes
        step = over.index("by") if "by" in over else len(over)
        _expression(over[:step], self._found)
        _expression(over[step + 1 :], self._found)

    def _return(self, tokens: list[str]) -> None:
        if tokens[:1] == ["query"]:
            _query(tokens[1:], self._found)
        elif tokens[:1] == ["next"]:
            _expression(tokens[1:], self._found)
        else:
            _expression(tokens, self._found)

    def _exit(self, tokens: list[str]) -> None:
        if "when" in tokens:
            place = tokens.index("when")
            _expression(tokens[place + 1 :], self._found)
            tokens = tokens[:place]
        if len(tokens) > 1:
            raise _Writes

    def _open(self, tokens: list[str]) -> None:
        if "for" in tokens[1:]:
            _query(tokens[tokens.index("for", 1) + 1 :], self._found)
        elif len(tokens) > 1:
            # The arguments of a cursor that has been declared.
            _expression(tokens[1:], self._found)

    def _is_assignment(self) -> bool:
        """Say whether a statement begins with ``name[.field][[subscript]] :=``, or =."""
        if not is_word(self._ahead() or ";"):
            return False
        at, level = self._at + 1, 0
        while at < len(self._tokens):
            token = self._tokens[at]
            if level == 0 and token in (":=", "="):
                return True
            if token == "[":
                level += 1
            elif token == "]":
                level -= 1
            elif token == ";" or (level == 0 and token != "." and self._tokens[at - 1] != "."):
                return False
            at += 1
        return False

    def _assignment(self, tokens: list[str]) -> None:
        level = 0
        for i, token in enumerate(tokens):
            if level == 0 and token in (":=", "="):
                _expression(tokens[1:i], self._found)
                _expression(tokens[i + 1 :], self._found)
                return
            level += (token == "[") - (token == "]")

    def _sql(self, tokens: list[str]) -> None:
        """Look at a query, without the INTO that says where its row goes."""
        if tokens.count("into") == 1:
            start = tokens.index("into")
            end = start + 1
            if tokens[end : end + 1] == ["strict"]:
                end += 1
            end = _targets_end(tokens, end)
            tokens = tokens[:start] + tokens[end:]
        _query(tokens, self._found)


def _is_statement(tokens: Sequence[str]) -> bool:
    """Say whether this may be a statement that is no query, rather than an expression."""
    if not is_word(tokens[0]) or len(tokens) == 1:
        return False
    second = tokens[1]
    return tokens[0] == "explain" or is_word(second) or second[0] in "'$0123456789"


def _targets_end(tokens: Sequence[str], start: int) -> int:
    """Return where the variables end that a query's row is put into.

    Raises:
        _Writes: there is none.
    """
    end = start
    while True:
        if end >= len(tokens) or not is_word(tokens[end]):
            raise _Writes
        end += 1
        while end + 1 < len(tokens) and tokens[end] == ".":
            end += 2
        if end >= len(tokens) or tokens[end] != ",":
            return end
        end += 1
