"""Files as wholes: what loads, what does not, and what is said about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from router.config.declared import declarations
from router.config.general import General
from router.config.loader import load, parse
from router.config.plugins import InterceptedQuery, Plugins
from router.config.pools import PoolConfig, Shard, User
from router.errors import ConfigError

from .builders import REMOVED, problems, toml

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
OURS = HERE.parent.parent / "pgcat.toml"
THEIRS = HERE / "sample_in_pgcat_shape.toml"


def test_our_sample_loads_without_a_warning() -> None:
    loaded = load(OURS)
    assert loaded.warnings == ()
    assert [len(pool.shards) for pool in loaded.config.pools.values()] == [3, 1]


def test_a_file_in_the_shape_of_pgcats_sample_warns_of_three_lines_beside_unused_keys() -> None:
    loaded = load(THEIRS)
    unknown, *others = (each for each in loaded.warnings if ": has no effect: " not in each)
    assert unknown == "pool: unknown key, ignored, did you mean pools?"
    lenient, harmful = sorted(others, reverse=True)
    assert lenient.startswith("pools.sharded_db.sharding_without_key: is not set: ")
    assert harmful.startswith("general.tcp_user_timeout: ends each connection whose peer")
    pool = loaded.config.pools["sharded_db"]
    assert [user.username for user in pool.users] == ["sharding_user", "other_user"]
    assert [shard.database for shard in pool.shards] == ["shard0", "shard1", "shard2"]
    assert len(pool.shards[0].mirrors) == 2
    assert pool.automatic_sharding_key == ('"data".id',)


def test_global_plugins_are_read() -> None:
    plugins = load(THEIRS).config.plugins
    assert plugins is not None
    assert plugins.intercept is not None
    assert plugins.intercept.enabled
    assert plugins.intercept.queries[0].columns == (("a", "text"), ("b", "text"))
    assert plugins.intercept.queries[0].result == (("${DATABASE}", "{public}"),)
    assert plugins.table_access is not None
    assert plugins.table_access.tables == ("pg_user", "pg_roles", "pg_database")


def test_a_pool_without_plugins_has_the_global_ones_as_a_whole() -> None:
    text = toml(
        {
            "plugins/query_logger": {"enabled": True},
            "pools/app/query_parser_enabled": True,
            "pools/app/plugins": {"table_access": {"enabled": True}},
            "pools/other": {"users": {}, "shards": {"0": {"database": "d", "servers": []}}},
            "pools/other/users/0": {"username": "u", "password": "p", "pool_size": 1},
            "pools/other/shards/0/servers": [["h", 1, "primary"]],
        }
    )
    config = parse(text, "test.toml").config
    assert config.plugins_of(config.pools["other"]) is config.plugins
    own = config.plugins_of(config.pools["app"])
    assert own.query_logger is None
    assert own.table_access is not None


def test_a_missing_file_is_a_config_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*absent\.toml: No such file"):
        load(tmp_path / "absent.toml")


def test_a_syntax_error_is_told_with_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text('[general]\nhost = "x\n')
    with pytest.raises(ConfigError, match=r"broken\.toml: not valid TOML: .*line 2, column 10"):
        load(path)


def test_a_file_that_is_not_utf8_is_told_with_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes(b'[general]\nhost = "\xe9"\n')
    with pytest.raises(ConfigError, match=r"not UTF-8 \(at line 2, column 9\)"):
        load(path)


def test_bottomless_nesting_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="nest"):
        parse("a = " + "[" * 100_000, "deep.toml")


def test_an_empty_file_names_both_tables_that_it_needs() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("", "empty.toml")
    assert caught.value.problems == (
        "general: is required: a table",
        "pools: is required: a table of tables",
    )
    assert caught.value.message == "empty.toml: 2 problems"
    assert str(caught.value).startswith("empty.toml: 2 problems\n  ")
    assert "\n" not in caught.value.line


FULL: dict[str, object] = {
    "pools/app/plugins/intercept/queries/0": {"query": "q", "schema": [], "result": []},
    "pools/app/shards/0/mirrors": [{"host": "m", "port": 1, "mirroring_target_index": 0}],
    "pools/app/shards/0/servers": [{"host": "s", "port": 1, "role": "primary"}],
}
PLACES = {
    "general": General,
    "pools/app": PoolConfig,
    "pools/app/users/0": User,
    "pools/app/shards/0": Shard,
    "pools/app/plugins/intercept/queries/0": InterceptedQuery,
}
REQUIRED = [
    (place, name)
    for place, section in PLACES.items()
    for name, declared in declarations(section).items()
    if declared.required
]


@pytest.mark.parametrize(("place", "name"), REQUIRED)
@pytest.mark.parametrize(
    "typo",
    [lambda name: name[1:], lambda name: name[:-1], lambda name: f"{name[0]}x{name[1:]}"],
)
def test_a_typing_error_in_a_required_key_is_told_before_that_the_key_is_missing(
    place: str, name: str, typo: Callable[[str], str]
) -> None:
    table: dict[str, object] = tomli.loads(toml(FULL))
    for part in place.split("/"):
        table = cast("dict[str, object]", table[part])
    value = table[name]
    path = place.replace("/", ".")
    found = problems({**FULL, f"{place}/{name}": REMOVED, f"{place}/{typo(name)}": value})
    assert found[0] == f"{path}.{typo(name)}: unknown key, ignored, did you mean {name}?"
    assert found[1].startswith(f"{path}.{name}: is required")


def test_a_typing_error_in_a_key_that_another_one_needs_is_told_first() -> None:
    found = problems(
        {
            "pools/app/query_parser_enabld": True,
            "pools/app/query_parser_read_write_splitting": True,
        }
    )
    assert [line.split(": ")[1] for line in found] == [
        "unknown key, ignored, did you mean query_parser_enabled?",
        "is only valid when query_parser_enabled is true",
    ]


def test_all_mistakes_are_told_at_once_those_across_keys_too() -> None:
    found = problems(
        {
            "general/port": "x",
            "pools/app/pool_mode": "fast",
            "pools/app/users/1": {"username": "ann", "password": "p", "pool_size": 1},
            "pools/app/users/1/min_pool_size": 2,
            "pools/app/users/2": {"username": "bob", "password": "p", "pool_size": "many"},
            "pools/app/default_shard": "shard_7",
        }
    )
    assert found == [
        'general.port: must be an integer from 1 to 65535, got "x"',
        'pools.app.pool_mode: must be "session", "transaction" or "statement", got "fast"',
        'pools.app.users.2.pool_size: must be an integer from 1 to 4294967295, got "many"',
        'pools.app.users.1.username: must differ from that of 0, "ann"',
        "pools.app.users.1.min_pool_size: must be at most pool_size, 1, got 2",
        'pools.app.default_shard: must name a shard from 0 to 0, got "shard_7"',
    ]


def test_a_rule_is_silent_when_a_value_that_it_needs_is_wrong() -> None:
    changes = {
        "pools/app/query_parser_enabled": "yes",
        "pools/app/query_parser_read_write_splitting": True,
        "pools/app/users/0/pool_size": "ten",
        "pools/app/users/0/min_pool_size": 100,
        "pools/app/shards/0/servers": [["one", "x", "primary"]],
    }
    assert [problem.partition(":")[0] for problem in problems(changes)] == [
        "pools.app.query_parser_enabled",
        "pools.app.users.0.pool_size",
        "pools.app.shards.0.servers.0.port",
    ]


def test_a_mistake_under_an_alias_is_told_under_that_alias() -> None:
    assert problems({"general/verify_config": 1}) == [
        "general.verify_config: must be true or false, got 1"
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"general/admin_password": ["hunter2"]},
        {"general/auth_query_password": {"is": "hunter2"}},
        {"pools/app/users/0": "hunter2"},
        {"pools/app/users": {"ann": "hunter2"}},
        {"pools/app/users": ["ann", "hunter2"]},
        {"pools/app/users": [{"username": "ann", "password": "hunter2"}]},
        {"pools/app": "hunter2"},
        {"pools": "hunter2"},
        {"general": "hunter2"},
        {"pools/app/users/0": {"password": "hunter2", "server_password": 5}},
        {"pools/app/shards/0/servers": ["postgres://ann:hunter2@one"]},
        {"pools/app/pasword": "hunter2", "general/port": 0},
    ],
)
def test_a_password_is_in_no_error(changes: dict[str, object]) -> None:
    found = "\n".join(problems(changes))
    assert found
    assert "hunter2" not in found
    assert "ann-secret" not in found


def test_a_password_of_the_wrong_type_is_told_without_it() -> None:
    assert problems({"pools/app/users/0/password": 12345}) == [
        "pools.app.users.0.password: must be a string, got an integer"
    ]


def test_a_long_value_is_cut_short_in_an_error() -> None:
    [problem] = problems({"pools/app/pool_mode": "x" * 1000})
    assert problem.endswith("xxx...")
    assert len(problem) < 200


def test_a_missing_required_key_leaves_the_rest_to_be_judged() -> None:
    found = problems({"general/admin_password": REMOVED, "pools/app/default_shard": "shard_1"})
    assert found == [
        "general.admin_password: is required: a string",
        'pools.app.default_shard: must name a shard from 0 to 0, got "shard_1"',
    ]


def test_a_number_of_too_many_digits_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="not valid TOML"):
        parse("a = " + "9" * 10_000, "long.toml")


def test_a_number_beyond_64_bits_is_a_mistake() -> None:
    [problem] = problems({"general/connect_timeout": 10**400})
    assert problem.startswith(
        "general.connect_timeout: must be an integer of 1 or more, got 1000"
    )


def test_a_date_is_shown_as_it_is_written() -> None:
    text = toml().replace('"pool_size" = 5', '"pool_size" = 2026-11-30')
    with pytest.raises(ConfigError) as caught:
        parse(text, "test.toml")
    [problem] = caught.value.problems
    assert problem.endswith("must be an integer from 1 to 4294967295, got 2026-11-30")


@pytest.mark.parametrize("host", ["", ".a", "a" * 64, "a..b"])
def test_a_host_is_a_name_that_can_be_looked_up(host: str) -> None:
    [problem] = problems({"pools/app/shards/0/servers": [[host, 5432, "primary"]]})
    assert "must be the name or the address of a host" in problem
    parse(toml({"pools/app/shards/0/servers": [["/" + host, 5432, "primary"]]}), "test.toml")


def test_control_characters_in_a_key_are_escaped() -> None:
    [warning] = parse(toml() + '\n"a\\nb" = 1\n', "test.toml").warnings
    assert warning == '"a\\nb": unknown key, ignored'


VALUES = st.recursive(
    st.booleans()
    | st.integers(-2, 70_000)
    | st.sampled_from(["", "x", "0", "shard_3", "*.id", "(", "primary", "a\0b"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["0", "1", "x", "enabled", "queries"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
PATHS = st.sampled_from(
    [
        *(f"general/{name}" for name in declarations(General)),
        *(f"pools/app/{name}" for name in declarations(PoolConfig)),
        *(f"pools/app/users/{key}/{name}" for name in declarations(User) for key in "01"),
        *(f"pools/app/shards/{key}/{name}" for name in declarations(Shard) for key in "01"),
        *(f"plugins/{name}" for name in declarations(Plugins)),
        "general",
        "pools",
        "pools/app/users/0",
        "pools/app/shards/x",
        "plugins/intercept/queries/0/result",
    ]
)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.dictionaries(PATHS, VALUES | st.just(REMOVED), max_size=6))
def test_whatever_a_file_holds_it_loads_or_has_problems_with_paths(
    changes: dict[str, object],
) -> None:
    innermost_first = sorted(changes, key=lambda path: -path.count("/"))
    text = toml({path: changes[path] for path in innermost_first})
    told: tuple[str, ...] = ("general",)
    try:
        parse(text, "test.toml")
    except ConfigError as error:
        told = error.problems
    assert told
    assert all(problem.startswith(("general", "pools", "plugins")) for problem in told)
    assert len(set(told)) == len(told)
