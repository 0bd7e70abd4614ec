"""The grammar of the routing commands."""

from __future__ import annotations

import pytest

from router.errors import InvalidShard, InvalidShardingKey, RoutingError
from router.routing.commands import ClientCommand, Verb, Wording, worded
from router.routing.sharding import Sharder
from router.routing.types import RouterOptions, ServerRole

from .commanded import command_in

KEY = Verb.SET_SHARDING_KEY
SHARD = Verb.SET_SHARD
ROLE = Verb.SET_SERVER_ROLE
READS = Verb.SET_PRIMARY_READS


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (b"SET SHARDING KEY TO '1'", ClientCommand(KEY, number=1)),
        (b"SET SHARDING KEY TO 1", ClientCommand(KEY, number=1)),
        (b"SET SHARDING KEY TO -1", ClientCommand(KEY, number=-1)),
        (b"SET SHARD TO '1'", ClientCommand(SHARD, number=1)),
        (b"SET SHARD TO 1;", ClientCommand(SHARD, number=1)),
        (b"SET SHARD TO 1 ;", ClientCommand(SHARD, number=1)),
        (b"  set shard to any  ", ClientCommand(SHARD)),
        (b"SET SHARD TO 'ANY'", ClientCommand(SHARD)),
        (b"SET SHARD TO '5", ClientCommand(SHARD, number=5)),
        (b"SET SHARD TO 5'", ClientCommand(SHARD, number=5)),
        (b'SET SHARD TO "5"', ClientCommand(SHARD, number=5)),
        (b"SET SHARD TO ' 5 '", ClientCommand(SHARD, number=5)),
        (b"SET SHARD = 5", ClientCommand(SHARD, number=5)),
        (b"SET SHARD='5'", ClientCommand(SHARD, number=5)),
        (b"SET SHARD TO'5'", ClientCommand(SHARD, number=5)),
        (b"SeT\tsHaRd\nTO\r\n5\n;;\n", ClientCommand(SHARD, number=5)),
        (b"/* a */ SET /* b */ SHARD -- c\n TO 5 -- d", ClientCommand(SHARD, number=5)),
        (b";SET SHARD TO 5", ClientCommand(SHARD, number=5)),
        (b"-- hi\nSHOW SHARD", ClientCommand(Verb.SHOW_SHARD)),
        (b"SET SERVER ROLE TO 'primary'", ClientCommand(ROLE, role=ServerRole.PRIMARY)),
        (b"SET SERVER ROLE TO 'replica'", ClientCommand(ROLE, role=ServerRole.REPLICA)),
        (b"SET SERVER ROLE TO 'any'", ClientCommand(ROLE, role=ServerRole.ANY)),
        (b"SET SERVER ROLE TO 'auto'", ClientCommand(ROLE, role=ServerRole.AUTO)),
        (b"SET SERVER ROLE TO 'default'", ClientCommand(ROLE, role=ServerRole.DEFAULT)),
        (b"SET SERVER ROLE TO PRIMARY", ClientCommand(ROLE, role=ServerRole.PRIMARY)),
        (b"SET PRIMARY READS TO 'on'", ClientCommand(READS, switch=True)),
        (b"SET PRIMARY READS TO OFF", ClientCommand(READS, switch=False)),
        (b"SET PRIMARY READS TO default", ClientCommand(READS)),
        (b"SHOW SHARD;", ClientCommand(Verb.SHOW_SHARD)),
        (b"SHOW SERVER ROLE", ClientCommand(Verb.SHOW_SERVER_ROLE)),
        (b"SHOW PRIMARY READS", ClientCommand(Verb.SHOW_PRIMARY_READS)),
        (b"show\tprimary\treads", ClientCommand(Verb.SHOW_PRIMARY_READS)),
        (b"SET LOCAL SHARD TO 5", ClientCommand(SHARD, number=5, local=True)),
        (b"SET LOCAL SHARDING KEY TO 5", ClientCommand(KEY, number=5, local=True)),
        (b"SET SESSION SHARD TO 5", ClientCommand(SHARD, number=5)),
        (b"set local server role to any", ClientCommand(ROLE, role=ServerRole.ANY, local=True)),
        (b"set local primary reads to on", ClientCommand(READS, switch=True, local=True)),
        (b"SET SHARD TO DEFAULT", ClientCommand(SHARD, is_unset=True)),
        (b"set shard = 'Default' ;", ClientCommand(SHARD, is_unset=True)),
        (b'SET SHARD TO "DEFAULT"', ClientCommand(SHARD, is_unset=True)),
        (b"SET LOCAL SHARD TO DEFAULT", ClientCommand(SHARD, local=True, is_unset=True)),
        (b"SET SHARDING KEY TO default", ClientCommand(KEY, is_unset=True)),
        (b"set local sharding key = DEFAULT;", ClientCommand(KEY, local=True, is_unset=True)),
        (b"RESET SHARD", ClientCommand(SHARD, is_unset=True, is_reset=True)),
        (b"reset\tshard ; ;", ClientCommand(SHARD, is_unset=True, is_reset=True)),
        (
            b"/* a */ Reset -- b\n sharding KEY",
            ClientCommand(KEY, is_unset=True, is_reset=True),
        ),
        (b"RESET SERVER ROLE", ClientCommand(ROLE, is_reset=True)),
        (b"reset server /* b */ role;", ClientCommand(ROLE, is_reset=True)),
        (b"RESET PRIMARY READS", ClientCommand(READS, is_reset=True)),
    ],
)
def test_a_command_is_recognised(text: bytes, command: ClientCommand) -> None:
    assert command_in(text) == command


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b";",
        b"SELECT 1",
        b"SET application_name TO 'x'",
        b"SET shard_count TO 1",
        b"SET SHARDING KEYS TO 1",
        b"SETSHARD TO 1",
        b"SET SHARDTO 1",
        b"SET SHARD",
        b"SET SHARD TOO 1",
        b"SHOW SHARDS",
        b"SHOW SHARDING KEY",
        b"SHOW shard.x",
        b"SHOW ALL",
        b"SHOW primary_reads",
        b"SELECT 'SET SHARD TO 1'",
        b"-- SET SHARD TO 1",
        b"/* SET SHARD TO 1 */ SELECT 1",
        b"/* SET SHARD TO 1",
        b"SET LOCAL application_name TO 'shard to 5'",
        b"RESET ALL",
        b"RESET ROLE",
        b"RESET shards",
        b"RESET shard.x",
        b"RESET LOCAL SHARD",
        b"RESET SESSION AUTHORIZATION",
        b"RESETSHARD",
    ],
)
def test_other_sql_is_left_alone(text: bytes) -> None:
    assert command_in(text) is None


@pytest.mark.parametrize("value", [b"-1", b"1.5", b"x", b"", b"9" * 20, b"9" * 9999, b"\xff"])
def test_a_shard_that_is_no_number_is_an_error_of_ours(value: bytes) -> None:
    with pytest.raises(InvalidShard) as caught:
        command_in(b"SET SHARD TO " + value)
    assert caught.value.sqlstate == "22023"
    assert "ANY" in caught.value.hint


@pytest.mark.parametrize("value", [b"any", b"9223372036854775808", b"9" * 9999, b"''", b"1.0"])
def test_a_sharding_key_that_is_no_bigint_is_an_error_of_ours(value: bytes) -> None:
    with pytest.raises(InvalidShardingKey):
        command_in(b"SET SHARDING KEY TO " + value)


@pytest.mark.parametrize(
    "text",
    [
        b"SET SHARD TO $1",
        b"set shard = $1;",
        b"SET SHARD TO $1::text",
        b"SET SHARD /* which */ TO $1 -- that",
    ],
)
def test_a_value_may_be_that_of_a_parameter(text: bytes) -> None:
    wording = worded(text)
    assert wording == Wording(SHARD, wording.value if wording else b"", has_parameter=True)
    assert wording.command("2") == ClientCommand(SHARD, number=2)


def test_a_parameter_may_be_the_word_default_where_that_can_be_no_key() -> None:
    wording = worded(b"SET SHARD TO $1")
    assert wording is not None
    assert wording.command("default") == ClientCommand(SHARD, is_unset=True)
    wording = worded(b"SET SHARDING KEY TO $1")
    assert wording is not None
    with pytest.raises(InvalidShardingKey):
        wording.command("default")


def test_a_text_is_a_key_whatever_it_says() -> None:
    sharder = Sharder(RouterOptions(shard_count=2, sharding_function="pg_text_hash"))
    quoted = worded(b"SET SHARDING KEY TO 'default'")
    assert quoted is not None
    assert quoted.command(sharder=sharder) == ClientCommand(KEY, key="default")
    bare = worded(b"SET SHARDING KEY TO DEFAULT")
    assert bare is not None
    assert bare.command(sharder=sharder) == ClientCommand(KEY, is_unset=True)


def test_a_parameter_without_a_value_is_an_error_of_ours() -> None:
    wording = worded(b"SET SHARD TO $1")
    assert wording is not None
    with pytest.raises(RoutingError, match="NULL") as caught:
        wording.command(None)
    assert caught.value.sqlstate == "22023"
    with pytest.raises(RoutingError, match=r"no parameter \$1") as caught:
        command_in(b"SET SHARD TO $1")
    assert caught.value.sqlstate == "42P02"


@pytest.mark.parametrize(
    "text", [b"SET SHARD TO '$1'", b"SET SHARD TO $2", b"SET SHARD TO $1x"]
)
def test_other_uses_of_the_dollar_are_values(text: bytes) -> None:
    with pytest.raises(InvalidShard):
        command_in(text)


def test_the_error_names_the_shards_where_their_number_is_known() -> None:
    wording = worded(b"SET SHARD TO -1")
    assert wording is not None
    with pytest.raises(InvalidShard) as caught:
        wording.command(shards=3)
    assert caught.value.hint == "Use a number from 0 to 2, ANY or DEFAULT."


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        (b"SET SERVER ROLE TO 'master'", "primary, replica, any, auto, default"),
        (b"SET PRIMARY READS TO maybe", "on, off, default"),
    ],
)
def test_an_unknown_word_is_an_error_that_names_the_known_ones(
    text: bytes, allowed: str
) -> None:
    with pytest.raises(RoutingError) as caught:
        command_in(text)
    assert caught.value.sqlstate == "22023"
    assert allowed in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        b"SET SHARD TO 1; SELECT 1",
        b"SHOW SHARD; SELECT 1",
        b"SHOW SHARD x",
        b"SET SHARD TO 1 2",
        b"RESET SHARD; SELECT 1",
        b"RESET SERVER ROLE x",
    ],
)
def test_a_command_must_be_sent_alone(text: bytes) -> None:
    with pytest.raises(RoutingError, match="only statement") as caught:
        command_in(text)
    assert caught.value.sqlstate == "0A000"


def test_a_hostile_text_costs_little() -> None:
    assert command_in(b"set " + b"/*" * 100_000) is None
    assert command_in(b"set " + b"/* x */" * 100_000) is None
    assert command_in(b" ;" * 200_000) is None
