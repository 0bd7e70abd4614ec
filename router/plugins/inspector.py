"""The plugins of one pool that look at statements, as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .intercept import Interceptor
from .query_logger import QueryLogger
from .table_access import TableAccess, unknown_tables

if TYPE_CHECKING:
    from ..config.plugins import Plugins
    from ..errors import RouterError
    from .intercept import CannedAnswer


class PluginInspector:
    """Those that are enabled; they come in the order in which PgCat asks them."""

    def __init__(
        self,
        logger: QueryLogger | None = None,
        interceptor: Interceptor | None = None,
        access: TableAccess | None = None,
    ) -> None:
        self._logger: Final = logger
        self._interceptor: Final = interceptor
        self._access: Final = access

    def note(self, sql: bytes) -> None:
        """Let the logger log a text."""
        if self._logger is not None:
            self._logger.note(sql)

    def answer(self, sql: bytes) -> CannedAnswer | None:
        """What intercept has for a text."""
        return None if self._interceptor is None else self._interceptor.answer(sql)

    def objection(self, sql: bytes, encoding: str) -> RouterError | None:
        """What table_access has against a text."""
        return None if self._access is None else self._access.objection(sql, encoding)

    def objection_to_long(self) -> RouterError | None:
        """The same for a text that is too long to be looked at."""
        return None if self._access is None else unknown_tables("it is too long to be read")


def inspector_of(plugins: Plugins, pool: str, user: str) -> PluginInspector | None:
    """The inspector that a pool's configuration asks for, if any."""
    logger = interceptor = access = None
    if plugins.query_logger is not None and plugins.query_logger.enabled:
        logger = QueryLogger(pool, user)
    if plugins.intercept is not None and plugins.intercept.enabled:
        interceptor = Interceptor(plugins.intercept.queries, pool, user)
    if plugins.table_access is not None and plugins.table_access.enabled:
        access = TableAccess(plugins.table_access.tables)
    if logger is None and interceptor is None and access is None:
        return None
    return PluginInspector(logger, interceptor, access)
