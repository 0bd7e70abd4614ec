"""What PgCat's own tests assert of routing and sharding, with real servers.

Three databases are the shards. Each has only its own partition of `data`, so that PostgreSQL
refuses a row that comes to the wrong one; and `current_database()` tells where one is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import ClientCursor, errors

from router.routing.sharding import pg_bigint_hash
from tests.support.cluster.server import StopMode
from tests.support.postgres import Database
from tests.support.router import (
    ADMIN,
    ADMIN_PASSWORD,
    PATIENCE,
    PoolText,
    config_text,
    primary_of,
    servers_of,
    wait_until,
)
from tests.support.wire import SYNC, WireClient, bind, execute, parse, rows, sqlstates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.support.cluster.cluster import Shard
    from tests.support.cluster.server import Server
    from tests.support.postgres import PostgresRun, PrivateCluster
    from tests.support.router import RouterProcess

    from .conftest import ModuleRouter

Connection = psycopg.Connection[tuple[object, ...]]

SHARDS = 3
KEYS = range(1, 19)
PARSER = """
query_parser_enabled = true
query_parser_read_write_splitting = true
primary_reads_enabled = true
automatic_sharding_key = "data.id"
"""
REGEXES = r"""
shard_id_regex = '/\* shard_id: (\d+) \*/'
sharding_key_regex = '/\* sharding_key: (\d+) \*/'
"""
INTERCEPT = """
[pools.keyed.plugins.intercept]
enabled = true
[pools.keyed.plugins.intercept.queries.0]
query = "select current_database() as a, current_schemas(false) as b"
schema = [["a", "text"], ["b", "text"]]
result = [["${DATABASE}", "{public}"]]
"""
WHERE = "SELECT current_database()"
PORT = "SELECT inet_server_port()"
PROTOCOLS = pytest.mark.parametrize("protocol", ["simple", "extended"])
BALANCED = ["balanced_random", "balanced_loc"]
POLICIES = ["shard_0", "random", "random_healthy", "shard_2"]


@pytest.fixture(scope="module")
def shards(postgres: Server, postgres_run: PostgresRun) -> Iterator[list[Database]]:
    """The three shards."""
    made = [Database(postgres, postgres_run.unique_name("shard")) for _ in range(SHARDS)]
    for number, shard in enumerate(made):
        postgres.execute(f"CREATE DATABASE {shard.name}")
        shard.execute("CREATE TABLE data (id bigint, value text) PARTITION BY HASH (id)")
        shard.execute(
            "CREATE TABLE data_part PARTITION OF data"
            f" FOR VALUES WITH (MODULUS {SHARDS}, REMAINDER {number})"
        )
    yield made
    for shard in made:
        postgres.execute(f"DROP DATABASE {shard.name} WITH (FORCE)")


def pool_of(
    shards: Sequence[Database], options: str = PARSER, *, plugins: str = ""
) -> PoolText:
    """A pool in front of the shards."""
    return PoolText(
        shards=[primary_of(shard.server) for shard in shards],
        databases=[shard.name for shard in shards],
        options=options,
        more_users=plugins,
    )


@pytest.fixture(scope="module")
def router(
    shards: list[Database], replicated: Shard, module_router: ModuleRouter
) -> RouterProcess:
    """A router with a pool for each way to find a server."""
    roles = {
        name: PoolText(
            [servers_of(replicated)], options=f"primary_reads_enabled = false\n{more}"
        )
        for name, more in (
            ("balanced_random", 'load_balancing_mode = "random"'),
            ("balanced_loc", 'load_balancing_mode = "loc"'),
            ("commented", REGEXES),
        )
    }
    pools = {
        **roles,
        "keyed": pool_of(shards, plugins=INTERCEPT),
        "plain": pool_of(shards, ""),
        "session": pool_of(shards, f'{PARSER}\npool_mode = "session"'),
    }
    for policy in POLICIES:
        options = f'{PARSER}\ndefault_shard = "{policy}"'
        pools[policy] = pool_of(shards, options)
        pools[f"{policy}_regex"] = pool_of(shards, options + REGEXES)
    return module_router(pools)


@pytest.fixture
def empty(shards: list[Database]) -> list[Database]:
    """The shards without rows."""
    for shard in shards:
        shard.execute("TRUNCATE data")
    return shards


def ask(connection: Connection, protocol: str, sql: str, *values: object) -> object:
    """The first value of an answer."""
    cursor = ClientCursor(connection) if protocol == "simple" else connection.cursor()
    row = cursor.execute(sql.encode(), values or None).fetchone()
    assert row is not None
    return row[0]


def places(connection: Connection, protocol: str, sql: str, count: int) -> Counter[object]:
    """How many of so many answers came from where."""
    return Counter(ask(connection, protocol, sql) for _ in range(count))


def held(shards: Sequence[Database]) -> list[set[int]]:
    """The keys that each shard has."""
    return [{key for (key,) in shard.execute("SELECT id FROM data")} for shard in shards]


def homes() -> list[set[int]]:
    """The keys that each shard should have."""
    return [{key for key in KEYS if pg_bigint_hash(key, SHARDS) == n} for n in range(SHARDS)]


# --- roles


@PROTOCOLS
@pytest.mark.parametrize("pool", BALANCED)
def test_a_role_is_chosen_by_command(
    router: RouterProcess, replicated: Shard, pool: str, protocol: str
) -> None:
    primary = {replicated.primary.port}
    replicas = {replica.port for replica in replicated.replicas}
    with router.connect(pool) as connection:
        for word, ports, count in (
            ("primary", primary, 20),
            ("replica", replicas, 200),
            ("any", primary | replicas, 300),
            ("default", primary | replicas, 60),
        ):
            connection.execute(f"SET SERVER ROLE TO '{word}'".encode())
            found = places(connection, protocol, PORT, count)
            assert set(found) == ports
            if word != "default":
                even = count / len(ports)
                assert all(abs(found[port] - even) <= 0.45 * even for port in ports)


@PROTOCOLS
@pytest.mark.parametrize("pool", [*BALANCED, "commented"])
def test_a_client_can_have_reads_and_writes_told_apart(
    router: RouterProcess, replicated: Shard, pool: str, protocol: str
) -> None:
    replicas = {replica.port for replica in replicated.replicas}
    with router.connect(pool) as connection:
        # What psycopg has prepared before counts as well.
        places(connection, protocol, PORT, 10)
        connection.execute("SET SERVER ROLE TO 'auto'")
        assert set(places(connection, protocol, PORT, 40)) == replicas
        write = f"{PORT} WHERE pg_current_xact_id() IS NOT NULL"
        assert ask(connection, protocol, write) == replicated.primary.port
        with connection.transaction():
            assert ask(connection, protocol, PORT) == replicated.primary.port
        connection.execute("SET SERVER ROLE TO 'default'")
        found = set(places(connection, protocol, PORT, 100))
        assert found == replicas | {replicated.primary.port}


def test_reads_of_what_was_just_written_go_to_the_primary(
    start_router: Callable[..., RouterProcess],
    replicated: Shard,
    make_database: Callable[..., Database],
) -> None:
    database = make_database(replicated.primary)
    database.execute("CREATE TABLE fresh (id int); CREATE TABLE other (id int)")
    replicated.wait_for_replication()

    def pool(init_delay: int) -> PoolText:
        options = (
            "query_parser_enabled = true\nquery_parser_read_write_splitting = true\n"
            f"db_activity_based_routing = true\ndb_activity_init_delay = {init_delay}\n"
            "table_mutation_cache_ms_ttl = 600000"
        )
        return PoolText([servers_of(replicated)], database=database.name, options=options)

    router = start_router({"beginning": pool(600_000), "active": pool(1)})
    primary = replicated.primary.port
    with router.connect("beginning") as connection:
        assert set(places(connection, "simple", PORT, 20)) == {primary}
    with router.connect("active") as connection, router.connect("active") as writer:
        read = f"{PORT} FROM (SELECT count(*) FROM fresh) x"
        wait_until("it is active", lambda: ask(connection, "simple", read) != primary)
        writer.execute("INSERT INTO fresh VALUES (1)")
        for protocol in ("simple", "extended"):
            assert ask(connection, protocol, read) == primary
            assert ask(connection, protocol, read.replace("fresh", "other")) != primary


def test_replicas_serve_as_soon_as_they_are_back_though_all_were_banned(
    start_router: Callable[..., RouterProcess], private_cluster: PrivateCluster
) -> None:
    cluster = private_cluster(replicas=2)
    cluster.wait_for_replication()
    [shard] = cluster.shards
    options = 'default_role = "replica"\nconnect_timeout = 500'
    router = start_router(
        {"db": PoolText([servers_of(shard)], options=options)}, "ban_time = 60"
    )
    ports = {replica.port for replica in shard.replicas}
    with router.connect("db") as connection:
        assert set(places(connection, "simple", PORT, 60)) == ports
        for replica in shard.replicas:
            replica.stop(StopMode.FAST)
        wait_until("it is noticed", lambda: "replica" not in str(router.admin("SHOW SERVERS")))
        for _ in range(3):
            with pytest.raises(errors.CannotConnectNow):
                connection.execute(PORT)
        for replica in shard.replicas:
            replica.start()
        # Each comes back as soon as a connection to it succeeds: at least one at once.
        assert set(places(connection, "simple", PORT, 60)) <= ports


# --- commands


@PROTOCOLS
def test_migrations_and_rows_by_command(
    router: RouterProcess, empty: list[Database], protocol: str
) -> None:
    with router.connect("plain") as connection:
        for number in range(SHARDS):
            connection.execute(f"SET SHARD TO '{number}'".encode())
            connection.execute("CREATE TABLE migrated (name text)")
            connection.execute("SET SERVER ROLE TO 'primary'")
            ask(connection, protocol, f"INSERT INTO migrated VALUES ('{number}') RETURNING 1")
            assert ask(connection, protocol, "SHOW SHARD") == str(number)
        for key in KEYS:
            connection.execute(f"SET SHARDING KEY TO '{key}'".encode())
            insert = "INSERT INTO data (id, value) VALUES (%s, %s) RETURNING id"
            assert ask(connection, protocol, insert, key, f"value_{key}") == key
            found = "SELECT value FROM data WHERE id = %s"
            assert ask(connection, protocol, found, key) == f"value_{key}"
    for number, shard in enumerate(empty):
        assert shard.execute("SELECT name FROM migrated") == [(str(number),)]
        shard.execute("DROP TABLE migrated")
    assert held(empty) == homes()


@pytest.mark.parametrize("pool", ["plain", "keyed"])
def test_postgresql_refuses_a_row_that_is_sent_to_the_wrong_shard(
    router: RouterProcess, pool: str
) -> None:
    with router.connect(pool) as connection:
        connection.execute("SET SHARD TO '1'")
        with pytest.raises(errors.CheckViolation, match="no partition of relation"):
            connection.execute("INSERT INTO data (id) VALUES (5)")


def test_a_shard_that_is_not_there_leaves_the_old_one(
    router: RouterProcess, shards: list[Database]
) -> None:
    with router.connect("plain") as connection:
        connection.execute("SET SHARD TO '1'")
        for text in ("SET SHARD TO '3'", "SET SHARD TO '99999999999999999999999999'"):
            with pytest.raises(errors.InvalidParameterValue):
                connection.execute(text.encode())
        assert ask(connection, "simple", WHERE) == shards[1].name
        with pytest.raises(errors.InvalidParameterValue):
            connection.execute("SET SHARDING KEY TO '99999999999999999999999999'")
        assert ask(connection, "simple", WHERE) == shards[1].name


COMMANDS = (
    "SET SERVER ROLE TO 'primary'",
    "SHOW SERVER ROLE",
    "set server role to 'replica';",
    "Show Server Role;",
    "SET SERVER ROLE TO 'auto'",
    "SHOW SERVER ROLE",
    "set PRIMARY reads TO 'off'",
    "SHOW PRIMARY READS",
    "SET primary READS to on",
    "show primary reads",
    "SET SHARD TO 2",
    "SHOW SHARD",
    "  set shard to 'any' ; ",
)


def program(server: Server, name: str) -> str:
    """The path of one of PostgreSQL's client programs."""
    path = server.installation.bin_dir / name
    found = str(path) if path.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run_program(
    router: RouterProcess, pool: str, *command: str, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a client program to its end."""
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        env={
            **os.environ,
            "PGHOST": router.host,
            "PGPORT": str(router.port),
            "PGUSER": "postgres",
            "PGDATABASE": pool,
        },
        input=stdin,
        text=True,
        timeout=PATIENCE * 3,
    )


@pytest.mark.parametrize("pool", ["plain", "keyed"])
def test_psql_runs_scripts_with_commands(
    router: RouterProcess, empty: list[Database], pool: str
) -> None:
    script = "".join(
        f"SET SHARDING KEY TO '{key}';\n"
        f"INSERT INTO data (id, value) VALUES ({key}, 'value_{key}');\n"
        f"set sharding key to {key};\n"
        f"SELECT value FROM data WHERE id = {key};\n"
        for key in KEYS
    )
    psql = program(empty[0].server, "psql")
    options = ("--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "-vON_ERROR_STOP=1")
    done = run_program(router, pool, psql, *options, stdin=script)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [f"value_{key}" for key in KEYS]
    assert held(empty) == homes()
    commands = [word for text in COMMANDS for word in ("-c", text)]
    done = run_program(router, pool, psql, *options, *commands)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["primary", "replica", "auto", "off", "on", "2"]


@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
def test_pgbench_runs_a_script_with_commands(
    router: RouterProcess, empty: list[Database], tmp_path: Path, protocol: str
) -> None:
    script = tmp_path / "sharded.sql"
    script.write_text(
        "\\set key random(1, 1000000)\n"
        "SET SHARDING KEY TO :key;\n"
        "SET SERVER ROLE TO 'primary';\n"
        "BEGIN;\n"
        "INSERT INTO data SELECT :key, 'x';\n"
        "UPDATE data SET value = 'y' WHERE id = :key;\n"
        "COMMIT;\n"
        f"\\set shard random(0, {SHARDS - 1})\n"
        "SET SHARD TO :shard;\n"
        "SET SERVER ROLE TO 'auto';\n"
        "SELECT count(*) FROM data;\n"
    )
    done = run_program(
        router,
        "keyed",
        program(empty[0].server, "pgbench"),
        *("--no-vacuum", "-c5", "-t20", f"-M{protocol}", f"-f{script}"),
    )
    assert done.returncode == 0, done.stderr
    counts = [shard.execute("SELECT count(*) FROM data WHERE value = 'y'") for shard in empty]
    assert sum(count for [(count,)] in counts) == 100
    assert all(count for [(count,)] in counts)


# --- keys


@pytest.mark.parametrize("pool", ["keyed", "random", "shard_2"])
@pytest.mark.parametrize("condition", ["id = $1", "id = $1 AND id = $2", "$1 = id"])
def test_each_bound_key_finds_its_row(
    router: RouterProcess, empty: list[Database], pool: str, condition: str
) -> None:
    select = f"SELECT value FROM data WHERE {condition}"
    values = condition.count("$")
    with WireClient.login(router.port, pool) as client:
        for key in KEYS:
            text = str(key).encode()
            insert = parse("INSERT INTO data (id, value) VALUES ($1, $2)")
            answer = client.ask(insert, bind(text, b"x" + text), execute(), SYNC)
            assert sqlstates(answer) == []
        client.ask(parse(select, "named"), SYNC)
        for key in KEYS:
            text = str(key).encode()
            unnamed = (parse(select), bind(*[text] * values), execute(), SYNC)
            named = (bind(*[text] * values, name="named"), execute(), SYNC)
            for batch in (unnamed, named):
                assert rows(client.ask(*batch)) == [[b"x" + text]]
    assert held(empty) == homes()


def test_activerecord_style_keys_in_the_text(
    router: RouterProcess, empty: list[Database]
) -> None:
    with router.connect("keyed") as connection:
        for key in KEYS:
            for sql in (
                f'INSERT INTO "data" ("id", "value") VALUES ({key}, \'a\') RETURNING 1',
                f'UPDATE "data" SET "value" = \'b\' WHERE "data"."id" = {key} RETURNING 1',
                f'SELECT 1 FROM "data" WHERE "data"."id" = {key} LIMIT 1',
            ):
                assert ask(connection, "simple", sql) == 1
    assert held(empty) == homes()


# --- comments and the default shard


@PROTOCOLS
@pytest.mark.parametrize("policy", POLICIES)
def test_comments_choose_the_shard_whatever_the_default(
    router: RouterProcess, shards: list[Database], policy: str, protocol: str
) -> None:
    with router.connect(f"{policy}_regex") as connection:
        assert pg_bigint_hash(3, SHARDS) == 1
        for comment in ("/* shard_id: 1 */", "/* sharding_key: 3 */"):
            found = places(connection, protocol, f"{comment} {WHERE}", 25)
            assert found == {shards[1].name: 25}


@PROTOCOLS
@pytest.mark.parametrize("pool", POLICIES)
def test_without_a_key_the_default_decides(
    router: RouterProcess, shards: list[Database], pool: str, protocol: str
) -> None:
    names = [shard.name for shard in shards]
    expected = {"shard_0": {names[0]}, "shard_2": {names[2]}}.get(pool, set(names))
    with router.connect(pool) as connection:
        # Without a regex in the pool's settings the comment is a comment.
        for sql in (WHERE, f"/* shard_id: 1 */ {WHERE}", f"/* sharding_key: 3 */ {WHERE}"):
            assert set(places(connection, protocol, sql, 100)) == expected


def test_a_default_shard_that_is_not_there_fails_the_reload(
    start_router: Callable[..., RouterProcess], shards: list[Database]
) -> None:
    router = start_router({"db": pool_of(shards)})
    wrong = {"db": pool_of(shards, f'{PARSER}\ndefault_shard = "shard_99"')}
    router.config_path.write_text(config_text(router.port, wrong))
    with (
        psycopg.connect(router.dsn("pgcat", ADMIN, ADMIN_PASSWORD), autocommit=True) as admin,
        pytest.raises(psycopg.Error) as caught,
    ):
        admin.execute("RELOAD")
    assert "default_shard" in (caught.value.diag.message_detail or "")
    assert "shard_99" in (caught.value.diag.message_detail or "")
    with router.connect("db") as connection:
        assert ask(connection, "simple", WHERE) == shards[0].name


def test_traffic_avoids_a_shard_that_fails_unless_asked_for_it(
    start_router: Callable[..., RouterProcess],
    shards: list[Database],
    private_primary: Callable[..., Server],
) -> None:
    mortal = private_primary()
    parts = [shards[0], Database(mortal, "postgres"), shards[2]]
    options = f'{PARSER}{REGEXES}\ndefault_shard = "random_healthy"\nconnect_timeout = 500'
    router = start_router({"db": pool_of(parts, options)})
    with router.connect("db") as connection:
        assert len(places(connection, "simple", WHERE, 100)) == SHARDS
        mortal.stop()
        wait_until("it is noticed", lambda: len(router.admin("SHOW SERVERS")) == SHARDS - 1)
        alive = {shards[0].name, shards[2].name}
        assert set(places(connection, "simple", WHERE, 100)) == alive
        with pytest.raises(errors.CannotConnectNow):
            connection.execute(f"/* shard_id: 1 */ {WHERE}".encode())
        assert set(places(connection, "simple", WHERE, 100)) == alive
        mortal.start()
        assert ask(connection, "simple", f"/* shard_id: 1 */ {WHERE}") == "postgres"
        assert len(places(connection, "simple", WHERE, 100)) == SHARDS


# --- the rest


def test_a_reload_moves_clients_between_transactions(
    start_router: Callable[..., RouterProcess], shards: list[Database]
) -> None:
    def pools(shard: Database) -> dict[str, PoolText]:
        return {"db": pool_of([shard], "")}

    router = start_router(pools(shards[0]))
    with router.connect("db") as connection, connection.cursor() as cursor:
        with connection.transaction():
            assert ask(connection, "simple", WHERE) == shards[0].name
            router.reload(config_text(router.port, pools(shards[1])))
            assert ask(connection, "simple", WHERE) == shards[0].name
        assert ask(connection, "simple", WHERE) == shards[1].name
        assert cursor.execute(WHERE).fetchone() == (shards[1].name,)
        with router.connect("db") as another:
            assert ask(another, "simple", WHERE) == shards[1].name


@PROTOCOLS
@pytest.mark.parametrize("role", ["auto", "any", "primary"])
def test_a_statement_is_answered_by_the_intercept_plugin(
    router: RouterProcess, protocol: str, role: str
) -> None:
    with router.connect("keyed") as connection:
        connection.execute(f"SET SERVER ROLE TO '{role}'".encode())
        cursor = ClientCursor(connection) if protocol == "simple" else connection.cursor()
        for sql in (
            "select current_database() as a, current_schemas(false) as b",
            "SELECT current_database() AS a,\n  current_schemas(FALSE) AS b;",
        ):
            assert cursor.execute(sql).fetchall() == [("keyed", "{public}")]


def test_a_session_chooses_its_shard_before_its_first_statement(
    router: RouterProcess, shards: list[Database]
) -> None:
    for number, shard in enumerate(shards):
        with router.connect("session") as connection:
            connection.execute(f"SET SHARD TO '{number}'".encode())
            assert ask(connection, "simple", WHERE) == shard.name
            with pytest.raises(errors.ObjectInUse):
                connection.execute(f"SET SHARD TO '{(number + 1) % SHARDS}'".encode())
            assert ask(connection, "extended", "SHOW SHARD") == str(number)
            assert ask(connection, "extended", WHERE) == shard.name
