"""What is known about the values of columns, and what follows from it for sharding keys.

A variable stands for one column of one use of a table: for its values in those rows that can
matter for what a statement returns or does. *Demands* say that they are among some literals
and parameters, *limits* that they are among the values of another variable. Both only narrow
down, so that leaving one out is never wrong: a key is then not found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ..limits import Budget
    from ..types import KeyConditions, KeyTerms

# To go from one variable to the next is cheap beside what else is a step.
_VARIABLES_PER_STEP: Final = 8


class Variable:
    """The values of a column.

    Attributes:
        demands: alternatives that hold together.
        limits: variables whose values these are among.
    """

    __slots__ = ("demands", "limits")

    def __init__(self) -> None:
        self.demands: list[KeyTerms] = []
        self.limits: list[Variable] = []

    def equals(self, other: Variable) -> None:
        """Note that both have the same values."""
        self.limits.append(other)
        other.limits.append(self)

    def reaches(self, other: Variable) -> bool:
        """Say whether its values are known to be among those of another."""
        return other in _reachable(self)

    def conditions(self, budget: Budget) -> KeyConditions:
        """Collect what holds for it, by itself and by its limits.

        Raises:
            TooComplex: that is more than the budget allows.
        """
        if not self.limits:
            return tuple(self.demands)
        variables = _reachable(self)
        budget.spend(len(variables) // _VARIABLES_PER_STEP)
        found = (terms for variable in variables for terms in variable.demands)
        return tuple(dict.fromkeys(found))


def _reachable(variable: Variable) -> dict[Variable, None]:
    found = {variable: None}
    pending = [variable]
    while pending:
        for limit in pending.pop().limits:
            if limit not in found:
                found[limit] = None
                pending.append(limit)
    return found


@dataclass(frozen=True, slots=True)
class KeyUse:
    """One use of a table that has a sharding key.

    Attributes:
        table: the table's name, for people.
        key: the values of its key.
    """

    table: str
    key: Variable
