"""The tour knows a right answer from a wrong one, and what it prints can be pasted."""

from __future__ import annotations

import io
import shlex
from typing import TYPE_CHECKING

import psycopg
import pytest
from rich.console import Console

from router.config.loader import parse
from router.config.values import ConfiguredRole
from router.demo.cluster import Cluster
from router.demo.ports import Ports
from router.demo.progress import Progress
from router.demo.server import free_port
from router.demo.shards import DATABASE, HBA, ROWS, TABLE, config_text, fill, shard_of
from router.demo.tour import KEY, Tour, TourAnswer, ask

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def shards() -> Iterator[Cluster]:
    """The demo's own cluster, filled."""
    cluster = Cluster(hba=HBA)
    cluster.start()
    try:
        fill(cluster)
        yield cluster
    finally:
        cluster.close()


def test_shards_hold_different_rows_and_refuse_those_of_others(shards: Cluster) -> None:
    replicas = [shard.replicas[0] for shard in shards.shards]
    held = [
        {key for (key,) in replica.execute(f"SELECT id FROM {TABLE}", database=DATABASE)}
        for replica in replicas
    ]
    assert sum(len(keys) for keys in held) == ROWS
    assert set.union(*held) == set(range(1, ROWS + 1))
    home = shard_of(shards, KEY)
    assert KEY in held[home]
    with pytest.raises(psycopg.errors.CheckViolation, match="no partition of relation"):
        shards.shards[home - 1].primary.execute(
            f"INSERT INTO {TABLE} VALUES (%s, 'stray')", (KEY,), database=DATABASE
        )


def test_a_tour_that_meets_no_router_finds_no_right_answer(shards: Cluster) -> None:
    bare = Tour(shards, Ports(router=shards.primary.port, metrics=free_port()))
    progress, output = _recorded()
    assert not bare.run(progress)
    # A bare primary of the right shard may know the key, but it is no replica.
    assert "0 of 11 answers right" in output.getvalue()


def test_every_stop_of_the_tour_tells_right_from_wrong(shards: Cluster) -> None:
    tour = Tour(shards, Ports(router=free_port(), metrics=free_port()))
    primaries = {shard.primary.port for shard in shards.shards}
    replicas = {replica.port for shard in shards.shards for replica in shard.replicas}
    stops = {stop.title: stop for stop in tour.stops()}
    assert len(stops) == 10
    assert not any(stop.is_right(TourAnswer()) for stop in stops.values())
    read = stops["A read goes to a replica"].is_right
    columns = ("pg_is_in_recovery", "inet_server_port")
    assert all(read(TourAnswer(columns, ((True, port),))) for port in replicas)
    assert not any(read(TourAnswer(columns, ((False, port),))) for port in primaries)
    write = stops["A write goes to the primary of its shard"].is_right
    answers = [
        TourAnswer(("id", "port"), ((1_000_001, port),)) for port in primaries | replicas
    ]
    assert sum(write(answer) for answer in answers) == 1
    made = stops["A definition reaches all shards, or none"].is_right
    ports = [shard.primary.port for shard in shards.shards]
    found = [TourAnswer(("made", "port"), (("tour_notes", port),)) for port in ports]
    assert [made(answer) for answer in found] == [False, False, True]
    assert not made(TourAnswer(("made", "port"), ((None, ports[-1]),)))
    copied = stops["The rows of a COPY go to their shards, all of them or none"].is_right
    assert copied(TourAnswer(message="COPY 3"))
    assert not copied(TourAnswer(message="COPY 2"))
    refusal = stops[
        "What would see a part of the rows is refused, and says what to do"
    ].is_right
    assert refusal(TourAnswer(sqlstate="0A000", message="no value for the sharding key"))
    assert not refusal(TourAnswer(("count",), ((10_000,),)))
    pools = stops["The admin database shows the pools"].is_right
    names = ("database", "user", "pool_mode", "cl_idle")
    assert pools(TourAnswer(names, (("app", "app", "transaction", 1),)))
    assert not pools(TourAnswer(names, (("app", "app", "session", 1),)))


def test_the_printed_tour_is_commands_a_shell_takes(shards: Cluster) -> None:
    tour = Tour(shards, Ports(router=6432, metrics=9930))
    progress, output = _recorded()
    tour.show(progress)
    commands = [
        shlex.split(line) for line in output.getvalue().splitlines() if not line.startswith("#")
    ]
    assert len(commands) == 11
    (copied,) = [words for words in commands if words[0] == "printf"]
    assert copied[1].count("copied\\n") == len(shards.shards)
    assert commands[0][1:4] == [
        "postgresql://app:app@127.0.0.1:6432/app",
        "-c",
        f"SET SHARDING KEY TO '{KEY}'",
    ]
    assert commands[-1] == ["curl", "-s", "http://127.0.0.1:9930/metrics"]


def test_an_error_is_an_answer_with_its_sqlstate(shards: Cluster) -> None:
    dsn = f"postgresql://app:app@127.0.0.1:{shards.primary.port}/app"
    answer = ask(dsn, ["SELECT 1", "SELECT 1 / 0"])
    assert answer == TourAnswer(sqlstate="22012", message="division by zero")


def test_the_configuration_names_every_server_once_and_in_its_role(shards: Cluster) -> None:
    loaded = parse(config_text(shards, Ports(router=6432, metrics=9930)), "pgcat.toml")
    assert loaded.warnings == ()
    pool = loaded.config.pools[DATABASE]
    for described, shard in zip(pool.shards, shards.shards, strict=True):
        assert described.database == DATABASE
        assert [(server.port, server.role) for server in described.servers] == [
            (shard.primary.port, ConfiguredRole.PRIMARY),
            (shard.replicas[0].port, ConfiguredRole.REPLICA),
        ]


def test_a_failed_step_is_marked_and_its_error_goes_on() -> None:
    progress, output = _recorded()
    with pytest.raises(ZeroDivisionError), progress.step("divide"):
        raise ZeroDivisionError
    with progress.step("go on"):
        pass
    first, second = output.getvalue().splitlines()
    assert first == "✗ divide"
    assert second.startswith("✓ go on (0.0 s)")


def test_progress_in_a_pipe_has_no_colours_and_no_folded_commands() -> None:
    progress, output = _recorded()
    progress.line("x" * 500, style="red")
    progress.table(["a"], [[None], ["[bold]"]])
    assert output.getvalue().startswith("x" * 500 + "\n")
    assert "\x1b" not in output.getvalue()
    assert "[bold]" in output.getvalue()


def test_a_wide_answer_is_written_a_line_for_each_column() -> None:
    progress, output = _recorded()
    progress.table("abcdefg", [range(7)])
    lines = [line.split() for line in output.getvalue().splitlines()]
    assert ["│", "g", "│", "6", "│"] in lines


def _recorded() -> tuple[Progress, io.StringIO]:
    output = io.StringIO()
    return Progress(Console(file=output, width=100, highlight=False)), output
