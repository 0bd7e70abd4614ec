"""Analyses remembered: by the very text, then by its shape.

Clients send few shapes, though perhaps with ever new values. A known text costs one look-up, a
new text of a known shape a scan, and only a new shape is parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from ..errors import InvalidShardingKey, NoSingleShard, RoutingError
from .arrays import BLANKS, is_array, members_of_text
from .constants import NULL, value_of
from .keyvalues import plain_integers
from .limits import MAX_KEYS, TooComplex
from .lists import is_list, is_literal, members_at, parameters_of
from .lists import size as list_size
from .literals import text_of
from .shape import UnknownLexeme, short_shape_of
from .sharding import BIGINTS
from .types import Analysis, KeyTerm

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .types import KeyTerms, KeyValue, Route

V = TypeVar("V")

_OVERHEAD: Final = 400
"""Bytes that an entry takes besides its text, roughly."""

_DOORS: Final = 1024
"""How many texts are known by their hashes only, a power of two."""

_OWN_TERMS: Final = 100
"""Most keys of a list that become terms of their own."""

LiteralReader = Callable[[bytes, bool, bool], "KeyValue | None"]
"""As the `literal` of a `Sharder`."""

_read_bigint: Final = BIGINTS.literal

_UNREADABLE: Final = Analysis.unknown("cannot be parsed")


class Generations(Generic[V]):
    """A bounded mapping that forgets what has not been asked for lately.

    It has two halves: when the young one is full, the old one is dropped and the young one
    takes its place. That keeps what is in use, as LRU does, without any work at a hit.

    Attributes:
        young: what has been asked for lately; a caller in a hurry looks here first.
    """

    __slots__ = ("_budget", "_bytes", "_entries", "_old", "_old_bytes", "young")

    def __init__(self, entries: int, size: int) -> None:
        self._entries: Final = max(entries // 2, 1)
        self._budget: Final = size // 2
        self._bytes = 0
        self._old_bytes = 0
        self.young: dict[bytes, V] = {}
        self._old: dict[bytes, V] = {}

    def __len__(self) -> int:
        return len(self.young.keys() | self._old.keys())

    def clear(self) -> None:
        """Forget everything."""
        self.young = {}
        self._old = {}
        self._bytes = self._old_bytes = 0

    @property
    def size(self) -> int:
        """Bytes that it takes, roughly; what is in both halves counts twice."""
        return self._bytes + self._old_bytes

    def __contains__(self, key: bytes) -> bool:
        return key in self.young or key in self._old

    def get(self, key: bytes) -> V | None:
        """Return what is remembered, or None."""
        found = self.young.get(key)
        if found is None and self._old:
            found = self._old.get(key)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: bytes, value: V) -> None:
        """Remember a value, unless its key alone would fill much of the memory."""
        size = len(key) + _OVERHEAD
        if size > self._budget // 8:
            return
        if len(self.young) >= self._entries or self._bytes + size > self._budget:
            self._old = self.young
            self._old_bytes = self._bytes
            self.young = {}
            self._bytes = 0
        self.young[key] = value
        self._bytes += size


class AnalysisCache(Generic[V]):
    """Turns texts into values made of their analyses, doing each piece of work once.

    Attributes:
        hits: texts that were known.
        shape_hits: texts that were new, of a known shape.
        misses: texts of a new shape.
    """

    __slots__ = (
        "_beyond",
        "_classify",
        "_doors",
        "_finish",
        "_max_length",
        "_shapes",
        "_texts",
        "hits",
        "misses",
        "shape_hits",
    )

    def __init__(
        self,
        classify: Callable[[bytes], Analysis],
        finish: Callable[[bytes, Analysis, Sequence[bytes]], V],
        *,
        max_length: int,
        beyond: Callable[[str], Analysis],
        entries: int,
        size: int,
    ) -> None:
        """Make an empty cache.

        Args:
            classify: analyses a shape.
            finish: makes the value of a text, the analysis of its shape, and its literals.
            max_length: longest text that is analysed.
            beyond: makes the analysis of texts that are too complex, and is told why.
            entries: bound on the texts and on the shapes.
            size: bound on the bytes of texts and shapes together.
        """
        self._classify: Final = classify
        self._finish: Final = finish
        self._max_length: Final = max_length
        self._beyond: Final = beyond
        self._texts: Final = Generations[V](entries, size // 2)
        self._shapes: Final = Generations[Analysis](entries, size // 2)
        self._doors: Final = [0] * _DOORS
        self.hits = 0
        self.shape_hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._texts)

    @property
    def shapes(self) -> int:
        """How many shapes are known."""
        return len(self._shapes)

    @property
    def size(self) -> int:
        """Bytes that texts and shapes take, roughly."""
        return self._texts.size + self._shapes.size

    def clear(self) -> None:
        """Forget all texts and shapes, but not the counters."""
        self._texts.clear()
        self._shapes.clear()

    def look_up(self, text: bytes) -> V:
        """Return the value of a text."""
        found = self._texts.young.get(text) or self._texts.get(text)
        if found is not None:
            self.hits += 1
            return found
        analysis, literals = self._analyse(text)
        value = self._finish(text, analysis, literals)
        if not literals or self._is_back(text):
            self._texts.put(text, value)
        return value

    def _is_back(self, text: bytes) -> bool:
        """Say whether a text has been here a short while ago.

        One with literals may never come again, and to remember it costs more than its look-up.
        """
        mark = hash(text)
        slot = mark & (_DOORS - 1)
        if self._doors[slot] == mark:
            return True
        self._doors[slot] = mark
        return False

    def known(self, text: bytes) -> str:
        """Say what `look_up` would find: hit, shape or miss, or off if it would not look."""
        if text in self._texts:
            return "hit"
        if len(text) > self._max_length:
            return "off"
        try:
            return "shape" if short_shape_of(text)[0] in self._shapes else "miss"
        except (UnknownLexeme, TooComplex):
            return "miss"

    def _analyse(self, text: bytes) -> tuple[Analysis, Sequence[bytes]]:
        if len(text) > self._max_length:
            return self._beyond(_too_long(self._max_length)), ()
        try:
            shape, literals = short_shape_of(text)
        except UnknownLexeme:
            self.misses += 1
            return _UNREADABLE, ()
        except TooComplex as error:
            self.misses += 1
            return self._beyond(str(error)), ()
        analysis = self._shapes.get(shape)
        if analysis is None:
            self.misses += 1
            analysis = self._classify(shape)
            self._shapes.put(shape, analysis)
        else:
            self.shape_hits += 1
        return analysis, literals


def bind(
    analysis: Analysis, literals: Sequence[bytes], literal: LiteralReader = _read_bigint
) -> Analysis:
    """Put the values of a text's literals into the analysis of its shape."""
    if not analysis.keys:
        if not analysis.arguments:
            return analysis
        arguments = tuple(_argument(term, literals, literal) for term in analysis.arguments)
        return replace(analysis, arguments=arguments)
    # One condition can hold for many uses of tables.
    known: dict[int, KeyTerms] = {}
    try:
        for conditions in analysis.keys:
            for terms in conditions:
                if id(terms) not in known:
                    bound = [b for term in terms for b in _bound(term, literals, literal)]
                    known[id(terms)] = tuple(bound)
        keys = tuple(
            tuple(known[id(terms)] for terms in conditions) for conditions in analysis.keys
        )
    except RoutingError as error:
        return replace(analysis, keys=(), error=error)
    return replace(analysis, keys=keys)


def _argument(
    term: KeyTerm | None, literals: Sequence[bytes], literal: LiteralReader
) -> KeyTerm | None:
    if term is None or term.constant == NULL:
        return term
    try:
        [key] = keys_of(term, literals, literal)
    except InvalidShardingKey:
        return None
    return replace(term, key=key, literal=-1, constant=None)


def _bound(
    term: KeyTerm, literals: Sequence[bytes], literal: LiteralReader
) -> Iterator[KeyTerm]:
    if term.literal < 0 and term.constant is None:
        yield term
        return
    if term.literal >= 0:
        for number in parameters_of(literals, term.literal):
            yield KeyTerm(parameter=number, is_compared=term.is_compared)
    keys = keys_of(term, literals, literal)
    if len(keys) > _OWN_TERMS:
        yield replace(term, keys=tuple(keys), literal=-1, is_array=False)
        return
    for key in keys:
        yield replace(term, key=key, literal=-1, is_array=False, constant=None)


def keys_of(
    term: KeyTerm, literals: Sequence[bytes], literal: LiteralReader = _read_bigint
) -> Sequence[KeyValue | None]:
    """Return the keys that a term gives; those that are not known are None.

    Raises:
        InvalidShardingKey: it is no key, whatever the type of the column.
        NoSingleShard: there are too many.
    """
    if term.literal < 0:
        if term.keys is not None:
            return term.keys
        if term.constant is None:
            return (term.key,)
        return () if term.constant == NULL else (value_of(term.constant, literals),)
    written = literals[term.literal]
    if is_list(written):
        return _listed(term, literals, literal)
    if not term.is_array:
        return (literal(written, term.negative, term.escaped),)
    text = text_of(written, escaped=term.escaped)
    if literal is _read_bigint and text is not None and text.count(b",") < MAX_KEYS:
        numbers = plain_integers(text.strip(BLANKS)[1:-1]) if is_array(text) else None
        if numbers is not None:
            return list(numbers)
    members = None if text is None else members_of_text(text)
    if members is None:
        return (None,)
    return [
        literal(b"'%s'" % member.replace(b"'", b"''"), False, False)
        for member in members
        if member is not None
    ]


def _too_long(length: int) -> str:
    return f"longer than query_parser_max_length, {length} bytes"


def _listed(
    term: KeyTerm, literals: Sequence[bytes], literal: LiteralReader
) -> Sequence[KeyValue | None]:
    """Return the keys in a list, but for the parameters in it."""
    if list_size(literals, term.literal) > MAX_KEYS:
        raise NoSingleShard(
            f"more than {MAX_KEYS} sharding keys in one list",
            kind="too complex",
            hint="Send less at a time, or choose the shard with SET SHARD or a comment.",
        )
    written = literals[term.literal]
    if literal is _read_bigint and not written.startswith(b")"):
        numbers = plain_integers(written[1:-1])
        if numbers is not None:
            return list(numbers)
    keys: list[KeyValue | None] = []
    for member in members_at(literals, term.literal):
        if member == b"null" and term.is_compared:
            continue  # it is equal to nothing
        if member.startswith(b"-"):
            keys.append(literal(member[1:], True, False))
        elif not member.startswith(b"$"):
            is_known = is_literal(member) and not term.negative
            keys.append(literal(member, False, False) if is_known else None)
    return keys


class Entry:
    """What is remembered of one text.

    Attributes:
        shape: the analysis of its shape.
        route: where it goes for most clients.
    """

    __slots__ = ("_literals", "_read", "route", "shape")

    def __init__(
        self,
        shape: Analysis,
        literals: Sequence[bytes],
        read: LiteralReader,
        route: Route | None,
    ) -> None:
        self.shape: Final = shape
        self._literals: Final = literals
        self._read: Final = read
        self.route: Final = route

    @property
    def analysis(self) -> Analysis:
        """The text's own analysis, which few ask for."""
        return bind(self.shape, self._literals, self._read)
