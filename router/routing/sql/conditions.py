"""WHERE and ON -> what they say about the columns of a query."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from .relations import nth
from .scopes import RELATIONS_PER_STEP
from .values import bare, members_of, term_of, terms_of, uncast

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from ..limits import Budget
    from ..types import KeyTerms, KeyType
    from .graph import Variable
    from .relations import Columns
    from .scopes import Reference, Scope
    from .trees import Tree

Demanded = dict["Variable", tuple["Reference", list["KeyTerms"]]]
"""What a part of an OR demands, by variable."""


class Conditions:
    """The conditions of one query.

    Attributes:
        strict: the relations whose rows pass only if one of their columns is not NULL.
        seen: the sub-selects that have been looked at, by id.
    """

    def __init__(
        self,
        scope: Scope,
        kind: KeyType,
        budget: Budget,
        *,
        query: Callable[[Tree], Columns],
    ) -> None:
        """Prepare to read conditions.

        Args:
            scope: tells what names mean.
            kind: the type of sharding keys.
            budget: what reading them may take.
            query: looks at a sub-select.
        """
        self._scope = scope
        self._kind = kind
        self._budget = budget
        self._query = query
        self.strict: set[Columns] = set()
        self.seen: set[int] = set()

    def apply(self, condition: Tree, narrowed: Collection[Columns] | None = None) -> None:
        """Note what a condition says, where it must hold.

        Args:
            condition: what follows WHERE or ON.
            narrowed: the relations whose rows are dropped if it does not hold; None is all.
        """
        for part in self._parts(condition):
            if isinstance(part, exp.Or):
                demands = self._either([self._demands(o) for o in operands(part, exp.Or)])
                for reference, terms in demands.values():
                    self._demand(reference, terms, narrowed)
                continue
            is_null_safe = isinstance(part, exp.NullSafeEQ)
            for left, right in self._pairs(part):
                self._compare(left, right, narrowed, is_null_safe=is_null_safe)
            if isinstance(part, exp.In):
                self._among(part, narrowed)

    def spend(self, relations: int) -> None:
        """Pay for a look at so many relations.

        Raises:
            TooComplex: that is more than the budget allows.
        """
        self._budget.spend(relations // RELATIONS_PER_STEP)

    def _parts(self, condition: Tree) -> list[Tree]:
        parts = operands(condition, exp.And)
        self._budget.spend(len(parts))
        return parts

    # --- one comparison

    def _pairs(self, part: Tree) -> list[tuple[Tree, Tree]]:
        """Take a comparison for equality, also that of rows, into pairs that are equal."""
        if not isinstance(part, exp.EQ | exp.NullSafeEQ):
            return []
        left, right = bare(part.args["this"]), bare(part.args["expression"])
        lefts, rights = _row(left), _row(right)
        if lefts is None or rights is None:
            return [(left, right)]
        if isinstance(part, exp.NullSafeEQ) or len(lefts) != len(rights):
            return []
        return list(zip(lefts, rights, strict=True))

    def _compare(
        self,
        left: Tree,
        right: Tree,
        narrowed: Collection[Columns] | None,
        *,
        is_null_safe: bool,
    ) -> None:
        one, other = self._reference(left), self._reference(right)
        if one is None:
            one, other, right = other, None, left
        if one is None or isinstance(right, exp.All):
            return
        term = None
        if other is not None:
            if not is_null_safe:
                self._limit(one, other.variable, narrowed)
                self._limit(other, one.variable, narrowed)
                self._is_strict(other)
        elif isinstance(right, exp.Any):
            self._any(one, right, narrowed)
        elif isinstance(right, exp.Subquery):
            self._limit(one, nth(self._output(right), 0), narrowed)
        else:
            term = term_of(right, self._kind, is_compared=not is_null_safe)
            if term is not None:
                self._demand(one, (term,), narrowed)
        # Only a literal is sure not to be NULL, which IS NOT DISTINCT FROM takes for equal.
        if not is_null_safe or (term is not None and not term.parameters):
            self._is_strict(one)

    def _any(self, one: Reference, value: Tree, narrowed: Collection[Columns] | None) -> None:
        array = bare(value.args["this"])
        if isinstance(array, exp.Query):
            self._semi_join(one, nth(self._output(array), 0), narrowed)
        else:
            terms = members_of(array, self._kind)
            if terms:
                self._demand(one, terms, narrowed)

    def _among(self, part: exp.In, narrowed: Collection[Columns] | None) -> None:
        """Note what ``x IN (..)`` says, or ``(x, y) IN ((..), ..)``."""
        left = bare(part.args["this"])
        columns = _row(left) or [left]
        references = [self._reference(column) for column in columns]
        query = part.args.get("query")
        if query is not None:
            output = self._output(query)
            for index, reference in enumerate(references):
                if reference is not None:
                    self._semi_join(reference, nth(output, index), narrowed)
                    self._is_strict(reference)
            return
        for index, reference in enumerate(references):
            if reference is None:
                continue
            self._is_strict(reference)
            terms = self._members(part, index if _row(left) else -1)
            if terms:
                self._demand(reference, terms, narrowed)

    def _members(self, part: exp.In, index: int) -> KeyTerms:
        """Read the values of a list; of a list of rows those at one position."""
        if part.args.get("unnest") or part.args.get("field"):
            return ()
        values: Sequence[Tree] = part.expressions
        if index >= 0:
            rows = [_row(bare(value)) for value in values]
            known = [row[index] for row in rows if row is not None and len(row) > index]
            if len(known) < len(rows):
                return ()
            values = known
        return terms_of(values, self._kind, is_compared=True)

    def _output(self, query: Tree) -> Columns:
        self.seen.add(id(query))
        return self._query(query)

    # --- what follows

    def _demand(
        self, reference: Reference, terms: KeyTerms, narrowed: Collection[Columns] | None
    ) -> None:
        if self._is_narrowed(reference, narrowed):
            reference.variable.demands.append(terms)

    def _limit(
        self, one: Reference, limit: Variable | None, narrowed: Collection[Columns] | None
    ) -> None:
        if limit is not None and self._is_narrowed(one, narrowed):
            one.variable.limits.append(limit)

    def _semi_join(
        self, one: Reference, found: Variable | None, narrowed: Collection[Columns] | None
    ) -> None:
        """Note that a column is among what a sub-select returns; nothing else of it matters."""
        if found is not None:
            self._limit(one, found, narrowed)
            found.limits.append(one.variable)

    def _is_narrowed(self, reference: Reference, narrowed: Collection[Columns] | None) -> bool:
        if reference.is_outer:
            return False
        return narrowed is None or reference.relation in narrowed

    def _is_strict(self, *references: Reference) -> None:
        for reference in references:
            if reference.relation is not None:
                self.strict.add(reference.relation)

    # --- alternatives

    def _demands(self, condition: Tree) -> Demanded:
        """Collect what a part of an OR demands."""
        found: Demanded = {}
        for part in self._parts(condition):
            if isinstance(part, exp.Or):
                either = self._either([self._demands(o) for o in operands(part, exp.Or)])
                for reference, terms in either.values():
                    found.setdefault(reference.variable, (reference, []))[1].append(terms)
                continue
            for column, terms in self._demanded(part):
                owner = self._reference(column)
                if owner is not None and terms:
                    found.setdefault(owner.variable, (owner, []))[1].append(terms)
        return found

    def _demanded(self, part: Tree) -> list[tuple[Tree, KeyTerms]]:
        """List the columns that a comparison is about, with the values that it allows."""
        found: list[tuple[Tree, KeyTerms]] = []
        if isinstance(part, exp.In) and not part.args.get("query"):
            left = bare(part.args["this"])
            row = _row(left)
            for index, column in enumerate(row or [left]):
                found.append((column, self._members(part, index if row else -1)))
        is_compared = isinstance(part, exp.EQ)
        for left, right in self._pairs(part):
            for column, value in ((left, right), (right, left)):
                if isinstance(value, exp.Any):
                    found.append((column, members_of(value.args["this"], self._kind)))
                else:
                    terms = terms_of((value,), self._kind, is_compared=is_compared)
                    found.append((column, terms))
        return found

    def _either(
        self, branches: Sequence[Demanded]
    ) -> dict[Variable, tuple[Reference, KeyTerms]]:
        """Keep what all branches of an OR demand: then the value is one of theirs."""
        either: dict[Variable, tuple[Reference, KeyTerms]] = {}
        for variable, (reference, _) in branches[0].items():
            if all(variable in branch for branch in branches):
                least = (min(branch[variable][1], key=len) for branch in branches)
                either[variable] = reference, tuple(term for terms in least for term in terms)
        return either

    def _reference(self, node: Tree) -> Reference | None:
        column = uncast(node, self._kind)
        return self._scope.resolve(column) if isinstance(column, exp.Column) else None


def operands(node: Tree, kind: type[exp.Connector]) -> list[Tree]:
    """List the operands of ANDs or ORs, which can be more than the stack is deep."""
    found: list[Tree] = []
    pending = [node]
    while pending:
        part = bare(pending.pop())
        if isinstance(part, kind):
            pending += (part.args["expression"], part.args["this"])
        else:
            found.append(part)
    return found


def _row(node: Tree) -> Sequence[Tree] | None:
    """Return the parts of ``(a, b)`` or ``ROW(a, b)``."""
    if isinstance(node, exp.Tuple) or (isinstance(node, exp.Anonymous) and node.name == "row"):
        parts: Sequence[Tree] = node.expressions
        return parts
    return None
