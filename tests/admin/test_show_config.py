"""The configuration as rows."""

from __future__ import annotations

from router.admin.show_config import config_rows
from tests.config.builders import config


def test_the_keys_of_pgcat_come_first_and_in_its_order() -> None:
    keys = [row.key for row in config_rows(config())]
    assert keys[:4] == ["host", "port", "prometheus_exporter_port", "connect_timeout"]
    pool = keys.index("pools.app.pool_mode")
    assert keys[pool : pool + 3] == [
        "pools.app.pool_mode",
        "pools.app.load_balancing_mode",
        "pools.app.primary_reads_enabled",
    ]
    assert keys[-2:] == ['pools."app".shard_count', 'pools."app".users']
    assert len(set(keys)) == len(keys)


def test_values_are_told_with_their_defaults() -> None:
    rows = {row.key: row for row in config_rows(config({"general/port": 6432}))}
    assert (rows["port"].value, rows["port"].default) == ("6432", "5432")
    assert not rows["port"].changeable
    assert rows["ban_time"].changeable
    assert rows["pools.app.pool_mode"].value == "transaction"
    assert rows["pools.app.query_parser_enabled"].value == "false"
    assert rows["pools.app.query_parser_max_length"].value == "98304"
    assert rows["admin_username"].default == "-"
    assert rows['pools."app".users'].value == "ann"


def test_no_password_is_shown() -> None:
    changes: dict[str, object] = {
        "general/auth_query": "SELECT 1",
        "general/auth_query_user": "looker",
        "general/auth_query_password": "aq-secret",
    }
    text = repr(config_rows(config(changes)))
    assert "looker" in text
    assert "secret" not in text
    assert "**" not in text
