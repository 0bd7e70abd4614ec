"""What the plugins of the pool have against a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..errors import RouterError
    from .attachment import Attachment


def text_objection(session: Attachment, sql: bytes) -> RouterError | None:
    """What there is against a text."""
    inspector = session.pool.inspector
    if inspector is None:
        return None
    encoding = session.settings.told("client_encoding", session.pool) or ""
    return inspector.objection(sql, encoding)
