"""What the loads of the suite do, and what they measure."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from . import logins, memory, pgbench, streams
from .pgbench import SAMPLES_PER_SECOND, percentile
from .processes import Meter, processors
from .targets import BenchmarkError

if TYPE_CHECKING:
    from router.demo.installation import Installation

    from .processes import Usage
    from .targets import Target


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run has shown.

    Attributes:
        value: in the work's unit.
        count: how much work was done, for the processor time of a piece.
        p50, p99: latencies in milliseconds.
        details: what else was seen, by name.
        used: what was used for the work alone, if that is not all of the run.
    """

    value: float
    count: float
    p50: float | None = None
    p99: float | None = None
    details: dict[str, float] = field(default_factory=dict)
    used: Usage | None = None


class Work(Protocol):
    """Something to be done with each target.

    Attributes:
        unit: of what is measured.
        piece: what its processor time is told by, "" if it is not told.
        is_less_better: whether a smaller value is the better one.
        rounds: how often it is worth measuring at most.
    """

    unit: ClassVar[str]
    piece: ClassVar[str]
    is_less_better: ClassVar[bool]
    rounds: ClassVar[int]

    @property
    def clients(self) -> int:
        """How many connections it opens."""
        ...

    def suits(self, target: Target) -> bool:
        """Whether the target can do it."""
        ...

    def run(
        self, installation: Installation, target: Target, seconds: int, guess: float
    ) -> Sample:
        """Do it for some seconds; `guess` is the value that is expected, 0 if none is.

        Raises:
            BenchmarkError: it went wrong.
        """
        ...


class _Usual:
    """What is so of most works."""

    __slots__ = ()
    is_less_better: ClassVar[bool] = False
    rounds: ClassVar[int] = 99

    def suits(self, target: Target) -> bool:
        """Everybody can."""
        return True


@dataclass(frozen=True, slots=True)
class Bench(_Usual):
    """pgbench; `script` is one that its module knows."""

    unit: ClassVar = "transactions/s"
    piece: ClassVar = "transaction"

    clients: int
    protocol: str = "simple"
    script: str = "select-only"
    reconnects: bool = False

    def suits(self, target: Target) -> bool:
        """Whether it keeps prepared statements, if need be."""
        return self.protocol in target.protocols

    def run(
        self, installation: Installation, target: Target, seconds: int, guess: float
    ) -> Sample:
        """Run it once; latencies are those of a sample."""
        load = pgbench.Load(
            self.script,
            self.protocol,
            self.clients,
            # The time to connect counts, too, and hundreds need more than a second.
            max(1, seconds + min(3, self.clients // 200)),
            min(self.clients, processors()),
            reconnects=self.reconnects,
        )
        rate = min(1.0, SAMPLES_PER_SECOND / guess) if guess else 0.1
        running = pgbench.start(installation, target, load, rate=rate)
        if target.pid is not None and not self.reconnects:
            running.wait_until_connected()
        meter = Meter(target.pid)
        outcome, _ = running.finish()
        return Sample(
            outcome.tps,
            outcome.transactions,
            outcome.latency_p50,
            outcome.latency_p99,
            used=meter.read(),
        )


@dataclass(frozen=True, slots=True)
class Stream(_Usual):
    """One connection that reads or writes as many rows as there are, in one statement."""

    unit: ClassVar = "MB/s"
    piece: ClassVar = "MB"
    clients: ClassVar[int] = 1

    kind: Literal["rows", "copy out", "copy in"]
    rows: int

    def run(
        self, installation: Installation, target: Target, seconds: int, guess: float
    ) -> Sample:
        """Move all rows, again and again until the time is over."""
        size, spent = 0, 0.0
        while not size or spent < seconds:
            moved = streams.move(target, self.kind, self.rows)
            size += moved.size
            spent += moved.seconds
        return Sample(size / 1e6 / spent, size / 1e6)


@dataclass(frozen=True, slots=True)
class Idle(_Usual):
    """Clients that have run one query and keep still."""

    unit: ClassVar = "kB per client"
    piece: ClassVar = ""
    is_less_better: ClassVar = True
    rounds: ClassVar = 1  # an allocator that has grown once does not grow again

    clients: int
    is_tls: bool = False

    def suits(self, target: Target) -> bool:
        """Only proxies are weighed, not the processes of PostgreSQL."""
        return target.pid is not None

    def run(
        self, installation: Installation, target: Target, seconds: int, guess: float
    ) -> Sample:
        """Open them all, and weigh the proxy before and after."""
        assert target.pid is not None
        context = None
        if self.is_tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        found = memory.measure(target, target.pid, self.clients, lambda _: None, context)
        sizes = {"MB before": found.before, "MB with all": found.connected}
        return Sample(
            found.per_client / 1e3,
            self.clients,
            details={name: round(size / 1e6, 1) for name, size in sizes.items()},
        )


@dataclass(frozen=True, slots=True)
class Crowd(_Usual):
    """Clients that log in at the same moment, while nobody else is there."""

    unit: ClassVar = "logins/s"
    piece: ClassVar = "login"

    clients: int

    def run(
        self, installation: Installation, target: Target, seconds: int, guess: float
    ) -> Sample:
        """Let them all in once; a latency is what one has waited since the beginning."""
        waits = [1e3 * wait for wait in logins.storm(target, self.clients)]
        speed = 1e3 * self.clients / max(waits)
        return Sample(speed, self.clients, percentile(waits, 0.50), percentile(waits, 0.99))


@dataclass(frozen=True, slots=True)
class Storm(_Usual):
    """A few clients that read, while many others log in at the same moment."""

    unit: ClassVar = "p99 ms meanwhile"
    piece: ClassVar = ""
    is_less_better: ClassVar = True

    readers: int
    newcomers: int

    @property
    def clients(self) -> int:
        """All of them."""
        return self.readers + self.newcomers

    def run(
        self, installation: Installation, target: Target, seconds: int, guess: float
    ) -> Sample:
        """Log in when the readers have read for a while."""
        seconds += 1
        load = pgbench.Load(
            "select-only", "simple", self.readers, seconds, min(self.readers, processors())
        )
        running = pgbench.start(installation, target, load, rate=1.0)
        try:
            time.sleep(seconds / 2)
            began = time.time()
            logins.storm(target, self.newcomers)
            ended = time.time()
        except BaseException:
            running.stop()
            raise
        _, logged = running.finish()
        calm = [each.latency for each in logged if each.ended < began]
        meanwhile = [each.latency for each in logged if began <= each.ended <= ended]
        # A reader that had no answer until all were in has waited for all that time.
        p99 = percentile(meanwhile, 0.99) or max(meanwhile, default=1e3 * (ended - began))
        details = {"s until all were in": round(ended - began, 3)}
        if (before := percentile(calm, 0.99)) is not None:
            details["p99 ms before"] = round(before, 2)
            details["times that"] = round(p99 / before, 1)
        if not calm:
            raise BenchmarkError(f"{target.name}: pgbench had not begun when the others came")
        return Sample(p99, self.newcomers, percentile(meanwhile, 0.50), p99, details)
