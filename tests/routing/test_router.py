"""Where statements go."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from router.config.regexes import Regex
from router.errors import AmbiguousShard, ConfigError, InvalidShard, RoutingError
from router.routing.columns import KeyColumn
from router.routing.router import QueryRouter
from router.routing.sharding import pg_bigint_hash, sha1
from router.routing.state import RoutingState
from router.routing.types import Role, RouterOptions

from .commanded import command_in

SPLITTING = RouterOptions(query_parser_enabled=True, query_parser_read_write_splitting=True)
COMMENTS = RouterOptions(
    shard_count=5,
    shard_id_regex=Regex(r"/\* shard_id: (\d+) \*/"),
    sharding_key_regex=Regex(r"/\* sharding_key: (\d+) \*/"),
)
KEYED = replace(SPLITTING, shard_count=3, automatic_sharding_key="data.id")
READ = b"SELECT * FROM data"
WRITE = b"DELETE FROM data"


def state_of(*commands: str, options: RouterOptions = SPLITTING) -> RoutingState:
    state = RoutingState()
    for text in commands:
        command = command_in(text.encode())
        assert command is not None
        state.execute(command, options, random.Random(1))
    return state


def roles(options: RouterOptions, state: RoutingState | None = None) -> tuple[object, ...]:
    """Return the roles of a read, a write and what nobody has looked at."""
    router = QueryRouter(options)
    state = state or RoutingState()
    return (
        router.route(READ, state).role,
        router.route(WRITE, state).role,
        router.route_unknown(state).role,
    )


# --- role


@pytest.mark.parametrize("role", [None, Role.PRIMARY, Role.REPLICA])
def test_without_the_parser_all_goes_to_the_default_role(role: Role | None) -> None:
    assert roles(RouterOptions(default_role=role)) == (role, role, role)


@pytest.mark.parametrize("role", [None, Role.PRIMARY, Role.REPLICA])
def test_without_splitting_the_parser_does_not_choose_the_role(role: Role | None) -> None:
    assert roles(RouterOptions(query_parser_enabled=True, default_role=role)) == (
        role,
        role,
        role,
    )


@pytest.mark.parametrize("role", [None, Role.PRIMARY, Role.REPLICA])
def test_splitting_sends_reads_to_replicas_and_the_rest_to_the_primary(
    role: Role | None,
) -> None:
    options = replace(SPLITTING, default_role=role)
    assert roles(options) == (Role.REPLICA, Role.PRIMARY, Role.PRIMARY)


def test_primary_reads_let_reads_go_anywhere() -> None:
    options = replace(SPLITTING, primary_reads_enabled=True)
    assert roles(options) == (None, Role.PRIMARY, Role.PRIMARY)


def test_the_client_overrides_primary_reads() -> None:
    on = replace(SPLITTING, primary_reads_enabled=True)
    assert roles(on, state_of("SET PRIMARY READS TO off"))[0] is Role.REPLICA
    assert roles(SPLITTING, state_of("SET PRIMARY READS TO on"))[0] is None


@pytest.mark.parametrize(
    ("word", "role"), [("primary", Role.PRIMARY), ("replica", Role.REPLICA), ("any", None)]
)
@pytest.mark.parametrize("options", [SPLITTING, RouterOptions(default_role=Role.REPLICA)])
def test_a_role_that_the_client_has_fixed_wins(
    word: str, role: Role | None, options: RouterOptions
) -> None:
    assert roles(options, state_of(f"SET SERVER ROLE TO {word}")) == (role, role, role)


@pytest.mark.parametrize("options", [SPLITTING, RouterOptions(default_role=Role.REPLICA)])
def test_a_client_can_turn_the_parser_on(options: RouterOptions) -> None:
    state = state_of("SET SERVER ROLE TO auto")
    assert roles(options, state) == (Role.REPLICA, Role.PRIMARY, Role.PRIMARY)


def test_a_client_with_the_parser_on_does_not_affect_the_others() -> None:
    router = QueryRouter(RouterOptions(default_role=Role.REPLICA))
    assert router.route(WRITE, state_of("SET SERVER ROLE TO auto")).role is Role.PRIMARY
    assert router.route(WRITE, RoutingState()).role is Role.REPLICA


def test_a_client_can_return_to_the_default() -> None:
    state = state_of("SET SERVER ROLE TO primary", "SET SERVER ROLE TO default")
    assert roles(SPLITTING, state) == roles(SPLITTING)


def test_every_route_has_its_reason() -> None:
    router = QueryRouter(SPLITTING)
    assert router.route(READ, RoutingState()).reason == "SELECT without side effects"
    assert router.route(WRITE, RoutingState()).reason == "DELETE writes"
    assert router.route(READ, state_of("SET SERVER ROLE TO any")).reason == "SET SERVER ROLE"
    assert QueryRouter(RouterOptions()).route(READ, RoutingState()).reason == "default_role"


def test_the_operators_functions_count() -> None:
    options = replace(SPLITTING, read_functions=("mine",), write_functions=("upper",))
    router = QueryRouter(options)
    assert router.route(b"SELECT mine(1)", RoutingState()).role is Role.REPLICA
    assert router.route(b"SELECT upper('x')", RoutingState()).role is Role.PRIMARY
    assert QueryRouter(SPLITTING).route(b"SELECT mine(1)", RoutingState()).role is Role.PRIMARY


def test_a_text_over_the_length_limit_goes_to_the_primary() -> None:
    router = QueryRouter(replace(SPLITTING, query_parser_max_length=len(READ)))
    assert router.route(READ, RoutingState()).role is Role.REPLICA
    longer = router.route(READ + b" ", RoutingState())
    assert longer.role is Role.PRIMARY
    assert "query_parser_max_length" in longer.reason


def test_a_prepared_statement_keeps_its_own_role() -> None:
    router = QueryRouter(SPLITTING)
    write = router.analyse(WRITE)
    read = router.analyse(READ)
    assert router.route_analysis(write, RoutingState()).role is Role.PRIMARY
    assert router.route_analysis(read, RoutingState()).role is Role.REPLICA
    assert router.route_analysis(None, RoutingState()).role is Role.PRIMARY


# --- shard


def test_the_only_shard_takes_everything() -> None:
    options = replace(COMMENTS, shard_count=1)
    state = RoutingState()
    state.shard = 3
    state.is_default = False
    for text in (READ, b"/* shard_id: 9 */ SELECT 1"):
        assert QueryRouter(options).route(text, state).shard == 0


@pytest.mark.parametrize(
    ("default", "shard"),
    [("shard_0", 0), ("shard_2", 2), ("random", None), ("random_healthy", None)],
)
def test_the_default_shard_takes_what_names_none(default: str, shard: int | None) -> None:
    router = QueryRouter(RouterOptions(shard_count=3, default_shard=default))
    assert router.route(READ, RoutingState()).shard == shard
    assert router.route_unknown(RoutingState()).shard == shard
    assert (
        QueryRouter(RouterOptions(default_shard="random")).route(READ, RoutingState()).shard
        == 0
    )


@pytest.mark.parametrize(
    "default", ["shard_3", "shard_99", "shard_", "shard_-1", "nowhere", ""]
)
def test_a_default_shard_that_is_not_there_is_the_operators_error(default: str) -> None:
    with pytest.raises(ConfigError, match="default_shard"):
        QueryRouter(RouterOptions(shard_count=3, default_shard=default))


def test_an_unknown_sharding_function_is_the_operators_error() -> None:
    with pytest.raises(ConfigError, match="sharding_function"):
        QueryRouter(RouterOptions(sharding_function="md5"))


def test_the_clients_shard_takes_all_its_statements() -> None:
    router = QueryRouter(KEYED)
    state = state_of("SET SHARD TO 1", options=KEYED)
    assert router.route(READ, state).shard == 1
    assert router.route(b"SELECT * FROM data WHERE id = 5", state).shard == 1
    assert router.route_unknown(state).shard == 1


def test_a_shard_that_a_reload_has_taken_away_is_an_error() -> None:
    state = state_of("SET SHARD TO 2", options=KEYED)
    router = QueryRouter(RouterOptions(shard_count=2))
    with pytest.raises(InvalidShard, match="shard 2 is not configured"):
        router.route(READ, state)
    with pytest.raises(InvalidShard):
        router.route_unknown(state)


def test_a_comment_chooses_the_shard_of_its_statement_only() -> None:
    router = QueryRouter(COMMENTS)
    state = RoutingState()
    assert router.route(b"/* shard_id: 1 */ SELECT 1", state).shard == 1
    assert router.route(b"/* sharding_key: 6 */ SELECT 1", state).shard == pg_bigint_hash(6, 5)
    assert router.route(b"SELECT 1", state).shard == 0


def test_comments_work_without_the_parser_and_leave_the_role_alone() -> None:
    router = QueryRouter(replace(COMMENTS, default_role=Role.REPLICA))
    assert router.route(b"/* shard_id: 1 */ DELETE FROM t", RoutingState()).role is Role.REPLICA
    assert not router.is_static


def test_a_comment_outranks_the_clients_shard() -> None:
    state = state_of("SET SHARD TO 2", options=COMMENTS)
    router = QueryRouter(COMMENTS)
    assert router.route(b"/* shard_id: 1 */ SELECT 1", state).shard == 1
    assert router.route(b"SELECT 1", state).shard == 2


def test_a_comment_of_a_prepared_statement_holds_for_its_executions() -> None:
    router = QueryRouter(COMMENTS)
    analysis = router.analyse(b"/* shard_id: 3 */ SELECT 1")
    assert router.route_analysis(analysis, RoutingState()).shard == 3


def test_comments_of_texts_with_one_fingerprint_are_kept_apart() -> None:
    router = QueryRouter(replace(COMMENTS, query_parser_enabled=True))
    texts = [b"/* shard_id: %d */ SELECT 1" % n for n in range(5)]
    assert [router.route(t, RoutingState()).shard for t in texts * 2] == [*range(5)] * 2


def test_a_comment_with_a_shard_that_is_not_there_is_an_error() -> None:
    router = QueryRouter(COMMENTS)
    for _ in range(2):
        with pytest.raises(InvalidShard, match="shard 5"):
            router.route(b"/* shard_id: 5 */ SELECT 1", RoutingState())


def test_an_error_that_is_remembered_does_not_grow() -> None:
    router = QueryRouter(COMMENTS)
    text = b"/* shard_id: " + b"9" * 40 + b" */"
    depths = []
    for _ in range(3):
        with pytest.raises(RoutingError) as caught:
            router.route(text, state_of("SET SHARD TO 1", options=COMMENTS))
        depths.append(len(caught.traceback))
    assert len(set(depths)) == 1


# --- automatic sharding key


def test_a_key_in_the_text_chooses_the_shard() -> None:
    router = QueryRouter(KEYED)
    for key in range(50):
        route = router.route(b"SELECT * FROM data WHERE id = %d" % key, RoutingState())
        assert route.shard == pg_bigint_hash(key, 3)
        assert route.role is Role.REPLICA
    assert router.cache.misses == 1


def test_a_key_does_not_stick() -> None:
    router = QueryRouter(KEYED)
    state = RoutingState()
    assert router.route(b"SELECT * FROM data WHERE id = 5", state).shard == 2
    assert router.route(READ, state).shard == 0


def test_the_sharding_function_is_the_configured_one() -> None:
    router = QueryRouter(replace(KEYED, sharding_function="sha1"))
    text = b"SELECT * FROM data WHERE id = 42"
    assert router.route(text, RoutingState()).shard == sha1(42, 3)


def test_keys_of_several_shards_are_ambiguous() -> None:
    router = QueryRouter(KEYED)
    with pytest.raises(AmbiguousShard, match="0, 2") as caught:
        router.route(b"SELECT * FROM data WHERE id IN (5, 6)", RoutingState())
    assert caught.value.sqlstate == "0A000"


def test_a_chosen_shard_settles_an_ambiguity_and_allows_a_change_of_key() -> None:
    router = QueryRouter(KEYED)
    state = state_of("SET SHARD TO 1", options=KEYED)
    assert router.route(b"SELECT * FROM data WHERE id IN (5, 6)", state).shard == 1
    assert router.route(b"UPDATE data SET id = 6", state).shard == 1
    with pytest.raises(RoutingError, match='sharding key "id" cannot be updated'):
        router.route(b"UPDATE data SET id = 6", RoutingState())


def test_bound_parameters_choose_the_shard_of_each_execution() -> None:
    router = QueryRouter(KEYED)
    analysis = router.analyse(b"SELECT * FROM data WHERE name = $1 AND id = $2")
    assert analysis is not None
    assert analysis.key_parameters == (2,)
    for key in (5, 6, 7):
        route = router.route_analysis(analysis, RoutingState(), {2: key})
        assert route.shard == pg_bigint_hash(key, 3)
    assert router.route_analysis(analysis, RoutingState(), {2: None}).shard == 0
    assert router.route_analysis(analysis, RoutingState()).shard == 0


def test_parameters_that_disagree_leave_nothing_to_find() -> None:
    router = QueryRouter(KEYED)
    analysis = router.analyse(b"SELECT * FROM data WHERE id = $1 AND id = $2")
    assert router.route_analysis(analysis, RoutingState(), {1: 5, 2: 5}).shard == 2
    assert router.route_analysis(analysis, RoutingState(), {1: 5, 2: 6}).shard == 0
    assert router.route_analysis(analysis, RoutingState(), {1: 5}).shard == 2


def test_rows_with_parameters_must_belong_together() -> None:
    router = QueryRouter(KEYED)
    analysis = router.analyse(b"INSERT INTO data (id) VALUES ($1), ($2)")
    assert router.route_analysis(analysis, RoutingState(), {1: 5, 2: 5}).shard == 2
    with pytest.raises(AmbiguousShard):
        router.route_analysis(analysis, RoutingState(), {1: 5, 2: 6})


def test_a_fixed_role_leaves_the_keys_in_force() -> None:
    router = QueryRouter(KEYED)
    state = state_of("SET SERVER ROLE TO primary", options=KEYED)
    route = router.route(b"SELECT * FROM data WHERE id = 5", state)
    assert (route.role, route.shard) == (Role.PRIMARY, 2)


# --- the hot path


def test_a_static_router_knows_its_route_beforehand() -> None:
    router = QueryRouter(RouterOptions(shard_count=3, default_role=Role.PRIMARY))
    assert router.is_static
    assert router.route(READ, RoutingState()) is router.route(WRITE, RoutingState())
    assert router.analyse(READ) is None
    assert len(router.cache) == 0


def test_a_known_text_gives_the_very_same_route() -> None:
    router = QueryRouter(SPLITTING)
    assert router.route(READ, RoutingState()) is router.route(READ, RoutingState())
    assert (router.cache.misses, router.cache.hits) == (1, 1)


def test_routes_are_shared_by_texts_but_bounded_in_number() -> None:
    router = QueryRouter(SPLITTING)
    router.route(READ, RoutingState())
    for n in range(3000):
        router.route(b"SELECT f%d(1)" % n, RoutingState())
    assert router.route(b"SELECT a", RoutingState()) is router.route(
        b"SELECT b", RoutingState()
    )
    assert len(router._routes) <= 1000


def test_its_repr_tells_its_size() -> None:
    router = QueryRouter(KEYED)
    router.route(READ, RoutingState())
    assert repr(router) == "<QueryRouter 3 shards, 1 texts>"


# --- columns that were learned


def test_a_list_of_keys_names_the_tables_whose_columns_are_wanted() -> None:
    keys = ("users.id", "shop.orders.user_id")
    router = QueryRouter(replace(KEYED, automatic_sharding_key=keys))
    assert router.wanted_tables == (
        KeyColumn("users", "id"),
        KeyColumn("orders", "user_id", "shop"),
    )
    assert QueryRouter(SPLITTING).wanted_tables == ()


def test_columns_that_were_learned_place_an_insert_without_a_list_of_columns() -> None:
    router = QueryRouter(KEYED)
    text = b"INSERT INTO data VALUES ('x', 5)"
    prepared = router.analyse(text)
    assert router.route(text, RoutingState()).shard == 0
    router.learn_columns({"data": ("name", "id"), "public.data": ("name", "id")})
    assert router.epoch == 1
    assert router.route(text, RoutingState()).shard == 2
    assert router.route(b"INSERT INTO public.data VALUES ('x', 5)", RoutingState()).shard == 2
    assert prepared is not None
    router.learn_columns({"data": ("name", "id"), "public.data": ("name", "id")})
    assert router.epoch == 1
    router.learn_columns({"data": ("id", "name")})
    assert router.epoch == 2
    assert router.route(b"INSERT INTO data VALUES (6, 5)", RoutingState()).shard == 0


# --- what is not known, beside what is


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT * FROM data a JOIN data b ON a.x = b.x WHERE a.id = 5", 'table "data"'),
        ("SELECT * FROM data; SELECT * FROM data WHERE id = 5", 'table "data"'),
        ("INSERT INTO data (id) VALUES (5), (f())", 'table "data"'),
        ("INSERT INTO data (id) VALUES (5), (DEFAULT)", "not known"),
        ("SELECT * FROM data WHERE id = 5; SELECT FROM WHERE", "cannot be parsed"),
        ("SELECT * FROM data WHERE id IN (5, 5.5)", "not known"),
        ("SELECT * FROM data a, data b WHERE a.id = 5 AND b.id = 5.5", "not known"),
    ],
)
def test_a_key_beside_one_that_is_not_known_is_ambiguous(sql: str, message: str) -> None:
    router = QueryRouter(KEYED)
    with pytest.raises(AmbiguousShard, match=message) as caught:
        router.route(sql.encode(), RoutingState())
    assert caught.value.sqlstate == "0A000"
    assert "SET SHARD" in caught.value.hint
    assert "shard 2" in caught.value.message
    state = state_of("SET SHARD TO 1", options=KEYED)
    assert router.route(sql.encode(), state).shard == 1


def test_null_bound_to_one_of_several_parameters_adds_no_shard() -> None:
    router = QueryRouter(KEYED)
    analysis = router.analyse(b"SELECT * FROM data WHERE id IN ($1, $2)")
    assert router.route_analysis(analysis, RoutingState(), {1: 5, 2: None}).shard == 2
    assert router.route_analysis(analysis, RoutingState(), {1: None, 2: None}).shard == 0
    with pytest.raises(AmbiguousShard):
        router.route_analysis(analysis, RoutingState(), {1: 5})


def test_an_array_bound_to_a_parameter_has_the_keys_of_its_members() -> None:
    router = QueryRouter(KEYED)
    analysis = router.analyse(b"SELECT * FROM data WHERE id = ANY ($1)")
    assert analysis is not None
    assert router.route_analysis(analysis, RoutingState(), {1: (5, 1)}).shard == 2
    assert router.route_analysis(analysis, RoutingState(), {1: ()}).shard == 0
    with pytest.raises(AmbiguousShard, match="0, 2"):
        router.route_analysis(analysis, RoutingState(), {1: (5, 6)})


# --- tables that every shard has

EVERYWHERE = replace(KEYED, omnisharded_tables=("countries", "app.rates"))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM countries",
        "SELECT * FROM public.countries c JOIN app.rates r ON r.c = c.c",
        "TABLE rates",
        "WITH x AS (SELECT * FROM countries) SELECT * FROM x",
        "SELECT 1; SELECT * FROM countries",
        "COPY countries TO STDOUT",
        "EXPLAIN SELECT * FROM countries",
    ],
)
def test_reads_of_tables_on_every_shard_go_to_any(sql: str) -> None:
    router = QueryRouter(EVERYWHERE)
    assert router.route(sql.encode(), RoutingState()).shard is None
    state = state_of("SET SHARD TO 1", options=EVERYWHERE)
    assert router.route(sql.encode(), state).shard == 1


@pytest.mark.parametrize(
    ("sql", "shard"),
    [
        ("SELECT * FROM countries, data WHERE data.id = 5", 2),
        ("UPDATE data SET x = c.x FROM countries c WHERE data.id = 5", 2),
        ("SELECT * FROM countries, other", 0),
        ("SELECT * FROM countries, data", 0),
        ("SELECT * FROM other.rates", 0),
        ("SELECT unknown_function(name) FROM countries", 0),
        ("SELECT * FROM countries FOR UPDATE", 0),
        ("SELECT 1", 0),
    ],
)
def test_other_tables_decide_beside_those_on_every_shard(sql: str, shard: int) -> None:
    assert QueryRouter(EVERYWHERE).route(sql.encode(), RoutingState()).shard == shard


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO countries VALUES (1)",
        "UPDATE public.countries SET name = 'x'",
        "DELETE FROM app.rates",
        "WITH x AS (DELETE FROM countries RETURNING *) SELECT * FROM x",
        "INSERT INTO countries SELECT x FROM data WHERE id = 5",
        "MERGE INTO countries c USING data d ON d.id = 5 WHEN MATCHED THEN DELETE",
        "COPY countries FROM STDIN",
        "TRUNCATE countries",
        "ALTER TABLE countries ADD x int",
        "SELECT 1; DELETE FROM countries",
    ],
)
def test_a_change_of_a_table_on_every_shard_needs_a_shard(sql: str) -> None:
    router = QueryRouter(EVERYWHERE)
    with pytest.raises(RoutingError, match="every shard") as caught:
        router.route(sql.encode(), RoutingState())
    assert caught.value.sqlstate == "0A000"
    state = state_of("SET SHARD TO 1", options=EVERYWHERE)
    assert router.route(sql.encode(), state).shard == 1


# --- PgCat's stickiness

STICKY = replace(KEYED, sharding_key_policy="sticky", default_shard="shard_1")


def test_a_shard_that_sticks_takes_the_statements_without_a_key() -> None:
    router = QueryRouter(STICKY)
    state = RoutingState()
    assert router.route(READ, state).shard == 1
    for _ in range(2):
        assert router.route(b"SELECT * FROM data WHERE id = 5", state).shard == 2
        assert router.route(READ, state).shard == 2
        assert router.route(b"SELECT * FROM data WHERE id = 6", state).shard == 0
        assert router.route(READ, state).shard == 0
        assert router.route_unknown(state).shard == 0
    assert router.route(READ, RoutingState()).shard == 1


def test_keys_of_several_shards_stay_where_the_client_was() -> None:
    router = QueryRouter(STICKY)
    state = RoutingState()
    several = b"SELECT * FROM data WHERE id IN (5, 6)"
    assert router.route(several, state).shard == 1
    assert router.route(b"SELECT * FROM data WHERE id = 5", state).shard == 2
    assert router.route(several, state).shard == 2
    assert router.route(b"SELECT * FROM data a, data b WHERE a.id = 6", state).shard == 0


def test_a_key_replaces_the_shard_that_was_chosen_if_shards_stick() -> None:
    router = QueryRouter(STICKY)
    state = state_of("SET SHARD TO 0", options=STICKY)
    assert router.route(b"SELECT * FROM data WHERE id = 5", state).shard == 2
    assert router.route(READ, state).shard == 2
    analysis = router.analyse(b"SELECT * FROM data WHERE id = $1")
    assert router.route_analysis(analysis, state, {1: 6}).shard == 0
    assert router.route(READ, state).shard == 0


def test_a_comment_sticks_if_shards_stick() -> None:
    options = replace(
        STICKY, shard_id_regex=Regex(r"shard (\d+)"), sharding_key_regex=Regex(r"key (\d+)")
    )
    router = QueryRouter(options)
    state = RoutingState()
    assert router.route(b"/* shard 0 */ SELECT 1", state).shard == 0
    assert router.route(READ, state).shard == 0
    assert router.route(b"/* key 5 */ SELECT 1", state).shard == 2
    assert router.route(READ, state).shard == 2
    assert router.route(READ, RoutingState()).shard == 1


def test_a_shard_that_sticks_does_not_allow_a_change_of_key() -> None:
    router = QueryRouter(STICKY)
    state = RoutingState()
    router.route(b"SELECT * FROM data WHERE id = 5", state)
    with pytest.raises(RoutingError, match="cannot be updated"):
        router.route(b"UPDATE data SET id = 6", state)
    chosen = state_of("SET SHARD TO 0", options=STICKY)
    assert router.route(b"UPDATE data SET id = 6", chosen).shard == 0
