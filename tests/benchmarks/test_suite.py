"""The benchmark suite runs, and tells all that it has seen: what was lost like what was won."""

from __future__ import annotations

import re
import sys
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from benchmarks.beds import MULTIPLEXED, PLAIN, ROUTER, Proxies, Routing, Setup
from benchmarks.loads import LOADS, Load, select
from benchmarks.results import Report, Result
from benchmarks.suite import Plan, run_suite
from benchmarks.suite_report import grids, name, to_markdown
from benchmarks.targets import SCRAM, TRUST, Target, find_pgbouncer
from benchmarks.works import Bench, Crowd, Idle, Storm, Stream
from router.demo.server import free_port

if TYPE_CHECKING:
    from pathlib import Path

OTHER = Setup(pool=2, login=SCRAM, routing=Routing.KEY)
# One of each kind, as small as it can be.
TINY = (
    Load("tiny", "prepared", Bench(2, "prepared", "100 rows")),
    Load("tiny", "rows", Stream("rows", 500)),
    Load("tiny", "copy out", Stream("copy out", 500)),
    Load("tiny", "copy in", Stream("copy in", 1500)),
    Load("tiny", "idle", Idle(3)),
    Load("tiny", "crowd", Crowd(5), OTHER),
    Load("tiny", "storm", Storm(1, 5), OTHER),
)
NAMED = "what runs already"
pytestmark = [pytest.mark.postgres, pytest.mark.slow]


class Heard:
    """What the suite has told."""

    def __init__(self) -> None:
        self.loads = 0.0
        self.results: list[Result] = []

    def doing(self, what: str) -> None:
        assert what

    def advance(self, loads: float) -> None:
        self.loads += loads

    def finished(self, result: Result) -> None:
        self.results.append(result)


@pytest.fixture(scope="module")
def report() -> Report:
    """A suite of one round; PostgreSQL itself is also what runs already."""
    port = free_port()
    proxies = Proxies(
        router_command=(sys.executable, "-m", "router"),
        pgbouncer=find_pgbouncer(),
        others={"pgdog": "/bin/false"},
        running=[Target(NAMED, "1.0", port, None, None)],
    )
    watcher = Heard()
    plan = Plan(TINY, proxies, seconds=0, rounds=1, scale=1, port=port, warm_up=0)
    report = run_suite(plan, watcher)
    assert round(watcher.loads, 6) == len(TINY)
    assert watcher.results == list(report.results)
    return report


def test_each_load_is_measured_before_each_target_that_suits_it(report: Report) -> None:
    assert [result.load for result in report.results] == [load.name for load in TINY]
    for result, load in zip(report.results, TINY, strict=True):
        measured = {run.target for run in result.runs if run.error is None}
        expected = {ROUTER, MULTIPLEXED}
        if not isinstance(load.work, Idle):  # for that a process must be known
            expected |= {"direct", NAMED} if load.setup == Setup() else {"direct"}
        if load.setup.routing is Routing.KEY:
            expected.add(PLAIN)
        told = "pgbouncer" in measured or find_pgbouncer() is None
        assert result.error("pgbouncer") is None
        assert told or isinstance(load.work, Bench)  # old ones keep no prepared statements
        assert measured - {"pgbouncer"} == expected
        for target in measured:
            assert result.error(target) is None
            if not isinstance(load.work, Idle):  # a few clients may need no new page
                assert (result.median(target) or 0) > 0
            if target in (ROUTER, MULTIPLEXED):
                assert (result.median(target, "memory") or 0) > 0
                assert (result.median(target, "cpu") is None) is (not load.work.piece)


def test_a_proxy_that_does_not_start_is_told_of_with_each_load(report: Report) -> None:
    for result in report.results:
        assert "has ended" in (result.error("pgdog") or "")
    text = to_markdown(report, [])
    assert "pgdog" in report.targets
    [header] = re.findall(r"## Measured: .*\n\n(.*)", text)
    assert "| pgdog |" in header
    failed = text[text.index("## Failed") :]
    assert failed.count(": pgdog | ") == len(TINY)


def test_every_load_has_its_row_in_text_and_json(report: Report, tmp_path: Path) -> None:
    report.write(tmp_path / "suite.json")
    again = Report.read(tmp_path / "suite.json")
    assert again == report
    text = to_markdown(again, ["suite.png"])
    measured = text[text.index("## Measured") :]
    for result in report.results:
        assert f"| {name(result)} |" in measured
    for grid in grids(report):
        assert {len(row) for row in grid.rows} == {len(grid.headers)}


def test_pictures_are_drawn(report: Report, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.plots import draw

    for path in draw(report, tmp_path):
        assert path.stat().st_size > 0
        assert "<svg" in path.with_suffix(".svg").read_text()


def test_loads_have_names_of_their_own() -> None:
    names = [f"{load.group}: {load.name}" for load in LOADS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("is_quick", [False, True])
def test_loads_of_one_setup_follow_each_other(is_quick: bool) -> None:
    loads = select(is_quick=is_quick, words=())
    setups = [load.setup for load in loads]
    changes = sum(one != two for one, two in pairwise(setups))
    assert changes == len(set(setups)) - 1
    assert {load.setup.login for load in loads} <= {TRUST, SCRAM}


def test_servers_that_do_not_start_cost_only_their_own_loads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What cannot be set up is told with each load; the others go on."""
    monkeypatch.setenv("PATH", str(tmp_path))  # there is no openssl
    proxies = Proxies((sys.executable, "-m", "router"), None, {}, ())
    loads = (
        Load("tiny", "TLS", Idle(1, is_tls=True), Setup(is_tls=True)),
        Load("tiny", "rows", Stream("rows", 10)),
    )
    watcher = Heard()
    report = run_suite(Plan(loads, proxies, 0, 1, 1, warm_up=0), watcher)
    first, second = report.results
    assert "openssl" in (first.error("direct") or "")
    assert all(run.error is None for run in second.runs)
    assert {run.target for run in second.runs} == {"direct", ROUTER, MULTIPLEXED}
    assert round(watcher.loads, 6) == 2

    nowhere = run_suite(Plan(loads, proxies, 0, 1, 1, bin_dir=tmp_path, warm_up=0), watcher)
    assert all("no PostgreSQL" in (result.error("direct") or "") for result in nowhere.results)
    assert len(nowhere.results) == 2
