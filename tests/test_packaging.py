"""The files for operators: they name what there is."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from router import cli
from router.metrics.exporter import Exporter
from tests.admin.builders import FakeView

PACKAGING = Path(__file__).parents[1] / "packaging"
SERVICE = PACKAGING / "systemd" / "pgcat.service"
SOCKET = PACKAGING / "systemd" / "pgcat.socket"
DASHBOARD = json.loads((PACKAGING / "grafana" / "pgcat.json").read_text())
# What Prometheus adds to what it scrapes.
ADDED = {"instance", "job"}


def emitted() -> dict[str, set[str]]:
    """The labels of each metric that the router has."""
    text = Exporter(FakeView()).render().decode()
    samples = re.findall(r"^(\w+)(?:{([^}]*)})? ", text, re.MULTILINE)
    return {name: set(re.findall(r'(\w+)="', labels)) for name, labels in samples}


def expressions() -> list[tuple[str, str]]:
    """The queries of the dashboard, each with its legend."""
    return [
        (target["expr"], target["legendFormat"])
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
    ]


def test_every_metric_of_the_dashboard_is_emitted() -> None:
    known = emitted()
    variables = [each.get("definition", "") for each in DASHBOARD["templating"]["list"]]
    named = re.findall(r"\b(?:pgcat|process)_\w+", str([expressions(), variables]))
    assert len(set(named)) > 25
    assert set(named) <= known.keys()


@pytest.mark.parametrize("number", range(len(expressions())))
def test_every_label_of_the_dashboard_is_one_of_its_metrics(number: int) -> None:
    expression, legend = expressions()[number]
    known = emitted()
    metrics = set(re.findall(r"\b(?:pgcat|process)_\w+", expression)) - {"pgcat_build_info"}
    selected = set(re.findall(r"(\w+)=~", expression))
    grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", expression))))
    for metric in metrics:
        assert selected | grouped <= known[metric] | ADDED, metric
    shown = set(re.findall(r"{{(\w+)}}", legend))
    assert shown <= (grouped or ADDED)


def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for place in (panel["gridPos"],)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))


def test_the_unit_is_about_the_router_as_it_is() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(SERVICE)
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert service["RestartPreventExitStatus"] == str(cli.EXIT_CONFIG)
    assert service["KillSignal"] == "SIGTERM"
    _, *words = service["ExecStart"].split()
    options = cli._serve_parser().parse_args(words)
    assert (options.log_format, options.config) == ("structured", "/etc/pgcat/pgcat.toml")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd")
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    for path in (SERVICE, SOCKET):
        text = path.read_text().replace("/opt/pgcat/bin/pgcat", sys.executable)
        (tmp_path / path.name).write_text(text.replace("User=pgcat\nGroup=pgcat\n", ""))
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / SERVICE.name, tmp_path / SOCKET.name],
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if "pgcat" in line]
    assert complaints == []
