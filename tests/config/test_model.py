"""Types, defaults and spellings of single keys."""

from __future__ import annotations

import pydantic
import pytest

from router.config.pools import Mirror, Server
from router.config.values import (
    AuthType,
    ConfiguredRole,
    LoadBalancingMode,
    PoolMode,
    ShardingFunction,
)
from router.routing.types import KeyType, Role

from .builders import REMOVED, config, problems

USER = "pools/app/users/0"
SHARD = "pools/app/shards/0"


def test_general_has_the_defaults_of_pgcat() -> None:
    general = config().general
    assert (general.host, general.port) == ("0.0.0.0", 5432)
    assert general.enable_prometheus_exporter is False
    assert general.prometheus_exporter_port == 9930
    assert general.connect_timeout == 1000
    assert general.idle_timeout == 600_000
    assert general.server_lifetime == 3_600_000
    assert general.server_round_robin is True
    assert general.tcp_user_timeout == 0
    assert general.shutdown_timeout == 60_000
    assert (general.healthcheck_timeout, general.healthcheck_delay) == (1000, 30_000)
    assert general.ban_time == 60
    assert general.autoreload is None
    assert general.admin_auth_type is AuthType.MD5
    assert general.validate_config is True


def test_general_has_defaults_of_our_own() -> None:
    general = config().general
    assert general.client_login_timeout == 60_000
    assert general.server_login_timeout == 15_000
    assert general.listen_backlog == 4096
    assert general.server_tls_ca_file is None
    assert general.prepared_statements_cache_size == 500


def test_a_pool_has_the_defaults_of_pgcat() -> None:
    pool = config().pools["app"]
    assert pool.name == "app"
    assert pool.pool_mode is PoolMode.TRANSACTION
    assert pool.load_balancing_mode is LoadBalancingMode.RANDOM
    assert pool.default_role is None
    assert not pool.query_parser_enabled
    assert not pool.query_parser_read_write_splitting
    assert not pool.primary_reads_enabled
    assert pool.cleanup_server_connections
    assert pool.sharding_function is ShardingFunction.PG_BIGINT_HASH
    assert pool.default_shard == "shard_0"
    assert pool.regex_search_limit == 1000
    assert (pool.db_activity_init_delay, pool.db_activity_ttl) == (100, 900)
    assert pool.table_mutation_cache_ms_ttl == 50
    assert pool.checkout_failure_limit is None


def test_a_user_has_the_defaults_of_pgcat() -> None:
    [user] = config().pools["app"].users
    assert user.auth_type is AuthType.MD5
    assert user.min_pool_size == 0
    assert user.statement_timeout == 0
    assert user.pool_mode is None


@pytest.mark.parametrize(
    ("key", "spelling", "meant"),
    [
        ("pool_mode", "transaction", PoolMode.TRANSACTION),
        ("pool_mode", "Transaction", PoolMode.TRANSACTION),
        ("pool_mode", "Session", PoolMode.SESSION),
        ("pool_mode", "statement", PoolMode.STATEMENT),
        ("load_balancing_mode", "Random", LoadBalancingMode.RANDOM),
        ("load_balancing_mode", "loc", LoadBalancingMode.LEAST_OUTSTANDING_CONNECTIONS),
        ("load_balancing_mode", "LOC", LoadBalancingMode.LEAST_OUTSTANDING_CONNECTIONS),
        (
            "load_balancing_mode",
            "LeastOutstandingConnections",
            LoadBalancingMode.LEAST_OUTSTANDING_CONNECTIONS,
        ),
        ("sharding_function", "PgBigintHash", ShardingFunction.PG_BIGINT_HASH),
        ("sharding_function", "Sha1", ShardingFunction.SHA1),
        ("sharding_key_type", "BigInt", KeyType.BIGINT),
        ("default_role", "replica", Role.REPLICA),
        ("default_role", "Primary", Role.PRIMARY),
        ("default_role", "Any", None),
        ("users/0/auth_type", "MD5", AuthType.MD5),
        ("users/0/auth_type", "Trust", AuthType.TRUST),
        ("users/0/auth_type", "scram-sha-256", AuthType.SCRAM_SHA_256),
        ("users/0/auth_type", "scram_sha_256", AuthType.SCRAM_SHA_256),
        ("users/0/auth_type", "ScramSha256", AuthType.SCRAM_SHA_256),
    ],
)
def test_words_are_known_in_all_their_spellings(key: str, spelling: str, meant: object) -> None:
    pool = config({f"pools/app/{key}": spelling}).pools["app"]
    holder = pool.users[0] if key.startswith("users") else pool
    assert getattr(holder, key.rpartition("/")[2]) is meant


def test_the_admin_may_use_scram() -> None:
    general = config({"general/admin_auth_type": "scram-sha-256"}).general
    assert general.admin_auth_type is AuthType.SCRAM_SHA_256


def test_a_server_is_an_array_or_a_table() -> None:
    table = {"host": "two", "port": 5433, "role": "Replica"}
    [shard] = (
        config({f"{SHARD}/servers": [["one", 5432, "primary"], table]}).pools["app"].shards
    )
    assert shard.servers == (
        Server(host="one", port=5432, role=ConfiguredRole.PRIMARY),
        Server(host="two", port=5433, role=ConfiguredRole.REPLICA),
    )


def test_a_server_may_have_a_weight_in_either_form() -> None:
    table = {"host": "two", "port": 5433, "role": "replica", "weight": 0}
    [shard] = (
        config({f"{SHARD}/servers": [["one", 5432, "primary", 3], table]}).pools["app"].shards
    )
    assert [server.weight for server in shard.servers] == [3, 0]


def test_a_mirror_is_an_array_of_host_port_and_target() -> None:
    [shard] = config({f"{SHARD}/mirrors": [["m", 1, 0]]}).pools["app"].shards
    assert shard.mirrors == (Mirror(host="m", port=1, mirroring_target_index=0),)


def test_users_come_in_the_string_order_of_their_keys() -> None:
    users = {
        key: {"username": f"u{key}", "password": "p", "pool_size": 1}
        for key in ("10", "9", "a", "2")
    }
    pool = config({"pools/app/users": users}).pools["app"]
    assert [user.username for user in pool.users] == ["u10", "u2", "u9", "ua"]


def test_shards_come_in_the_numeric_order_of_their_keys() -> None:
    shards = {
        str(number): {"database": f"d{number}", "servers": [["h", 1, "primary"]]}
        for number in (10, 2, 0, 1, 3, 4, 5, 6, 7, 9, 8)
    }
    pool = config({"pools/app/shards": shards}).pools["app"]
    assert [shard.database for shard in pool.shards] == [f"d{n}" for n in range(11)]


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        ("data.id", ("data.id",)),
        ('"Data"."a.b"', ('"Data"."a.b"',)),
        ("*.tenant_id", ("*.tenant_id",)),
        (["users.id", "shop.orders.user_id"], ("users.id", "shop.orders.user_id")),
    ],
)
def test_a_sharding_key_is_one_column_or_several(value: object, keys: tuple[str, ...]) -> None:
    pool = config({"pools/app/automatic_sharding_key": value}).pools["app"]
    assert pool.automatic_sharding_key == keys


def test_omnisharded_tables_and_the_policy_are_read() -> None:
    pool = config(
        {
            "pools/app/omnisharded_tables": ["countries", 'public."Currencies"'],
            "pools/app/sharding_key_policy": "Sticky",
        }
    ).pools["app"]
    assert pool.omnisharded_tables == ("countries", 'public."Currencies"')
    assert pool.sharding_key_policy == "sticky"
    assert config({}).pools["app"].sharding_key_policy == "strict"


@pytest.mark.parametrize("value", ["random", "random_healthy", "shard_0"])
def test_default_shard_is_a_shard_or_a_policy(value: str) -> None:
    assert config({"pools/app/default_shard": value}).pools["app"].default_shard == value


def test_the_metrics_port_may_be_any_port() -> None:
    general = config({"general/prometheus_exporter_port": 65535}).general
    assert general.prometheus_exporter_port == 65535


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (
            f"{USER}/pool_size",
            "ten",
            'pools.app.users.0.pool_size: must be an integer from 1 to 4294967295, got "ten"',
        ),
        (
            f"{USER}/pool_size",
            0,
            "pools.app.users.0.pool_size: must be an integer from 1 to 4294967295, got 0",
        ),
        (
            f"{USER}/pool_size",
            2**32,
            "pools.app.users.0.pool_size: "
            "must be an integer from 1 to 4294967295, got 4294967296",
        ),
        (
            f"{USER}/pool_size",
            5.0,
            "pools.app.users.0.pool_size: must be an integer from 1 to 4294967295, got 5.0",
        ),
        (
            f"{USER}/pool_size",
            True,
            "pools.app.users.0.pool_size: must be an integer from 1 to 4294967295, got true",
        ),
        (
            f"{USER}/pool_size",
            REMOVED,
            "pools.app.users.0.pool_size: is required: an integer from 1 to 4294967295",
        ),
        (
            f"{USER}/username",
            "",
            'pools.app.users.0.username: must be a string that is not empty, got ""',
        ),
        (
            f"{USER}/username",
            "a\0b",
            'pools.app.users.0.username: must be a string that is not empty, got "a\\u0000b"',
        ),
        ("general/port", 65536, "general.port: must be an integer from 1 to 65535, got 65536"),
        (
            "general/connect_timeout",
            "1s",
            'general.connect_timeout: must be an integer of 1 or more, got "1s"',
        ),
        ("general/server_tls", "yes", 'general.server_tls: must be true or false, got "yes"'),
        ("general/server_tls", 1, "general.server_tls: must be true or false, got 1"),
        (
            "general/admin_auth_type",
            "plain",
            'general.admin_auth_type: must be "trust", "md5" or "scram-sha-256", got "plain"',
        ),
        (
            "pools/app/default_role",
            "auto",
            'pools.app.default_role: must be "any", "primary" or "replica", got "auto"',
        ),
        (
            "pools/app/default_shard",
            "shard_x",
            'pools.app.default_shard: must be "shard_N" with a shard\'s number, "random" or '
            '"random_healthy", got "shard_x"',
        ),
        (
            "pools/app/automatic_sharding_key",
            "id",
            'pools.app.automatic_sharding_key: must be "table.column", '
            '"schema.table.column" or "*.column", or an array of such strings, got "id"',
        ),
        (
            "pools/app/automatic_sharding_key",
            ["a.b", "a.b.c.d"],
            'pools.app.automatic_sharding_key: must be "table.column", '
            '"schema.table.column" or "*.column", or an array of such strings, '
            "got an array",
        ),
        (
            "pools/app/omnisharded_tables",
            ["a.b.c"],
            "pools.app.omnisharded_tables: "
            'must be an array of "table" or "schema.table", got an array',
        ),
        (
            "pools/app/shard_id_regex",
            "(",
            "pools.app.shard_id_regex: must be a regular expression of RE2 (missing ): (), "
            "which has no look-around, no back-references, and no possessive or atomic parts; "
            'see By comment in docs/sharding.md, got "("',
        ),
        (
            "pools/app/shard_id_regex",
            ["(1)"],
            "pools.app.shard_id_regex: must be a regular expression, got an array",
        ),
        (
            "pools/app/read_functions",
            ["f", 1],
            "pools.app.read_functions.1: must be a string, got 1",
        ),
        (
            f"{SHARD}/servers",
            [["one", "5432", "primary"]],
            'pools.app.shards.0.servers.0.port: must be an integer from 1 to 65535, got "5432"',
        ),
        (
            f"{SHARD}/servers",
            [["one", 5432, "master"]],
            "pools.app.shards.0.servers.0.role: "
            'must be "primary", "replica" or "auto", got "master"',
        ),
        (
            f"{SHARD}/servers",
            [["one", 5432]],
            "pools.app.shards.0.servers.0: must be [host, port, role], got an array",
        ),
        (
            f"{SHARD}/servers",
            ["one:5432"],
            "pools.app.shards.0.servers.0: must be [host, port, role], got a string",
        ),
        (
            f"{SHARD}/servers",
            "one",
            "pools.app.shards.0.servers: must be an array of [host, port, role], got a string",
        ),
        (
            f"{SHARD}/mirrors",
            [["m", 1, -1]],
            "pools.app.shards.0.mirrors.0.mirroring_target_index: "
            "must be an integer of 0 or more, got -1",
        ),
        (
            "pools/app/plugins",
            {
                "intercept": {
                    "queries": {"0": {"query": "q", "schema": [], "result": [["x", 1]]}}
                }
            },
            "pools.app.plugins.intercept.queries.0.result.0.1: must be a string, got 1",
        ),
        ("pools", REMOVED, "pools: is required: a table of tables"),
        ("general", REMOVED, "general: is required: a table"),
        ("pools/app/users", [], "pools.app.users: must be a table of tables, got an array"),
        ("pools/", {}, 'pools."": must have a name that is not empty'),
    ],
)
def test_a_wrong_value_is_told_with_its_path_and_what_is_allowed(
    path: str, value: object, problem: str
) -> None:
    assert problem in problems({path: value})


def test_values_are_frozen_and_pools_hashable() -> None:
    loaded = config()
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        loaded.general.port = 1
    assert hash(loaded.pools["app"]) == hash(config().pools["app"])


def test_passwords_are_in_no_repr() -> None:
    text = repr(config({f"{USER}/server_password": "server-secret"}))
    assert "secret" not in text.replace("SecretStr", "")
