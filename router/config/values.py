"""The words that a configuration may use."""

from __future__ import annotations

from enum import Enum

from .keys import Word


class Deferring(Enum):
    """Which transactions get their server with their first statement, and not with BEGIN."""

    OFF = "none"
    READ_ONLY = "those that are read-only"
    ALL = "all"


class Listen(Word):
    """Who hears notifications for a client, in transaction and statement mode."""

    SHARED = "shared"
    """One connection for all clients of the pool."""
    PIN = "pin"
    """Its own server, which it keeps."""


class PoolMode(Word):
    """For how long a client keeps a server connection."""

    SESSION = "session"
    """Until it leaves."""
    TRANSACTION = "transaction"
    """Until the end of a transaction."""
    STATEMENT = "statement"
    """Until the end of a statement; transaction blocks are refused."""


class AuthType(Word):
    """How a client proves who it is."""

    TRUST = "trust"
    MD5 = "md5"
    SCRAM_SHA_256 = "scram-sha-256"


class ConfiguredRole(Word):
    """What a server is to its shard."""

    PRIMARY = "primary"
    REPLICA = "replica"
    AUTO = "auto"
    """The one or the other, as it tells."""


class LoadBalancingMode(Word):
    """Which of several servers that would do is taken."""

    RANDOM = "random"
    LEAST_OUTSTANDING_CONNECTIONS = "least_outstanding_connections"

    @classmethod
    def other_spellings(cls, member: Word) -> tuple[str, ...]:
        """PgCat's short form."""
        return ("loc",) if member is cls.LEAST_OUTSTANDING_CONNECTIONS else ()


class ReplicaFallback(Word):
    """What reads do that no replica is left for."""

    PRIMARY = "primary"
    ERROR = "error"


class ReadYourWrites(Word):
    """Whose writes a client's reads are sure to see on a replica."""

    OFF = "off"
    SESSION = "session"
    """Those of the client itself, and of whoever it has its read position from."""


class Multiplexing(Word):
    """What several clients may send to one server connection, one behind the other."""

    OFF = "off"
    READS = "reads"
    """Single reads outside of transactions that leave nothing behind."""


class ShardingKeyPolicy(Word):
    """What becomes of statements whose sharding keys do not lead to one shard."""

    STRICT = "strict"
    STICKY = "sticky"


class WithoutKey(Word):
    """What becomes of statements on sharded tables that no single shard is found for."""

    REFUSE = "refuse"
    DEFAULT_SHARD = "default_shard"


class ProtocolVersion(Word):
    """A version of PostgreSQL's protocol."""

    V3_0 = "3.0"
    V3_2 = "3.2"


class ShardingFunction(Word):
    """How a sharding key becomes the number of a shard."""

    PG_BIGINT_HASH = "pg_bigint_hash"
    PG_UUID_HASH = "pg_uuid_hash"
    PG_TEXT_HASH = "pg_text_hash"
    SHA1 = "sha1"
    LIST = "list"
    RANGE = "range"
