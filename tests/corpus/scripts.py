"""psql scripts: their statements, with psql's variables put in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_LEXEME: Final = re.compile(
    r"""(?<![\w$])[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
    | --[^\n]* | /\*(?:[^*/]|\*(?!/)|/(?!\*)|/\*(?:[^*]|\*(?!/))*\*/)*\*/
    | (?<![\w$])\$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$
    | \\[;] | (?P<meta>\\[a-z!?.]\w*)(?P<rest>[^\n]*)
    | (?<![:\w]):(?P<variable>'\w+'|"\w+"|[A-Za-z_]\w*)
    | [();] | \w+""",
    re.VERBOSE | re.DOTALL,
)
_DATA: Final = re.compile(r"\s*copy\b.*\bfrom\s+stdin\b", re.IGNORECASE | re.DOTALL)
_ATOMIC: Final = re.compile(
    r"\s*create\s+(or\s+replace\s+)?(function|procedure)\b.*\bbegin\s+atomic\b",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Command:
    """A statement of a script, and the lines behind it if it is COPY FROM STDIN."""

    sql: str
    data: str | None = None


class Script:
    """One psql script, read once."""

    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        """Read a script.

        Args:
            path: of the file.
            environment: what ``\\getenv`` gets.
        """
        self._text = path.read_text(encoding="utf-8", errors="replace")
        self._environment = environment
        self._variables: dict[str, str] = {}
        self._pieces: list[str] = []
        self._depth = 0
        self._blocks = 0

    def __iter__(self) -> Iterator[Command]:
        """Yield the statements in order."""
        position = 0
        while (match := _LEXEME.search(self._text, position)) is not None:
            self._pieces.append(self._text[position : match.start()])
            position = match.end()
            token = match[0]
            if match["meta"] is not None:
                sends = match["meta"].startswith("\\g") and match["meta"] != "\\getenv"
                if sends or match["meta"] in ("\\crosstabview", "\\bind"):
                    yield from self._finished()
                else:
                    self._obey(match["meta"], match["rest"].split())
            elif match["variable"] is not None:
                self._pieces.append(self._value(match["variable"], token))
            elif token == ";" and self._depth <= 0 and self._blocks <= 0:
                for command in self._finished():
                    if _DATA.match(command.sql):
                        end = re.compile(r"^\\\.$", re.MULTILINE).search(self._text, position)
                        stop = len(self._text) if end is None else end.start()
                        data = self._text[position:stop].partition("\n")[2]
                        position = stop if end is None else end.end()
                        command = Command(command.sql, data)
                    yield command
            else:
                self._add(token)

    def _add(self, token: str) -> None:
        if token.startswith(("--", "/*")):
            self._pieces.append(" ")
            return
        if token == "\\;":
            token = ";"
        self._depth += (token == "(") - (token == ")")
        word = token.lower()
        if word in ("atomic", "case", "end") and _ATOMIC.match("".join(self._pieces) + token):
            self._blocks += 1 if word != "end" else -1
        self._pieces.append(token)

    def _finished(self) -> Iterator[Command]:
        sql = "".join(self._pieces).strip()
        self._pieces = []
        self._depth = self._blocks = 0
        if sql:
            yield Command(sql)

    def _obey(self, meta: str, arguments: list[str]) -> None:
        if meta == "\\getenv" and len(arguments) == 2:
            self._variables[arguments[0]] = self._environment.get(arguments[1], "")
        elif meta == "\\set" and arguments:
            values = [self._argument(text) for text in arguments[1:]]
            self._variables[arguments[0]] = "".join(values)
        elif meta == "\\r":
            self._pieces = []

    def _argument(self, text: str) -> str:
        if text.startswith(":"):
            return self._variables.get(text[1:].strip("'\""), "")
        return text.strip("'")

    def _value(self, written: str, token: str) -> str:
        name = written.strip("'\"")
        if name not in self._variables:
            return token
        value, quote = self._variables[name], written[0]
        return f"{quote}{value}{quote}" if quote in "'\"" else value


def schedule(path: Path) -> list[str]:
    """Return the names of the tests in a schedule, in order."""
    lines = [line.partition(":") for line in path.read_text().splitlines()]
    return [name for kind, _, names in lines if kind == "test" for name in names.split()]
