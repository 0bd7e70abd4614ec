"""Routing by a comment: shard_id_regex and sharding_key_regex.

They match within a comment only: what stands in strings and quoted identifiers is data, which
has no say in where a statement goes. Where a string ends may be uncertain; a match behind that
is an error.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ..errors import ConfigError, InvalidShard, InvalidShardingKey, RoutingError
from .keyvalues import shown
from .shape import comments_of
from .sharding import BIGINTS

if TYPE_CHECKING:
    from .sharding import Sharder
    from .types import Analysis, RouterOptions

_SHARD_DIGITS: Final = 18


class CommentRouter:
    """Looks for shards and sharding keys in the beginnings of texts."""

    def __init__(self, options: RouterOptions, sharder: Sharder = BIGINTS) -> None:
        self._parse: Final = sharder.parse
        self._limit: Final = options.regex_search_limit
        self._shard_id: Final = _compiled("shard_id_regex", options.shard_id_regex)
        self._sharding_key: Final = _compiled("sharding_key_regex", options.sharding_key_regex)

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to look for."""
        return self._shard_id is not None or self._sharding_key is not None

    def note(self, text: bytes, analysis: Analysis) -> Analysis:
        """Add what the text's comments ask for to its analysis."""
        # What is no UTF-8 must not become part of a key in some other guise.
        head = _decoded(text[: self._limit])
        for pattern, read in ((self._shard_id, self._shard), (self._sharding_key, self._key)):
            # Nearly all texts have no match anywhere, and need not be cut into tokens.
            if pattern is None or pattern.search(head) is None:
                continue
            comments, certain = comments_of(text, self._limit)
            seen = place = 0
            for start, end in comments:
                place += len(_decoded(text[seen:start]))
                after = place + len(_decoded(text[start:end]))
                if match := pattern.search(head, place, after):
                    return read(match, self._is_torn(match, head, text), analysis)
                seen, place = end, after
            place += len(_decoded(text[seen:certain]))
            if certain < len(text) and pattern.search(head, place):
                return replace(analysis, comment_error=_uncertain())
        return analysis

    def _shard(self, match: re.Match[str], is_torn: bool, analysis: Analysis) -> Analysis:
        written = match[1] or ""
        if is_torn:
            return replace(analysis, comment_error=_torn("shard", written))
        if written.isascii() and written.isdigit() and len(written) <= _SHARD_DIGITS:
            return replace(analysis, comment_shard=int(written))
        error = InvalidShard(f'invalid shard "{shown(written)}"')
        return replace(analysis, comment_error=error)

    def _key(self, match: re.Match[str], is_torn: bool, analysis: Analysis) -> Analysis:
        written = match[1]
        if written is None or is_torn:
            return replace(analysis, comment_error=_torn("sharding key", written))
        try:
            return replace(analysis, comment_key=self._parse(written))
        except InvalidShardingKey as error:
            return replace(analysis, comment_error=error)

    def _is_torn(self, match: re.Match[str], head: str, text: bytes) -> bool:
        """Say whether more may belong to group 1: what is not searched, or not UTF-8."""
        start, end = match.span(1)
        if end == len(head) and len(text) > self._limit:
            return True
        return any(
            "\udc80" <= neighbour <= "\udcff" for neighbour in head[max(start - 1, 0) : end + 1]
        )


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _uncertain() -> RoutingError:
    return RoutingError(
        "what looks like a comment with a shard or sharding key may be part of a string",
        sqlstate="22023",
        hint="Write it at the beginning of the statement.",
    )


def _torn(what: str, written: str | None) -> RoutingError:
    return RoutingError(
        f'{what} "{shown(written or "")}" may not be all that is meant',
        sqlstate="22023",
        hint="Write it in UTF-8, in front of what regex_search_limit leaves out.",
    )


def _compiled(name: str, pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{name}: {error}") from None
    if not compiled.groups:
        raise ConfigError(f"{name}: needs a group that holds the number")
    return compiled
