"""The comment of tags that sqlcommenter puts behind a statement, and the text without it.

Such a comment, ``/*action='show',traceparent='00-...-01'*/``, is another one for each
statement, so that no text would ever come again. What is remembered of texts is therefore
remembered without it.

It is found without reading the text from its beginning. Where a text ends in what looks like
such a comment and is none, a string, an identifier or another comment has been begun and is not
closed: quotes come in pairs in it, and no other comment begins there. Such a text PostgreSQL
refuses, whatever has been thought of it.
"""

from __future__ import annotations

import re
from typing import Final

# Values are URL-encoded by those who keep to the specification; some are not.
_VALUE: Final = rb"'(?:[^'\\*/\0\r\n\x80-\xff-]++|\*(?!/)|/(?!\*)|-(?!-))*'"
_TAG: Final = rb"\s*+[A-Za-z_][\w.%%~-]{0,100}+\s*+=\s*+%b\s*+" % _VALUE
_COMMENT: Final = re.compile(rb"/\*%b(?:,%b)*\*/[\s;]*+\Z" % (_TAG, _TAG), re.ASCII)
_SPACE: Final = b" \t\n\r\f\v"
_TRACE_PARENT: Final = re.compile(
    rb"\btraceparent\s*+=\s*+'([0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})(?:-[^']*+)?'",
    re.ASCII,
)
_SLASH: Final = ord("/")
_ENDS: Final = b"; \t\n\r\f\v"


def _start(text: bytes) -> int:
    """Where the comment begins; -1 if there is none."""
    if not text:
        return -1
    last = text[len(text) - 1]
    if last != _SLASH and last not in _ENDS:
        return -1
    start = text.rfind(b"/*")
    if start < 0 or _COMMENT.match(text, start) is None:
        return -1
    return start


def without_tags(text: bytes) -> bytes:
    """The text without the comment, and without what stands behind it; else the very text."""
    start = _start(text)
    return text if start < 0 else text[:start].rstrip(_SPACE)


def body_without_tags(body: bytes) -> bytes:
    """The same for what follows the name in a Parse: the text, a zero byte, and types."""
    end = body.find(b"\0")
    text = body[: max(end, 0)]
    bare = without_tags(text)
    return body if bare is text else bare + body[end:]


def trace_parent(text: bytes) -> bytes:
    """The traceparent of the comment, as W3C Trace Context has it; b"" without one."""
    start = _start(text)
    found = None if start < 0 else _TRACE_PARENT.search(text, start)
    return b"" if found is None else found[1]
