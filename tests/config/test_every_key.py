"""Every key of the file is read by something, or the operator is told that it is not.

The test changes each key by itself and looks which values outside of the file's own models
change with it: those of `PoolSettings`, say. One of them has to be read by code that acts on it
and that somebody calls. So a key that nobody reads fails here, and so does one that is called
unused when something reads it. What a reload does about it is what its declaration says.
"""

from __future__ import annotations

import ast
import dataclasses
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

import pytest
from pydantic import SecretStr

import router
from router.config.checks import unused_keys
from router.config.declared import Declaration, Nesting, declarations
from router.config.effective import pool_settings
from router.config.keys import Reload
from router.config.model import Config
from router.config.peers import Peer
from router.config.plugins import Plugins
from router.config.regexes import Regex
from router.config.values import ShardingFunction
from router.pool.planning import Action, plan_reload

from .builders import config

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from router.config.keys import Section

Outlet = tuple[str, str]
"""The name of a class and of one of its attributes."""

ROUTER = Path(router.__file__).parent
# What turns the file into models, and what shows values to people, does not act on them.
IDLE = ("config", "admin", "metrics", "session/snapshots.py")

# How variables are called that hold a value of each class. A read by another name does not
# count, since many classes have a `host`.
HOLDERS = {
    "InterceptedQuery": {"answer"},
    "Config": {"config"},
    "General": {"general"},
    "InterceptSection": {"intercept"},
    "Peer": {"peer"},
    "Plugins": {"plugins"},
    "PoolConfig": {"pool_config", "pools"},
    "PoolSettings": {"settings"},
    "QueryLoggerSection": {"query_logger"},
    "RouterOptions": {"options", "routing"},
    "Server": {"server"},
    "Shard": {"shard"},
    "TableAccessSection": {"table_access"},
    "User": {"user"},
}

# Two values for keys that do not take any two of their type.
SAMPLES: dict[str, tuple[object, object]] = {
    "default_shard": ("shard_0", "random"),
    "sharding_key_regex": (Regex("(1)"), Regex("(2)")),
    "shard_id_regex": (Regex("(1)"), Regex("(2)")),
    "sharding_values": ((1,), (2,)),
    "sharding_ranges": (((1, 2),), ((2, 3),)),
    "columns": ((("a", "text"),), (("b", "text"),)),
    "result": ((("a",),), (("b",),)),
}

# Keys that matter for some functions only.
FUNCTIONS = {
    "sharding_values": ShardingFunction.LIST,
    "sharding_ranges": ShardingFunction.RANGE,
    "sharding_default": ShardingFunction.LIST,
}


def sections(section: type[Section]) -> dict[type[Section], list[str]]:
    """The sections at and below one, without those of keys that are unused."""
    found: dict[type[Section], list[str]] = {section: []}
    for declared in declarations(section).values():
        if declared.section is not None and not declared.key.unused:
            found |= sections(declared.section)
    return found


# Keys that hold sections are left to the keys of these.
KEYS = [
    pytest.param(section, declared, id=f"{section.__name__}.{declared.name}")
    for section in sections(Config)
    for declared in declarations(section).values()
    if declared.nesting is Nesting.NONE or declared.key.unused
]
UNUSED = {
    f"{section.__name__}.{declared.name}"
    for section in sections(Config)
    for declared in declarations(section).values()
    if declared.key.unused
}


# --- what is read


@dataclasses.dataclass
class Reads:
    """Attributes that the router reads outside of `config/`.

    Attributes:
        held: (holder, attribute), by the last name in front of the dot.
        passed: the same, where the value only becomes the argument of that name.
        names: attributes and variables of any holder.
    """

    held: set[tuple[str, str]] = dataclasses.field(default_factory=set)
    passed: dict[tuple[str, str], set[str]] = dataclasses.field(default_factory=dict)
    names: set[str] = dataclasses.field(default_factory=set)

    def add_live(self, modules: Iterable[ast.Module]) -> None:
        """Note what modules read, without functions whose names nobody mentions."""
        called: set[str] = set()
        functions: list[Function] = []
        for module in modules:
            self._add(_own(module, functions), called)
        while functions:
            live = [each for each in functions if each.name in called or _is_special(each)]
            if not live:
                return
            functions = [each for each in functions if each not in live]
            for function in live:
                self._add(_own(function, functions), called)

    def _add(self, nodes: list[ast.AST], called: set[str]) -> None:
        copies = {
            id(keyword.value): keyword.arg
            for node in nodes
            if isinstance(node, ast.Call)
            for keyword in node.keywords
            if isinstance(keyword.value, ast.Attribute) and keyword.arg
        }
        for node in nodes:
            if isinstance(node, ast.Name | ast.Attribute):
                called.add(node.id if isinstance(node, ast.Name) else node.attr)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                self.names.add(node.id)
            if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Load):
                continue
            key = _holder(node.value), node.attr
            argument = copies.get(id(node))
            if argument is None:
                self.held.add(key)
                self.names.add(node.attr)
            else:
                self.passed.setdefault(key, set()).add(argument)

    def has(self, outlet: Outlet) -> bool:
        """Whether somebody reads it, and does more than to hand it on to where nobody does."""
        owner, attribute = outlet
        for holder in HOLDERS.get(owner, ()):
            key = holder, attribute
            if key in self.held or self.passed.get(key, set()) & self.names:
                return True
        return False


Function = ast.FunctionDef | ast.AsyncFunctionDef


def _is_special(function: Function) -> bool:
    """Whether something calls it by another way than its name: @command("SHOW"), say."""
    return function.name.startswith("__") or any(
        isinstance(each, ast.Call) for each in function.decorator_list
    )


def _own(scope: ast.AST, inner: list[Function]) -> list[ast.AST]:
    """The nodes of a scope without those of the functions in it, which are added to a list."""
    found: list[ast.AST] = []
    pending = [*ast.iter_child_nodes(scope)]
    while pending:
        node = pending.pop()
        found.append(node)
        if isinstance(node, Function):
            inner.append(node)
            pending += node.decorator_list
        else:
            pending += ast.iter_child_nodes(node)
    return found


def _holder(value: ast.expr) -> str:
    while isinstance(value, ast.Subscript | ast.Call):
        value = value.value if isinstance(value, ast.Subscript) else value.func
    if isinstance(value, ast.Attribute):
        return value.attr.lstrip("_")
    return value.id.lstrip("_") if isinstance(value, ast.Name) else ""


@cache
def reads() -> Reads:
    """All of the router."""
    found = Reads()
    paths = {path: path.relative_to(ROUTER).as_posix() for path in ROUTER.rglob("*.py")}
    acting = [path for path, name in paths.items() if not name.startswith(IDLE)]
    found.add_live(ast.parse(path.read_text()) for path in acting)
    return found


# --- what a key changes


def values(declared: Declaration) -> tuple[object, object]:
    """Two values of a key, as the model has them."""
    if declared.field in SAMPLES:
        return SAMPLES[declared.field]
    base = declared.base
    if isinstance(base, type) and issubclass(base, Enum):
        one, other, *_ = base
        return one, other
    if base is SecretStr:
        return SecretStr("one"), SecretStr("other")
    if base is bool:
        return False, True
    if base is int:
        return 1, 2
    if base is float:
        return 0.25, 0.5
    if base is str:
        return "one", "other"
    if base is Path:
        return Path("one"), Path("other")
    assert get_args(base), f"give two samples for {declared.name}"
    return ("one",), ("other",)


def full(declared: Declaration) -> Config:
    """A configuration that has something of everything, and in which the key matters."""
    base = config({"pools/app/automatic_sharding_key": "t.id"})
    [pool] = base.pools.values()
    answer = {"query": "q", "schema": [["a", "text"]], "result": []}
    plugins = Plugins.model_validate(
        {
            "query_logger": {"enabled": True},
            "intercept": {"enabled": True, "queries": {"0": answer}},
            "table_access": {"enabled": True},
            "prewarmer": {"enabled": True, "queries": ["q"]},
        }
    )
    chosen: dict[str, object] = {
        "sharding_function": FUNCTIONS.get(declared.field, ShardingFunction.SHA1)
    }
    sharded = {"query_parser_enabled": True, "shards": pool.shards * 2}
    pools = {"app": pool.model_copy(update=chosen | sharded)}
    peers = {"1": Peer(host="one")}
    return base.model_copy(update={"peers": peers, "plugins": plugins, "pools": pools})


def changed(
    section: Section, wanted: type[Section], update: dict[str, object]
) -> Section | None:
    """A copy in which the first section of the wanted class, at or below, is another one."""
    if isinstance(section, wanted):
        return section.model_copy(update=update)
    for declared in declarations(type(section)).values():
        value = getattr(section, declared.field)
        if declared.section is None or not value:
            continue
        entries = cast("dict[str, Section]", value if isinstance(value, dict) else {})
        first = next(iter(entries.values())) if entries else value
        first = first[0] if isinstance(first, tuple) else first
        new = changed(cast("Section", first), wanted, update)
        if new is not None:
            same = dict.fromkeys(entries, new) or ((new,) if isinstance(value, tuple) else new)
            return section.model_copy(update={declared.field: same})
    return None


def effective(whole: Config) -> dict[Outlet, object]:
    """What pools are told, by name."""
    [pool] = whole.pools.values()
    settings = pool_settings(whole, pool, pool.users[0])
    return dict((*_attributes(settings), *_attributes(settings.routing)))


def _attributes(settings: object) -> Iterator[tuple[Outlet, object]]:
    kind = type(settings)
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    names |= {name for name, value in vars(kind).items() if isinstance(value, property)}
    for name in names:
        # That something is read of what a value holds says nothing about the rest of it.
        if not dataclasses.is_dataclass(value := getattr(settings, name)):
            yield (kind.__name__, name), value


def outlets(section: type[Section], declared: Declaration) -> set[Outlet]:
    """Where the value of a key comes out."""
    base = full(declared)
    before, after = (
        effective(cast("Config", changed(base, section, {declared.field: value})))
        for value in values(declared)
    )
    moved = {outlet for outlet, value in before.items() if after[outlet] != value}
    return {(section.__name__, declared.field)} | moved


@pytest.mark.parametrize(("section", "declared"), KEYS)
def test_every_key_is_read_or_called_unused(
    section: type[Section], declared: Declaration
) -> None:
    found = outlets(section, declared)
    assert any(map(reads().has, found)) != bool(declared.key.unused), found


# What may become of a pool when a key is changed that matters to it.
ACTIONS = {
    Reload.RESTART: {Action.KEEP},
    Reload.AT_ONCE: {Action.KEEP, Action.CHANGE},
    Reload.CONNECTIONS: {Action.KEEP, Action.CHANGE},
    Reload.POOLS: {Action.CHANGE},
    Reload.REPLACED: {Action.REPLACE},
}


@pytest.mark.parametrize(("section", "declared"), KEYS)
def test_a_reload_does_what_the_declaration_says(
    section: type[Section], declared: Declaration
) -> None:
    base = full(declared)
    before, after = (
        cast("Config", changed(base, section, {declared.field: value}))
        for value in values(declared)
    )
    plan = plan_reload(before, after)
    assert plan.restart == ((declared.name,) if declared.key.reload is Reload.RESTART else ())
    actions = {pool.action for pool in plan.pools}
    if declared.key.unused:
        assert actions == {Action.KEEP}
    elif declared.name == "username":
        assert actions == {Action.OPEN, Action.DROP}
    else:
        assert actions <= ACTIONS[declared.key.reload], plan


@pytest.mark.parametrize(
    ("section", "declared"), [key for key in KEYS if str(key.id) in UNUSED]
)
def test_every_key_that_is_unused_is_told(
    section: type[Section], declared: Declaration
) -> None:
    for value in values(declared):
        whole = changed(full(declared), section, {declared.field: value})
        told = [finding.path[-1] for finding in unused_keys(cast("Config", whole))]
        assert told == ([] if value is False else [declared.name])


def test_what_only_code_that_nobody_calls_reads_is_not_read() -> None:
    found = Reads()
    found.add_live(
        ast.parse(text)
        for text in (
            "def used(general): return general.one, helper(general)\n"
            "def unused(general): return general.two, only_there(general)\n",
            "from .x import used, unused\n"
            "def helper(general): return lambda: general.three\n"
            "def only_there(general): return general.four\n"
            "class A:\n"
            "    def __init__(self, general):\n"
            "        self.five = general.five\n"
            "    def method(self):\n"
            "        def inner(): return general.six\n"
            "@command('X')\n"
            "def registered(): return general.seven\n"
            "used(1)\n",
        )
    )
    read = {name for holder, name in found.held if holder == "general"}
    assert read == {"one", "three", "five", "seven"}
