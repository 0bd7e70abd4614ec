"""The tests test one build, and all of their processes the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from router import __version__
from tests.support.builds import (
    COMPILED_MODULES,
    PACKAGE,
    Build,
    build,
    complaint,
    module_name,
    origin,
)

COMMANDS = {
    "python -m router": [sys.executable, "-m", "router"],
    "pgcat": [str(Path(sys.executable).with_name("pgcat"))],
}


def test_there_are_modules_to_compile() -> None:
    assert len(COMPILED_MODULES) > 50
    assert all((PACKAGE / path).is_file() for path in COMPILED_MODULES)


def test_the_modules_are_all_compiled_or_none_is() -> None:
    assert build() is not Build.MIXED


def test_another_build_than_the_wanted_one_is_noticed() -> None:
    other = Build.PLAIN if build() is Build.COMPILED else Build.COMPILED
    assert f"{other.value} build" in complaint(other.value)
    assert complaint(Build.MIXED.value)


def test_processes_that_tests_start_have_the_same_build(tmp_path: Path) -> None:
    names = [module_name(path) for path in COMPILED_MODULES]
    program = f"import importlib\nfor n in {names}: print(importlib.import_module(n).__file__)"
    for directory in (Path.cwd(), tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            cwd=directory,
        )
        there = done.stdout.split()
        assert {Path(path).suffix for path in there} == {
            ".so" if build() is Build.COMPILED else ".py"
        }
        # Also those that no test of this process has imported.
        assert there == [origin(name) for name in names]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_is_that_of_the_package_under_test(command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMANDS[command], "--version"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout == f"pgcat {__version__}\n"
