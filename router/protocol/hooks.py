"""What the owner of a server connection is told by the stream of its messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..compiling import mypyc_attr

if TYPE_CHECKING:
    from .segments import Segment


@mypyc_attr(allow_interpreted_subclasses=True)
class ServerHooks:
    """Called by `BackendStream`, for its subclass to act on."""

    def on_segment_done(self, segment: Segment) -> None:
        """A segment of the router's own has been answered in full."""

    def on_parameter(self, name: str, value: str, swallowed: bool) -> None:
        """A ParameterStatus arrived; `swallowed`: in answer to the router's own statement."""

    def on_tag(self, tag: bytes) -> None:
        """A command completed which may leave something behind on the connection."""

    def on_error(self, sqlstate: bytes, head: bytes) -> None:
        """An ErrorResponse arrived; `head` is as much of its body as is here."""

    def on_async(self, data: bytes) -> None:
        """A whole message or a piece of one arrived that answers nothing."""

    def hears(self, notification: bytes) -> bool:
        """A NotificationResponse has come among replies; returns whether it is passed on."""
        return True

    def on_script_done(self) -> None:
        """All that was sent of an open batch is answered, or the server waits for CopyData."""

    def on_orphaned_copy(self, segment: Segment) -> None:
        """The server waits for CopyData from a client that has left."""
