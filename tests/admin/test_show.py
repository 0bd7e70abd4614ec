"""The tables of the admin database: PgCat's columns first, and the right value in each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.admin.show import ConfigRow

from .builders import ROUTING, AdminClient

TEXT, INT4, NUMERIC = 25, 23, 1700

# PgCat's columns by type: dashboards read them by position.
PGCAT = {
    "SHOW DATABASES": (
        "name:t host:t port:t database:t force_user:t pool_size:i min_pool_size:i "
        "reserve_pool:i pool_mode:t max_connections:i current_connections:i paused:i disabled:i"
    ),
    "SHOW POOLS": (
        "database:t user:t pool_mode:t cl_idle:n cl_active:n cl_waiting:n cl_cancel_req:n "
        "sv_active:n sv_idle:n sv_used:n sv_tested:n sv_login:n maxwait:n maxwait_us:n"
    ),
    "SHOW STATS": (
        "instance:t database:t user:t total_xact_count:n total_query_count:n total_received:n "
        "total_sent:n total_xact_time:n total_query_time:n total_wait_time:n total_errors:n "
        "avg_xact_count:n avg_query_count:n avg_recv:n avg_sent:n avg_errors:n avg_xact_time:n "
        "avg_query_time:n avg_wait_time:n"
    ),
    "SHOW CLIENTS": (
        "client_id:t database:t user:t application_name:t state:t transaction_count:n "
        "query_count:n error_count:n age_seconds:n maxwait:n maxwait_us:n"
    ),
    "SHOW SERVERS": (
        "server_id:t database_name:t user:t address_id:t application_name:t state:t "
        "transaction_count:n query_count:n bytes_sent:n bytes_received:n age_seconds:n "
        "prepare_cache_hit:n prepare_cache_miss:n prepare_cache_eviction:n prepare_cache_size:n"
    ),
    "SHOW USERS": "name:t pool_mode:t",
    "SHOW LISTS": "list:t items:i",
    "SHOW CONFIG": "key:t value:t default:t changeable:t",
    "SHOW VERSION": "version:t",
    "SHUTDOWN": "success:t",
}
OIDS = {"t": TEXT, "i": INT4, "n": NUMERIC}


@pytest.mark.parametrize(("command", "wanted"), PGCAT.items())
def test_a_table_begins_with_the_columns_of_pgcat(command: str, wanted: str) -> None:
    columns = [(name, oid) for name, oid, _ in AdminClient().ask(command).columns]
    expected = [(name, OIDS[kind]) for name, kind in (c.split(":") for c in wanted.split())]
    assert columns[: len(expected)] == expected


def values(command: str) -> str:
    """The only row, as one line."""
    [row] = AdminClient().ask(command).rows
    return " ".join(value or "-" for value in row)


def test_show_pools_splits_the_longest_wait_in_two() -> None:
    assert (
        values("SHOW POOLS") == "app ann transaction 1 2 3 4 5 6 7 8 9 2 345678 1 db1: 1 of 1"
    )


def test_show_databases_has_a_row_for_each_address() -> None:
    assert values("SHOW DATABASES") == (
        "app_shard_0_primary db1 5433 app0 ann 20 2 0 transaction 20 11 0 1 app 0 primary"
    )


def test_show_stats_has_milliseconds_where_pgcat_has_and_microseconds_at_the_end() -> None:
    assert values("SHOW STATS") == (
        "app_shard_0_primary app ann 100 200 300000 40000 5000 600 7000 8 "
        "11 12 13 14 15 16 17 18 "
        "5000999 600999 16999 17999"
    )


def test_show_clients_has_the_id_in_hexadecimal() -> None:
    assert values("SHOW CLIENTS") == (
        "0x0000BEEF app ann web idle 4 7 1 61 1 500000 10.0.0.7:4711 TLSv1.3 "
        "idle in transaction 5 6 0x0000001A 4242 7 LISTEN 8"
    )


def test_show_servers_has_a_row_for_each_connection() -> None:
    assert values("SHOW SERVERS") == (
        "0x0000001A app ann app_shard_0_primary web active 9 10 11 12 13 14 15 16 17 4242 - "
        "idle in transaction 5 0x0000BEEF 1 10.0.0.1 5433"
    )


def test_show_dns_hosts_tells_which_addresses_are_used() -> None:
    assert values("SHOW DNS_HOSTS") == (
        "db.test 0 10.0.0.1,10.0.0.2 10.0.0.2 10.0.0.1=3,10.0.0.9=1"
    )


def test_show_patroni_has_a_row_for_each_member() -> None:
    assert values("SHOW PATRONI") == (
        "app 1 pg0 db1 5432 leader running - 1 http://db1:8008 3 1 "
        "http://db1:8008: it did not answer in time"
    )


def test_show_users_has_a_row_for_each_pool() -> None:
    assert values("SHOW USERS") == "ann transaction app"


def test_show_version_names_the_product_as_tools_expect_it() -> None:
    assert values("SHOW VERSION").startswith("PgCat ")


def test_show_config_says_what_can_be_changed_without_a_restart() -> None:
    rows = [ConfigRow("port", "6432", "5432", False), ConfigRow("ban_time", "1", "60", True)]
    assert AdminClient(settings=rows).ask("SHOW CONFIG").rows == [
        ["port", "6432", "5432", "no"],
        ["ban_time", "1", "60", "yes"],
    ]


def test_show_routing_tells_what_is_remembered_and_how_often_that_helped() -> None:
    assert values("SHOW ROUTING") == (
        "app ann 1 2 3 994 4 2 0.994 5 6 7 0 0 7 0 0 0 0 0 0 0 8 0 0 0 0 0 0 0 9 10 11 12"
    )


def test_show_multiplexing_tells_what_is_shared_and_why_more_is_not() -> None:
    assert values("SHOW MULTIPLEXING") == (
        "app ann app_shard_0_primary reads 8 1 2 3 4 5 6 0 7"
    )


def test_show_health_has_a_row_for_each_server() -> None:
    assert values("SHOW HEALTH") == (
        "db2 5432 down 12 connection refused failed refused 48 3 40 5 1 1234 "
        "standby 0 1000 2500 0"
    )


def test_show_replication_tells_what_servers_are() -> None:
    assert values("SHOW REPLICATION") == "db2 5432 standby down 0 1000 2500 1"


def test_show_session_features_tells_what_is_used_and_what_becomes_of_it() -> None:
    assert values("SHOW SESSION_FEATURES") == (
        "app ann web LISTEN keeps the server 5 7 3 1 2500000 4"
    )


def test_show_prepared_statements_tells_how_often_they_were_there() -> None:
    assert values("SHOW PREPARED_STATEMENTS") == "app ann 7 500 21 99 1 3 0.990"


def test_show_listeners_has_a_row_for_each_channel() -> None:
    assert values("SHOW LISTENERS") == ("app ann 1 jobs 12 3400 2 listening db1:5432 4711 3")


def test_show_limits_tells_how_much_is_left() -> None:
    assert values("SHOW LIMITS") == "max_db_connections app db1:5432 20 19 1 4 7"


def test_show_timeouts_tells_how_often_each_was_over() -> None:
    assert values("SHOW TIMEOUTS") == "query query_timeout 57014 3"


def test_show_queries_has_a_row_for_each_form_of_statement() -> None:
    assert values("SHOW QUERIES") == (
        "app ann 1 replica c148796e1220075a SELECT SELECT ? 100 3 57014: 2, 22012: 1 200 3000 "
        "40 1 2 3 50 4 5 6 60 7 8 9"
    )


def test_show_transactions_has_a_row_for_each_that_is_open() -> None:
    assert values("SHOW TRANSACTIONS") == (
        "0x0000BEEF app ann web 10.0.0.7:4711 0x0000001A 4242 app_shard_0_primary "
        "idle in transaction 1000 2000 3 c148796e1220075a SELECT SELECT ? 1 transaction"
    )


def test_show_errors_has_a_row_for_each_code() -> None:
    assert values("SHOW ERRORS") == (
        "app ann router 3D000 7 2026-01-01 00:00:00 UTC No pool configured for database: ?"
    )


def test_show_sharded_tables_has_a_row_for_each_that_is_known() -> None:
    assert values("SHOW SHARDED_TABLES") == "app ann public events table id"


def test_without_look_ups_the_hit_rate_is_nought() -> None:
    assert replace(ROUTING, hits=0, fingerprint_hits=0, misses=0).hit_rate == "0.000"
