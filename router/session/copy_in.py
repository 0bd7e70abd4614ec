"""A COPY ... FROM STDIN on all shards: what its client sends, on its way to them.

The client is told to send when all servers read rows. From then on its CopyData is taken a
part at a time and sent on, as long as no server is slow to take what it has. What a server
refuses ends the COPY on all of them: they are told so (CopyFail), and of what they then say the
first line counts, as it would on one server.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

from ..errors import ClientProtocolError, RowRefused
from ..pool.participant import CopyListener
from ..protocol import codes
from ..protocol.framing import string_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..errors import RouterError
    from ..pool.participant import Participant, Request
    from ..protocol.frontend import ClientStream
    from .client import Client

# So much of what is here is acted on at a time, in bytes.
_PART: Final = 16 * 1024
_STOPPED: Final = "another shard has refused a row"
_LEFT: Final = "the client has left"
LINE: Final = re.compile(r"^(COPY .*?, line )([0-9]+)", re.MULTILINE)
"""Where an error is, in its CONTEXT."""


class CopyIn(CopyListener):
    """One of these, from its text to its end.

    Attributes:
        request: what each shard is asked.
        data: the same as a message.
        question: what is asked of each before.
        has_begun: the client has been told to send.
    """

    __slots__ = (
        "_client",
        "_has_stopped",
        "_home",
        "_is_ending",
        "_participants",
        "_refused",
        "_resume",
        "_waits_for_query",
        "data",
        "has_begun",
        "question",
        "request",
    )

    def __init__(
        self,
        request: Request,
        question: bytes,
        client: Client,
        resume: Callable[[], None],
    ) -> None:
        """Prepare it.

        Args:
            request: its text.
            question: about its table.
            client: who has asked for it.
            resume: has what the client sends found again that was declined.
        """
        self.request: Final = request
        self.data: Final = request.data
        self.question: Final = question
        self._client: Final = client
        self._resume: Final = resume
        self._waits_for_query = True
        self._participants: Sequence[Participant] = ()
        self._home: Participant | None = None
        self._refused: RowRefused | None = None
        self._is_ending = self._has_stopped = False
        self.has_begun = False

    # --- before the first row

    def learn(self, participants: Sequence[Participant], home: Participant) -> None:
        """Take in what servers have answered to the question.

        Raises:
            RoutingError: it cannot be done.
        """
        self._participants, self._home = participants, home

    def begin(self) -> None:
        """All servers read rows: the client may send them."""
        home = self._home
        assert home is not None
        self.has_begun = True
        self._client.reply(bytes(home.answer))
        self._resume()

    # --- what the client sends

    def feed(self, stream: ClientStream) -> bool:
        """Act on what the stream has found; False declines it for now.

        Raises:
            ClientProtocolError: the connection cannot go on.
        """
        if not self.has_begun or self._is_ending or self._has_stopped:
            return False
        kind, data, start, end = stream.kind, stream.data, stream.start, stream.end
        if kind == codes.COPY_DATA:
            for participant in self._participants:
                if participant.is_congested:
                    return False
            self._take(stream.copied(_PART))
            return True
        if self._waits_for_query:
            self._waits_for_query = False
            return True  # its own Query, at the head of the stream until now
        if kind == codes.COPY_DONE:
            self._is_ending = True
            self._end()
        elif kind == codes.COPY_FAIL:
            self._give_up(string_in(data, start, end).decode("utf-8", "replace"))
        elif kind == codes.TERMINATE:
            self._give_up(_LEFT)
            return False  # when it is over
        elif kind not in (codes.SYNC, codes.FLUSH):
            what = f"unexpected message type 0x{kind:02X} during COPY from stdin"
            self._client.refuse(ClientProtocolError(what))
            raise ClientProtocolError(
                "terminating connection because protocol synchronization was lost"
            )
        return True

    def _take(self, data: bytes) -> None:
        """Send on what there is."""
        raise NotImplementedError

    def _end(self) -> None:
        """There is no more."""
        for participant in self._participants:
            participant.end_rows()

    def _give_up(self, reason: str) -> None:
        """The client wants none of it, for a reason."""
        raise NotImplementedError

    # --- what ends it

    def stop(self, why: str = _STOPPED) -> None:
        """None of the rows shall be there."""
        if not self._has_stopped:
            self._has_stopped = True
            for participant in self._participants:
                participant.end_rows(why)

    def ended(self, participant: Participant) -> None:
        """A server does not read rows any more: nor shall others if it has refused."""
        if self.has_begun and participant.error is not None:
            self.stop()

    def drained(self) -> None:
        """A server takes input again."""
        if self.has_begun:
            self._resume()

    def failed(self) -> Participant | None:
        """Whose error is that of the COPY, after the end: that of the first line, with it."""
        first: Participant | None = None
        error: dict[str, str] | RouterError | None = self._refused
        least = math.inf if self._refused is None else float(self._refused.number)
        for participant in self._participants:
            found, line = participant.error, math.inf
            if isinstance(found, dict):
                if _STOPPED in found.get("M", ""):
                    continue
                found, line = self._placed(found, participant.shard)
            if found is not None and (error is None or line < least):
                first, error, least = participant, found, line
        if error is None:
            return None
        failed = first or self._home
        assert failed is not None
        failed.error = error
        return failed

    def _placed(self, error: dict[str, str], shard: int) -> tuple[dict[str, str], float]:
        """A server's error with the client's number of the line in it, and that number."""
        raise NotImplementedError

    @property
    def count(self) -> int:
        """How many rows the client is told of, after the end."""
        raise NotImplementedError
