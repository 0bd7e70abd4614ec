"""How long a regular expression can take on a text that was written to make it slow.

Python's `re` tries one way after the other. Where a text can be divided among the parts of a
pattern in many ways, as among the rounds of ``(\\d+\\s*)+``, thirty characters keep it busy for
minutes; and while it is, nobody is served. So patterns are judged when they are configured.

The judgement looks at sets of characters only: two parts can compete for a stretch of text if
their sets overlap and nothing between them tells them apart. That errs on the safe side.
"""

from __future__ import annotations

import importlib
import itertools
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

# `re` has no public way to look into a pattern.
_sre: Final = importlib.import_module("re._parser")

# One of each kind of character that a pattern can tell from others.
_ALPHABET: Final = frozenset([*map(chr, range(256)), "\u0100", "\u0661", "\u2003", "\u4e2d"])
_NONE: Final[frozenset[str]] = frozenset()
# A part that repeats so often can keep others busy.
_MANY: Final = 10
# Steps that take about a tenth of a second.
AFFORDABLE: Final = 5e7

_CATEGORIES: Final[dict[str, Callable[[str], bool]]] = {
    "CATEGORY_DIGIT": str.isdecimal,
    "CATEGORY_SPACE": str.isspace,
    "CATEGORY_WORD": lambda char: char.isalnum() or char == "_",
}


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a pattern.

    Attributes:
        chars: all characters that it can take.
        parts: what it consists of, one after the other; of an alternative, the choices.
        is_choice: it is an alternative.
        is_sealed: once it has matched, none of its parts is tried again in another way.
        low, high: how often it is repeated; how often is tried out only if they differ.
    """

    chars: frozenset[str] = _NONE
    parts: tuple[Part, ...] = ()
    is_choice: bool = False
    is_sealed: bool = False
    low: int = 1
    high: int = 1

    @property
    def is_optional(self) -> bool:
        """Whether it can take nothing at all."""
        if self.low == 0 or not self.chars:
            return True
        if self.is_sealed or not self.parts:
            return False
        optional = (part.is_optional for part in self.parts)
        return any(optional) if self.is_choice else all(optional)

    @property
    def size(self) -> int:
        """The fewest characters that it takes."""
        if self.is_sealed:
            return self.low if self.chars else 0
        sizes = [part.size for part in self.parts]
        inner = (min(sizes) if self.is_choice else sum(sizes)) if sizes else bool(self.chars)
        return self.low * inner


def is_explosive(pattern: str) -> bool:
    """Whether a short text can keep the pattern busy for ever."""
    return any(
        part.high >= _MANY and part.high != part.low and _competes(part, (), is_round=True)
        for part in _all(_read(pattern))
    )


def steps(pattern: str, length: int) -> float:
    """Roughly, the most steps that looking for the pattern in a text of the length takes.

    To be asked of what is not explosive.
    """
    is_anchored = pattern.startswith(("^", r"\A"))
    return max(
        _most_steps(sequence, length, is_anchored=is_anchored)
        for sequence in _sequences(_read(pattern))
    )


# --- rounds that compete


def _competes(part: Part, fences: tuple[frozenset[str], ...], *, is_round: bool) -> bool:
    """Whether a part of a repeated one can be divided among its rounds in many ways.

    Args:
        part: the part.
        fences: characters of what comes between it and itself in the next round.
        is_round: it is the repeated one itself.
    """
    chars = frozenset().union(*(inner.chars for inner in part.parts)) or part.chars
    is_fenced = any(fence.isdisjoint(chars) for fence in fences)
    if part.is_sealed:
        return False
    if not is_round and part.high != part.low and not is_fenced:
        return True
    if part.is_choice:
        pairs = itertools.combinations(part.parts, 2)
        if not is_fenced and any(_overlap(one, other) for one, other in pairs):
            return True
        return any(_competes(inner, fences, is_round=False) for inner in part.parts)
    for number, inner in enumerate(part.parts):
        others = (*part.parts[:number], *part.parts[number + 1 :])
        more = tuple(other.chars for other in others if not other.is_optional)
        if _competes(inner, fences + more, is_round=False):
            return True
    return False


def _overlap(one: Part, other: Part) -> bool:
    """Whether two choices can begin with the same text, as long as the shorter of them."""
    singles, others = _singles(one), _singles(other)
    if singles is None or others is None:
        return not one.chars.isdisjoint(other.chars)
    return all(not a.isdisjoint(b) for a, b in zip(singles, others, strict=False))


def _singles(part: Part) -> list[frozenset[str]] | None:
    """The characters one by one, if their number is fixed."""
    if part.is_choice or part.is_sealed or part.low != part.high:
        return None
    if not part.parts:
        return [part.chars] * part.low if part.chars else []
    found: list[frozenset[str]] = []
    for inner in part.parts:
        singles = _singles(inner)
        if singles is None:
            return None
        found += singles
    return found * part.low


# --- parts that compete


def _most_steps(sequence: Sequence[Part], length: int, *, is_anchored: bool) -> float:
    """The same for one sequence of parts.

    Each of the long parts that compete for a text ends in all places where what follows it may
    begin, and so does the search itself. They come in their order, hence the division.
    """
    chains: list[tuple[float, int]] = []
    for number, part in enumerate(sequence):
        before = sequence[:number]
        starts = 1.0 if is_anchored else length / max(sum(each.size for each in before), 1)
        best, links = starts, 0 if is_anchored else 1
        for earlier in range(number):
            between = sequence[earlier + 1 : number]
            if _reaches(sequence[earlier], between, part):
                room = max(sum(each.size for each in between), 1)
                best, links = max(
                    (best, links), (chains[earlier][0] / room, chains[earlier][1])
                )
        is_last = all(each.is_optional for each in sequence[number + 1 :])
        # Behind what it cannot take itself, a part has a text of its own for each beginning.
        is_own = (
            bool(before) and before[-1].size > 0 and before[-1].chars.isdisjoint(part.chars)
        )
        if _is_long(part) and not is_last and not (is_own and number > 1):
            best, links = best * length, links + 1
        chains.append((best, links))
    return max((cost / math.factorial(links) for cost, links in chains), default=1.0)


def _reaches(part: Part, between: Sequence[Part], other: Part) -> bool:
    if not _is_long(part) or part.chars.isdisjoint(other.chars):
        return False
    return not any(
        each.chars.isdisjoint(part.chars) for each in between if not each.is_optional
    )


def _is_long(part: Part) -> bool:
    return part.high - part.low >= _MANY


def _sequences(whole: Part) -> Iterator[list[Part]]:
    """The pattern as sequences of parts, once for each choice."""
    if _is_long(whole) or whole.is_sealed or not whole.parts:
        yield [whole]
        return
    if whole.is_choice:
        for part in whole.parts:
            yield from _sequences(part)
        return
    found: list[list[Part]] = [[]]
    for part in whole.parts:
        ways = list(itertools.islice(_sequences(part), _MANY))
        found = [[*before, *way] for before in found for way in ways][:100]
    yield from found


# --- reading


def _all(part: Part) -> Iterator[Part]:
    yield part
    for inner in part.parts:
        yield from _all(inner)


def _read(pattern: str) -> Part:
    tree = _sre.parse(pattern)
    flags = int(tree.state.flags)
    return _Reader(flags).sequence(tree)


class _Reader:
    """Makes parts of what `re` has made of a pattern."""

    def __init__(self, flags: int) -> None:
        self._ignores_case: Final = bool(flags & re.IGNORECASE)
        self._dot_is_all: Final = bool(flags & re.DOTALL)

    def sequence(self, tree: Iterable[tuple[object, object]]) -> Part:
        """A part for what comes one after the other."""
        return _joined(tuple(self._part(str(op), argument) for op, argument in tree))

    def _part(self, op: str, argument: object) -> Part:
        single = self._single(op, argument)
        if single is not None:
            return Part(single)
        inner: list[object] = list(argument) if isinstance(argument, tuple | list) else []
        if op == "SUBPATTERN":
            return self.sequence(_tree(inner[3]))
        if op == "BRANCH":
            return _joined(tuple(map(self.sequence, _trees(inner[1]))), is_choice=True)
        if op in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            low, high = int(str(inner[0])), _times(inner[1])
            body = self.sequence(_tree(inner[2]))
            repeated = Part(body.chars, (body,), low=low, high=high)
            return repeated if op != "POSSESSIVE_REPEAT" else _sealed(repeated, min(low, 1))
        if op == "ATOMIC_GROUP":
            body = self.sequence(_tree(argument))
            return _sealed(body, 0 if body.is_optional else 1)
        if op in ("ASSERT", "ASSERT_NOT"):
            return Part(_NONE, (self.sequence(_tree(inner[1])),), is_sealed=True)
        if op == "GROUPREF":
            return Part(_ALPHABET, low=0, high=_MANY)
        if op == "GROUPREF_EXISTS":
            return _joined(
                tuple(self.sequence(_tree(each)) for each in inner[1:] if each is not None),
                is_choice=True,
            )
        return Part()  # takes nothing: an anchor

    def _single(self, op: str, argument: object) -> frozenset[str] | None:
        """The characters of what takes one of them."""
        if op == "ANY":
            return _ALPHABET if self._dot_is_all else _ALPHABET - {"\n"}
        if op in ("LITERAL", "NOT_LITERAL"):
            found = self._cased(chr(int(str(argument))))
            return found if op == "LITERAL" else _ALPHABET - found
        if op != "IN":
            return None
        found, is_negated = _NONE, False
        for kind, value in _tree(argument):
            if str(kind) == "NEGATE":
                is_negated = True
            else:
                found |= self._member(str(kind), value)
        return _ALPHABET - found if is_negated else found

    def _member(self, kind: str, value: object) -> frozenset[str]:
        if kind == "LITERAL":
            return self._cased(chr(int(str(value))))
        if kind == "RANGE" and isinstance(value, tuple):
            low, high = chr(value[0]), chr(value[1])
            inside = [char for char in _ALPHABET if low <= char <= high]
            return frozenset().union({low, high}, *map(self._cased, inside))
        name = str(value)
        test = _CATEGORIES[name.replace("_NOT_", "_")]
        matching = frozenset(filter(test, _ALPHABET))
        return _ALPHABET - matching if "_NOT_" in name else matching

    def _cased(self, char: str) -> frozenset[str]:
        return frozenset((char, char.lower(), char.upper()) if self._ignores_case else char)


def _sealed(part: Part, low: int) -> Part:
    return Part(part.chars, (part,), is_sealed=True, low=low, high=low)


def _joined(parts: tuple[Part, ...], *, is_choice: bool = False) -> Part:
    if len(parts) == 1:
        return parts[0]
    return Part(frozenset().union(*(part.chars for part in parts)), parts, is_choice)


def _times(count: object) -> int:
    # MAXREPEAT is a number by another name.
    return int(count) if isinstance(count, int) else _MANY


def _tree(value: object) -> Iterable[tuple[object, object]]:
    return value  # type: ignore[return-value]


def _trees(value: object) -> Iterable[Iterable[tuple[object, object]]]:
    return value  # type: ignore[return-value]
