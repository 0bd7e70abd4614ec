"""Routing by a comment: shard_id_regex and sharding_key_regex.

Whatever text matches will do, comment or not; the regular expressions are the operator's own.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ..errors import ConfigError, InvalidShard, InvalidShardingKey
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
        head = text[: self._limit].decode("utf-8", "replace")
        if self._shard_id is not None and (match := self._shard_id.search(head)):
            written = match[1] or ""
            if written.isascii() and written.isdigit() and len(written) <= _SHARD_DIGITS:
                return replace(analysis, comment_shard=int(written))
            return replace(
                analysis, comment_error=InvalidShard(f'invalid shard "{written[:40]}"')
            )
        if self._sharding_key is not None and (match := self._sharding_key.search(head)):
            try:
                return replace(analysis, comment_key=self._parse(match[1] or ""))
            except InvalidShardingKey as error:
                return replace(analysis, comment_error=error)
        return analysis


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
