"""`pgcat route`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from router import cli
from router.routing.explain import COLUMNS

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """
[general]
admin_username = "admin"
admin_password = "secret"

[pools.app]
query_parser_enabled = true
query_parser_read_write_splitting = true
automatic_sharding_key = "events.id"

[pools.app.users.0]
username = "ann"
password = "hush"
pool_size = 5

[pools.app.users.1]
username = "bob"
password = "hush"
pool_size = 5

[pools.app.shards.0]
database = "app"
servers = [["10.0.0.1", 5432, "primary"], ["10.0.0.2", 5432, "replica"]]

[pools.app.shards.1]
database = "app"
servers = [["10.0.1.1", 5432, "primary"]]
"""
KEYED = "SELECT * FROM events WHERE id = "


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A configuration file."""
    path = tmp_path / "pgcat.toml"
    path.write_text(CONFIG)
    return str(path)


def rows(
    capsys: pytest.CaptureFixture[str], config: str, *words: str
) -> list[dict[str, str | None]]:
    """What --json prints, where nothing is wrong."""
    assert cli.main(["route", config, "--pool", "app", "--json", *words]) == 0
    found: list[dict[str, str | None]] = json.loads(capsys.readouterr().out)
    return found


def test_each_statement_gets_a_row(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = rows(capsys, config, KEYED + "5", "DELETE FROM x")
    assert tuple(one) == ("sql", *COLUMNS)
    assert (one["sql"], one["role"], one["shard"]) == (KEYED + "5", "replica", "1")
    assert (two["role"], two["shard"], two["rule"]) == ("primary", "0", "default_shard")


@pytest.mark.parametrize(
    ("options", "role", "shard"),
    [
        (("--param", "5"), "replica", "1"),
        ((), "replica", "0"),
        (("--shard", "1"), "replica", "1"),
        (("--key", "5"), "replica", "1"),
        (("--role", "PRIMARY"), "primary", "0"),
        (("--user", "bob"), "replica", "0"),
    ],
)
def test_options_stand_for_what_a_client_would_do(
    config: str,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    role: str,
    shard: str,
) -> None:
    [row] = rows(capsys, config, *options, KEYED + "$1")
    assert (row["role"], row["shard"]) == (role, shard)


def test_without_json_it_is_a_table(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["route", config, "--pool", "app", "SELECT [bold]"]) == 0
    printed = capsys.readouterr().out
    assert "SELECT [bold]" in printed
    assert "default_shard" in printed


def test_a_statement_without_a_place_is_told_by_the_exit_status(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["route", config, "--pool", "app", KEYED + "1 OR id = 5", "SELECT 1"]) == 1
    assert "several shards" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("option", [("--shard", "7"), ("--shard", "-1"), ("--role", "x")])
def test_a_choice_that_is_refused_is_an_error(
    config: str, capsys: pytest.CaptureFixture[str], option: tuple[str, str]
) -> None:
    name, value = option
    assert cli.main(["route", config, "--pool", "app", f"{name}={value}", "SELECT 1"]) == 1
    assert value in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--pool", "other"), "app"),
        (("--pool", "app", "--user", "eve"), "ann, bob"),
    ],
)
def test_an_unknown_pool_or_user_is_told_with_those_that_there_are(
    config: str, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    assert cli.main(["route", config, *words, "SELECT 1"]) == cli.EXIT_CONFIG
    assert told in capsys.readouterr().err


def test_a_file_that_cannot_be_used_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "none.toml"
    assert cli.main(["route", str(path), "--pool", "app", "SELECT 1"]) == cli.EXIT_CONFIG
    assert "none.toml" in capsys.readouterr().err


def test_passwords_are_not_printed(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["route", config, "--pool", "app", "SELECT 1"])
    shown = capsys.readouterr()
    assert "hush" not in shown.out + shown.err


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["route", "--help"])
    assert caught.value.code == 0
    assert "--param 1234" in capsys.readouterr().out
