"""What became of each test of a suite: read from reports, kept in files, compared."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PASSED: Final = "passed"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"
# Of two reports on one test (a test, and its teardown) the worse is what counts.
_BADNESS: Final = {SKIPPED: 0, PASSED: 1, FAILED: 2}
_REASON_LENGTH: Final = 600


@dataclass(slots=True)
class Outcomes:
    """What became of the tests of one run of a suite.

    Attributes:
        verdicts: of each test by its name: passed, failed or skipped.
        reasons: of those that failed, shortened.
        version: of what was run, and of what it was run against.
    """

    verdicts: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    version: str = ""

    def add(self, test: str, verdict: str, reason: str = "") -> None:
        """Note a report on a test."""
        known = self.verdicts.get(test)
        if known is None or _BADNESS[verdict] > _BADNESS[known]:
            self.verdicts[test] = verdict
        if verdict == FAILED:
            self.reasons.setdefault(test, reason.strip()[:_REASON_LENGTH])

    def count(self, verdict: str) -> int:
        """How many tests came to this."""
        return Counter(self.verdicts.values())[verdict]

    def lost(self, direct: Outcomes) -> list[str]:
        """The tests that pass directly and not here, whether they fail or are missing."""
        return [
            test
            for test, verdict in direct.verdicts.items()
            if verdict == PASSED and self.verdicts.get(test) != PASSED
        ]

    def why(self, test: str) -> str:
        """One line on a test that did not pass."""
        if test not in self.verdicts:
            return "did not run"
        lines = [line.strip() for line in self.reasons.get(test, "").splitlines()]
        return next(filter(None, lines), self.verdicts[test])


def write(path: Path, outcomes: Outcomes) -> None:
    """Keep the outcomes of a run; the file is there only when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(asdict(outcomes), indent=0))
    unfinished.replace(path)


def read(path: Path) -> Outcomes:
    """Read what `write` has kept."""
    return Outcomes(**json.loads(path.read_text()))


def from_junit(paths: Iterable[Path]) -> Outcomes:
    """Read the XML that pytest, unittest-xml-reporting and mocha write."""
    found = Outcomes()
    for path in paths:
        for case in ElementTree.parse(path).iter("testcase"):
            name = f"{case.get('classname', '')}::{case.get('name', '')}"
            bad = next((child for child in case if child.tag in ("failure", "error")), None)
            if bad is not None:
                found.add(name, FAILED, bad.get("message") or bad.text or "")
            elif case.find("skipped") is not None:
                found.add(name, SKIPPED)
            else:
                found.add(name, PASSED)
    return found


def from_go(lines: Iterable[str]) -> Outcomes:
    """Read what `go test -json` prints."""
    found = Outcomes()
    verdicts = {"pass": PASSED, "fail": FAILED, "skip": SKIPPED}
    output: dict[str, list[str]] = {}
    for line in lines:
        if not line.startswith("{"):
            continue
        event = json.loads(line)
        if "Test" not in event:
            continue
        name = f"{event['Package']}::{event['Test']}"
        if event["Action"] == "output":
            text = event["Output"].strip()
            if text and not text.startswith(("===", "---")):
                output.setdefault(name, []).append(text)
        elif event["Action"] in verdicts:
            reason = "\n".join(output.pop(name, []))
            found.add(name, verdicts[event["Action"]], reason)
    return found
