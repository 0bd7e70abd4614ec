"""COPY ... FROM STDIN as it is written: the table, its columns, and the form of the rows.

What a split COPY needs to know is read here, from the tokens of its text and their literals. An
option that is not understood, or that means something else for a part of the rows than for all
of them, is a reason not to split it: then nothing has been sent to any server.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from .fingerprint import UnknownLexeme, short_fingerprint_of
from .inner import table_at
from .limits import TooComplex
from .literals import text_of
from .refusals import copy_not_split
from .tokens import fold, is_word, statements_of, unquoted
from .types import TableChange

if TYPE_CHECKING:
    from collections.abc import Sequence

TEXT: Final = "text"
CSV: Final = "csv"
BINARY: Final = "binary"

_TRUE: Final = frozenset(("true", "on", "1"))
_FALSE: Final = frozenset(("false", "off", "0"))
_ALL_COLUMNS: Final = "*"


@dataclass(slots=True)
class CopyText:
    """What the text of a COPY ... FROM STDIN says.

    Attributes:
        schema, table: its table; the schema is "" if the text does not tell.
        columns: those that it names, in their order; None: all of the table.
        format: of the rows: TEXT, CSV or BINARY.
        delimiter, null, quote, escape: as the options have them, or by default.
        default: what stands for the default of a column; None: nothing does.
        has_header: the first row has the names of the columns.
        force_null, force_not_null: columns of which NULL is told in another way; "*" is all.
    """

    schema: str
    table: str
    columns: tuple[str, ...] | None = None
    format: str = TEXT
    delimiter: bytes = b""
    null: bytes | None = None
    quote: bytes = b'"'
    escape: bytes = b""
    default: bytes | None = None
    has_header: bool = False
    force_null: frozenset[str] = field(default_factory=frozenset)
    force_not_null: frozenset[str] = field(default_factory=frozenset)

    def _complete(self) -> None:
        """Put in what the options leave to others.

        Raises:
            NoSingleShard: rows of this form cannot be told apart here.
        """
        is_csv = self.format == CSV
        if not self.delimiter:
            self.delimiter = b"," if is_csv else b"\t"
        if self.null is None:
            self.null = b"" if is_csv else b"\\N"
        if not self.escape:
            self.escape = self.quote
        for name, value in (("DELIMITER", self.delimiter), ("QUOTE", self.quote)):
            if len(value) != 1 or value in b"\r\n\0" or value >= b"\x80":
                raise copy_not_split(f"{name} is not one plain character")
        if len(self.escape) != 1 or self.escape in b"\r\n\0" or self.escape >= b"\x80":
            raise copy_not_split("ESCAPE is not one plain character")
        if is_csv and self.delimiter in (self.quote, self.escape):
            raise copy_not_split("DELIMITER is the same as QUOTE or ESCAPE")
        # As PostgreSQL has it: letters and digits could be part of an escape sequence.
        if not is_csv and (self.delimiter.isalnum() or self.delimiter in b"\\."):
            raise copy_not_split("DELIMITER is a letter, a digit, a backslash or a point")
        for value in (self.null, self.default or b""):
            if b"\r" in value or b"\n" in value:
                raise copy_not_split("NULL and DEFAULT must not contain the end of a row")


def is_copy_in(tokens: Sequence[str]) -> bool:
    """Whether a statement is COPY of a table from the client."""
    return tokens[0] == "copy" and "from" in tokens and _Reader(list(tokens), ()).is_copy_in()


def copied_in(tokens: Sequence[str]) -> TableChange | None:
    """What a COPY from the client changes; None if a statement is none."""
    if not is_copy_in(tokens):
        return None
    found = _Reader(list(tokens), ())._head()
    return TableChange(
        found.schema,
        found.table,
        makes_rows=found.columns is not None,
        columns=found.columns or (),
        has_default="default" in tokens,
    )


def read_copy(sql: bytes) -> CopyText:
    """Read the text of a COPY ... FROM STDIN.

    Raises:
        NoSingleShard: it has something that is not understood, or cannot be split.
    """
    try:
        fingerprint, literals = short_fingerprint_of(sql)
        pieces = statements_of(fold(fingerprint))
    except (UnknownLexeme, TooComplex, UnicodeDecodeError) as error:
        raise copy_not_split("its text is not understood") from error
    if len(pieces) != 1:
        raise copy_not_split("it is not alone in its text")
    return _Reader(pieces[0][1], literals).read()


class _Reader:
    """Goes through the tokens of one COPY."""

    def __init__(self, tokens: list[str], literals: Sequence[bytes]) -> None:
        self._tokens: Final = tokens
        self._literals: Final = literals
        self._pos = 1

    def is_copy_in(self) -> bool:
        self._head()
        return self._tokens[self._pos : self._pos + 2] == ["from", "stdin"]

    def read(self) -> CopyText:
        """Read all of it."""
        found = self._head()
        if self._tokens[self._pos : self._pos + 2] != ["from", "stdin"]:
            raise copy_not_split("it does not read from STDIN")
        self._pos += 2
        self._skip("with")
        if self._peek() == "(":
            self._pos += 1
            self._options(found)
        else:
            self._old_options(found)
        if self._peek() not in ("", "where"):
            raise self._odd(self._peek())
        found._complete()
        return found

    def _head(self) -> CopyText:
        """The table, and its columns."""
        tokens = self._tokens
        is_binary = tokens[1:2] == ["binary"] and tokens[2:3] not in (["from"], ["("], ["."])
        name, end = table_at(tokens, 2 if is_binary else 1)
        schema, _, table = name.rpartition(".")
        found = CopyText(schema, table, format=BINARY if is_binary else TEXT)
        self._pos = end
        if self._peek() == "(":
            found.columns = self._names()
        return found

    def _names(self) -> tuple[str, ...]:
        """Names in brackets."""
        names = []
        self._pos += 1
        while self._peek() not in ("", ")"):
            token = self._next()
            if token != "," and is_word(token):
                names.append(unquoted(token))
        self._pos += 1
        return tuple(names)

    # --- COPY ... ( option value, ... )

    def _options(self, found: CopyText) -> None:
        while True:
            name = self._next()
            if name == ")":
                return
            if name == ",":
                continue
            if not name:
                raise self._odd("(")
            self._option(found, name)

    def _option(self, found: CopyText, name: str) -> None:
        if name in ("force_null", "force_not_null"):
            names = frozenset(self._names() if self._peek() == "(" else (self._next(),))
            setattr(found, name, names)
        elif name == "header":
            value = self._plain("true")
            if value not in _TRUE | _FALSE | {"match"}:
                raise copy_not_split(f"HEADER {value} is not understood")
            found.has_header = value not in _FALSE
        elif name == "freeze":
            self._plain("true")  # each server says whether it can be
        elif name == "format":
            found.format = self._plain("").lower()
            if found.format not in (TEXT, CSV, BINARY):
                raise copy_not_split(f"FORMAT {found.format} is not understood")
        elif name in ("delimiter", "null", "quote", "escape", "default"):
            setattr(found, name, self._string())
        elif name == "encoding":
            encoding = self._string().decode("utf-8", "replace")
            if encoding.lower().replace("-", "").replace("_", "") not in ("utf8", "unicode"):
                raise copy_not_split(f"ENCODING {encoding} is not UTF8")
        elif name == "on_error":
            value = self._plain("")
            if value != "stop":
                raise copy_not_split("ON_ERROR would leave out rows whose key is no key")
        elif name == "log_verbosity":
            self._plain("")
        else:
            raise self._odd(name)

    def _plain(self, absent: str) -> str:
        """A word or a string, as an option's value."""
        token = self._peek()
        if token in ("", ",", ")"):
            return absent
        if token.endswith("'"):
            return self._string().decode("utf-8", "replace").lower()
        token = self._next()
        if token.isdigit():
            return self._literals[int(token)].decode("utf-8", "replace")
        return unquoted(token)

    # --- COPY ... DELIMITER '|' NULL '' CSV HEADER

    def _old_options(self, found: CopyText) -> None:
        while self._peek() not in ("", "where"):
            name = self._next()
            if name in ("binary", "csv"):
                found.format = name
            elif name == "freeze":
                pass
            elif name == "header":
                found.has_header = True
            elif name in ("delimiter", "null", "quote", "escape"):
                self._skip("as")
                setattr(found, name, self._string())
            elif name == "force" and self._peek() in ("not", "null"):
                which = "force_null"
                if self._next() == "not":
                    self._skip("null")
                    which = "force_not_null"
                setattr(found, which, self._old_names())
            elif name == "encoding":
                self._pos -= 1
                self._option(found, self._next())
            else:
                raise self._odd(name)

    def _old_names(self) -> frozenset[str]:
        if self._peek() == _ALL_COLUMNS:
            self._pos += 1
            return frozenset((_ALL_COLUMNS,))
        names = [unquoted(self._next())]
        while self._peek() == ",":
            self._pos += 1
            names.append(unquoted(self._next()))
        return frozenset(names)

    # --- tokens

    def _peek(self) -> str:
        return self._tokens[self._pos] if self._pos < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self._pos += 1
        return token

    def _skip(self, word: str) -> None:
        if self._peek() == word:
            self._pos += 1

    def _string(self) -> bytes:
        """The value of a string literal; in the tokens it has its number."""
        token = self._next()
        prefix, _, number = token.partition("'")
        value: bytes | None = None
        if prefix in ("", "e") and number[:-1].isdigit():
            value = text_of(self._literals[int(number[:-1])], escaped=prefix == "e")
        if value is None:
            raise self._odd(token)
        return value

    @staticmethod
    def _odd(token: str) -> Exception:
        return copy_not_split(f'"{token}" in its options is not understood')
