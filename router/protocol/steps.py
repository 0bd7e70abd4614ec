"""The steps of a script: what each message to a server will be answered with, and then becomes.

`segments` explains where they belong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from .columns import Describing

FORWARD: Final = 0
SWALLOW: Final = 1
EMIT: Final = 2
REPLACE_ERROR: Final = 3


class Step:
    """What one message to the server will be answered with, and what becomes of the answer.

    Attributes:
        order: FORWARD, SWALLOW, EMIT (no message was sent: `payload` is the reply), or
            REPLACE_ERROR (the message is bound to fail: `payload` stands in for the error).
        completes: the types of reply that complete it.
        undo: takes back what was assumed about it, if it turns out not to happen.
        done: told when it has happened.
        failed: called instead of `undo` if it is this message that fails.
        describing: of the Describe of a statement, who wants to know what it says.
    """

    __slots__ = ("completes", "describing", "done", "failed", "order", "payload", "undo")

    def __init__(
        self,
        order: int,
        completes: bytes,
        payload: bytes = b"",
        undo: Callable[[], None] | None = None,
        done: Callable[[], None] | None = None,
        failed: Callable[[], None] | None = None,
        describing: Describing | None = None,
    ) -> None:
        self.order: Final = order
        self.completes: Final = completes
        self.payload: Final = payload
        self.undo: Final = undo
        self.done: Final = done
        self.failed: Final = failed
        self.describing: Final = describing


# The messages that need no undo share their steps.
FORWARD_PARSE: Final = Step(FORWARD, b"1")
FORWARD_BIND: Final = Step(FORWARD, b"2")
FORWARD_CLOSE: Final = Step(FORWARD, b"3")
FORWARD_DESCRIBE: Final = Step(FORWARD, b"Tn")
FORWARD_EXECUTE: Final = Step(FORWARD, b"CIs")


def undo_steps(steps: list[Step] | None) -> None:
    """Take back, last first, what was assumed about steps that will not happen."""
    for step in reversed(steps or ()):
        if step.undo is not None:
            step.undo()
