"""Log output on stdout, in PgCat's three formats: text, structured (JSON lines) and debug.

Whatever a message has in it, a record is one line of printable characters, of a bounded length.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final

from .logwriter import LogWriter
from .printable import printable

FORMATS: Final = ("text", "structured", "debug")
# Python has no TRACE: it is everything.
LEVELS: Final = {
    "trace": 5,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}
_COLORS: Final = {
    logging.DEBUG: "\x1b[34m",
    logging.INFO: "\x1b[32m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
}

# Characters of a message, and of a line of a traceback; lines of its beginning and its end.
_MESSAGE_LIMIT: Final = 8192
_TRACE_WIDTH: Final = 512
_TRACE_LINES: Final = 100


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _message(record: logging.LogRecord) -> str:
    return printable(record.getMessage(), _MESSAGE_LIMIT)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """What the record says of itself besides its message, as `records.fields` has made it."""
    known: dict[str, object] = getattr(record, "fields", {})
    return {
        name: printable(value, _MESSAGE_LIMIT) if isinstance(value, str) else value
        for name, value in known.items()
    }


class _Formatter(logging.Formatter):
    """What both formats have in common."""

    def trace(self, record: logging.LogRecord) -> list[str]:
        """The lines of the record's traceback, without the middle of a long one."""
        if not record.exc_info:
            return []
        lines = self.formatException(record.exc_info).split("\n")
        if len(lines) > 2 * _TRACE_LINES:
            lines = [*lines[:_TRACE_LINES], "...", *lines[-_TRACE_LINES:]]
        return [printable(line, _TRACE_WIDTH) for line in lines]


class TextFormatter(_Formatter):
    """`2026-01-01T00:00:00.000+00:00  INFO router.app: listening on ...`."""

    def __init__(self, *, color: bool, places: bool) -> None:
        super().__init__()
        self._color: Final = color
        self._places: Final = places

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it if there is one."""
        level = f"{record.levelname:>7}"
        if self._color:
            level = f"{_COLORS.get(record.levelno, '')}{level}\x1b[0m"
        place = f" ({record.filename}:{record.lineno})" if self._places else ""
        line = f"{_timestamp(record)} {level} {record.name}{place}: {_message(record)}"
        # Indented, so that no line of it can pass for a record.
        return "\n    ".join([line, *self.trace(record)])


class JsonFormatter(_Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's time, level, target, message and fields, and the exception if any."""
        entry: dict[str, object] = {
            "timestamp": _timestamp(record),
            "level": record.levelname,
            "target": record.name,
            "message": _message(record),
        }
        for name, value in _fields(record).items():
            entry.setdefault(name, value)
        if record.exc_info:
            entry["exception"] = "\n".join(self.trace(record))
        return json.dumps(entry, ensure_ascii=False)


def configure(*, level: str, style: str, color: bool) -> None:
    """Send the router's log to stdout."""
    if sys.stdout is None:
        return  # closed by whoever started us: the descriptor may be anything's by now
    handler = LogWriter(sys.stdout.fileno())
    if style == "structured":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(TextFormatter(color=color, places=style == "debug"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("router").setLevel(LEVELS[level])
