"""The layers of the package, and who may import what."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from tests.support.builds import PACKAGE

if TYPE_CHECKING:
    from pathlib import Path


# A module may import from its own folder or from a name to the left.
LAYERS = (
    "compiling",
    "printable",
    "records",
    "reasons",
    "errors",
    "escapes",
    "firstwords",
    "turns",
    "protocol",
    "routing",
    "config",
    "faults",
    "hosts",
    "two_phase",
    "listeners",
    "histograms",
    "multiplexing",
    "traces",
    "queries",
    "stats",
    "snapshots",
    "figures",
    "engine",
    "pool",
    "plugins",
    "session",
    "admin",
    "metrics",
    "logwriter",
    "logs",
    "supervisor",
    "ending",
    "sockets",
    "succession",
    "app",
    "demo",
    "route_command",
    "check_command",
    "import_command",
    "plan_command",
    "cli",
    "__main__",
)
# Below these, even one to the left is out of bounds.
FORBIDDEN = {"routing": {"protocol"}}
# Each of these libraries is the business of one place.
LIBRARIES = {
    "sqlglot": {"routing/sql"},
    "tomli": {"config/loader.py"},
    "re2": {"config/regexes.py"},
    "prometheus_client": {"metrics/exporter.py"},
    "hypercorn": {"metrics/http.py"},
    "h11": {"pool/patroni.py"},
    "rich": {"demo", "route_command.py"},
    "psycopg": {"demo"},
}
WITHOUT_TRIO = ("protocol", "routing", "config", "stats.py", "errors.py", "admin")

MODULES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> tuple[str, ...]:
    """The module's path below the package, a package's own for its __init__."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports(path: Path, *, at_run_time_only: bool = False) -> list[tuple[str, ...]]:
    """What a module imports: ("router", ...) for our own, else the library's parts."""
    tree = ast.parse(path.read_text())
    skipped: set[int] = set()
    if at_run_time_only:
        for node in ast.walk(tree):
            is_guard = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            if is_guard or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                skipped |= {id(inner) for inner in ast.walk(node)}
    found: list[tuple[str, ...]] = []
    package = ("router", *module_name(path))
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            found += [(*base, alias.name) for alias in node.names]
    return found


def layer(parts: tuple[str, ...]) -> str:
    """The layer of something of ours; the version belongs to nobody."""
    return parts[1] if len(parts) > 1 and parts[1] != "__version__" else "errors"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_its_own_layer_or_from_those_to_the_left(path: Path) -> None:
    name = module_name(path)
    if not name:
        return
    own = name[0]
    for imported in imports(path):
        if imported[0] != "router":
            continue
        target = layer(imported)
        assert LAYERS.index(target) <= LAYERS.index(own), f"{own} imports {imported}"
        assert target == own or target not in FORBIDDEN.get(own, ()), f"{own} imports {target}"


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_imported_in_one_place(library: str) -> None:
    users = {
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if any(imported[0] == library for imported in imports(path))
    }
    assert users, f"nobody imports {library}"
    for user in users:
        assert any(
            user == place or user.startswith(f"{place}/") for place in LIBRARIES[library]
        )


@pytest.mark.parametrize("part", WITHOUT_TRIO)
def test_a_layer_does_without_trio(part: str) -> None:
    for path in MODULES:
        if str(path.relative_to(PACKAGE)).split("/")[0] == part:
            assert all(imported[0] != "trio" for imported in imports(path)), path


# Modules that know each other's types, and why: see docs/design.md.
CIRCLES = {
    "pool": {
        "address_pool",
        "calls",
        "catalogue",
        "cleaning",
        "contracts",
        "expiry",
        "health",
        "holders",
        "moving",
        "quotas",
        "refusals",
        "reserve",
        "server",
        "sharing",
        "stopwatch",
        "upkeep",
    },
    "routing/sql": {"ctes", "sources", "queries"},
}
# From below to above: a module of session/ imports only from those that come before it.
SESSION = (
    "peers",
    "client",
    "admission",
    "client_settings",
    "credentials",
    "mistakes",
    "causality",
    "pins",
    "listening",
    "transaction",
    "writes",
    "states",
    "lease",
    "alike",
    "split",
    "copy_in",
    "copy_split",
    "copy_same",
    "everywhere",
    "keeping",
    "failures",
    "timeouts",
    "bound_keys",
    "client_routing",
    "entrance",
    "inspection",
    "following",
    "answered",
    "controls",
    "operation",
    "requests",
    "all_shards",
    "batch_for_all",
    "names",
    "reader",
    "deferral",
    "batch_route",
    "provisions",
    "script",
    "batch",
    "whole_batch",
    "slow",
    "resend",
    "long",
    "for_all",
    "simple",
    "shared",
    "session",
    "replication",
    "clients",
    "snapshots",
    "activity",
    "limits",
    "view",
    "arrival",
    "login",
)


def edges(*, at_run_time_only: bool) -> dict[tuple[str, ...], set[tuple[str, ...]]]:
    """Which module imports which."""
    modules = {module_name(path): path for path in MODULES}
    found = {}
    for name, path in modules.items():
        targets = {
            imported[1:]
            for imported in imports(path, at_run_time_only=at_run_time_only)
            if imported[0] == "router"
        }
        # `from .a import b`: b is a module of a, or a name in it.
        found[name] = {target if target in modules else target[:-1] for target in targets} - {
            name,
            (),
        }
    return found


def circles(of: dict[tuple[str, ...], set[tuple[str, ...]]]) -> list[set[tuple[str, ...]]]:
    """The modules that can be come back to from themselves, those of one circle together."""

    def reached(start: tuple[str, ...]) -> set[tuple[str, ...]]:
        seen: set[tuple[str, ...]] = set()
        waiting = list(of[start])
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += of.get(name, ())
        return seen

    reach = {name: reached(name) for name in of}
    found: list[set[tuple[str, ...]]] = []
    for name, behind in reach.items():
        if name in behind and not any(name in circle for circle in found):
            found.append({other for other in behind if name in reach.get(other, ())})
    return found


def test_there_is_no_import_cycle_at_run_time() -> None:
    assert circles(edges(at_run_time_only=True)) == []


def test_only_what_is_justified_goes_round_in_types() -> None:
    """Within a folder; what points to another one is the business of the layers."""
    everything = edges(at_run_time_only=False)
    within = {
        name: {target for target in targets if target[:1] == name[:1]}
        for name, targets in everything.items()
    }
    allowed = [
        {tuple(f"{folder}/{module}".split("/")) for module in modules}
        for folder, modules in CIRCLES.items()
    ]
    found = circles(within)
    assert [circle for circle in found if circle not in allowed] == []
    assert [circle for circle in allowed if circle not in found] == [], "no circle any more"


def test_the_modules_of_a_session_are_a_line() -> None:
    everything = edges(at_run_time_only=False)
    there = {name[1] for name in everything if name[:1] == ("session",) and len(name) > 1}
    assert there == set(SESSION)
    for number, module in enumerate(SESSION):
        imported = {
            name[1]
            for name in everything["session", module]
            if name[:1] == ("session",) and len(name) > 1
        }
        assert imported <= set(SESSION[:number]), module
