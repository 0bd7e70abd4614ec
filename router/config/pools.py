"""The [pools.NAME] sections, their users and their shards."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, ClassVar, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    SecretStr,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema  # noqa: TC002 - pydantic evaluates it

from ..routing.types import KeyType, Role, RouterOptions
from .general import NO_AUTH_QUERY
from .keys import (
    LARGEST,
    Api,
    Count,
    Fixed,
    Flag,
    Form,
    Host,
    Key,
    Millis,
    Name,
    Numbered,
    OffOrMillis,
    Port,
    PositiveMillis,
    Reload,
    Seconds,
    Section,
    Text,
    Unit,
    spelled,
)
from .plugins import Plugins, Texts  # noqa: TC001 - pydantic evaluates them
from .regexes import Regex  # noqa: TC001 - pydantic evaluates it
from .values import (
    AuthType,
    ConfiguredRole,
    Listen,
    LoadBalancingMode,
    Multiplexing,
    PoolMode,
    ReadYourWrites,
    ReplicaFallback,
    ShardingFunction,
    ShardingKeyPolicy,
    WithoutKey,
)

if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

PoolSize = Annotated[int, Field(strict=True, ge=1, le=2**32 - 1)]
Bytes = Annotated[int, Field(strict=True, ge=0, le=LARGEST), Unit.BYTES]
Weight = Annotated[int, Field(strict=True, ge=0, le=1000)]
Depth = Annotated[int, Field(strict=True, ge=2, le=1000)]
Tokens = Annotated[int, Field(strict=True, ge=0, le=100_000)]


_AS_POOL = Key("As for the pool.", unset="the pool's")
_AS_GENERAL = Key("As in [general].", unset="that of [general]")
_INHERITED = Key("As in [general].", unset="inherited")


class Inherited(Section):
    """Keys of [general] that may be set for a pool as well, and for a user of it."""

    connect_timeout: Annotated[PositiveMillis | None, _INHERITED] = None
    idle_timeout: Annotated[PositiveMillis | None, _INHERITED] = None
    server_lifetime: Annotated[PositiveMillis | None, _INHERITED] = None
    client_idle_timeout: Annotated[Millis | None, _INHERITED] = None
    query_timeout: Annotated[Millis | None, _INHERITED] = None
    transaction_timeout: Annotated[Millis | None, _INHERITED] = None
    max_waiting_clients: Annotated[Count | None, _INHERITED] = None
    reserve_pool_size: Annotated[Count | None, _INHERITED] = None
    reserve_pool_timeout: Annotated[Millis | None, _INHERITED] = None
    read_your_writes: Annotated[ReadYourWrites | None, _INHERITED] = None
    read_your_writes_timeout: Annotated[Millis | None, _INHERITED] = None


class User(Inherited):
    """Somebody who may use the pool; has server connections of their own."""

    username: Annotated[Name, Fixed("Name that clients log in with.")]
    password: Annotated[
        SecretStr | None, Fixed("Password of clients. Who has none can log in by trust only.")
    ] = None
    auth_type: Annotated[
        AuthType, Key("How clients prove who they are.", Reload.CONNECTIONS)
    ] = AuthType.MD5
    server_username: Annotated[
        Name | None, Fixed("Name that servers know the user by.", unset="username")
    ] = None
    server_password: Annotated[
        SecretStr | None, Fixed("Password towards servers.", unset="password")
    ] = None
    pool_size: Annotated[PoolSize, Key("Most connections to each server of each shard.")]
    min_pool_size: Annotated[Count, Key("Connections to each server that are kept open.")] = 0
    pool_mode: Annotated[PoolMode | None, Fixed("As for the pool.", unset="the pool's")] = None
    statement_timeout: Annotated[
        Millis, Fixed("Longest time that a statement may run; 0 is off.")
    ] = 0
    max_user_client_connections: Annotated[Count | None, _AS_GENERAL] = None
    max_user_connections: Annotated[Count | None, _AS_GENERAL] = None
    multiplexing: Annotated[Multiplexing | None, _AS_POOL] = None
    multiplexing_depth: Annotated[Depth | None, _AS_POOL] = None
    multiplexing_slow: Annotated[PositiveMillis | None, _AS_POOL] = None
    multiplexing_connections: Annotated[Count | None, _AS_POOL] = None


class _Listed(Section):
    """A table that may be written as an array."""

    @model_validator(mode="before")
    @classmethod
    def _from_array(cls, value: object) -> object:
        if not isinstance(value, list):
            return value
        names = (*cls.array_form, *cls.array_more)
        if not len(cls.array_form) <= len(value) <= len(names):
            raise ValueError(f"must be [{', '.join(cls.array_form)}]")
        return dict(zip(names, cast("list[object]", value), strict=False))

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Allow both forms."""
        table = handler.resolve_ref_schema(handler(core))
        items = [table["properties"][name] for name in (*cls.array_form, *cls.array_more)]
        least, most = len(cls.array_form), len(items)
        array = {"type": "array", "prefixItems": items, "minItems": least, "maxItems": most}
        return {"anyOf": [array, table]}


def _no_mirror(value: object) -> object:
    if isinstance(value, str) and value.lower() == "mirror":
        raise ValueError('must be "primary", "replica" or "auto"; mirrors have their own key')
    return value


class Server(_Listed):
    """A PostgreSQL server of a shard."""

    array_form: ClassVar[tuple[str, ...]] = ("host", "port", "role")
    array_more: ClassVar[tuple[str, ...]] = ("weight",)

    host: Annotated[Host, Fixed("Host name or address.")]
    port: Annotated[Port, Fixed("Port.")]
    role: Annotated[
        ConfiguredRole,
        BeforeValidator(_no_mirror),
        Fixed("Whether it takes writes, or copies the primary; auto: the server tells."),
    ]
    weight: Annotated[
        Weight,
        Fixed("Its share of what several servers could do; 0: nothing while there is another."),
    ] = 1


class Mirror(_Listed):
    """A server that gets a copy of what a server of the shard gets; its answers are dropped."""

    array_form: ClassVar[tuple[str, ...]] = ("host", "port", "mirroring_target_index")

    host: Annotated[Host, Fixed("Host name or address.")]
    port: Annotated[Port, Fixed("Port.")]
    mirroring_target_index: Annotated[
        Count, Key("Position of the server to copy in the shard's servers, from 0.")
    ]


def _literal(value: object) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("must be an integer or a string")
    return value


def _pair(value: object) -> tuple[int | str, int | str]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("must be [from, to]")
    low, high = value
    return _literal(low), _literal(high)


_LITERAL_SCHEMA = {"type": ["integer", "string"]}
_PAIR_SCHEMA = {"type": "array", "items": _LITERAL_SCHEMA, "minItems": 2, "maxItems": 2}

Literal = Annotated[int | str, PlainValidator(_literal), WithJsonSchema(_LITERAL_SCHEMA)]
Pair = Annotated[
    tuple[int | str, int | str], PlainValidator(_pair), WithJsonSchema(_PAIR_SCHEMA)
]


class Shard(Section):
    """One part of the data: a primary and its replicas."""

    database: Annotated[Name, Fixed("Database on the servers.")]
    servers: Annotated[
        tuple[Server, ...],
        Form("an array of [host, port, role]"),
        Fixed("The servers, at most one of them a primary."),
    ]
    patroni: Annotated[
        tuple[Api, ...],
        Form("an array of strings"),
        Key(
            "Patroni's REST APIs, such as `http://db1:8008`: the members of the cluster that "
            "they tell take the place of `servers`, which all have the role `auto`.",
            Reload.AT_ONCE,
        ),
    ] = ()
    mirrors: Annotated[
        tuple[Mirror, ...],
        Form("an array of [host, port, mirroring_target_index]"),
        Key("Servers that get a copy of the traffic.", unused="nothing is mirrored yet"),
    ] = ()
    sharding_values: Annotated[
        tuple[Literal, ...] | None,
        Form("an array of integers or strings"),
        Fixed("The sharding keys that it has, if sharding_function is `list`."),
    ] = None
    sharding_ranges: Annotated[
        tuple[Pair, ...] | None,
        Form("an array of [from, to]"),
        Fixed(
            "The ranges of keys that it has, if sharding_function is `range`: from is in, "
            'to is not; also "MINVALUE" and "MAXVALUE".',
        ),
    ] = None
    sharding_default: Annotated[
        Flag, Fixed("It has all the keys that no shard names; of `list` and `range`.")
    ] = False


def _default_shard(value: str) -> str:
    if (
        re.fullmatch(r"shard_(0|[1-9][0-9]{0,9})|random|random_healthy", value, re.ASCII)
        is None
    ):
        raise ValueError(
            'must be "shard_N" with a shard\'s number, "random" or "random_healthy"'
        )
    return value


def _default_role(value: object) -> object:
    return None if isinstance(value, str) and value.lower() == "any" else value


_NAME = r'(?:"(?:[^"]|"")+"|[^".*]+)'
_TABLE = re.compile(rf"{_NAME}(?:\.{_NAME})?")
_KEY_COLUMN = re.compile(rf"(?:\*|{_TABLE.pattern})\.{_NAME}")


_STRINGS_OR_ONE: JsonSchemaValue = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
}


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _sharding_keys(value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(map(_KEY_COLUMN.fullmatch, value)):
        raise ValueError(
            'must be "table.column", "schema.table.column" or "*.column", '
            "or an array of such strings"
        )
    return value


def _tables(value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(map(_TABLE.fullmatch, value)):
        raise ValueError('must be an array of "table" or "schema.table"')
    return value


_AUTH_QUERY = Key("As in [general].", unset="that of [general]", unused=NO_AUTH_QUERY)
# What is not set has the default of what it is for.
_ROUTING = RouterOptions()


class PoolConfig(Inherited):
    """A database that clients can ask for."""

    name: SkipJsonSchema[str]
    """The key of its table: the database name that clients give."""

    pool_mode: Annotated[PoolMode, Fixed("How long a client keeps a server connection.")] = (
        PoolMode.TRANSACTION
    )
    load_balancing_mode: Annotated[
        LoadBalancingMode, Key("Which of several suitable servers is taken.")
    ] = LoadBalancingMode.RANDOM
    default_role: Annotated[
        Role | None,
        BeforeValidator(_default_role),
        spelled(Role),
        Form('"any", "primary" or "replica"'),
        Fixed(
            "Which servers take statements that are not inspected.",
            unset="any",
        ),
    ] = None
    query_parser_enabled: Annotated[
        Flag, Fixed("Inspect statements; splitting and automatic sharding need it.")
    ] = _ROUTING.query_parser_enabled
    query_parser_max_length: Annotated[
        Bytes, Fixed("Longer statements are not inspected; at most 256 KiB count.")
    ] = _ROUTING.query_parser_max_length
    query_parser_max_tokens: Annotated[
        Tokens,
        Fixed("Statements of more words and signs are not parsed: all clients wait meanwhile."),
    ] = _ROUTING.query_parser_max_tokens
    query_parser_read_write_splitting: Annotated[
        Flag, Fixed("Send reads to replicas and writes to the primary.")
    ] = _ROUTING.query_parser_read_write_splitting
    primary_reads_enabled: Annotated[Flag, Fixed("Let the primary take reads too.")] = (
        _ROUTING.primary_reads_enabled
    )
    max_replica_lag: Annotated[
        Millis, Key("Replicas that are further behind get no reads; 0 is off.")
    ] = 0
    max_replica_lag_bytes: Annotated[
        Bytes, Key("The same in bytes of the write-ahead log; 0 is off.")
    ] = 0
    replica_fallback: Annotated[
        ReplicaFallback,
        Key("What reads do when no replica is left: go to the primary, or fail."),
    ] = ReplicaFallback.PRIMARY
    retry_reads: Annotated[
        Flag,
        Key(
            "A read whose server is lost before a byte of its answer came is run once more "
            "elsewhere."
        ),
    ] = True
    deferred_begin: Annotated[
        Flag | None,
        Key(
            "In transaction mode, a transaction gets its server with its first statement, not "
            "with BEGIN.",
            unset="on with several shards; with one, for read-only transactions where reads "
            "are split",
        ),
    ] = None
    multiplexing: Annotated[
        Multiplexing | None,
        Key(
            "Whether statements of several clients are sent to one server connection, one "
            "behind the other, when none is idle: `reads` are those outside of transactions "
            "that leave nothing behind, and they may be run twice. Needs `query_statistics`.",
            unset='"reads" in transaction mode with `retry_reads`, else "off"',
        ),
    ] = None
    multiplexing_depth: Annotated[
        Depth, Key("How many statements may be on their way at one connection, multiplexed.")
    ] = 8
    multiplexing_slow: Annotated[
        PositiveMillis,
        Key("Nothing is multiplexed behind statements that have taken longer lately."),
    ] = 20
    multiplexing_connections: Annotated[
        Count,
        Key(
            "While so many connections are at work, a read goes behind others that take well "
            "below a millisecond together, though a connection is idle; 0 is never."
        ),
    ] = 2
    read_functions: Annotated[
        Texts, Fixed("Functions of your own that only read, which is not assumed.")
    ] = ()
    write_functions: Annotated[
        Texts, Fixed("Functions to be treated as writes, whatever they are known for.")
    ] = ()
    learn_functions: Annotated[
        Flag, Fixed("Read from the catalogue which functions of your own only read.")
    ] = False
    query_wait_timeout: Annotated[Millis | None, _AS_GENERAL] = None
    max_db_client_connections: Annotated[Count | None, _AS_GENERAL] = None
    max_db_connections: Annotated[Count | None, _AS_GENERAL] = None
    checkout_failure_limit: Annotated[
        Count | None,
        Key(
            "A client that so often in a row got no server connection is dropped; 0 is off.",
            unset="off",
        ),
    ] = None
    prepared_statements_cache_size: Annotated[
        Count | None, Fixed("As in [general].", unset="that of [general]")
    ] = None
    cleanup_server_connections: Annotated[
        Flag, Key("Undo what a client left behind before the next one gets the connection.")
    ] = True
    pin_session_state: Annotated[
        Flag,
        Key(
            "Let settings follow their client, and what cannot (temporary tables, session "
            "locks, LISTEN) keep it on its server. If false, all of that is undone when the "
            "transaction ends. Not for session mode, and needs `cleanup_server_connections`."
        ),
    ] = True
    listen: Annotated[
        Listen,
        spelled(Listen),
        Key(
            "Who listens for clients that LISTEN: one connection for all of them, or the "
            "server of each, which it then keeps. Not for "
            "session mode, and needs `pin_session_state`."
        ),
    ] = Listen.SHARED
    max_pinned: Annotated[
        Count | None,
        Key(
            "Most connections to a server that clients may so keep; none in statement mode.",
            unset="pool_size - 1",
        ),
    ] = None
    log_min_duration_statement: Annotated[OffOrMillis | None, _AS_GENERAL] = None
    log_statement_text: Annotated[Flag | None, _AS_GENERAL] = None
    log_client_parameter_status_changes: Annotated[
        Flag,
        Key("Log changes of the settings that servers report to clients at level info."),
    ] = False

    sharding_function: Annotated[
        ShardingFunction, Fixed("How a sharding key becomes a shard number.")
    ] = ShardingFunction(_ROUTING.sharding_function)
    sharding_key_type: Annotated[
        KeyType | None,
        spelled(KeyType),
        Fixed(
            "What sharding keys are: for `sha1`, `list` and `range`.",
            unset="that of the function, else bigint",
        ),
    ] = None
    automatic_sharding_key: Annotated[
        tuple[Text, ...],
        BeforeValidator(_listed),
        AfterValidator(_sharding_keys),
        WithJsonSchema(_STRINGS_OR_ONE),
        Form("`table.column`, `schema.table.column` or `*.column`, or an array of these"),
        Fixed("Columns whose values in a statement choose the shard."),
    ] = ()
    omnisharded_tables: Annotated[
        Texts,
        AfterValidator(_tables),
        Fixed("Tables that every shard has a copy of: any answers reads, all get changes."),
    ] = ()
    sharding_key_policy: Annotated[
        ShardingKeyPolicy,
        Fixed(
            "Whether the shard of a key or a comment is the client's from then on: `sticky`."
        ),
    ] = ShardingKeyPolicy(_ROUTING.sharding_key_policy)
    sharding_without_key: Annotated[
        WithoutKey | None,
        Fixed(
            "What becomes of statements on sharded tables that no single shard is found for.",
            unset='`"refuse"`; `"default_shard"` if the file sets that key, or with `sticky`',
        ),
    ] = None
    sharding_key_regex: Annotated[
        Regex | None,
        Form("a regular expression"),
        Fixed("Finds a sharding key in a statement's comments, as its group 1."),
    ] = None
    shard_id_regex: Annotated[
        Regex | None,
        Form("a regular expression"),
        Fixed("Finds a shard number in a statement's comments, as its group 1."),
    ] = None
    regex_search_limit: Annotated[Bytes, Fixed("How much of a statement the two look at.")] = (
        _ROUTING.regex_search_limit
    )
    default_shard: Annotated[
        Text,
        AfterValidator(_default_shard),
        Form("`shard_N`, `random` or `random_healthy`"),
        Fixed(
            "Where statements go that name no shard.",
            aliases=("no_shard_specified_behavior",),
        ),
    ] = _ROUTING.default_shard

    auth_query: Annotated[Text | None, _AUTH_QUERY] = None
    auth_query_user: Annotated[Name | None, _AUTH_QUERY] = None
    auth_query_password: Annotated[SecretStr | None, _AUTH_QUERY] = None

    db_activity_based_routing: Annotated[
        Flag, Fixed("Send reads to the primary while their tables are freshly written.")
    ] = False
    db_activity_init_delay: Annotated[
        Millis,
        Fixed(
            "How long everything goes to the primary after the first statement.",
            aliases=("db_activity_based_ms_init_delay",),
        ),
    ] = 100
    db_activity_ttl: Annotated[
        Seconds, Fixed("How long without statements until that begins anew.")
    ] = 900
    table_mutation_cache_ms_ttl: Annotated[
        Millis, Fixed("How long a table counts as freshly written.")
    ] = 50

    plugins: Annotated[
        Plugins | None,
        Key("Replaces [plugins] for this pool.", Reload.AT_ONCE, unset="[plugins]"),
    ] = None
    users: Annotated[
        tuple[User, ...],
        Numbered(),
        Fixed("Who may use the pool; their keys are any strings."),
    ]
    shards: Annotated[
        tuple[Shard, ...],
        Numbered(numeric=True),
        Fixed("The shards, numbered from 0."),
    ]

    @property
    def is_sharded_by_key(self) -> bool:
        """Whether there are tables whose statements belong to the shards of their keys."""
        is_read = self.query_parser_enabled and len(self.shards) > 1
        return is_read and bool(self.automatic_sharding_key)

    @property
    def refuses_without_key(self) -> bool:
        """Whether statements on such tables are refused if they have no single shard."""
        if self.sharding_without_key is not None:
            return self.is_sharded_by_key and self.sharding_without_key is WithoutKey.REFUSE
        return self.is_sharded_by_key and not (
            "default_shard" in self.model_fields_set
            or self.sharding_key_policy is ShardingKeyPolicy.STICKY
        )
