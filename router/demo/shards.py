"""What the demo's shards hold, and the pgcat.toml that describes them to the router."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .server import HOST

if TYPE_CHECKING:
    from .cluster import Cluster
    from .ports import Ports

DATABASE = "app"
USER = "app"
PASSWORD = "app"
ADMIN = "admin"
TABLE = "events"
ROWS = 30_000
HBA = (f"host {DATABASE} {USER} {HOST}/32 scram-sha-256",)


def fill(cluster: Cluster) -> None:
    """Give every shard its own partition of the table, filled, and wait for the replicas.

    A shard has no partition but its own: PostgreSQL itself rejects a row that comes to the
    wrong one.
    """
    total = len(cluster.shards)
    for number, shard in enumerate(cluster.shards):
        primary = shard.primary
        primary.execute(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
        primary.execute(f"CREATE DATABASE {DATABASE} OWNER {USER}")
        primary.execute(_table(number, total), database=DATABASE)
    cluster.wait_for_replication()


def _table(number: int, total: int) -> str:
    return f"""
        SET ROLE {USER};
        CREATE TABLE {TABLE} (
            id bigint PRIMARY KEY,
            kind text NOT NULL,
            created timestamptz NOT NULL DEFAULT now()
        ) PARTITION BY HASH (id);
        CREATE TABLE {TABLE}_{number} PARTITION OF {TABLE}
            FOR VALUES WITH (MODULUS {total}, REMAINDER {number});
        INSERT INTO {TABLE} (id, kind)
            SELECT id, (ARRAY['click', 'view', 'buy'])[id % 3 + 1]
            FROM generate_series(1, {ROWS}::bigint) AS id
            WHERE satisfies_hash_partition('{TABLE}'::regclass, {total}, {number}, id);
        ANALYZE {TABLE};
    """


def shard_of(cluster: Cluster, key: int) -> int:
    """Ask PostgreSQL which shard's partition a key belongs to."""
    total = len(cluster.shards)
    [(number,)] = cluster.primary.execute(
        f"SELECT number FROM generate_series(0, {total - 1}) AS number"
        f" WHERE satisfies_hash_partition('{TABLE}'::regclass, {total}, number, %s::bigint)",
        (key,),
        database=DATABASE,
    )
    assert isinstance(number, int)
    return number


def config_text(cluster: Cluster, ports: Ports) -> str:
    """Return the pgcat.toml of a router in front of the cluster."""
    shards = "\n".join(
        f"""
[pools.{DATABASE}.shards.{number}]
database = "{DATABASE}"
servers = [
    ["{HOST}", {shard.primary.port}, "primary"],
    ["{HOST}", {shard.replicas[0].port}, "replica"],
]"""
        for number, shard in enumerate(cluster.shards)
    )
    return f"""\
[general]
host = "{HOST}"
port = {ports.router}
enable_prometheus_exporter = true
prometheus_exporter_port = {ports.metrics}
admin_username = "{ADMIN}"
admin_password = "{ADMIN}"
# A psql that is still open does not hold up the end of the demo.
shutdown_timeout = 1000

[pools.{DATABASE}]
pool_mode = "transaction"
query_parser_enabled = true
query_parser_read_write_splitting = true
primary_reads_enabled = false
sharding_function = "pg_bigint_hash"
automatic_sharding_key = "{TABLE}.id"

[pools.{DATABASE}.users.0]
username = "{USER}"
password = "{PASSWORD}"
pool_size = 10
{shards}
"""
