"""The keys of [plugins] that need more than a type."""

from __future__ import annotations

import pytest

from . import builders


@pytest.mark.parametrize("table", ["t", "app.t", '"a b"."c""d"', "Größe", "db.app.t"])
def test_a_table_is_named_as_in_sql(table: str) -> None:
    found = builders.config({"plugins": {"table_access": {"tables": [table]}}}).plugins
    assert found is not None
    assert found.table_access is not None
    assert found.table_access.tables == (table,)


@pytest.mark.parametrize("table", ["", "a b", "a.", ".a", '"a', 'a"b"', '""'])
def test_what_names_no_table_is_a_mistake(table: str) -> None:
    [problem] = builders.problems({"plugins": {"table_access": {"tables": [table]}}})
    assert problem.startswith(
        "plugins.table_access.tables.0: must be the name of a table as SQL writes it"
    )
