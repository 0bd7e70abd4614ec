"""What one router counts for all of its pools and clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .faults import Faults
from .histograms import Histogram
from .queries import Queries
from .stats import Timeouts

if TYPE_CHECKING:
    from collections.abc import Callable

    from .traces import Traces


class Figures:
    """The figures that belong to no single server.

    Attributes:
        timeouts: what time limits have ended.
        queries: what has become of statements.
        faults: what errors clients were answered with.
        logins: how long it took to log in.
        delays: how late was what was due at a time.
        traces: statements whose clients are traced; None if nobody wants to know of them.
    """

    __slots__ = ("delays", "faults", "logins", "queries", "timeouts", "traces")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.timeouts: Final = Timeouts()
        self.queries: Final = Queries()
        self.faults: Final = Faults(clock)
        self.logins: Final = Histogram()
        self.delays: Final = Histogram()
        self.traces: Traces | None = None
