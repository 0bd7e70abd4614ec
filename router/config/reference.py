"""Renders the reference page of the configuration from the declarations of its keys.

    python -m router.config.reference > docs/config.md

With the argument ``schema`` it renders a JSON schema instead, for editors.
"""

from __future__ import annotations

import json
import sys
from enum import Enum
from typing import TYPE_CHECKING, cast

from .declared import Declaration, Nesting, declarations
from .general import General
from .model import Config
from .peers import Peer
from .plugins import (
    InterceptedQuery,
    InterceptSection,
    Plugins,
    PrewarmerSection,
    QueryLoggerSection,
    TableAccessSection,
)
from .pools import Mirror, PoolConfig, Server, Shard, User
from .sources import is_single

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .keys import Section

EXAMPLE = """\
[general]
admin_username = "admin"
admin_password = "choose one"

[pools.app]

[pools.app.users.0]
username = "app"
password = "secret"
pool_size = 20

[pools.app.shards.0]
database = "app"
servers = [["127.0.0.1", 5432, "primary"], ["127.0.0.1", 5433, "replica"]]
"""

_INTRO = """\
# Configuration

<!-- Written by `python -m router.config.reference`; change the declarations, not this page. -->

The router reads one TOML file, `pgcat.toml` unless its name is given on the command line or by
`CONFIG_FILE`. Files written for PgCat are read as they are, and the log names the keys in them
that have no effect here. This is a complete one:

```toml
{example}```

Rules that hold everywhere:

- A value of the wrong type, or out of its bounds, is an error, and so are values that do not go
  together. All mistakes in a file are told at once, each with the path of its key. The router
  does not start with a file that has mistakes; on a reload it keeps what it has.
- A key that nobody knows is a warning, with the name of the known one that is most like it, if
  one is. It is ignored.
- The words of a list of choices may be written in any case, with or without `_` and `-`.
- Numbers that measure something say so in the column of types: ms, s, bytes.
- Of keys that several sections have, such as `connect_timeout`, a user's value is preferred to
  the pool's, and the pool's to that of [general]: where it is not set it is inherited.
- Instead of a string, a number, a flag or a word a key may have `{{ env = "NAME" }}`, the value
  of an environment variable, or `{{ file = "PATH" }}`, the content of a file without its last
  end of line. A relative path begins at the directory of the configuration. Files are read anew
  with each reload, and `autoreload` looks at them, too. An error does not show such a value.
- A regular expression is one of [RE2](sharding.md#by-comment).

The last but one column tells whether a changed value takes effect when the file is reloaded, by
`RELOAD` in the admin database, by SIGHUP or by `autoreload`:

- *yes*: at once.
- *yes, new connections*: those that are open keep what they began with.
- *yes, changed pools*: in exactly those pools, one for each user, whose effective settings are
  no longer the same. They take it over in place, and connections stay.
- *yes, pools replaced*: the same, but a new pool takes the place of such a one: transactions
  finish on the old connections, which are closed then. The other pools notice nothing.
- *no, at restart*: when the process starts anew.
- *has no effect*: known from PgCat's files, but nothing reads it, or not yet. If the file has
  it, and does not merely turn it off, the log says so at the start and after each reload.
"""

_SECTIONS: tuple[tuple[str, type[Section]], ...] = (
    ("general", General),
    ("pools.NAME", PoolConfig),
    ("pools.NAME.users.KEY", User),
    ("pools.NAME.shards.NUMBER", Shard),
    ("peers.ID", Peer),
    ("plugins", Plugins),
    ("plugins.query_logger", QueryLoggerSection),
    ("plugins.intercept", InterceptSection),
    ("plugins.intercept.queries.KEY", InterceptedQuery),
    ("plugins.table_access", TableAccessSection),
    ("plugins.prewarmer", PrewarmerSection),
)

_NOTES: dict[type[Section], str] = {
    PoolConfig: "NAME is the database that clients ask for.",
    User: "KEY is any string. `pool_size` counts for each server of each shard.",
    Shard: "NUMBER counts from 0 without gaps.",
    Peer: "ID is its `peer_id`, from 1 to 16383; one's own has no effect.",
    Plugins: "The same tables below `pools.NAME.plugins` replace all of these for one pool.",
}


_Node = dict[str, object]

# A table with one of these, where a value could be.
_ELSEWHERE: tuple[_Node, ...] = tuple(
    {
        "type": "object",
        "properties": {kind: {"type": "string"}},
        "required": [kind],
        "additionalProperties": False,
    }
    for kind in ("env", "file")
)


def render() -> str:
    """Return the page."""
    parts = [_INTRO.format(example=EXAMPLE)]
    for path, section in _SECTIONS:
        parts.append("\n".join(_section(path, section)))
    return "\n".join(parts)


def json_schema() -> dict[str, object]:
    """Return a JSON schema of the file, for editors: with what keys mean, and no others."""
    schema: dict[str, object] = Config.model_json_schema(by_alias=True)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    schema["title"] = "pgcat.toml"
    found = {Config.__name__: schema, **cast("dict[str, _Node]", schema["$defs"])}
    sections: list[type[Section]] = [Config, Server, Mirror]
    for section in dict.fromkeys([*sections, *(section for _, section in _SECTIONS)]):
        _explain(found[section.__name__], section)
    return schema


def _explain(table: _Node, section: type[Section]) -> None:
    """Complete the schema of a section, which pydantic has made of types alone."""
    if section.array_form:
        # An array or a table, of the same entries.
        table = cast("list[_Node]", table["anyOf"])[1]
    table["additionalProperties"] = False
    properties = cast("dict[str, _Node]", table["properties"])
    required = cast("list[str]", table.get("required", []))
    for declared in declarations(section).values():
        entry = properties[declared.name]
        entry.pop("title", None)
        if is_single(declared):
            entry = properties[declared.name] = {"anyOf": [entry, *_ELSEWHERE]}
        entry["description"] = _meaning(declared)
        for alias in declared.key.aliases:
            properties[alias] = {**entry, "deprecated": True}
        if declared.key.aliases and declared.name in required:
            required.remove(declared.name)


def _section(path: str, section: type[Section]) -> Iterator[str]:
    yield f"## [{path}]"
    yield ""
    yield (section.__doc__ or "").strip()
    if section in _NOTES:
        yield _NOTES[section]
    yield ""
    yield from _table(section)
    if section is Shard:
        unused = declarations(Shard)["mirrors"].key.unused
        for title, entry, why in (("A server", Server, ""), ("A mirror", Mirror, unused)):
            order = ", ".join(entry.array_form)
            more = "".join(f", which may end with `{name}`" for name in entry.array_more)
            yield f"{title} is an array `[{order}]`{more}, or a table with these keys:"
            yield ""
            yield from _table(entry, why)


def _table(section: type[Section], unused: str = "") -> Iterator[str]:
    yield "| Key | Type | Default | Reload | Meaning |"
    yield "|---|---|---|---|---|"
    for declared in declarations(section).values():
        cells = (
            _name(declared),
            declared.form
            if declared.unit is None
            else f"{declared.form} ({declared.unit.value})",
            _default(declared),
            "has no effect" if declared.key.unused or unused else declared.key.reload.value,
            _meaning(declared),
        )
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


def _name(declared: Declaration) -> str:
    others = "".join(f", also `{alias}`" for alias in declared.key.aliases)
    return f"`{declared.name}`{others}"


def _meaning(declared: Declaration) -> str:
    unused = declared.key.unused
    return declared.key.meaning + (f" No effect: {unused}." if unused else "")


def _default(declared: Declaration) -> str:
    if declared.required:
        return "**required**"
    default = declared.default
    if default is None:
        return declared.key.unset
    if declared.nesting is Nesting.TABLES:
        return "none"
    if isinstance(default, Enum):
        return f'`"{default.value}"`'
    return f"`{json.dumps(default)}`"


def main(arguments: list[str]) -> None:
    """Print the page, or the schema."""
    text = json.dumps(json_schema(), indent=2) + "\n" if arguments == ["schema"] else render()
    sys.stdout.write(text)


if __name__ == "__main__":
    main(sys.argv[1:])
