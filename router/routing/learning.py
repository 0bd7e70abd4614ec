"""What a router learns from its servers: the columns of tables, and what functions do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .learned import Learned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .classify import ClassifierOptions
    from .columns import ShardedTables
    from .derived import Relation
    from .learned import Bodies


class Learner:
    """The part of a `QueryRouter` that changes while it is in use.

    Attributes:
        classifier: how statements are analysed now.
        epoch: how often it has changed.
    """

    __slots__ = ("classifier", "epoch")

    def __init__(self, classifier: ClassifierOptions) -> None:
        self.classifier = classifier
        self.epoch = 0

    def forget(self) -> None:
        """Forget all analyses."""
        raise NotImplementedError

    @property
    def sharded(self) -> ShardedTables | None:
        """What is known about the tables as far as sharding goes, if anything is asked."""
        return self.classifier.sharded

    @property
    def known_columns(self) -> int:
        """Of how many tables the columns have been learned."""
        columns = None if self.sharded is None else self.sharded.columns
        return 0 if columns is None else sum("." in name for name in columns)

    @property
    def known_functions(self) -> int:
        """Of how many functions it is known what they do: declared, or by their bodies."""
        return len(self.classifier.rules.learned.bodies)

    def learn_columns(self, columns: Mapping[str, tuple[str, ...]]) -> None:
        """Take in the names of columns in their order, by table, and forget all analyses.

        Args:
            columns: of all tables of interest, under their names without schema (where that
                tells which table it is) and with it, "schema.table"; what was learned before
                is replaced.
        """
        sharded = self.sharded
        if sharded is None or sharded.columns == columns:
            return
        self._reclassify(replace(self.classifier, sharded=sharded.with_columns(columns)))

    def learn_relations(self, relations: frozenset[Relation]) -> None:
        """Take in what is made of sharded tables, and forget all analyses.

        What was learned before is replaced.
        """
        sharded = self.sharded
        if sharded is None:
            return
        learned = sharded.with_relations(relations)
        if (learned.plain, set(learned.all_relations)) != (
            sharded.plain,
            set(sharded.all_relations),
        ):
            self._reclassify(replace(self.classifier, sharded=learned))

    def learn_functions(self, bodies: Mapping[str, Bodies]) -> None:
        """Take in functions by name, and forget all analyses.

        What was learned before is replaced; read_functions and write_functions go before it.

        Args:
            bodies: of the functions of each name that are not declared to only read.
        """
        rules = self.classifier.rules
        if rules.learned.bodies != bodies:
            learned = Learned(bodies, rules.learned)
            self._reclassify(replace(self.classifier, rules=replace(rules, learned=learned)))

    def _reclassify(self, options: ClassifierOptions) -> None:
        self.classifier = options
        self.epoch += 1
        self.forget()
