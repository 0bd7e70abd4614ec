"""What the plugins of the pool have against a client's statements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .objections import text_objection
from .own_statements import CannedStatement

if TYPE_CHECKING:
    from ..errors import RouterError
    from .attachment import Attachment
    from .own import PreparedStatement


def inspected(session: Attachment, body: bytes) -> CannedStatement | None:
    """Show plugins a text that is about to be prepared; returns their own statement for it.

    Args:
        session: the client's.
        body: what follows the name in the Parse.

    Raises:
        RouterError: they are against it.
    """
    inspector = session.pool.inspector
    if inspector is None:
        return None
    sql = body[: body.index(b"\0")]
    inspector.note(sql)
    answer = inspector.answer(sql)
    if answer is not None:
        return CannedStatement(answer, body)
    error = text_objection(session, sql)
    if error is not None:
        raise error
    return None


def use_objection(session: Attachment, statement: PreparedStatement) -> RouterError | None:
    """What there is against using what has been prepared, perhaps under other rules."""
    inspector = session.pool.inspector
    if inspector is None or statement.approved_by is inspector:
        return None
    error = text_objection(session, statement.text)
    if error is None:
        statement.approved_by = inspector
    return error
