"""Routing by a comment: shard_id_regex and sharding_key_regex.

They match within a comment only: what stands in strings and quoted identifiers is data, which
has no say in where a statement goes. Where a string ends may be uncertain; a match behind that
is an error.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ..errors import InvalidShard, InvalidShardingKey, RoutingError
from .fingerprint import comments_of
from .keyvalues import shown
from .sharding import BIGINTS

if TYPE_CHECKING:
    from .sharding import Sharder
    from .types import Analysis, RouterOptions

_SHARD_DIGITS: Final = 18
# Bytes that are not UTF-8, once decoded.
_ESCAPED: Final = re.compile("[\udc80-\udcff]")


class CommentRouter:
    """Looks for shards and sharding keys in the beginnings of texts."""

    def __init__(self, options: RouterOptions, sharder: Sharder = BIGINTS) -> None:
        self._parse: Final = sharder.parse
        self._limit: Final = options.regex_search_limit
        self._shard_id: Final = options.shard_id_regex
        self._sharding_key: Final = options.sharding_key_regex

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to look for."""
        return self._shard_id is not None or self._sharding_key is not None

    def note(self, text: bytes, analysis: Analysis) -> Analysis:
        """Add what the text's comments ask for to its analysis."""
        head = text[: self._limit]
        seen = _in_utf8(head)
        size = len(head)
        for regex, read in ((self._shard_id, self._shard), (self._sharding_key, self._key)):
            # Nearly all texts have no match anywhere, and need not be cut into tokens.
            if regex is None or regex.find(seen, 0, size) is None:
                continue
            comments, certain = comments_of(text, self._limit)
            for start, end in comments:
                group = regex.find(seen, start, min(end, size))
                if group is not None:
                    written, is_torn = _group(head, group, is_cut=size < len(text))
                    return read(written, is_torn, analysis)
            if certain < len(text) and regex.find(seen, min(certain, size), size):
                return replace(analysis, comment_error=_uncertain())
        return analysis

    def _shard(self, written: str | None, is_torn: bool, analysis: Analysis) -> Analysis:
        number = written or ""
        if is_torn:
            return replace(analysis, comment_error=_torn("shard", number))
        if number.isascii() and number.isdigit() and len(number) <= _SHARD_DIGITS:
            return replace(analysis, comment_shard=int(number))
        error = InvalidShard(f'invalid shard "{shown(number)}"')
        return replace(analysis, comment_error=error)

    def _key(self, written: str | None, is_torn: bool, analysis: Analysis) -> Analysis:
        if written is None or is_torn:
            return replace(analysis, comment_error=_torn("sharding key", written or ""))
        try:
            return replace(analysis, comment_key=self._parse(written))
        except InvalidShardingKey as error:
            return replace(analysis, comment_error=error)


def _group(head: bytes, group: tuple[int, int], *, is_cut: bool) -> tuple[str | None, bool]:
    """What a group has matched, and whether more may belong to it.

    That is what is not searched, what is not UTF-8, and what are digits of other scripts than
    the expression knows: it must not become part of a key in some other guise, nor be left out.
    """
    start, end = group
    if start < 0:
        return None, False
    written = _decoded(head[start:end])
    around = _decoded(head[:start])[-1:] + _decoded(head[end:])[:1]
    is_torn = (
        (is_cut and end == len(head))
        or _ESCAPED.search(around + written) is not None
        or any(each.isdecimal() and not each.isascii() for each in around)
    )
    return written, is_torn


def _in_utf8(text: bytes) -> bytes:
    """Put SUB in place of bytes that are not UTF-8: expressions would see nothing there."""
    if text.isascii():
        return text
    return _ESCAPED.sub("\x1a", _decoded(text)).encode()


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _uncertain() -> RoutingError:
    return RoutingError(
        "what looks like a comment with a shard or sharding key may be part of a string",
        sqlstate="22023",
        hint="Write it at the beginning of the statement.",
    )


def _torn(what: str, written: str) -> RoutingError:
    return RoutingError(
        f'{what} "{shown(written)}" may not be all that is meant',
        sqlstate="22023",
        hint="Write it in UTF-8, in front of what regex_search_limit leaves out.",
    )
