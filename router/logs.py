"""Log output on stdout, in PgCat's three formats: text, structured (JSON lines) and debug."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final

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


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class TextFormatter(logging.Formatter):
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
        line = f"{_timestamp(record)} {level} {record.name}{place}: {record.getMessage()}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's time, level, target and message, and the exception if there is one."""
        entry = {
            "timestamp": _timestamp(record),
            "level": record.levelname,
            "target": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def configure(*, level: str, style: str, color: bool) -> None:
    """Send the router's log to stdout."""
    handler = logging.StreamHandler(sys.stdout)
    if style == "structured":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(TextFormatter(color=color, places=style == "debug"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("router").setLevel(LEVELS[level])
