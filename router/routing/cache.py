"""Analyses remembered: by the very text, then by its fingerprint.

Clients send few forms of text, though perhaps with ever new values. A known text costs one
look-up, a new text of a known fingerprint a scan, and only a new fingerprint is parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from ..errors import InvalidShardingKey, RoutingError
from ..turns import work
from .arrays import BLANKS, is_array, members_of_text
from .constants import NULL, value_of
from .fingerprint import UnknownLexeme, short_fingerprint_of
from .generations import Generations, Recent
from .keyvalues import plain_integers
from .limits import MAX_KEYS, KeyBudget, TooComplex
from .lists import is_list, is_literal, written_at
from .literals import text_of
from .refusals import too_complex
from .sharding import BIGINTS
from .tags import without_tags
from .types import Analysis, KeyTerm

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .types import KeyTerms, KeyValue, Route

V = TypeVar("V")

_OWN_TERMS: Final = 100
"""Most keys of a list that become terms of their own."""

LiteralReader = Callable[[bytes, bool, bool], "KeyValue | None"]
"""As the `literal` of a `Sharder`."""

_read_bigint: Final = BIGINTS.literal

_UNREADABLE: Final = Analysis.unknown("cannot be parsed")


class AnalysisCache(Generic[V]):
    """Turns texts into values made of their analyses, doing each piece of work once.

    Attributes:
        hits: texts that were known.
        fingerprint_hits: texts that were new, of a known fingerprint.
        misses: texts of a new fingerprint.
    """

    __slots__ = (
        "_beyond",
        "_classify",
        "_fingerprints",
        "_finish",
        "_max_length",
        "_reads_comments",
        "_recent",
        "_texts",
        "fingerprint_hits",
        "hits",
        "misses",
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
        reads_comments: bool = False,
    ) -> None:
        """Make an empty cache.

        Args:
            classify: analyses a fingerprint.
            finish: makes a value of a text, the analysis of its fingerprint, and its literals.
            max_length: longest text that is analysed.
            beyond: makes the analysis of texts that are too complex, and is told why.
            entries: bound on the texts and on the fingerprints.
            size: bound on the bytes of texts and fingerprints together.
            reads_comments: `finish` does.
        """
        self._classify: Final = classify
        self._finish: Final = finish
        self._max_length: Final = max_length
        self._beyond: Final = beyond
        self._texts: Final = Generations[V](entries, size // 2)
        self._fingerprints: Final = Generations[Analysis](entries, size // 2)
        self._recent: Final = Recent()
        self._reads_comments: Final = reads_comments
        self.hits = 0
        self.fingerprint_hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._texts)

    @property
    def fingerprints(self) -> int:
        """How many fingerprints are known."""
        return len(self._fingerprints)

    @property
    def size(self) -> int:
        """Bytes that texts and fingerprints take, roughly."""
        return self._texts.size + self._fingerprints.size

    def clear(self) -> None:
        """Forget all texts and fingerprints, but not the counters."""
        self._texts.clear()
        self._fingerprints.clear()

    def look_up(self, text: bytes) -> V:
        """Return the value of a text."""
        found = self._texts.young.get(text) or self._texts.get(text)
        if found is not None:
            self.hits += 1
            return found
        bare = without_tags(text)
        if bare is not text and not self._reads_comments:
            return self.look_up(bare)
        analysis, literals = self._analyse(text)
        value = self._finish(text, analysis, literals)
        if (not literals and bare is text) or self._recent.note(text):
            self._texts.put(text, value)
        return value

    def known(self, text: bytes) -> str:
        """Say what `look_up` would find: hit, fingerprint or miss; off if it would not look."""
        if not self._reads_comments:
            text = without_tags(text)
        if text in self._texts:
            return "hit"
        if len(text) > self._max_length:
            return "off"
        try:
            return (
                "fingerprint" if short_fingerprint_of(text)[0] in self._fingerprints else "miss"
            )
        except (UnknownLexeme, TooComplex):
            return "miss"

    def _analyse(self, text: bytes) -> tuple[Analysis, Sequence[bytes]]:
        if len(text) > self._max_length:
            return self._beyond(_too_long(self._max_length)), ()
        try:
            fingerprint, literals = short_fingerprint_of(text)
        except UnknownLexeme:
            self.misses += 1
            return _UNREADABLE, ()
        except TooComplex as error:
            self.misses += 1
            return self._beyond(str(error)), ()
        analysis = self._fingerprints.get(fingerprint)
        if analysis is None:
            self.misses += 1
            work.note_analysis(len(fingerprint))
            analysis = self._classify(fingerprint)
            self._fingerprints.put(fingerprint, analysis)
        else:
            self.fingerprint_hits += 1
        return analysis, literals


def bind(
    analysis: Analysis, literals: Sequence[bytes], literal: LiteralReader = _read_bigint
) -> Analysis:
    """Put the values of a text's literals into the analysis of its fingerprint."""
    if not analysis.keys:
        if not analysis.arguments:
            return analysis
        arguments = tuple(_argument(term, literals, literal) for term in analysis.arguments)
        return replace(analysis, arguments=arguments)
    # One condition can hold for many uses of tables.
    known: dict[int, KeyTerms] = {}
    budget = budget_for(literal)
    try:
        for conditions in analysis.keys:
            for terms in conditions:
                if id(terms) not in known:
                    bound = [b for t in terms for b in _bound(t, literals, literal, budget)]
                    known[id(terms)] = tuple(bound)
        keys = tuple(
            tuple(known[id(terms)] for terms in conditions) for conditions in analysis.keys
        )
    except TooComplex as limit:
        error = too_complex(str(limit))
        return replace(analysis, keys=(), error=error, limit=str(limit))
    except RoutingError as invalid:
        return replace(analysis, keys=(), error=invalid)
    return replace(analysis, keys=keys)


def budget_for(literal: LiteralReader) -> KeyBudget:
    """Make the budget for the keys of a text, by what reads them."""
    return KeyBudget(are_bigints=literal is _read_bigint)


def _argument(
    term: KeyTerm | None, literals: Sequence[bytes], literal: LiteralReader
) -> KeyTerm | None:
    if term is None or term.constant == NULL:
        return term
    if term.parameters:
        return None
    try:
        [key], _ = keys_of(term, literals, literal, budget_for(literal))
    except InvalidShardingKey:
        return None
    return replace(term, key=key, literal=-1, constant=None)


def _bound(
    term: KeyTerm, literals: Sequence[bytes], literal: LiteralReader, budget: KeyBudget
) -> Iterator[KeyTerm]:
    if term.literal < 0 and term.constant is None:
        yield term
        return
    keys, numbers = keys_of(term, literals, literal, budget)
    if numbers:
        yield KeyTerm(parameters=numbers, is_compared=term.is_compared)
    if len(keys) > _OWN_TERMS:
        yield replace(term, keys=tuple(keys), literal=-1, is_array=False)
        return
    for key in keys:
        yield replace(term, key=key, literal=-1, is_array=False, constant=None)


def keys_of(
    term: KeyTerm, literals: Sequence[bytes], literal: LiteralReader, budget: KeyBudget
) -> tuple[Sequence[KeyValue | None], tuple[int, ...] | range]:
    """Return the keys that a term gives, those that are not known as None; and its parameters.

    Raises:
        InvalidShardingKey: it is no key, whatever the type of the column.
        TooComplex: there are too many.
    """
    if term.literal < 0:
        if term.keys is not None:
            budget.convert(len(term.keys))
            return term.keys, ()
        if term.constant is None:
            return () if term.parameters else (term.key,), term.parameters
        return () if term.constant == NULL else (value_of(term.constant, literals),), ()
    written = literals[term.literal]
    if is_list(written):
        return _listed(term, literals, literal, budget)
    if not term.is_array:
        return (literal(written, term.negative, term.escaped),), ()
    return _members(text_of(written, escaped=term.escaped), literal, budget), ()


def _members(
    text: bytes | None, literal: LiteralReader, budget: KeyBudget
) -> Sequence[KeyValue | None]:
    """Return the keys in an array that is written as a string."""
    if text is None:
        return (None,)
    budget.read(text.count(b",") + 1)
    if literal is _read_bigint and is_array(text):
        numbers = plain_integers(text.strip(BLANKS)[1:-1])
        if numbers is not None:
            return _distinct(numbers, budget)
    members = members_of_text(text)
    if members is None:
        return (None,)
    distinct = dict.fromkeys(members)
    budget.convert(len(distinct))
    return [
        literal(b"'%s'" % member.replace(b"'", b"''"), False, False)
        for member in distinct
        if member is not None
    ]


def _unquoted(listed: bytes) -> bytes:
    """Take the quotes off strings of digits; PostgreSQL takes none with more in them."""
    return listed.replace(b"'", b"")


def _distinct(numbers: list[int], budget: KeyBudget) -> Sequence[int]:
    distinct = list(dict.fromkeys(numbers))
    budget.convert(len(distinct))
    return distinct


def _too_long(length: int) -> str:
    return f"longer than query_parser_max_length, {length} bytes"


def _listed(
    term: KeyTerm, literals: Sequence[bytes], literal: LiteralReader, budget: KeyBudget
) -> tuple[Sequence[KeyValue | None], tuple[int, ...] | range]:
    """Return the keys and the parameters in a list."""
    written = literals[term.literal]
    is_fast = literal is _read_bigint and not term.negative
    if is_fast and written[:1] != b")" and written.count(b",") < MAX_KEYS:
        integers = plain_integers(_unquoted(written[1:-1]))
        if integers is not None:
            budget.read(len(integers))
            return _distinct(integers, budget), ()
    members, numbers = written_at(literals, term.literal, budget)
    if is_fast and members:
        integers = plain_integers(_unquoted(b",".join(members)))
        if integers is not None:
            return _distinct(integers, budget), numbers
    budget.convert(len(members))
    keys: list[KeyValue | None] = []
    for member in members:
        if member == b"null" and term.is_compared:
            continue  # it is equal to nothing
        if member.startswith(b"-"):
            keys.append(literal(member[1:], True, False))
        else:
            is_known = is_literal(member) and not term.negative
            keys.append(literal(member, False, False) if is_known else None)
    return keys, numbers


class Entry:
    """What is remembered of one text.

    Attributes:
        fingerprint: the analysis of its fingerprint.
        route: where it goes for most clients, if that is the same each time.
    """

    __slots__ = ("_bound", "_literals", "_read", "fingerprint", "route")

    def __init__(
        self, fingerprint: Analysis, literals: Sequence[bytes], read: LiteralReader
    ) -> None:
        self.fingerprint: Final = fingerprint
        self._literals: Final = literals
        self._read: Final = read
        self._bound: Analysis | None = None
        self.route: Route | None = None

    @property
    def analysis(self) -> Analysis:
        """The text's own analysis, which few ask for."""
        bound = self._bound
        if bound is None:
            return bind(self.fingerprint, self._literals, self._read)
        self._bound = None
        return bound

    def keep(self, bound: Analysis) -> None:
        """Remember the text's own analysis, which can be long, for who asks for it next."""
        self._bound = bound
