"""SET on the admin database: accepted for drivers, refused where somebody means it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.admin.assignments import ACCEPTED
from router.config.declared import declarations
from router.config.general import General
from router.config.keys import Reload
from router.protocol.messages import parse_error_fields

from .builders import AdminClient

if TYPE_CHECKING:
    from router.config.declared import Declaration

NAMES = sorted(ACCEPTED - {"names", "session characteristics"})


@pytest.mark.parametrize(
    "sql",
    [
        *(f"SET {name} = 'x'" for name in NAMES),
        *(f"set session {name.upper()} to default" for name in NAMES),
        "SET LOCAL extra_float_digits=3;",
        "SET DateStyle TO ISO, MDY",
        'SET "DateStyle" = ISO',
        "SET search_path = a, \"b\", 'c'",
        "SET statement_timeout = -1",
        "SET application_name = E'it\\'s'",
        "SET TIME ZONE 'UTC'",
        "SET SESSION TIME ZONE LOCAL",
        "SET NAMES 'UTF8'",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY",
    ],
)
def test_what_drivers_set_is_accepted_with_a_notice(sql: str) -> None:
    for answer in (AdminClient().ask(sql), AdminClient().prepare(sql)):
        assert answer.kinds.endswith("NCZ")
        assert answer.tags == ["SET"]
        [notice] = (body for kind, body in answer.messages if kind == "N")
        assert parse_error_fields(notice)["M"] == "SET ignored"


@pytest.mark.parametrize("key", list(declarations(General).values()), ids=lambda key: key.name)
@pytest.mark.parametrize("form", ["SET {} = 5", "set {} to '5'", 'SET SESSION "{}" = 5'])
def test_a_key_of_the_configuration_is_refused_with_what_to_do(
    key: Declaration, form: str
) -> None:
    client = AdminClient()
    error = client.ask(form.format(key.name)).error
    assert (error["S"], error["C"], error["M"]) == ("ERROR", "08P01", "SET failed")
    assert error["D"] == f'"{key.name}" is a key of the configuration file'
    if key.key.unused:
        assert error["H"] == f"It has no effect: {key.key.unused}."
    else:
        restart = key.key.reload is Reload.RESTART
        assert ("restart" in error["H"]) == restart
        assert ("RELOAD" in error["H"]) != restart


@pytest.mark.parametrize("name", ["pool_mode", "verify_config", "pools.app.pool_size"])
def test_keys_of_pools_and_other_names_of_keys_are_known_too(name: str) -> None:
    assert "RELOAD" in AdminClient().ask(f"SET {name} = 5").error["H"]


@pytest.mark.parametrize("name", ["nope", "work_mem", "ban_timer", "nöpe"])
def test_what_is_no_setting_is_refused(name: str) -> None:
    error = AdminClient().ask(f"SET {name} = 'secret'").error
    assert (error["C"], error["M"]) == ("08P01", "SET failed")
    assert error["D"] == f'unrecognized configuration parameter "{name}"'
    assert "secret" not in repr(error)
