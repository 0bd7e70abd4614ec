"""What stands in a FROM: tables, sub-selects and all else that has columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .graph import Variable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Columns(Protocol):
    """Something with columns."""

    def has(self, name: str) -> bool | None:
        """Say whether there is a column of that name; None if that is not known."""

    def column(self, name: str) -> Variable:
        """Return the variable of a column."""

    def names(self) -> Sequence[str] | None:
        """List all columns in their order, if they are known."""


class Opaque:
    """Something of which nothing is known but, perhaps, the names of its columns."""

    def __init__(self, names: Sequence[str] | None = None) -> None:
        self._names = names
        self._variables: dict[str, Variable] = {}

    def has(self, name: str) -> bool | None:
        """Say whether there is a column of that name; None if that is not known."""
        return None if self._names is None else name in self._names

    def column(self, name: str) -> Variable:
        """Return the variable of a column."""
        found = self._variables.get(name)
        if found is None:
            found = self._variables[name] = self._made(name)
        return found

    def names(self) -> Sequence[str] | None:
        """List all columns in their order, if they are known."""
        return self._names

    @property
    def variables(self) -> dict[str, Variable]:
        """The columns that were asked for."""
        return self._variables

    def _made(self, name: str) -> Variable:
        return Variable()


class BaseTable(Opaque):
    """One use of a table of the database.

    Attributes:
        key: the name of its key column, or "".
        label: the table's name, for people.
    """

    def __init__(
        self,
        label: str,
        key: str,
        names: Sequence[str] | None,
        use: Callable[[str, Variable], None],
        *,
        is_certain: bool,
    ) -> None:
        """Make a use of a table.

        Args:
            label: its name.
            key: the name of its key column, or "".
            names: of its columns, if they are known.
            use: to be told of the key.
            is_certain: whether the table has that key for sure; else only a mention of the
                column tells.
        """
        super().__init__(names)
        self.label = label
        self.key = key
        self._use = use
        self.is_certain = is_certain
        if key and is_certain:
            self.column(key)

    def has(self, name: str) -> bool | None:
        """Say whether there is a column of that name; None if that is not known."""
        if name == self.key and self.is_certain:
            return True
        return super().has(name)

    def _made(self, name: str) -> Variable:
        made = Variable()
        if name == self.key:
            self._use(self.label, made)
        return made


class Single:
    """One column of a query's output, or an expression whose name PostgreSQL makes up."""

    def __init__(self, name: str, variable: Variable | None) -> None:
        self._name = name
        self._variable = variable or Variable()

    def has(self, name: str) -> bool | None:
        """Say whether there is a column of that name; None if that is not known."""
        return name == self._name if self._name else None

    def column(self, name: str) -> Variable:
        """Return the variable of the column, unless its name is not known."""
        return self._variable if name == self._name else Variable()

    def names(self) -> Sequence[str]:
        """List the only column."""
        return (self._name,)


class Output:
    """What a query returns.

    Attributes:
        items: columns and what ``*`` stands for.
        is_opaque: whether conditions on it do not hold for the rows that it is made of, as
            with LIMIT.
    """

    def __init__(self, items: Sequence[Columns] = (), *, is_opaque: bool = False) -> None:
        self.items = items
        self.is_opaque = is_opaque

    def has(self, name: str) -> bool | None:
        """Say whether there is a column of that name; None if that is not known."""
        known = [item.has(name) for item in self.items]
        if True in known:
            return True
        return None if None in known else False

    def column(self, name: str) -> Variable:
        """Return the variable of a column: of what has it, or alone can have it."""
        items = [item for item in self.items if item.has(name)]
        if not items:
            items = [item for item in self.items if item.has(name) is None]
        return self._outside(items[0].column(name)) if len(items) == 1 else Variable()

    def names(self) -> Sequence[str] | None:
        """List all columns in their order, if they are known."""
        names: list[str] = []
        for item in self.items:
            more = item.names()
            if more is None:
                return None
            names.extend(more)
        return names

    def nth(self, index: int) -> Variable | None:
        """Return the variable of a column by its position, if it is known."""
        for item in self.items:
            if isinstance(item, Output):
                found = item.nth(index)
                if found is not None:
                    return self._outside(found)
            names = item.names()
            if names is None:
                return None
            if index < len(names):
                return self._outside(item.column(names[index]))
            index -= len(names)
        return None

    def _outside(self, inside: Variable) -> Variable:
        if not self.is_opaque:
            return inside
        outside = Variable()
        outside.limits.append(inside)
        return outside


class Renamed:
    """Something whose first columns have been given other names, as in ``t AS x (a, b)``."""

    def __init__(self, inner: Columns, names: Sequence[str]) -> None:
        self._inner = inner
        self._names = names
        self._own = Opaque(names)

    def has(self, name: str) -> bool | None:
        """Say whether there is a column of that name; None if that is not known."""
        if name in self._names:
            return True
        names = self.names()
        return None if names is None else name in names

    def column(self, name: str) -> Variable:
        """Return the variable of a column."""
        names = self.names()
        if names is not None and name in names:
            index = list(names).index(name)
        elif name in self._names:
            index = list(self._names).index(name)
        else:
            return self._own.column(name)
        found = nth(self._inner, index)
        return self._own.column(name) if found is None else found

    def names(self) -> Sequence[str] | None:
        """List all columns in their order, if they are known."""
        names = self._inner.names()
        if names is None:
            return None
        return [*self._names, *names[len(self._names) :]]


def nth(columns: Columns, index: int) -> Variable | None:
    """Return the variable of a column by its position, if it is known."""
    if isinstance(columns, Output):
        return columns.nth(index)
    names = columns.names()
    if names is None or index >= len(names):
        return None
    return columns.column(names[index])
