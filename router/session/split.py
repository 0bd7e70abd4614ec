"""An INSERT that is split by its rows: what is asked of each shard, and the answers as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..protocol import codes, messages
from ..protocol.framing import HEADER
from ..routing import refusals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..pool.participant import Request


class Split:
    """An INSERT whose rows belong to several shards: what is asked of each.

    Attributes:
        requests: by the number of the shard.
        order: the shard of each row.
        data: the whole INSERT, as a message.
    """

    __slots__ = ("data", "order", "requests")

    def __init__(self, sql: bytes, order: Sequence[int]) -> None:
        self.order: Final = order
        self.data: Final = messages.query(sql)
        self.requests: dict[int, Request] = {}

    def merged(self, answers: Mapping[int, tuple[int, bytes]]) -> tuple[bytes, bytes]:
        """Put the answers together: descriptions and rows, in the order of the rows, and a tag.

        Args:
            answers: of each shard, how many rows it has, and its descriptions and rows.

        Raises:
            AmbiguousShard: it is not known which of the rows are returned.
        """
        parts = {shard: messages_of(answer) for shard, (_, answer) in answers.items()}
        first = next(iter(parts.values()))
        found = [message for message in first if message[0] != codes.DATA_ROW]
        rows = {
            shard: iter([message for message in part if message[0] == codes.DATA_ROW])
            for shard, part in parts.items()
        }
        if any(message[0] == codes.ROW_DESCRIPTION for message in found):
            for shard, (count, _) in answers.items():
                if count != self.order.count(shard):
                    raise refusals.not_to_be_split("not all of them are returned")
            found += [next(rows[shard]) for shard in self.order]
        total = sum(count for count, _ in answers.values())
        return b"".join(found), messages.command_complete(f"INSERT 0 {total}")


def messages_of(answer: bytes) -> list[bytes]:
    """Take an answer apart."""
    found = []
    position = 0
    while position < len(answer):
        end = position + 1 + HEADER.unpack_from(answer, position)[1]
        found.append(answer[position:end])
        position = end
    return found
