"""Keys of all types through a real router: each row must come to the shard that has a place.

Each shard has one partition of each table and no other, so that PostgreSQL refuses a row that
comes to the wrong shard.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import psycopg
import pytest
import trio
import trio_asyncio
from psycopg import errors

from router.routing.hashing import pg_text_hash, pg_uuid_hash
from tests.support.router import PoolText, primary_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster.server import Server
    from tests.support.postgres import Database
    from tests.support.router import RouterProcess

SHARDS = 3
LIST: tuple[list[int], ...] = ([1, 2, -5], [3, 4], [])
RANGES = ([("", "g")], [("g", "q")], [("q", "é"), ("é", "漢")])
NAMES = [
    "ann",
    "it's",
    "",
    "é",
    "grün 🙂",
    "a\\b",
    'quote " here',
    "$1",
    "x" * 300,
    "漢字",
    "  ",
]

Connection = psycopg.Connection[tuple[object, ...]]


def tables(number: int) -> str:
    """The SQL that makes the tables of one shard."""
    modulus = f"FOR VALUES WITH (MODULUS {SHARDS}, REMAINDER {number})"
    listed = ", ".join(map(str, LIST[number]))
    places = [("texts", modulus), ("uuids", modulus)]
    places.append(("listed", f"FOR VALUES IN ({listed})" if listed else "DEFAULT"))
    places += [
        ("ranged", f"FOR VALUES FROM ('{low}') TO ('{high}')") for low, high in RANGES[number]
    ]
    made = (
        "CREATE TABLE texts (id text, n int) PARTITION BY HASH (id);"
        "CREATE TABLE uuids (id uuid, n int) PARTITION BY HASH (id);"
        "CREATE TABLE listed (id bigint, n int) PARTITION BY LIST (id);"
        'CREATE TABLE ranged (id varchar COLLATE "C", n int) PARTITION BY RANGE (id);'
    )
    return made + ";".join(
        f"CREATE TABLE {table}_{index} PARTITION OF {table} {bounds}"
        for index, (table, bounds) in enumerate(places)
    )


@pytest.fixture
def router(
    postgres: Server,
    make_database: Callable[..., Database],
    start_router: Callable[..., RouterProcess],
) -> RouterProcess:
    """A router with a pool for each table, over the same three databases."""
    databases = [make_database(postgres) for _ in range(SHARDS)]
    for number, database in enumerate(databases):
        database.execute(tables(number))

    def pool(table: str, options: str, shard_options: list[str] | None = None) -> PoolText:
        return PoolText(
            shards=[primary_of(postgres)] * SHARDS,
            databases=[database.name for database in databases],
            shard_options=shard_options or (),
            options=(
                f'query_parser_enabled = true\nautomatic_sharding_key = "{table}.id"\n{options}'
            ),
        )

    lists = [f"sharding_values = {values}" for values in LIST[:2]]
    ranges = [
        f"sharding_ranges = {[list(pair) for pair in pairs]}".replace("'", '"')
        for pairs in RANGES
    ]
    return start_router(
        {
            "texts": pool("texts", 'sharding_function = "pg_text_hash"'),
            "uuids": pool("uuids", 'sharding_function = "pg_uuid_hash"'),
            "listed": pool(
                "listed",
                'sharding_function = "list"',
                [*lists, "sharding_values = []\nsharding_default = true"],
            ),
            "ranged": pool(
                "ranged", 'sharding_function = "range"\nsharding_key_type = "text"', ranges
            ),
        }
    )


def inserted_and_found(connection: Connection, table: str, keys: list[object]) -> None:
    """Write each key with a literal and with parameters in both formats, and read it back."""
    literals = psycopg.ClientCursor(connection)
    for key in keys:
        literals.execute(f"INSERT INTO {table} (id, n) VALUES (%s, 0)", [key])
        for count, binary in enumerate((False, True), 1):
            cursor = connection.cursor(binary=binary)
            place = "%b" if binary else "%t"
            cursor.execute(f"INSERT INTO {table} (id, n) VALUES ({place}, {count})", [key])
            rows = cursor.execute(f"SELECT n FROM {table} WHERE id = {place}", [key]).fetchall()
            assert {row[0] for row in rows} == set(range(count + 1)), key
        rows = literals.execute(f"SELECT n FROM {table} WHERE id = %s", [key]).fetchall()
        assert len(rows) == 3


def test_text_keys_come_to_their_partitions(router: RouterProcess) -> None:
    rng = random.Random(3)
    keys: list[object] = [*NAMES, *(f"key {rng.random()}" for _ in range(40))]
    with router.connect("texts") as connection:
        inserted_and_found(connection, "texts", keys)


def test_uuids_come_to_their_partitions(router: RouterProcess) -> None:
    rng = random.Random(4)
    keys: list[object] = [UUID(int=rng.getrandbits(128)) for _ in range(40)]
    with router.connect("uuids") as connection:
        inserted_and_found(connection, "uuids", keys)


def test_listed_and_other_keys_come_to_their_partitions(router: RouterProcess) -> None:
    with router.connect("listed") as connection:
        inserted_and_found(connection, "listed", [1, 2, -5, 3, 4, 99, -(1 << 63)])


def test_ranges_of_text_come_to_their_partitions(router: RouterProcess) -> None:
    keys: list[object] = ["", "A", "fz", "g", "pzzz", "q", "z", "é", "ö", "愛"]
    with router.connect("ranged") as connection:
        inserted_and_found(connection, "ranged", keys)
        with pytest.raises(errors.InvalidParameterValue, match="of type text") as caught:
            connection.execute("SELECT * FROM ranged WHERE id = '漢'")
        assert "from g to q" in (caught.value.diag.message_hint or "")
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_text_key_is_chosen_by_command(router: RouterProcess) -> None:
    with router.connect("texts") as connection:
        cursor = psycopg.ClientCursor(connection)
        for key in NAMES:
            quoted = key.replace("'", "''")
            connection.execute(f"SET SHARDING KEY TO '{quoted}'".encode())
            cursor.execute("BEGIN")
            cursor.execute("INSERT INTO texts VALUES (%s, 7)", [key])
            cursor.execute("COMMIT")
        with pytest.raises(errors.InvalidParameterValue, match="is not in quotes"):
            connection.execute("SET SHARDING KEY TO 5")


def test_a_parameter_may_be_the_key_of_the_command(router: RouterProcess) -> None:
    with router.connect("uuids") as connection:
        for n in range(20):
            key = UUID(int=n << 64)
            connection.execute("SET SHARDING KEY TO %s", [key])
            connection.execute("INSERT INTO uuids SELECT %s, 1 + 0", [key])


def test_a_client_with_another_encoding_is_refused_what_may_go_astray(
    router: RouterProcess,
) -> None:
    with psycopg.connect(
        router.dsn("texts"), autocommit=True, client_encoding="latin1"
    ) as connection:
        connection.execute("INSERT INTO texts (id, n) VALUES ('plain', 1)")
        cursor = psycopg.ClientCursor(connection)
        for run in (connection.execute, cursor.execute):
            with pytest.raises(errors.InvalidParameterValue, match=r"UTF-8|plain ASCII"):
                run("INSERT INTO texts (id, n) VALUES (%s, 1)", ["grün"])
            # In UTF-8 these bytes are another text.
            with pytest.raises(errors.InvalidParameterValue, match="plain ASCII"):
                run("INSERT INTO texts (id, n) VALUES (%s, 1)", ["Ã¼"])
        connection.execute("SET client_encoding TO 'UTF8'")
        with pytest.raises(errors.InvalidParameterValue, match="plain ASCII"):
            connection.execute("INSERT INTO texts (id, n) VALUES ('grün', 1)")


def test_a_client_that_changes_its_encoding_is_noticed(router: RouterProcess) -> None:
    with router.connect("texts") as connection:
        connection.execute("INSERT INTO texts (id, n) VALUES ('grün', 1)")
        connection.execute("SET client_encoding TO 'LATIN1'")
        with pytest.raises(errors.InvalidParameterValue, match="plain ASCII"):
            connection.execute("INSERT INTO texts (id, n) VALUES (%s, 1)", ["Ã¼"])


def test_a_value_that_is_converted_is_not_taken_for_a_key(router: RouterProcess) -> None:
    with router.connect("listed") as connection:
        # Eight bytes, as a bigint has, but those of a double precision: another key, which
        # shard 2 would take.
        with pytest.raises(errors.FeatureNotSupported, match="key is not known"):
            connection.execute("INSERT INTO listed (id, n) VALUES (%b, 1)", [3.0])


def test_a_reload_moves_a_key_to_another_shard(router: RouterProcess) -> None:
    with router.connect("listed") as connection:
        connection.execute("INSERT INTO listed (id, n) VALUES (3, 1)")
        text = router.config_path.read_text()
        router.reload(text.replace("sharding_values = [3, 4]", "sharding_values = [4]"))
        find = "SELECT n FROM listed WHERE id = 3"
        assert connection.execute(find).fetchall() == []
        router.reload(text)
        assert connection.execute(find).fetchall() == [(1,)]


async def test_asyncpg_binds_keys_in_binary_format(router: RouterProcess) -> None:
    uuids = [UUID(int=n << 60) for n in range(20)]

    async def body() -> None:
        for pool, keys in (
            ("texts", sorted(NAMES, key=lambda key: pg_text_hash(key, SHARDS))),
            ("uuids", sorted(uuids, key=lambda key: pg_uuid_hash(key, SHARDS))),
            ("listed", [1, 2, 3, 4, 5]),
        ):
            connection = await asyncpg.connect(
                host=router.host, port=router.port, user="postgres", database=pool
            )
            # It flushes before it binds for the first time: that goes to the default shard,
            # which is that of the first key.
            for key in keys:
                await connection.execute(f"INSERT INTO {pool} (id) VALUES ($1)", key)
                for condition in ("id = $1", "id IN ($1, $1)"):
                    found = f"SELECT id FROM {pool} WHERE {condition}"
                    assert await connection.fetchval(found, key) == key
                found = f"SELECT id FROM {pool} WHERE id = ANY($1)"
                assert await connection.fetchval(found, [key]) == key
            await connection.close()

    with trio.fail_after(60):
        async with trio_asyncio.open_loop():
            await trio_asyncio.aio_as_trio(body)()
