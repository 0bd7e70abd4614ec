"""What a server answers, so that it can be compared with what another one does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.support.wire import Ended

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.wire import Message, WireClient

Part = tuple[str, object]

REFUSED: Final = "0A000"
# PostgreSQL tells the line of its source with each error, the router does not.
_SOURCE: Final = "L"
_NOTICES: Final = "NSA"
_PARTICULAR: Final = re.compile(r'"[^"]*"|\b\d[\d, and]*\b|(?<=: )[a-z_.]+\(\)')


@dataclass(frozen=True)
class Outcome:
    """What was answered up to ReadyForQuery.

    Attributes:
        parts: kinds of messages and what they tell, rows without an order.
        status: of the transaction, in the protocol's letters; "" if the connection has ended.
        refused: why the router would not, without names and numbers; "" if that is not so.
        message: the first error's.
    """

    parts: tuple[Part, ...]
    status: str
    refused: str = ""
    message: str = ""

    @property
    def has_failed(self) -> bool:
        """Whether there is an error."""
        return any(kind == "E" for kind, _ in self.parts)


def ask(client: WireClient, data: Sequence[bytes], *, is_ordered: bool) -> Outcome:
    """Send messages, and read all answers.

    Args:
        client: a connection.
        data: messages that end with one ReadyForQuery; with more than one element, those behind
            the first are sent if a COPY has begun.
        is_ordered: the order of rows is that of the statement.
    """
    try:
        client.send(data[0])
        found = client.read_until("Z") if len(data) == 1 else _copy(client, data[1:])
    except Ended as error:
        return outcome_of(error.messages, is_ordered=is_ordered)
    return outcome_of(found, is_ordered=is_ordered)


def _copy(client: WireClient, data: Sequence[bytes]) -> list[Message]:
    found: list[Message] = []
    while not found or found[-1].kind not in "GZ":
        found.append(client.read_message())
    if found[-1].kind == "G":
        client.send(b"".join(data))
        found += client.read_until("Z")
    return found


def outcome_of(messages: Sequence[Message], *, is_ordered: bool) -> Outcome:
    """Put together what messages tell."""
    parts: list[Part] = []
    rows: list[bytes] = []
    status = refused = text = ""
    for message in messages:
        if message.kind in "Dd":
            rows.append(message.body)
            continue
        if rows:
            parts.append(("rows", tuple(rows if is_ordered else sorted(rows))))
            rows = []
        if message.kind == "Z":
            status = message.body.decode()
        elif message.kind == "E":
            fields = message.fields
            if message.sqlstate == REFUSED and _SOURCE not in fields:
                refused = refused or reason(fields["M"])
            text = text or fields["M"]
            parts.append(("E", message.sqlstate))
        elif message.kind == "T":
            parts.append(("T", tuple(message.columns)))
        elif message.kind not in _NOTICES:
            parts.append((message.kind, message.body))
    return Outcome(tuple(parts), status, refused, text)


def reason(message: str) -> str:
    """What is the same in messages about other names and numbers."""
    return _PARTICULAR.sub("...", message)
