"""Rules that take several keys to judge."""

from __future__ import annotations

import pytest

from router.config.loader import parse

from .builders import REMOVED, config, problems, toml, warnings

APP = "pools/app"
USER = f"{APP}/users/0"
SHARD = f"{APP}/shards/0"


def shard(*servers: tuple[str, int, str]) -> dict[str, object]:
    """A shard's table."""
    return {"database": "d", "servers": [list(server) for server in servers]}


PRIMARY = ("one", 5432, "primary")


def test_reads_cannot_be_split_without_the_parser() -> None:
    assert problems({f"{APP}/query_parser_read_write_splitting": True}) == [
        "pools.app.query_parser_read_write_splitting: "
        "is only valid when query_parser_enabled is true"
    ]


def test_a_user_timeout_is_a_warning() -> None:
    assert warnings({"general/tcp_user_timeout": 12_500}) == (
        "general.tcp_user_timeout: ends each connection whose peer is too busy to read "
        "for 12.5 s; dead peers are found without it",
    )
    assert warnings({"general/tcp_user_timeout": 0}) == ()


def test_peers_have_ids() -> None:
    peer = {"host": "/run/two"}
    for name in ("0", "01", "16384", "two", "-1", "\u0662"):
        [problem] = problems({f"peers/{name}": peer, "general/peer_id": 1})
        assert "must be called by an id from 1 to 16383" in problem
    assert config({"peers/16383": peer, "peers/1": peer, "general/peer_id": 1}).peers
    assert warnings({"peers/2": peer}) == ("peers.2: has no effect unless peer_id is set",)
    [problem] = problems({"general/peer_id": 16384})
    assert problem == "general.peer_id: must be an integer from 0 to 16383, got 16384"


@pytest.mark.parametrize("known", [{}, {"general/peer_id": 2}, {"peers/2": {"host": "a"}}])
def test_a_port_is_shared_by_peers_that_know_each_other(known: dict[str, object]) -> None:
    told = warnings({"general/so_reuseport": True, **known})
    assert any(line.startswith("general.so_reuseport: cancel requests") for line in told)
    own = {"general/so_reuseport": True, "general/peer_id": 2}
    assert len(warnings({**own, "peers/2": {"host": "a"}})) == 1
    assert config({**own, "peers/3": {"host": "a"}}).general.so_reuseport


def test_plugins_do_not_need_the_parser() -> None:
    assert config({"plugins/query_logger/enabled": True}).plugins is not None
    assert config({f"{APP}/plugins/query_logger/enabled": True}).plugins is None


def test_an_answer_has_as_many_values_as_columns() -> None:
    answer = {"query": "select 1", "schema": [["a", "text"]], "result": [["1"], ["1", "2"]]}
    assert problems({"plugins/intercept/queries/q": answer}) == [
        "plugins.intercept.queries.q.result.1: "
        "must have as many values as schema has columns, 1, got 2"
    ]


def test_a_pool_named_like_the_admin_database_is_a_warning() -> None:
    pool = {"users": {}, "shards": {"0": shard(PRIMARY)}}
    pool["users"] = {"0": {"username": "u", "password": "p", "pool_size": 1}}
    assert warnings({"pools/pgbouncer": pool}) == (
        "pools.pgbouncer: cannot be reached: it is a name of the admin database",
    )


@pytest.mark.parametrize("key", ["shard_id_regex", "sharding_key_regex"])
def test_a_regex_without_a_group_is_a_mistake(key: str) -> None:
    assert problems({f"{APP}/{key}": "shard"}) == [
        f"pools.app.{key}: must have a group: the number or key is what its group 1 matches, "
        'got "shard"'
    ]


@pytest.mark.parametrize("key", ["shard_id_regex", "sharding_key_regex"])
@pytest.mark.parametrize("pattern", ["(?=a)(b)", "(?<!a)(b)", r"(a)\1", "(?>(a+))", "(a++)"])
def test_a_regex_that_linear_time_does_not_allow_is_a_mistake(key: str, pattern: str) -> None:
    [mistake] = problems({f"{APP}/{key}": pattern})
    assert mistake.startswith(f"pools.app.{key}: must be a regular expression of RE2 (")
    assert "no look-around, no back-references" in mistake
    assert "docs/sharding.md" in mistake


def test_a_regex_that_is_too_large_is_a_mistake() -> None:
    [mistake] = problems({f"{APP}/shard_id_regex": r"(\pL{1,300}x\pL{1,300})"})
    assert "pattern too large" in mistake


def test_a_regex_that_backtracking_would_make_explode_is_fine() -> None:
    config({f"{APP}/shard_id_regex": r"(\d+\s*)+;"})


def test_a_regex_that_takes_long_in_a_long_text_is_a_warning() -> None:
    slow = {f"{APP}/shard_id_regex": r"((\w{1,30}){30}z)"}
    assert warnings({**slow, f"{APP}/regex_search_limit": 100}) == ()
    [warning] = warnings({**slow, f"{APP}/regex_search_limit": 2**40})
    assert warning.startswith("pools.app.shard_id_regex: can take ")
    assert "regex_search_limit" in warning
    # Longer texts are not held, and the usual expressions are quick in all of one.
    usual = {f"{APP}/shard_id_regex": r"/\* shard_id: (\d+) \*/"}
    assert warnings({**usual, f"{APP}/regex_search_limit": 2**40}) == ()


@pytest.mark.parametrize("part", [r"\w", r"\W", r"\b", r"\B"])
def test_keys_of_text_are_not_looked_for_by_letters_of_ascii(part: str) -> None:
    regex = {f"{APP}/sharding_key_regex": f"key: (a{part}+)"}
    text = {f"{APP}/sharding_function": "pg_text_hash"}
    [mistake] = problems({**regex, **text})
    assert mistake.startswith(r"pools.app.sharding_key_regex: must not have \w, \W, \b or \B")
    config(regex)
    config({**text, f"{APP}/sharding_key_regex": "key: ([\\pL\\pM\\pN_]+)\\\\w"})
    config({**text, f"{APP}/shard_id_regex": f"shard: (a{part}+)"})


@pytest.mark.parametrize(
    "key", ["db_activity_init_delay", "db_activity_ttl", "table_mutation_cache_ms_ttl"]
)
def test_activity_routing_needs_times_above_zero(key: str) -> None:
    assert problems({f"{APP}/db_activity_based_routing": True, f"{APP}/{key}": 0}) == [
        f"pools.app.{key}: must be greater than 0 with db_activity_based_routing, got 0"
    ]
    config({f"{APP}/{key}": 0})


def test_activity_routing_without_splitting_is_a_warning() -> None:
    assert warnings({f"{APP}/db_activity_based_routing": True}) == (
        "pools.app.db_activity_based_routing: "
        "has no effect unless query_parser_read_write_splitting is true",
    )


# --- auth_query and passwords


def test_auth_query_needs_a_user_and_a_password() -> None:
    assert problems({"general/auth_query": "select"}) == [
        "general.auth_query_user: is required with auth_query",
        "general.auth_query_password: is required with auth_query",
    ]


def test_a_pools_auth_query_needs_a_user_and_a_password() -> None:
    assert problems({f"{APP}/auth_query": "select"}) == [
        "pools.app.auth_query_user: is required because of auth_query",
        "pools.app.auth_query_password: is required because of auth_query",
    ]


def test_a_pool_inherits_auth_query_key_by_key() -> None:
    changes = {
        "general/auth_query_user": "u",
        "general/auth_query_password": "p",
        f"{APP}/auth_query": "select",
        f"{USER}/password": REMOVED,
    }
    config(changes)


def test_credentials_for_an_auth_query_that_is_not_there_are_a_mistake() -> None:
    changes = {"general/auth_query_user": "u", "general/auth_query_password": "p"}
    assert problems(changes) == [
        "pools.app.auth_query: is required because of "
        "auth_query_user and auth_query_password in [general]"
    ]


def test_a_user_needs_a_password() -> None:
    assert problems({f"{USER}/password": REMOVED}) == [
        "pools.app.users.0.password: "
        'is required unless auth_query is set or auth_type is "trust"'
    ]


def test_a_trusted_user_needs_no_password() -> None:
    config({f"{USER}/password": REMOVED, f"{USER}/auth_type": "trust"})


# --- users


def test_two_users_of_a_pool_differ_in_name() -> None:
    twin = {"username": "ann", "password": "x", "pool_size": 1}
    assert problems({f"{APP}/users/b": twin}) == [
        'pools.app.users.b.username: must differ from that of 0, "ann"'
    ]


def test_min_pool_size_is_at_most_pool_size() -> None:
    assert problems({f"{USER}/min_pool_size": 6}) == [
        "pools.app.users.0.min_pool_size: must be at most pool_size, 5, got 6"
    ]
    config({f"{USER}/min_pool_size": 5})


def test_a_pool_without_users_is_a_warning() -> None:
    assert warnings({f"{APP}/users": {}}) == (
        "pools.app.users: has no users, so nobody can use the pool",
    )


# --- shards


def test_shards_are_numbered_without_gaps() -> None:
    assert problems({f"{APP}/shards/2": shard(PRIMARY), f"{APP}/shards/4": shard(PRIMARY)}) == [
        "pools.app.shards: must be numbered from 0 without gaps, 1 is missing"
    ]


def test_the_first_shard_is_shard_0() -> None:
    assert problems({f"{APP}/shards": {"1": shard(PRIMARY)}}) == [
        "pools.app.shards: must be numbered from 0 without gaps, 0 is missing"
    ]


def test_a_huge_shard_number_is_a_gap_too_and_costs_nothing() -> None:
    [problem] = problems({f"{APP}/shards": {"9" * 30: shard(PRIMARY)}})
    assert problem == "pools.app.shards: must be numbered from 0 without gaps, 0 is missing"


@pytest.mark.parametrize("name", ["x", "-1", "01", "1.0", "٣", " 1"])
def test_shards_have_numbers_for_names(name: str) -> None:
    [problem] = problems({f"{APP}/shards/{name}": shard(PRIMARY)})
    assert problem.endswith(": must be a number: shards are numbered 0, 1, 2 ...")


def test_a_pool_has_a_shard() -> None:
    assert "pools.app.shards: must have at least one shard, 0" in problems(
        {f"{APP}/shards": {}}
    )


def test_a_shard_has_a_server() -> None:
    assert problems({f"{SHARD}/servers": []}) == [
        "pools.app.shards.0.servers: must have at least one server"
    ]


def test_a_shard_has_at_most_one_primary() -> None:
    assert problems({SHARD: shard(PRIMARY, ("two", 5432, "primary"))}) == [
        "pools.app.shards.0.servers: must have at most one primary, got 2"
    ]
    config({SHARD: shard(("one", 5432, "replica"))})


def test_a_server_is_listed_once() -> None:
    replica = ("one", 5433, "replica")
    assert problems({SHARD: shard(PRIMARY, replica, replica)}) == [
        "pools.app.shards.0.servers.2: must differ from server 1"
    ]


def test_a_server_may_be_both_primary_and_replica() -> None:
    config({SHARD: shard(PRIMARY, ("one", 5432, "replica"))})


@pytest.mark.parametrize("word", ["mirror", "Mirror"])
def test_a_mirror_is_not_listed_among_the_servers(word: str) -> None:
    assert problems({SHARD: shard(PRIMARY, ("two", 5432, word))}) == [
        "pools.app.shards.0.servers.1.role: "
        f'must be "primary", "replica" or "auto"; mirrors have their own key, got "{word}"'
    ]


@pytest.mark.parametrize("url", ["http://db1:8008", "https://db1", "http://[::1]:8008/api/"])
def test_patroni_takes_urls_where_all_servers_are_auto(url: str) -> None:
    entry = {"patroni": [url], "database": "app0"}
    auto = {"servers": [["one", 5432, "auto"]]}
    assert config({SHARD: {**entry, **auto}}).pools["app"].shards[0].patroni == (url,)
    assert problems({SHARD: {**entry, "servers": [["one", 5432, "primary"]]}}) == [
        'pools.app.shards.0.servers: must have the role "auto", since `patroni` is set'
    ]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "db1:8008",
        "ftp://db1",
        "http://",
        "http://:8008",
        "http://db1:0",
        "http://db1:70000",
        "http://db1:x",
        "http://d b",
        "http://db1/\n",
        "http://user:secret@db1:8008",
        "http://db1?x=1",
        "http://db1#x",
        "http://[::1",
        "http://d\u00fcb",
    ],
)
def test_what_is_no_url_of_an_api_is_an_error_that_does_not_repeat_it(url: str) -> None:
    entry = {"patroni": [url], "database": "app0", "servers": [["one", 5432, "auto"]]}
    [problem] = problems({SHARD: entry})
    assert problem.startswith("pools.app.shards.0.patroni.0: ")
    assert "secret" not in problem


def test_the_servers_of_a_shard_are_all_auto_or_none() -> None:
    assert problems({SHARD: shard(PRIMARY, ("two", 5432, "auto"))}) == [
        'pools.app.shards.0.servers: must have the role "auto" all or none, got 1 of them'
    ]


def test_a_mirror_copies_a_server_that_is_there() -> None:
    assert problems({f"{SHARD}/mirrors": [["m", 1, 1]]}) == [
        "pools.app.shards.0.mirrors.0.mirroring_target_index: "
        "must be the position of a server, from 0 to 0, got 1"
    ]


@pytest.mark.parametrize("value", ["shard_1", "shard_99"])
def test_default_shard_names_a_shard_that_is_there(value: str) -> None:
    assert problems({f"{APP}/default_shard": value}) == [
        f'pools.app.default_shard: must name a shard from 0 to 0, got "{value}"'
    ]


KEYED = {
    f"{APP}/query_parser_enabled": True,
    f"{APP}/automatic_sharding_key": "events.id",
    f"{APP}/shards/1": shard(("two", 5432, "primary")),
}


@pytest.mark.parametrize(
    ("changes", "refuses"),
    [
        ({}, True),
        ({f"{APP}/default_shard": "shard_0"}, False),
        ({f"{APP}/no_shard_specified_behavior": "random"}, False),
        ({f"{APP}/default_shard": "shard_0", f"{APP}/sharding_without_key": "refuse"}, True),
        ({f"{APP}/sharding_without_key": "default_shard"}, False),
        ({f"{APP}/sharding_key_policy": "sticky"}, False),
        ({f"{APP}/query_parser_enabled": False}, False),
        ({f"{APP}/automatic_sharding_key": REMOVED}, False),
        ({f"{APP}/shards/1": REMOVED}, False),
        ({f"{APP}/shards/1": REMOVED, f"{APP}/sharding_without_key": "refuse"}, False),
    ],
)
def test_statements_without_a_key_are_refused_unless_the_file_wants_pgcats_way(
    changes: dict[str, object], *, refuses: bool
) -> None:
    loaded = parse(toml({**KEYED, **changes}), "test.toml")
    assert loaded.config.pools["app"].refuses_without_key is refuses


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({}, None),
        ({f"{APP}/default_shard": "shard_1"}, "go to shard_1,"),
        (
            {f"{APP}/sharding_key_policy": "sticky"},
            "go to the shard of the client's last key, else to shard_0,",
        ),
        ({f"{APP}/default_shard": "shard_1", f"{APP}/sharding_without_key": "refuse"}, None),
        ({f"{APP}/sharding_without_key": "default_shard"}, None),
        ({f"{APP}/default_shard": "shard_1", f"{APP}/query_parser_enabled": False}, None),
        ({f"{APP}/default_shard": "shard_1", f"{APP}/automatic_sharding_key": REMOVED}, None),
    ],
)
def test_who_leaves_it_to_the_default_shard_is_told_what_that_means(
    changes: dict[str, object], place: str | None
) -> None:
    told = warnings({**KEYED, **changes})
    if place is None:
        assert told == ()
    else:
        [warning] = told
        assert warning.startswith("pools.app.sharding_without_key: is not set: ")
        assert place in warning


def test_a_sticky_pool_cannot_refuse() -> None:
    changes = {f"{APP}/sharding_key_policy": "sticky", f"{APP}/sharding_without_key": "refuse"}
    assert problems({**KEYED, **changes}) == [
        'pools.app.sharding_without_key: is only valid with sharding_key_policy "strict"'
    ]
