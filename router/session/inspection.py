"""What the plugins of the pool have against a client's statements."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..errors import RouterError
    from .attachment import Attachment
    from .own import PreparedStatement


def text_objection(session: Attachment, sql: bytes) -> RouterError | None:
    """What there is against a text."""
    inspector = session.pool.inspector
    if inspector is None:
        return None
    encoding = session.settings.told("client_encoding", session.pool) or ""
    return inspector.objection(sql, encoding)


def parse_objection(session: Attachment, sql: bytes) -> RouterError | None:
    """What there is against preparing a text, which is noted."""
    inspector = session.pool.inspector
    if inspector is not None:
        inspector.note(sql)
    return text_objection(session, sql)


def use_objection(session: Attachment, statement: PreparedStatement) -> RouterError | None:
    """What there is against using what has been prepared, perhaps under other rules."""
    inspector = session.pool.inspector
    if inspector is None or statement.approved_by is inspector:
        return None
    error = text_objection(session, statement.text)
    if error is None:
        statement.approved_by = inspector
    return error
