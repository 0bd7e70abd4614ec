"""Asks a server what its client has left there, now that its transaction is over."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ..printable import printable
from ..protocol import marks, messages
from ..protocol.segments import Segment
from . import leftovers
from .answer import CollectedAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .answer import Row
    from .leftovers import Leftovers
    from .server import ServerConnection

log = logging.getLogger("router.server")

# A question that the client's own statement_timeout has stopped, or a cancel request that comes
# late, is asked again, so many times in all.
_ATTEMPTS: Final = 3


def ask_leftovers(
    server: ServerConnection,
    custom: Iterable[str],
    take: Callable[[Leftovers | None], None],
    now: float,
    known: Iterable[bytes] | None = None,
    attempt: int = 1,
) -> None:
    """Ask for as much as the marks of the server call for.

    Args:
        server: whose client may have left something.
        custom: names of custom settings that it may have set.
        take: is given the answer; None if there is none.
        now: as time.monotonic().
        known: see `leftovers.question`.
        attempt: how often this has been tried, with this one.
    """
    found = server.marks & marks.ASKED
    names = tuple(custom)
    sql = leftovers.question(found, names, list(server.named), known)

    def answered(rows: list[Row], error: dict[str, str] | None, is_whole: bool) -> None:
        if error is not None and error.get("C") == "57014" and attempt < _ATTEMPTS:
            ask_leftovers(server, names, take, now, known, attempt + 1)
            return
        server.end_own()
        if error is not None or not is_whole:
            said = "it is too long" if error is None else printable(error.get("M", ""))
            text = "%r: what its client has left is not known: %s"
            log.warning(text, server, said, extra=server.fields())
            take(None)
            return
        login = server.baseline.get("session_authorization")
        is_other = server.parameters.get("session_authorization") != login
        # Of a setting that is there twice, the first is the one that is meant.
        take(
            leftovers.answer(
                rows[::-1], found, is_other_user=is_other, with_channels=known is not None
            )
        )

    server.queue.append(Segment(CollectedAnswer(answered, server.on_async), now))
    server.unnamed = 0
    server.send(messages.query(leftovers.unhurried(sql) if attempt > 1 else sql))
