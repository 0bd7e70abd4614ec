"""Reading pgbouncer.ini and userlist.txt, in PgBouncer's own grammar."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ..errors import ConfigError
from ..reasons import reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Values = dict[str, str]

_SECTION: Final = re.compile(r"\[([^\]]*)\]\s*")
_ENTRY: Final = re.compile(r'("(?:[^"]|"")*"|[^\s=]+)\s*=\s*(.*)')
_PAIR: Final = re.compile(r"\s*([A-Za-z_]+)\s*=\s*('(?:[^']|'')*'|[^\s']\S*|(?=\s|$))")
_USER: Final = re.compile(r'"((?:[^"]|"")*)"\s+"((?:[^"]|"")*)"')
# Files may include each other.
_DEEPEST: Final = 10


@dataclass(slots=True)
class Ini:
    """What the files say; of a key that is there twice the last counts.

    Attributes:
        settings: of [pgbouncer].
        databases, users, peers: by name, with the values of their lines.
    """

    settings: Values = field(default_factory=dict)
    databases: dict[str, Values] = field(default_factory=dict)
    users: dict[str, Values] = field(default_factory=dict)
    peers: dict[str, Values] = field(default_factory=dict)


def read_ini(path: Path) -> Ini:
    """Read a pgbouncer.ini, and what it includes.

    Raises:
        ConfigError: it cannot be read, or has a line that PgBouncer would refuse.
    """
    ini, section = Ini(), ""
    for file, number, line in _lines(path, 0):
        header, entry = _SECTION.fullmatch(line), _ENTRY.fullmatch(line)
        where = f"{file}, line {number}"
        if header is not None:
            section = header[1].strip()
        elif entry is None:
            raise ConfigError(f"{where}: neither a section nor KEY = VALUE")
        elif section == "pgbouncer":
            ini.settings[entry[1].lower()] = entry[2].strip()
        else:
            tables = {"databases": ini.databases, "users": ini.users, "peers": ini.peers}
            if section not in tables:
                raise ConfigError(f"{where}: PgBouncer has no section [{section}]")
            tables[section][_unquoted(entry[1])] = _pairs(entry[2], where)
    return ini


def read_userlist(path: Path) -> Values:
    """Read an auth_file: passwords, hashes and verifiers by user.

    Raises:
        ConfigError: it cannot be read.
    """
    users: Values = {}
    for line in _text(path).splitlines():
        found = _USER.match(line.strip())
        if found is not None:  # PgBouncer, too, passes over what is none
            users[found[1].replace('""', '"')] = found[2].replace('""', '"')
    return users


def _lines(path: Path, depth: int) -> Iterator[tuple[Path, int, str]]:
    if depth > _DEEPEST:
        raise ConfigError(f"{path}: files include each other")
    for number, raw in enumerate(_text(path).splitlines(), 1):
        line = raw.strip()
        if line.startswith("%include"):
            yield from _lines(path.parent / line.removeprefix("%include").strip(), depth + 1)
        elif line and line[0] not in ";#":
            yield path, number, line


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {reason(error)}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8") from None


def _pairs(text: str, where: str) -> Values:
    """The `key=value` of a line, of which quotes may hold blanks."""
    values: Values = {}
    position, text = 0, text.strip()
    while position < len(text):
        found = _PAIR.match(text, position)
        if found is None:
            raise ConfigError(f"{where}: not KEY=VALUE: column {position + 1} of the value")
        value = found[2]
        if value.startswith("'"):
            value = value[1:-1].replace("''", "'")
        values[found[1].lower()] = value
        position = found.end()
    return values


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
