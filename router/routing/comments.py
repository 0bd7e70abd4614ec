"""Routing by a comment: shard_id_regex and sharding_key_regex.

Whatever text matches will do, comment or not; the regular expressions are the operator's own.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ..errors import ConfigError, InvalidShard, InvalidShardingKey, RoutingError
from .keyvalues import shown
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
        head = text[: self._limit].decode("utf-8", "surrogateescape")
        if self._shard_id is not None and (match := self._shard_id.search(head)):
            written = match[1] or ""
            if self._is_torn(match, head, text):
                return replace(analysis, comment_error=_torn("shard", written))
            if written.isascii() and written.isdigit() and len(written) <= _SHARD_DIGITS:
                return replace(analysis, comment_shard=int(written))
            return replace(
                analysis, comment_error=InvalidShard(f'invalid shard "{shown(written)}"')
            )
        if self._sharding_key is not None and (match := self._sharding_key.search(head)):
            written = match[1]
            if written is None or self._is_torn(match, head, text):
                return replace(analysis, comment_error=_torn("sharding key", written))
            try:
                return replace(analysis, comment_key=self._parse(written))
            except InvalidShardingKey as error:
                return replace(analysis, comment_error=error)
        return analysis

    def _is_torn(self, match: re.Match[str], head: str, text: bytes) -> bool:
        """Say whether more may belong to group 1: what is not searched, or not UTF-8."""
        start, end = match.span(1)
        if end == len(head) and len(text) > self._limit:
            return True
        return any(
            "\udc80" <= neighbour <= "\udcff" for neighbour in head[max(start - 1, 0) : end + 1]
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
