"""Which build the tests run on: the compiled one that users get, or the plain files."""

from __future__ import annotations

import importlib.util
import os
import re
from enum import Enum
from functools import cache
from pathlib import Path

import router

TREE = Path(__file__).parents[2]
PACKAGE = Path(router.__file__).parent
# By their paths below the package, "routing/fingerprint.py".
COMPILED_MODULES = tuple(re.findall(r'"router/([\w/]+\.py)"', (TREE / "setup.py").read_text()))


class Build(Enum):
    """What the modules that can be compiled are."""

    PLAIN = "plain"
    COMPILED = "compiled"
    MIXED = "mixed"


def module_name(path: str) -> str:
    """The name by which a module of the package is imported."""
    return "router." + path.removesuffix(".py").replace("/", ".")


@cache
def build() -> Build:
    """What `import router` finds here."""
    compiled = [not origin(module_name(path)).endswith(".py") for path in COMPILED_MODULES]
    if all(compiled):
        return Build.COMPILED
    return Build.MIXED if any(compiled) else Build.PLAIN


def origin(name: str) -> str:
    """The file that a module is imported from here."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return spec.origin


def complaint(wanted: str) -> str:
    """Why this is not the build that is wanted; empty if it is."""
    if build() is not Build(wanted):
        return f"the tests are to run on the {wanted} build, but {PACKAGE} is {build().value}"
    if wanted == Build.COMPILED.value and "site-packages" not in PACKAGE.parts:
        return f"the tests are to run on the installed package, and not on {PACKAGE}"
    return ""


def lead_processes_here() -> None:
    """Have processes import this package, wherever they are started.

    What is installed may be another tree's: of several that share an environment only one is.
    """
    ours = str(PACKAGE.parent)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if "site-packages" not in PACKAGE.parts and paths[0] != ours:
        os.environ["PYTHONPATH"] = os.pathsep.join([ours, *filter(None, paths)])
