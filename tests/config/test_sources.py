"""Values from environment variables and files."""

from __future__ import annotations

import os
from enum import Enum
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from router.config.declared import declarations
from router.config.general import General
from router.config.loader import load, parse
from router.config.reference import json_schema
from router.config.sources import is_single
from router.errors import ConfigError

from .builders import problems, toml

if TYPE_CHECKING:
    from pathlib import Path

    from router.config.declared import Declaration

SINGLE = {name: key for name, key in declarations(General).items() if is_single(key)}
PASSWORD = "general/admin_password"


def sample(declared: Declaration) -> object:
    """A value that the key takes."""
    base = declared.base
    if declared.name == "host":
        return "localhost"
    if base is bool:
        return True
    if isinstance(base, type) and issubclass(base, Enum):
        return next(iter(base)).value
    if base is float:
        return 0.5
    return 3 if base is int else "7"


@pytest.mark.parametrize("kind", ["env", "file"])
@pytest.mark.parametrize("name", SINGLE)
def test_every_key_takes_its_value_from_elsewhere(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = sample(SINGLE[name])
    text = str(value).lower() if isinstance(value, bool) else str(value)
    monkeypatch.setenv("PLACE", text)
    (tmp_path / "PLACE").write_text(text + "\n")

    def outcome(given: object) -> object:
        try:
            found = parse(toml({f"general/{name}": given}), "test.toml", tmp_path).config
        except ConfigError as error:
            return [each.partition(",")[0] for each in error.problems]
        return found.general

    assert outcome({kind: "PLACE"}) == outcome(value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    number=st.integers(0, 2**63 - 1), form=st.sampled_from(["d", "+d", "_d", "#x", "#o", "#b"])
)
def test_a_number_may_be_written_in_every_way_of_toml(
    number: int, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBER", f" {number:{form}}\n")
    assert (
        parse(toml({"general/ban_time": {"env": "NUMBER"}}), "test").config
        == parse(toml({"general/ban_time": number}), "test").config
    )


def test_a_number_may_be_negative_where_that_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NUMBER", "-1")
    changes = {"general/log_min_duration_statement": {"env": "NUMBER"}}
    assert parse(toml(changes), "test").config.general.log_min_duration_statement == -1


@pytest.mark.parametrize(
    "text", ["", "-", "0x", "1__0", "_1", "010", "1.0", "1e3", "\u0661", "1" * 67]
)
def test_what_toml_does_not_call_an_integer_is_none(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRONG", text)
    [told] = problems({"general/ban_time": {"env": "WRONG"}})
    assert told.startswith("general.ban_time: must be an integer of 0 or more, got something")


def test_a_password_of_a_user_and_a_port_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANN", "from-env")
    monkeypatch.setenv("PORT", "7777")
    server = {"host": "one", "port": {"env": "PORT"}, "role": "primary"}
    changes = {
        "pools/app/users/0/password": {"env": "ANN"},
        "pools/app/shards/0/servers": [server],
    }
    [pool] = parse(toml(changes), "test.toml").config.pools.values()
    assert pool.users[0].password == SecretStr("from-env")
    assert pool.shards[0].servers[0].port == 7777


def test_a_path_begins_at_the_directory_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    secret = tmp_path / "secrets" / "admin"
    secret.write_text("s3cret\r\n")
    path = tmp_path / "pgcat.toml"
    for name in ("secrets/admin", str(secret)):
        path.write_text(toml({PASSWORD: {"file": name}}))
        loaded = load(path)
        assert loaded.config.general.admin_password == SecretStr("s3cret")
        assert loaded.files == (secret,)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    secret=st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1
    )
)
def test_a_secret_keeps_every_character_but_the_end_of_its_line(
    secret: str, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(secret.encode() + b"\n")
    changes = {PASSWORD: {"file": "secret"}}
    shown = secret.removesuffix("\r")
    if shown:
        general = parse(toml(changes), "test.toml", tmp_path).config.general
        assert general.admin_password == SecretStr(shown)


def test_what_cannot_be_had_is_told_with_its_key_and_nothing_else(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_text("x" * 65537)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff")
    os.mkfifo(tmp_path / "pipe")
    expected: list[tuple[dict[str, str], str]] = [
        ({"env": "NO_SUCH"}, "the environment variable NO_SUCH is not set"),
        ({"env": "A=\0B"}, "the environment variable A=\0B is not set"),
        (
            {"file": str(tmp_path / "no")},
            f"cannot read {tmp_path}/no: No such file or directory",
        ),
        ({"file": str(tmp_path)}, f"cannot read {tmp_path}: Is a directory"),
        ({"file": "a\0b"}, "cannot read a\0b: not a path"),
        ({"file": str(big)}, f"{big} has more than 65536 bytes"),
        ({"file": "/dev/zero"}, "/dev/zero has more than 65536 bytes"),
        ({"file": str(binary)}, f"{binary} is not UTF-8"),
    ]
    for given_value, told in expected:
        assert problems({PASSWORD: given_value}) == [f"general.admin_password: {told}"]
    # Nobody writes to it: nothing is waited for.
    [told] = problems({"general/admin_username": {"file": str(tmp_path / "pipe")}})
    assert told.startswith("general.admin_username: must be a string that is not empty")


@pytest.mark.parametrize(
    ("key", "must"),
    [
        ("general/port", "must be an integer from 1 to 65535"),
        ("general/tcp_user_timeout", "must be an integer from 0 to 2147483647"),
        ("general/validate_config", "must be true or false"),
        ("pools/app/pool_mode", 'must be "session", "transaction" or "statement"'),
        ("pools/app/users/0/auth_type", 'must be "trust", "md5" or "scram-sha-256"'),
    ],
)
def test_a_wrong_value_from_elsewhere_is_not_shown(
    key: str, must: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRONG", "top secret")
    path = key.replace("/", ".")
    source = "got something else from the environment variable WRONG"
    assert problems({key: {"env": "WRONG"}}) == [f"{path}: {must}, {source}"]


@pytest.mark.parametrize(
    "value", [{}, {"env": 1}, {"env": "A", "file": "B"}, {"vault": "A"}, {"ENV": "A"}]
)
def test_other_tables_are_no_values(value: dict[str, object]) -> None:
    assert problems({PASSWORD: value}) == [
        "general.admin_password: must be a string, got a table"
    ]


def test_a_missing_value_is_not_also_called_a_missing_key() -> None:
    told = problems({"pools/app/users/0/username": {"env": "NO_SUCH"}, "general/port": -1})
    assert [each.partition(":")[0] for each in told] == [
        "pools.app.users.0.username",
        "general.port",
    ]


def test_the_schema_allows_it_for_single_values_only() -> None:
    text = str(json_schema()["$defs"])
    elsewhere = "'required': ['env']"
    assert elsewhere in text
    properties = json_schema()["$defs"]["General"]["properties"]  # type: ignore[index]
    for name, declared in declarations(General).items():
        assert (elsewhere in str(properties[name])) == is_single(declared), name
