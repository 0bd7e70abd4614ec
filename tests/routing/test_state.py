"""What the routing commands change."""

from __future__ import annotations

import random

import pytest

from router.errors import InvalidShard
from router.routing.sharding import pg_bigint_hash
from router.routing.state import RoutingState
from router.routing.types import CommandReply, Role, RouterOptions, ServerRole

from .commanded import command_in

THREE = RouterOptions(shard_count=3)


def run(state: RoutingState, text: str, options: RouterOptions = THREE) -> CommandReply:
    command = command_in(text.encode())
    assert command is not None
    return state.execute(command, options, random.Random(1))


def shown(state: RoutingState, what: str, options: RouterOptions = THREE) -> str | None:
    return run(state, f"SHOW {what}", options).value


def test_a_set_is_answered_by_its_tag() -> None:
    state = RoutingState()
    assert run(state, "SET SHARD TO 1") == CommandReply("SET SHARD")
    assert run(state, "SET SHARDING KEY TO 1") == CommandReply("SET SHARDING KEY")
    assert run(state, "SET SERVER ROLE TO any") == CommandReply("SET SERVER ROLE")
    assert run(state, "SET PRIMARY READS TO on") == CommandReply("SET PRIMARY READS")


def test_a_show_is_answered_by_one_column() -> None:
    state = RoutingState()
    assert run(state, "SHOW SHARD") == CommandReply("SELECT 1", "shard", "unset")
    assert run(state, "SHOW SERVER ROLE") == CommandReply("SELECT 1", "server role", "any")
    assert run(state, "SHOW PRIMARY READS") == CommandReply("SELECT 1", "primary reads", "off")


def test_a_shard_stays_until_it_is_changed() -> None:
    state = RoutingState()
    run(state, "SET SHARD TO 2")
    state.end_transaction()
    assert state.shard == 2
    assert shown(state, "SHARD") == "2"
    assert not state.is_default


def test_a_sharding_key_chooses_its_shard() -> None:
    state = RoutingState()
    run(state, "SET SHARDING KEY TO 13")
    assert state.shard == pg_bigint_hash(13, 3)
    run(state, "SET SHARDING KEY TO 13", RouterOptions(shard_count=1))
    assert state.shard == 0


def test_the_sharding_function_is_the_configured_one() -> None:
    state = RoutingState()
    run(state, "SET SHARDING KEY TO 0", RouterOptions(shard_count=12, sharding_function="sha1"))
    assert state.shard == 4


def test_any_shard_is_chosen_at_once_and_kept() -> None:
    state = RoutingState()
    rng = random.Random(3)
    command = command_in(b"SET SHARD TO ANY")
    assert command is not None
    seen = set()
    for _ in range(50):
        state.execute(command, THREE, rng)
        seen.add(state.shard)
    assert seen == {0, 1, 2}


def test_a_shard_that_is_not_configured_changes_nothing() -> None:
    state = RoutingState()
    run(state, "SET SHARD TO 1")
    with pytest.raises(InvalidShard, match="shard 3 is not configured, staying on shard 1"):
        run(state, "SET SHARD TO 3")
    assert state.shard == 1


@pytest.mark.parametrize(
    ("word", "role", "parser"),
    [
        ("primary", Role.PRIMARY, False),
        ("replica", Role.REPLICA, False),
        ("any", None, False),
        ("auto", None, True),
        ("default", None, None),
    ],
)
def test_a_server_role_fixes_role_and_parser(
    word: str, role: Role | None, parser: bool | None
) -> None:
    state = RoutingState()
    run(state, f"SET SERVER ROLE TO {word}")
    assert state.choice is ServerRole(word)
    assert state.role is role
    assert state.parser is parser
    assert state.is_default is (word == "default")


@pytest.mark.parametrize(
    ("options", "value"),
    [
        (RouterOptions(), "any"),
        (RouterOptions(default_role=Role.REPLICA), "replica"),
        (RouterOptions(query_parser_enabled=True), "auto"),
        (RouterOptions(query_parser_enabled=True, default_role=Role.PRIMARY), "primary"),
        (
            RouterOptions(
                query_parser_enabled=True,
                query_parser_read_write_splitting=True,
                default_role=Role.PRIMARY,
            ),
            "auto",
        ),
    ],
)
def test_the_default_role_is_shown_as_what_it_means(options: RouterOptions, value: str) -> None:
    state = RoutingState()
    assert shown(state, "SERVER ROLE", options) == value
    run(state, "SET SERVER ROLE TO replica")
    assert shown(state, "SERVER ROLE", options) == "replica"
    run(state, "SET SERVER ROLE TO default")
    assert shown(state, "SERVER ROLE", options) == value


def test_primary_reads_override_the_setting_in_any_case() -> None:
    state = RoutingState()
    on = RouterOptions(primary_reads_enabled=True)
    assert shown(state, "PRIMARY READS", on) == "on"
    run(state, "SET PRIMARY READS TO 'OFF'")
    assert shown(state, "PRIMARY READS", on) == "off"
    run(state, "SET PRIMARY READS TO ON")
    assert shown(state, "PRIMARY READS") == "on"
    run(state, "SET PRIMARY READS TO default")
    assert shown(state, "PRIMARY READS") == "off"
    assert state.is_default


def test_local_choices_end_with_the_transaction() -> None:
    state = RoutingState()
    run(state, "SET SHARD TO 1")
    run(state, "SET LOCAL SHARD TO 2")
    run(state, "SET LOCAL SERVER ROLE TO primary")
    run(state, "SET LOCAL PRIMARY READS TO on")
    assert (state.shard, state.role, state.primary_reads) == (2, Role.PRIMARY, True)
    state.end_transaction()
    assert (state.shard, state.role, state.primary_reads) == (1, None, None)


def test_a_lasting_choice_outlives_a_local_one() -> None:
    state = RoutingState()
    run(state, "SET LOCAL SHARD TO 2")
    run(state, "SET SHARD TO 1")
    run(state, "SET PRIMARY READS TO on")
    assert state.shard == 1
    state.end_transaction()
    assert state.shard == 1
    assert state.primary_reads is True


def test_local_choices_alone_leave_the_default_behind() -> None:
    state = RoutingState()
    run(state, "SET LOCAL SHARDING KEY TO 5")
    assert not state.is_default
    state.end_transaction()
    assert state.is_default


def test_reset_forgets_everything() -> None:
    state = RoutingState()
    run(state, "SET SHARD TO 1")
    run(state, "SET LOCAL SERVER ROLE TO primary")
    state.reset()
    state.end_transaction()
    assert state.is_default
    assert state.shard is None


def test_its_repr_tells_the_choices() -> None:
    state = RoutingState()
    assert repr(state) == "<RoutingState shard=unset role=default>"
    run(state, "SET SHARD TO 1")
    assert repr(state) == "<RoutingState shard=1 role=default>"


def test_choices_can_be_brought_back() -> None:
    state = RoutingState()
    run(state, "SET SHARD TO 1")
    run(state, "SET LOCAL SHARD TO 2")
    before = state.overrides
    run(state, "SET LOCAL SERVER ROLE TO replica")
    run(state, "SET SHARD TO 0")
    state.restore(before)
    assert (state.shard, state.choice, state.has_local) == (2, ServerRole.DEFAULT, True)
    state.end_transaction()
    assert (state.shard, state.choice, state.has_local) == (1, ServerRole.DEFAULT, False)


def test_nothing_chosen_can_be_brought_back() -> None:
    state = RoutingState()
    before = state.overrides
    run(state, "SET LOCAL SHARD TO 2")
    state.restore(before)
    assert state.is_default
    assert not state.has_local
