"""query_logger: a line in the log for each text of statements."""

from __future__ import annotations

import logging
import re
from typing import Final

from ..printable import printable

log = logging.getLogger("router.query")

# Characters of a text that are shown.
_SHOWN: Final = 4096
# Bytes that are looked at for that, of all that a client may send.
_READ: Final = 4 * _SHOWN
# PASSWORD 'x' and password = 'x' in all their spellings, closed or not, and password=x.
_PASSWORD: Final = re.compile(
    rb"""(\bpassword(?:\s++|/\*(?:[^*]++|\*(?!/))*\*/|--[^\n]*+\n)*(?:=\s*+)?)
    (?: (?:[en]|u&)?(?:'(?:[^'\\]++|\\.|'')*'(?!') | '[^']*+(?:'|\Z))
      | (\$(?:[a-z_\x80-\xff][\w\x80-\xff]*+)?\$).*?(?:\2|\Z)
      | (?<==)[^\s'";,)]++
    )""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_MASK: Final = rb"\1'***'"


class QueryLogger:
    """The logger of one pool."""

    def __init__(self, pool: str, user: str) -> None:
        self._head: Final = f"[pool: {pool}][user: {user}]"

    def note(self, sql: bytes) -> None:
        """Log a text, or the beginning of one that is too long to hold."""
        log.info("%s %s", self._head, readable(sql))


def readable(sql: bytes) -> str:
    """A text on one line, not too long, and without passwords."""
    # A password that is cut off is one that is not closed.
    text = _PASSWORD.sub(_MASK, sql[:_READ]).decode("utf-8", "backslashreplace").strip()
    shown = printable(text, _SHOWN)
    is_whole = len(text) <= _SHOWN and len(sql) <= _READ
    return shown if is_whole else f"{shown} ({len(sql)} bytes)"
