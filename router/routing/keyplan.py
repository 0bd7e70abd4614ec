"""What a Bind must be read for: the parameters of one statement that are sharding keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..turns import work
from .limits import TooComplex
from .refusals import too_complex
from .types import KeyType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .sharding import Sharder
    from .types import Analysis, KeyValue

    BoundKey = KeyValue | tuple[KeyValue, ...] | None

_KEY: Final = 1
_ARRAY: Final = 2


class KeyPlan:
    """Where the keys of one statement are among its parameters, found out once.

    Attributes:
        analysis: of the statement.
        sharder: reads the keys.
        last: the highest number of a parameter that is a key; 0 if there is none.
        types: the oids that the Parse declares for parameters; 0 leaves one to the server.
    """

    __slots__ = ("_kinds", "_must_be_typed", "analysis", "last", "sharder", "types")

    def __init__(self, analysis: Analysis, types: Sequence[int], sharder: Sharder) -> None:
        self.analysis: Final = analysis
        self.sharder: Final = sharder
        # The parameters of a PREPARE are those of an EXECUTE to come.
        tables = () if analysis.prepares else analysis.keys
        terms = [term for table in tables for terms in table for term in terms]
        self.last: Final[int] = max(
            [max(t.parameters) for t in terms if t.parameters], default=0
        )
        # Statements with thousands of rows are remembered: a byte each is enough.
        self._kinds: Final = bytearray(self.last + 1)
        for term in terms:
            kind = _ARRAY if term.is_array else _KEY
            for number in term.parameters:
                self._kinds[number] = kind
        self._kinds[0] = 0
        self.types: Final = tuple(types[: self.last])
        self._must_be_typed: Final = analysis.untyped

    def wants(self, number: int) -> bool:
        """Say whether a parameter is a key, or an array of keys."""
        return number <= self.last and self._kinds[number] != 0

    def misses(self, values: Mapping[int, BoundKey]) -> bool:
        """Say whether keys are not among the values of a Bind, or not known."""
        return len(values) < len(self._kinds) - self._kinds.count(0)

    def is_array(self, number: int) -> bool:
        """Say whether a parameter that is wanted is an array of keys."""
        return self._kinds[number] == _ARRAY

    def may_differ(self, number: int, *, is_binary: bool) -> bool:
        """Say whether the server may convert the value before it is a key."""
        return (
            number in self._must_be_typed
            and self.type_of(number) == 0
            and (is_binary or self.sharder.type is KeyType.TEXT)
        )

    def type_of(self, number: int) -> int:
        """Return the oid of a parameter's type, 0 if the server is to find it."""
        return self.types[number - 1] if number <= len(self.types) else 0


class BoundKeys:
    """The keys among the values of one Bind.

    Attributes:
        values: by number, None for NULL. Those that the server would convert are missing.
    """

    __slots__ = ("_budget", "_known", "_plan", "values")

    def __init__(self, plan: KeyPlan) -> None:
        self._plan: Final = plan
        work.note_keys(plan.last)
        self._budget: Final = plan.sharder.budget()
        # In a long list many are often the same.
        self._known: Final[dict[tuple[bytes, int, bool], KeyValue | None]] = {}
        self.values: Final[dict[int, BoundKey]] = {}

    def add(self, number: int, value: bytes | None, *, is_binary: bool) -> None:
        """Read a parameter that the plan wants.

        Raises:
            InvalidShardingKey: the value is no key.
            NoSingleShard: there are more keys than anybody should wait for.
        """
        if value is None:
            self.values[number] = None
            return
        plan = self._plan
        if plan.may_differ(number, is_binary=is_binary):
            return
        try:
            key = self._read(number, value, is_binary=is_binary)
        except TooComplex as error:
            raise too_complex(str(error)) from None
        if key is not None:
            self.values[number] = key

    def _read(self, number: int, value: bytes, *, is_binary: bool) -> BoundKey:
        plan, budget = self._plan, self._budget
        sharder = plan.sharder
        oid = plan.type_of(number)
        if plan.is_array(number):
            return sharder.parameter_array(value, binary=is_binary, oid=oid, budget=budget)
        written = value, oid, is_binary
        if written in self._known:
            return self._known[written]
        budget.convert(1)
        key = self._known[written] = sharder.parameter(value, binary=is_binary, oid=oid)
        return key
