"""Routing commands in the texts of simple queries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.errors import RoutingError
from router.routing.commands import worded

if TYPE_CHECKING:
    from router.routing.commands import ClientCommand


def command_in(text: bytes) -> ClientCommand | None:
    """Recognise a routing command, and its value.

    Raises:
        RoutingError: it has none that it knows, or is not alone.
    """
    wording = worded(text)
    if wording is None:
        return None
    if wording.has_parameter:
        raise RoutingError("there is no parameter $1", sqlstate="42P02")
    return wording.command()
