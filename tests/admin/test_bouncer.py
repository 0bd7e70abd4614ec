"""The tables of PgBouncer: its columns in its order, and the right value in each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from .builders import ADDRESS, CLIENT, LIMIT, POOL, SERVER, AdminClient, FakeView

SOCKET = (
    "type user database replication state addr port local_addr local_port connect_time "
    "request_time wait wait_us close_needed ptr link remote_pid tls application_name "
    "prepared_statements id"
)
COUNTS = (
    "server_assignment_count xact_count query_count {} sent xact_time query_time wait_time "
    "client_parse_count server_parse_count bind_count"
)
TOTALS = " ".join(f"total_{name}" for name in COUNTS.format("received").split())
AVERAGES = " ".join(f"avg_{name}" for name in COUNTS.format("recv").split())
BARE = COUNTS.format("bytes_received").replace(" sent ", " bytes_sent ")
# Of PgBouncer 1.25.
COLUMNS = {
    "SHOW STATS": f"database {TOTALS} {AVERAGES}",
    "SHOW STATS_TOTALS": f"database {BARE}",
    "SHOW STATS_AVERAGES": f"database {BARE}",
    "SHOW TOTALS": "name value",
    "SHOW POOLS": (
        "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req "
        "sv_active sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login "
        "maxwait maxwait_us pool_mode load_balance_hosts"
    ),
    "SHOW DATABASES": (
        "name host port database force_user pool_size min_pool_size reserve_pool_size "
        "server_lifetime pool_mode load_balance_hosts max_connections current_connections "
        "max_client_connections current_client_connections paused disabled"
    ),
    "SHOW USERS": (
        "name pool_size reserve_pool_size pool_mode max_user_connections current_connections "
        "max_user_client_connections current_client_connections"
    ),
    "SHOW LISTS": "list items",
    "SHOW CLIENTS": SOCKET,
    "SHOW SERVERS": SOCKET,
    "SHOW SOCKETS": SOCKET,
    "SHOW ACTIVE_SOCKETS": SOCKET,
    "SHOW FDS": (
        "fd task user database addr port cancel link client_encoding std_strings datestyle "
        "timezone password"
    ),
    "SHOW STATE": "key value",
    "SHOW MEM": "name size used free memtotal",
    "SHOW PEERS": "peer_id host port pool_size",
    "SHOW PEER_POOLS": (
        "peer_id cl_active_cancel_req cl_waiting_cancel_req sv_active_cancel sv_login"
    ),
    "SHOW DNS_HOSTS": "hostname ttl addrs",
    "SHOW DNS_ZONES": "zonename serial count",
    "SHOW CONFIG": "key value default changeable",
    "SHOW VERSION": "version",
}


def bouncer(view: FakeView | None = None) -> AdminClient:
    """Somebody in the database pgbouncer."""
    return AdminClient(view, database="pgbouncer")


@pytest.mark.parametrize("command", COLUMNS)
def test_columns_are_those_of_pgbouncer(command: str) -> None:
    for answer in (bouncer().ask(command), bouncer().prepare(command)):
        assert [name for name, _, _ in answer.columns] == COLUMNS[command].split()
        assert answer.tags == ["SHOW"]


def table(command: str, view: FakeView | None = None) -> list[str]:
    """The rows, each as one line."""
    return [" ".join(value or "-" for value in row) for row in bouncer(view).ask(command).rows]


def test_idle_clients_count_as_active() -> None:
    assert table("SHOW POOLS") == ["app ann 3 3 4 0 5 4 - 6 7 8 9 2 345678 transaction -"]


def test_a_server_has_one_row_for_all_users() -> None:
    other = replace(ADDRESS, user="bob", paused=True, current_connections=4)
    third = replace(ADDRESS, name="app_shard_0_replica_0", role="replica", port=5434)
    found = table("SHOW DATABASES", FakeView(address_rows=[ADDRESS, other, third]))
    assert found == [
        "app db1 5433 app0 - 40 4 0 - transaction - 0 15 0 1 0 0",
        "app db1 5434 app0 - 20 2 0 - transaction - 0 11 0 1 0 0",
    ]
    found = table("SHOW DATABASES", FakeView(address_rows=[replace(ADDRESS, paused=True)]))
    assert found[0].endswith(" 1 0")


def test_figures_are_added_up_for_each_database_in_microseconds() -> None:
    fast = replace(
        ADDRESS.average, xact_count=33, query_count=36, xact_time=999, query_time=1999
    )
    addresses = [
        ADDRESS,
        replace(ADDRESS, user="bob", average=fast),
        replace(ADDRESS, pool="web"),
    ]
    found = table("SHOW STATS", FakeView(address_rows=addresses))
    totals = "- 200 400 80000 600000 10001998 1201998 14000 - - -"
    # 11 of 16999 and 33 of 999; 12 of 17999 and 36 of 1999.
    averages = "- 44 48 28 26 4999 5999 - - - -"
    assert found[0] == f"app {totals} {averages}"
    assert found[1].startswith("web - 100 200 40000 300000 5000999 600999 7000 ")
    view = FakeView(address_rows=addresses[:2])
    assert table("SHOW STATS_TOTALS", view) == [f"app {totals}"]
    assert table("SHOW STATS_AVERAGES", view) == [f"app {averages}"]
    assert " ".join(row.split()[1] for row in table("SHOW TOTALS", view)) == (
        f"{totals} {averages}"
    )
    assert table("SHOW TOTALS", view)[14] == "avg_client_bytes 28"


def rows(command: str, view: FakeView | None = None) -> list[dict[str, str]]:
    """The rows by column."""
    answer = bouncer(view).ask(command)
    names = [name for name, _, _ in answer.columns]
    return [dict(zip(names, row, strict=True)) for row in answer.rows]


def test_clients_and_servers_link_to_each_other() -> None:
    [client] = rows("SHOW CLIENTS")
    [server] = rows("SHOW SERVERS")
    assert (client["type"], client["state"], client["addr"], client["port"]) == (
        *("C", "idle", "10.0.0.7"),
        "4711",
    )
    assert (server["type"], server["state"], server["addr"], server["port"]) == (
        *("S", "active", "10.0.0.1"),
        "5433",
    )
    assert client["link"] == server["ptr"]
    assert server["link"] == client["ptr"]
    assert client["id"] == str(0xBEEF), "for KILL_CLIENT"
    assert server["remote_pid"] == "4242"
    assert (client["close_needed"], server["close_needed"]) == ("0", "1")
    assert client["connect_time"].endswith(" UTC")


def test_waiting_is_told_in_seconds_and_the_rest() -> None:
    view = FakeView(client_rows=[replace(CLIENT, addr="[::1]:5", wait_us=2_000_003)])
    [client] = rows("SHOW CLIENTS", view)
    assert (client["wait"], client["wait_us"]) == ("2", "3")
    assert (client["addr"], client["port"]) == ("::1", "5")


def test_sockets_are_clients_and_servers() -> None:
    view = FakeView(server_rows=[SERVER, replace(SERVER, state="idle", client_id=None)])
    assert [row["state"] for row in rows("SHOW SOCKETS", view)] == [
        *("cl_idle", "sv_active"),
        "sv_idle",
    ]
    assert [row["state"] for row in rows("SHOW ACTIVE_SOCKETS", view)] == ["sv_active"]


@pytest.mark.parametrize(
    ("addr", "expected"),
    [("10.0.0.1:99", ("10.0.0.1", "99")), ("[::1]:99", ("::1", "99")), ("unix", ("unix", "0"))],
)
def test_the_address_of_a_client_is_told_in_two_columns(
    addr: str, expected: tuple[str, str]
) -> None:
    [row] = rows("SHOW CLIENTS", FakeView(client_rows=[replace(CLIENT, addr=addr)]))
    assert (row["addr"], row["port"]) == expected


def test_users_are_counted_over_all_databases() -> None:
    view = FakeView(
        pool_rows=[POOL, replace(POOL, database="web")],
        address_rows=[ADDRESS, replace(ADDRESS, pool="web")],
        client_rows=[CLIENT, replace(CLIENT, user="bob")],
    )
    assert table("SHOW USERS", view) == ["ann - - - 0 22 0 1"]
    view.limit_rows = [
        replace(LIMIT, key="max_user_connections", name="ann db1:5432", value=30),
        replace(LIMIT, key="max_user_connections", name="bob db1:5432", value=31),
        replace(LIMIT, key="max_user_client_connections", name="ann", value=40),
        replace(LIMIT, key="max_db_client_connections", name="ann", value=41),
    ]
    assert table("SHOW USERS", view) == ["ann - - - 30 22 40 1"]
    lists = dict(row.split() for row in table("SHOW LISTS", view))
    assert (lists["databases"], lists["users"], lists["pools"]) == ("2", "1", "2")
    assert lists["dns_names"] == str(len(view.host_rows)) != "0"
    assert (lists["used_clients"], lists["used_servers"]) == ("2", "1")


def test_peers_are_counted_and_so_is_what_is_passed_on_to_them() -> None:
    assert table("SHOW PEERS") == ["2 /run/two 6432 20"]
    assert table("SHOW PEER_POOLS") == ["2 5 4 3 2"]
    [row] = AdminClient().ask("SHOW PEERS").rows
    assert row == ["2", "/run/two", "6432", "20", "77", "8", "9"]
    lists = dict(row.split() for row in table("SHOW LISTS"))
    assert lists["peers"] == lists["peer_pools"] == "1"


def test_descriptors_link_to_each_other_and_tell_no_secret() -> None:
    assert table("SHOW FDS") == [
        "5 pooler - - 0.0.0.0 6432 - - - - - - -",
        "6 pooler - - unix 0 - - - - - - -",
        "11 client ann app 10.0.0.7 4711 - 12 - - - - -",
        "12 server ann app 10.0.0.1 5433 - 11 - - - - -",
    ]
    gone = FakeView(client_rows=[replace(CLIENT, fd=-1)], server_rows=[])
    assert len(table("SHOW FDS", gone)) == 2


def test_the_state_is_paused_if_all_pools_are() -> None:
    assert table("SHOW STATE") == ["active no", "paused yes", "suspended no"]
    view = FakeView(pool_rows=[POOL, replace(POOL, paused=False)])
    assert table("SHOW STATE", view) == ["active yes", "paused no", "suspended no"]
    assert table("SHOW STATE", FakeView(pool_rows=[]))[0] == "active yes"


def test_memory_is_that_of_the_process() -> None:
    cache, process = table("SHOW MEM")
    assert cache == "routing_cache - 3 - 3"
    assert int(process.split()[-1]) > 1 << 20


def test_pgcat_has_its_own_columns() -> None:
    names = [name for name, _, _ in AdminClient().ask("SHOW POOLS").columns]
    assert "cl_idle" in names


# What PgBouncer's exporter for Prometheus takes from each table.
EXPORTED = {
    "SHOW STATS_TOTALS": (
        "database query_count query_time bytes_received bytes_sent wait_time xact_count "
        "xact_time client_parse_count server_parse_count bind_count"
    ),
    "SHOW POOLS": (
        "database user cl_active cl_active_cancel_req cl_waiting cl_waiting_cancel_req "
        "sv_active sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login "
        "maxwait"
    ),
    "SHOW DATABASES": (
        "name host port database force_user pool_size pool_mode max_connections "
        "current_connections paused disabled"
    ),
}


@pytest.mark.parametrize("command", EXPORTED)
def test_the_exporter_of_pgbouncer_finds_its_columns(command: str) -> None:
    assert set(EXPORTED[command].split()) <= set(COLUMNS[command].split())
