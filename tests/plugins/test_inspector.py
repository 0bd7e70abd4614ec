"""What the plugins of a pool come to."""

from __future__ import annotations

import pytest

from router.config.plugins import Plugins, QueryLoggerSection, TableAccessSection
from router.plugins.inspector import inspector_of

LOGGER = QueryLoggerSection(enabled=True)
ACCESS = TableAccessSection(enabled=True, tables=("secret",))


@pytest.mark.parametrize(
    "plugins",
    [
        Plugins(),
        Plugins(
            query_logger=QueryLoggerSection(),
            table_access=TableAccessSection(tables=("secret",)),
        ),
    ],
)
def test_without_an_enabled_plugin_nobody_looks_at_statements(plugins: Plugins) -> None:
    assert inspector_of(plugins, "app", "ann") is None


def test_the_logger_alone_refuses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    inspector = inspector_of(Plugins(query_logger=LOGGER), "app", "ann")
    assert inspector is not None
    with caplog.at_level("INFO", "router.query"):
        inspector.note(b"TABLE secret")
    assert len(caplog.records) == 1
    assert inspector.objection(b"TABLE secret", "UTF8") is None
    assert inspector.objection_to_long() is None


def test_table_access_alone_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    inspector = inspector_of(Plugins(table_access=ACCESS), "app", "ann")
    assert inspector is not None
    with caplog.at_level("INFO", "router.query"):
        inspector.note(b"TABLE secret")
    assert not caplog.records
    assert inspector.objection(b"TABLE secret", "UTF8") is not None
    assert inspector.objection_to_long() is not None
