"""What is said of the suite's figures: a loss is told like a win."""

from __future__ import annotations

import argparse
import json
import re
import socket
import tomllib
from pathlib import Path

import pytest

from benchmarks.others import OTHERS
from benchmarks.plots import draw
from benchmarks.processes import connections_to
from benchmarks.results import Report, Result, Run
from benchmarks.suite_command import _target
from benchmarks.suite_report import FAILED, grids, summary, to_markdown
from benchmarks.targets import (
    SCRAM,
    TRUST,
    BenchmarkError,
    Certificate,
    Options,
    Target,
    router_config,
)
from benchmarks.works import Bench, Idle
from router.config import loader

TARGETS = ("direct", "pgbouncer", "router", "router mux")
FACTS = {
    "time": "2026-01-01T00:00:00Z",
    "cpu": "some",
    "processors": 2,
    "kernel": "6",
    "python": "3",
    "load_average": [0.0],
}
OPTIONS = {"seconds": 1, "rounds": 3, "scale": 1}


def make_result(
    load: str, *, is_less_better: bool = False, **values: list[float | None]
) -> Result:
    """A load with values of each round, by target; None is a failure."""
    runs = [
        Run(target.replace("_", " "), number, value, error=None if value else "no | luck\nmore")
        for target, each in values.items()
        for number, value in enumerate(each)
    ]
    return Result("group", load, "unit", "", is_less_better, tuple(runs))


def make_report(*results: Result) -> Report:
    return Report(FACTS, OPTIONS, dict.fromkeys(TARGETS, "1"), results)


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    result = make_result("a", router=[10, 30, 8], pgbouncer=[10, 10, 10])
    ratio = result.ratio("router", "pgbouncer")
    assert ratio is not None
    assert (ratio.low, ratio.middle, ratio.high) == (0.8, 1, 3)
    assert ratio.verdict == "even"


def test_only_rounds_that_both_have_are_compared() -> None:
    result = make_result("a", router=[None, 30, 8], pgbouncer=[10, 10, None])
    ratio = result.ratio("router", "pgbouncer")
    assert ratio is not None
    assert (ratio.low, ratio.high) == (3, 3)
    assert make_result("a", router=[1, None], pgbouncer=[None, 1]).ratio("router", "x") is None


@pytest.mark.parametrize("is_less_better", [False, True])
@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([20, 30], "better"),
        ([5, 6], "worse"),
        ([9, 11], "even"),
        ([10.1, 10.1], "even"),
        ([9.9, 9.9], "even"),
        ([9, 20, 30], "even"),  # not in every round
        ([5, 6, 11], "even"),
    ],
)
def test_over_one_is_better_whatever_the_unit(
    values: list[float | None], verdict: str, is_less_better: bool
) -> None:
    if is_less_better:
        values = [100 / value for value in values if value is not None]
    result = make_result(
        "a", is_less_better=is_less_better, router=values, pgbouncer=[10] * len(values)
    )
    ratio = result.ratio("router", "pgbouncer")
    assert ratio is not None
    assert ratio.verdict == verdict


def test_what_was_lost_is_said_first_and_by_name() -> None:
    report = make_report(
        make_result("won", router=[20], pgbouncer=[10]),
        make_result("lost a little", router=[9], pgbouncer=[10]),
        make_result("lost", router=[1], pgbouncer=[10]),
        make_result("even", router=[10], pgbouncer=[10]),
        make_result("not comparable", router=[10]),
    )
    [line] = summary(report)
    assert "worse in 2, even in 1, better in 1 of 4 loads" in line
    assert line.index("group: lost 0.10") < line.index("group: lost a little 0.90")
    text = to_markdown(report, [])
    assert text.index(line) < text.index("## ")
    assert "**0.10 ▼**" in text


def test_a_failure_stands_where_a_figure_would() -> None:
    report = make_report(make_result("a", router=[None], pgbouncer=[10], router_mux=[5]))
    text = to_markdown(report, [])
    assert f"| group: a | n/a | **{FAILED}** | **0.50 ▼** |" in text
    assert "| group: a: router | no / luck |" in text
    assert [grid.title for grid in grids(report) if grid.is_brief][-1].startswith("Failed")


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    report = make_report(make_result("a", router=[None, 1], pgbouncer=[10, 10]))
    report.write(tmp_path / "suite.json")
    assert json.loads((tmp_path / "suite.json").read_text())["machine"] == FACTS
    assert Report.read(tmp_path / "suite.json") == report


def test_without_matplotlib_one_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(BenchmarkError, match=r"bench\]"):
        draw(make_report(), tmp_path)


@pytest.mark.parametrize(
    ("text", "host", "port", "pid"),
    [("x=127.0.0.1:6432", "127.0.0.1", 6432, None), ("x=db:1@22", "db", 1, 22)],
)
def test_a_target_that_runs_already(text: str, host: str, port: int, pid: int | None) -> None:
    target = _target(text)
    assert (target.name, target.host, target.port, target.pid) == ("x", host, port, pid)


@pytest.mark.parametrize("text", ["", "x", "x=1", "=h:1", "x=:1", "x=h:", "x=h:y", "x=h:1@z"])
def test_what_is_not_a_target(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        _target(text)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("login", [TRUST, SCRAM])
@pytest.mark.parametrize("replica", [None, 5433])
def test_other_proxies_are_given_the_same_settings(
    name: str, login: object, replica: int | None, tmp_path: Path
) -> None:
    options = Options(
        pool_size=17,
        max_clients=100,
        is_parser_on=replica is not None,
        router_command=(),
        pgbouncer=None,
        login=SCRAM if login is SCRAM else TRUST,
        certificate=Certificate(Path("a.crt"), Path("a.key")),
        replica=replica,
    )
    files = OTHERS[name].files(6432, 5432, options)
    for path, text in files.items():
        if path.endswith(".toml"):
            tomllib.loads(text)
    text = "\n".join(files.values())
    for value in ("6432", "5432", "17", options.login.user):
        assert value in text
    assert all(any(path in word for word in OTHERS[name].arguments(tmp_path)) for path in files)


def test_pgcat_is_given_what_the_router_is_given() -> None:
    options = Options(17, 100, True, (), None, replica=5433)
    [given] = OTHERS["pgcat"].files(6432, 5432, options).values()
    text = re.sub("^multiplexing.*", "", router_config(6432, 5432, options), flags=re.MULTILINE)
    assert loader.parse(given, "").config.pools == loader.parse(text, "").config.pools


def test_prepared_statements_are_asked_only_of_those_who_keep_them() -> None:
    target = Target("old", "1", 1, None, None, frozenset({"simple"}))
    assert Bench(1).suits(target)
    assert not Bench(1, "prepared").suits(target)


def test_connections_to_a_port_are_counted_at_the_clients_end() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert connections_to(port) == 0
        with socket.create_connection(("127.0.0.1", port)):
            with socket.create_connection(("127.0.0.1", port)):
                assert connections_to(port) == 2
            assert connections_to(port) == 1


def test_memory_is_asked_only_of_processes_that_are_known() -> None:
    assert Idle(1).suits(Target("x", "1", 1, None, 22))
    assert not Idle(1).suits(Target("x", "1", 1, None, None))
