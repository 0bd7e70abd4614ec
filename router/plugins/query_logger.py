"""query_logger: a line in the log for each text of statements."""

from __future__ import annotations

import logging
import re
from typing import Final

from ..firstwords import GAP
from ..printable import printable
from ..records import fields

log = logging.getLogger("router.query")

# Characters of a text that are shown.
_SHOWN: Final = 4096
# Bytes that are looked at for that, of all that a client may send.
_READ: Final = 4 * _SHOWN
# Blanks and comments; one that is not closed hides all behind it.
_GAPS: Final = rb"(?:%b|/\*.*+)*" % GAP
# PASSWORD 'x' and password = 'x' in all their spellings, closed or not, and password = x. The
# word and what follows it are a match in any case, with or without a value: nothing is read
# again for another word behind it.
_PASSWORD: Final = re.compile(
    rb"""(\bpassword"?+%(gap)s(:?=>?%(gap)s)?)
    ( (?(2)''[^']++''|(?!))
      | (?:[en]|u&)?(?:'(?:[^'\\]++|\\.|'')*'(?!') | '[^']*+(?:'|\Z))
      | "[^"]*+(?:"|\Z)
      | (\$(?:[a-z_\x80-\xff][\w\x80-\xff]*+)?\$).*?(?:\4|\Z)
      | (?(2)(?!password\b)[^\s'";,)]++|(?!))
    )?"""
    % {b"gap": _GAPS},
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
# The same in a comment that has been taken for a gap.
_COMMENTED: Final = re.compile(
    rb"""(\bpassword"?+\s*+(?::?=>?\s*+)?)(?:'[^']*+'?+|"[^"]*+"?+|(?<=[=>\s])[^\s'"*]++)""",
    re.IGNORECASE | re.VERBOSE,
)
_MASK: Final = b"'***'"


class QueryLogger:
    """The logger of one pool."""

    def __init__(self, pool: str, user: str) -> None:
        self._head: Final = f"[pool: {pool}][user: {user}]"
        self._fields: Final = fields(database=pool, user=user)

    def note(self, sql: bytes) -> None:
        """Log a text, or the beginning of one that is too long to hold."""
        log.info("%s %s", self._head, readable(sql), extra=self._fields)


def readable(sql: bytes) -> str:
    """A text on one line, not too long, and without passwords."""
    # A password that is cut off is one that is not closed.
    text = without_passwords(sql[:_READ]).decode("utf-8", "backslashreplace").strip()
    shown = printable(text, _SHOWN)
    is_whole = len(text) <= _SHOWN and len(sql) <= _READ
    return shown if is_whole else f"{shown} ({len(sql)} bytes)"


def without_passwords(sql: bytes) -> bytes:
    """Put stars in place of what may be a password."""
    return _PASSWORD.sub(_masked, sql)


def _masked(match: re.Match[bytes]) -> bytes:
    head: bytes = match[1]
    if match[3] is None and match.end() == len(match.string) and b"/*" in head:
        return head[: head.index(b"/*")] + _MASK  # the value may be in it
    if b"/*" in head or b"--" in head:
        word = len(b"password")
        head = head[:word] + _COMMENTED.sub(rb"\1" + _MASK, head[word:])
    return head if match[3] is None else head + _MASK
