"""What the plugins of the pool have against a client's statements."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..errors import RouterError
    from ..pool.contracts import Inspector
    from ..protocol.prepared import Statement
    from ..routing.types import Analysis
    from .lease import Lease


def text_objection(lease: Lease, inspector: Inspector, sql: bytes) -> RouterError | None:
    """What there is against a text of the client's."""
    encoding = lease.settings.told("client_encoding", lease.pool) or ""
    return inspector.objection(sql, encoding)


def use_objection(lease: Lease, statement: Statement[Analysis | None]) -> RouterError | None:
    """What there is against using what has been prepared, perhaps under other rules."""
    inspector = lease.pool.inspector
    if inspector is None or statement.approved_by is inspector:
        return None
    error = text_objection(lease, inspector, statement.text)
    if error is None:
        statement.approved_by = inspector
    return error
