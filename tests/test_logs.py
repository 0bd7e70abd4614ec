"""What the log looks like, whatever is in it, and who waits for it."""

from __future__ import annotations

import ast
import json
import logging
import os
import random
import re
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from router.errors import ConfigError, ServerRefused
from router.logs import JsonFormatter, TextFormatter
from router.logwriter import LogWriter
from router.printable import LIMIT, printable
from router.records import fields
from tests.support.builds import PACKAGE
from tests.support.router import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOSTILE = (
    "\n2026-01-01T00:00:00.000+00:00    INFO router.app: forged",
    "\r\x1b[2J\x1b]0;title\x07",
    "\u202eright to left\u2066",
    "line\u2028paragraph\u2029next\x85",
    "surrogate \udcff",
    "nul \0 delete \x7f c1 \x9b31m",
)


def record(message: str, *args: object, exc_info: bool = False) -> logging.LogRecord:
    """A record of a warning."""
    info = sys.exc_info() if exc_info else None
    return logging.LogRecord("router.x", logging.WARNING, "x.py", 1, message, args, info)


# --- text


def test_what_is_printable_stays() -> None:
    for text in ("", "ann", 'Größe 大小 \\n "quoted"', "x" * LIMIT):
        assert printable(text) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_not_is_escaped(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown.encode().decode("unicode_escape").encode("utf-16", "surrogatepass") == (
        text.encode("utf-16", "surrogatepass")
    )


@pytest.mark.parametrize("seed", range(20))
def test_any_text_becomes_one_bounded_line(seed: int) -> None:
    dice = random.Random(seed)
    top = dice.choice((0x100, 0x3000, 0x110000))
    text = "".join(chr(dice.randrange(top)) for _ in range(dice.choice((1, 50, 9000))))
    limit = dice.choice((10, LIMIT))
    shown = printable(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit + 3
    assert shown.endswith("...") or len(text) <= limit


def test_an_errors_line_has_a_peers_words_in_it_and_stays_a_line() -> None:
    error = ServerRefused("no such role: \n" + "x" * 9000)
    assert error.line.startswith("no such role: \\nxxx")
    assert len(error.line) < 300
    mistakes = ConfigError("pgcat.toml: 2 problems", ["a: wrong", "b: wrong"])
    assert mistakes.line == "pgcat.toml: 2 problems; a: wrong; b: wrong"


# --- formats


@pytest.mark.parametrize("text", HOSTILE)
def test_a_record_is_one_line(text: str) -> None:
    entry = record("login of %s failed", text)
    text_line, json_line = (
        formatter.format(entry)
        for formatter in (TextFormatter(color=False, places=True), JsonFormatter())
    )
    for line in (text_line, json_line):
        assert line.isprintable()
        line.encode()
    assert json.loads(json_line)["message"] == f"login of {printable(text)} failed"


@pytest.mark.parametrize("length", [199, 200, 201, 300, 301])
def test_a_long_traceback_has_its_beginning_and_its_end(length: int) -> None:
    def trace(breaks: int) -> list[str]:
        try:
            raise ValueError("\n".join(map(str, range(breaks + 1))))
        except ValueError:
            entry = record("internal error", exc_info=True)
        return TextFormatter(color=False, places=False).format(entry).split("\n")[1:]

    lines = trace(length - len(trace(0)))
    assert len(lines) == min(length, 201)
    assert [line.strip() for line in lines].count("...") == (length > 200)
    assert lines[0].strip().startswith("Traceback")


@pytest.mark.parametrize("text", HOSTILE)
def test_no_line_of_a_traceback_passes_for_a_record(text: str) -> None:
    try:
        raise ValueError(text * 1000)
    except ValueError:
        entry = record("internal error", exc_info=True)
    first, *others = TextFormatter(color=False, places=False).format(entry).split("\n")
    assert first.endswith("router.x: internal error")
    assert any("ValueError: " in line for line in others)
    for line in others:
        assert line.startswith("    ")
        assert line.isprintable()
        assert len(line) < 600
    assert len(others) <= 201
    trace = json.loads(JsonFormatter().format(entry))["exception"]
    assert "ValueError: " in trace


def test_a_record_has_its_time_in_utc_wherever_that_is(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = record("x")
    entry.created = 0.0
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        line = TextFormatter(color=False, places=False).format(entry)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert line == "1970-01-01T00:00:00.000+00:00 WARNING router.x: x"


def test_a_record_has_the_colour_of_its_level_and_its_place_if_that_is_asked_for() -> None:
    entry = record("x")
    coloured = TextFormatter(color=True, places=True).format(entry)
    assert coloured.endswith(" \x1b[33mWARNING\x1b[0m router.x (x.py:1): x")
    entry.levelno, entry.levelname = logging.CRITICAL, "CRITICAL"
    plain = TextFormatter(color=True, places=False).format(entry)
    assert plain.endswith(" CRITICAL\x1b[0m router.x: x")
    assert "None" not in plain


# --- writing


class Pipe:
    """A pipe with a writer, and what there is to read."""

    def __init__(self, capacity: int) -> None:
        self.reader, self.writer = os.pipe()
        self.handler = LogWriter(self.writer, capacity=capacity)

    def log(self, *messages: str) -> None:
        """Log messages."""
        for message in messages:
            self.handler.handle(record("%s", message))

    def read(self, last: str) -> list[str]:
        """Read lines up to one."""
        lines: list[str] = []
        with open(self.reader, closefd=False) as file:
            for line in file:
                lines.append(line.rstrip("\n"))
                if lines[-1] == last:
                    return lines
        raise AssertionError("it has ended")

    def close(self) -> None:
        """Close what is open."""
        self.handler.flush()
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe that holds a little."""
    made = Pipe(capacity=20_000)
    yield made
    made.close()


def test_lines_are_written_in_their_order(pipe: Pipe) -> None:
    wanted = [f"line {number}" for number in range(500)]
    pipe.log(*wanted)
    assert pipe.read("line 499") == wanted


def test_nobody_waits_for_a_reader_and_what_is_dropped_is_told(pipe: Pipe) -> None:
    count = 20_000  # more than fits into the pipe and the queue
    pipe.log(*(f"line {number}" for number in range(count)))  # returns, is what is tested
    found: list[str] = []
    done = threading.Thread(target=lambda: found.extend(pipe.read("the end")))
    done.start()
    pipe.handler.flush()
    pipe.log("the end")
    done.join(PATIENCE)
    numbers = [int(line.split()[1]) for line in found if line.startswith("line ")]
    assert numbers == sorted(set(numbers))
    told = [line for line in found if "dropped" in line]
    dropped = sum(int(re.findall(r"(\d+) lines were dropped", line)[0]) for line in told)
    assert dropped > 0
    assert len(numbers) + dropped == count
    assert len(told) < 10


def test_what_has_been_written_makes_room_for_more(tmp_path: Path) -> None:
    lines = [f"{number:060}" for number in range(3)]
    with open(tmp_path / "log", "wb") as file:
        handler = LogWriter(file.fileno(), capacity=100)
        for line in lines:
            handler.handle(record("%s", line))
            handler.flush()
    assert (tmp_path / "log").read_text().split() == lines


def test_a_pipe_that_somebody_has_made_not_to_block_is_waited_for() -> None:
    pipe = Pipe(capacity=1 << 20)
    os.set_blocking(pipe.writer, False)
    wanted = [f"{number:0100}" for number in range(5000)]  # more than the pipe takes
    pipe.log(*wanted)
    assert pipe.read(wanted[-1]) == wanted
    pipe.close()


def test_a_reader_that_has_gone_harms_nobody(pipe: Pipe) -> None:
    spare, pipe.reader = pipe.reader, os.open(os.devnull, os.O_RDONLY)
    os.close(spare)
    for _ in range(3):
        pipe.log("to nobody")
        pipe.handler.flush()


def test_a_log_call_with_wrong_arguments_harms_nobody(pipe: Pipe) -> None:
    pipe.handler.handle(record("%d %d", "x"))
    pipe.log("after")
    broken, after = pipe.read("after")
    assert broken.startswith("cannot log '%d %d': TypeError")
    assert after == "after"


CRASH = """
import logging, sys
from router import logs
logs.configure(level="info", style="text", color=False)
for number in range(1000):
    logging.getLogger("router.app").info("line %d", number)
raise SystemError("crash")
"""


def test_lines_before_a_crash_are_not_lost() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CRASH], capture_output=True, text=True, check=False
    )
    assert ended.stdout.count("router.app: line ") == 1000
    assert "SystemError: crash" in ended.stderr


CONFIGURED = """
import logging, sys
from router import logs
logs.configure(level="info", style=sys.argv[1], color=sys.argv[2] == "color")
logging.getLogger("router.app").info("hello")
logging.getLogger("router.app").debug("not this")
logging.getLogger("another").info("nor this")
"""


@pytest.mark.parametrize(
    ("style", "color", "end"),
    [
        ("text", "plain", "    INFO router.app: hello"),
        ("text", "color", "\x1b[32m   INFO\x1b[0m router.app: hello"),
        ("debug", "plain", "    INFO router.app (<string>:5): hello"),
        ("structured", "color", '"level": "INFO", "target": "router.app", "message": "hello"}'),
    ],
)
def test_the_log_looks_as_it_was_asked_for(style: str, color: str, end: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CONFIGURED, style, color],
        capture_output=True,
        text=True,
        check=True,
    )
    [line] = ended.stdout.splitlines()
    assert line.endswith(end)
    assert ("\x1b" in line) is ("\x1b" in end)


# --- fields


def with_fields(words: str, /, **values: object) -> logging.LogRecord:
    """A record that has been logged with these fields."""
    found = record(words)
    found.__dict__.update(fields(**values))
    return found


def test_fields_are_members_of_the_object_and_nothing_in_the_text() -> None:
    told = with_fields("gone", database="app", client_id="0x0000BEEF", duration_ms=1.5, tls="")
    entry = json.loads(JsonFormatter().format(told))
    assert entry["message"] == "gone"
    assert (entry["database"], entry["client_id"], entry["duration_ms"]) == (
        "app",
        "0x0000BEEF",
        1.5,
    )
    assert "tls" not in entry
    line = TextFormatter(color=False, places=False).format(told)
    assert line.endswith("WARNING router.x: gone")


@pytest.mark.parametrize("value", HOSTILE)
def test_what_a_field_says_is_made_printable(value: str) -> None:
    line = JsonFormatter().format(with_fields("x", user=value))
    assert line.isprintable()
    assert json.loads(line)["user"] == printable(value)


def test_a_field_is_no_part_of_what_every_record_has() -> None:
    entry = json.loads(JsonFormatter().format(with_fields("x", message="forged", level="no")))
    assert (entry["message"], entry["level"]) == ("x", "WARNING")


# How lines begin that are about a client, a connection, a pool or an administrator.
ABOUT = ("client %s", "%r", "[%s/%s]")


def log_calls() -> Iterator[tuple[str, ast.Call]]:
    """All calls of a logger, and where they are."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if ast.unparse(node.func.value) in ("log", "self._log"):
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node


def test_a_line_about_a_client_or_a_connection_says_so_in_fields() -> None:
    found = list(log_calls())
    assert len(found) > 80
    bare = []
    for place, call in found:
        texts = [ast.unparse(argument).strip("'\"f") for argument in call.args[:2]]
        is_about = any(text.startswith(ABOUT) or text == "text" for text in texts)
        if place.startswith(("pool/hub.py", "pool/line.py")):
            continue  # they serve all clients of a pool, which they name
        if is_about and not any(keyword.arg == "extra" for keyword in call.keywords):
            bare.append(place)
    assert bare == []
