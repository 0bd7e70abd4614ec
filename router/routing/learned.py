"""What servers tell about functions: that they are declared to only read, or their bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .bodies import Body, calls_of
from .limits import MAX_BODIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .tokens import Call

Bodies = frozenset[Body]


class Learned:
    """The functions that are declared to only read, and those of which the bodies are known.

    Bodies are looked at when somebody calls the function, and then remembered.

    Attributes:
        bodies: by name, those of all functions of the name that are not declared to only read.
    """

    __slots__ = ("_calls", "bodies")

    def __init__(self, bodies: Mapping[str, Bodies], old: Learned | None = None) -> None:
        """Take in what is known; of what was known before the same bodies are remembered."""
        self.bodies: Final = bodies
        self._calls: Final[dict[Body, frozenset[Call] | None]] = {}
        if old is not None:
            kept = {body for each in bodies.values() for body in each}
            self._calls.update((b, calls) for b, calls in old._calls.items() if b in kept)

    @classmethod
    def of(cls, names: Iterable[str]) -> Learned:
        """Make one of functions that are all declared to only read."""
        return cls(dict.fromkeys(names, Bodies()))

    def knows(self, call: Call) -> bool:
        """Say whether it is to be found out here what a function does."""
        return call.name in self.bodies and call.schema != "pg_catalog"

    def reads(self, call: Call, told_of: Callable[[Call], bool | None]) -> bool:
        """Say whether all functions of a name only read, and so do all that they call.

        Functions that call each other are taken to read until something says otherwise. How
        much is looked at is bounded by the bodies alone, whatever is remembered of them.

        Args:
            call: of a function that is known here.
            told_of: says whether a function is harmless; None if that is to be found out here.
        """
        found = {call.name}
        pending = [call.name]
        size = 0
        while pending:
            for body in self.bodies[pending.pop()]:
                size += len(body.text)
                if size > MAX_BODIES:
                    return False
                calls = self._calls_of(body)
                if calls is None:
                    return False
                for inner in calls:
                    verdict = told_of(inner)
                    if verdict is None and self.knows(inner):
                        if inner.name not in found:
                            found.add(inner.name)
                            pending.append(inner.name)
                    elif not verdict:
                        return False
        return True

    def _calls_of(self, body: Body) -> frozenset[Call] | None:
        if body not in self._calls:
            self._calls[body] = calls_of(body)
        return self._calls[body]


NOTHING: Final = Learned({})
