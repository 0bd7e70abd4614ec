"""Unknown keys and other names of known ones."""

from __future__ import annotations

import pytest

from router.config.loader import parse

from .builders import config, toml, warnings


@pytest.mark.parametrize(
    ("path", "warning"),
    [
        (
            "general/bann_time",
            "general.bann_time: unknown key, ignored, did you mean ban_time?",
        ),
        ("general/zzz", "general.zzz: unknown key, ignored"),
        (
            "pools/app/pool_size",
            "pools.app.pool_size: unknown key, ignored, did you mean reserve_pool_size?",
        ),
        ("pools/app/name", "pools.app.name: unknown key, ignored"),
        ("pools/app/users/0/user", "pools.app.users.0.user: unknown key, ignored"),
        ("pools/app/shards/0/sever", "pools.app.shards.0.sever: unknown key, ignored"),
        (
            "plugins/query_logger/enable",
            "plugins.query_logger.enable: unknown key, ignored, did you mean enabled?",
        ),
        ("plugins/quota/on", "plugins.quota: unknown key, ignored"),
        ("odd key", '"odd key": unknown key, ignored'),
    ],
)
def test_an_unknown_key_is_a_warning_with_its_path_and_the_nearest_name(
    path: str, warning: str
) -> None:
    [told] = warnings({path: 1})
    assert told.startswith(warning)


def test_an_unknown_key_of_a_server_table_is_a_warning() -> None:
    server = {"host": "one", "port": 1, "role": "primary", "tier": 2}
    assert warnings({"pools/app/shards/0/servers": [server]}) == (
        "pools.app.shards.0.servers.0.tier: unknown key, ignored",
    )


def test_a_pool_name_with_dots_is_quoted() -> None:
    text = toml().replace('"app"', '"my.app"') + '\n["x y"]\n'
    assert parse(text, "t").warnings == ('"x y": unknown key, ignored',)
    broken = text.replace('"pool_size" = 5', '"pool_size" = 5, "x" = 1')
    assert parse(broken, "t").warnings[0].startswith('pools."my.app".users.0.x: unknown key')


@pytest.mark.parametrize(
    ("alias", "value", "field"),
    [
        ("db_activity_based_ms_init_delay", 7, "db_activity_init_delay"),
        ("no_shard_specified_behavior", "random", "default_shard"),
    ],
)
def test_a_pool_key_is_known_by_its_other_name(alias: str, value: object, field: str) -> None:
    assert getattr(config({f"pools/app/{alias}": value}).pools["app"], field) == value


def test_verify_config_is_validate_config() -> None:
    assert config({"general/verify_config": False}).general.validate_config is False


def test_of_two_names_for_one_key_the_first_wins_with_a_warning() -> None:
    changes = {"general/verify_config": False, "general/validate_config": True}
    loaded = parse(toml(changes), "test.toml")
    assert loaded.config.general.validate_config is True
    assert loaded.warnings == (
        "general.verify_config: ignored, general.validate_config is set too",
    )
