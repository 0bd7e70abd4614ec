"""What is known about each server, shared by the pools of all users and kept over reloads.

Theory of operation
-------------------
There is one `ServerHealth` for each address, of which three kinds of news come in: connections
that pools have opened or could not open (`reached`, `unreachable`), checks (`answered`,
`unanswered`), and doubts, which only ask for a check (`doubt`).

A server that refuses to be connected to is down at once. One that does not answer in time may
only be slow: it is suspect, which keeps new work from it, and is asked again. If it does not
answer then either, and nothing has come from it on any connection since the first question, it
is down, and what still waits for it is given up: see `AddressPool.fence`.

A server that says that it takes nobody now (57P03) while there are connections to it is in a
"smart" shutdown, which ends when these do. It is left, then: those that are idle are closed,
others when their clients let go of them, and what has come in between at the next such answer.

Whatever changes here is told to the pools (`AddressPool.on_health`), which then choose their
candidates anew. So nobody who asks for a server pays for the health of servers.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

import trio

from ..errors import ServerLost, ServerRefused, ServerTimeout
from ..records import fields
from . import upkeep
from .addresses import Addresses
from .instances import Instances
from .lag import Positions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..config.effective import PoolSettings
    from ..engine.loop import Engine
    from ..errors import RouterError
    from .address import Address
    from .address_pool import AddressPool
    from .addresses import Heard
    from .facts import Facts
    from .lag import Lag

log = logging.getLogger("router.pool")

# How often a server is asked that is not well: at first, and at most. In seconds.
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 1.0
# A server is not asked more often than that, whatever the settings and the doubts; the other is
# for one that is well.
_LEAST_PAUSE: Final = 0.1
_LEAST_PAUSE_UP: Final = 1.0
# A server that has work and says nothing for so long is asked; then for twice as long.
_SILENCE: Final = 1.0
# A failure counts for `recent_failures` for so many seconds.
_MEMORY: Final = 60.0


class Condition(Enum):
    """How a server is."""

    UP = "up"
    SUSPECT = "suspect"
    """It has not answered in time, once."""
    DOWN = "down"
    """It refuses connections, or does not answer at all."""


@dataclass(frozen=True, slots=True)
class Ban:
    """Why and until when a server is left out; times are those of time.monotonic().

    Attributes:
        is_firm: it holds even if the server is well.
    """

    reason: str
    since: float
    until: float
    is_firm: bool


class ServerHealth:
    """One server.

    Attributes:
        condition: how it is, `since` when, and because of which `error`.
        is_up: whether it answers, as far as is known.
        ban: it has failed, and is left out as a replica.
        admin_ban: an administrator wants it to be left out.
        is_paused: an administrator has taken it out of service, primary or replica.
        is_draining: it has said that it takes nobody now; what there is to it ends.
        is_on_trial: a ban is over, and the server has not been asked yet.
        attempts: how many connections and checks have failed since it was up.
        checks, failed_checks: in all.
        checked_at: when the last check ended, or None.
        check_time: how long that took, in seconds.
        addresses: which of its host's to connect to first.
        parts: the address pools of all users, the replaced ones among them.
        facts: what it has told last, or None.
        positions: where it was in the WAL, as a primary.
        instances: what has been told of how far it is, as a standby, by connections.
        lag: how far it is behind, as a replica; None if nobody knows.
        role_problem: why it cannot be used whatever it says that it is, or "".
        wanted: set when a check is to be made at once.
    """

    def __init__(self, engine: Engine, host: str, port: int) -> None:
        self._engine: Final = engine
        self.host: Final = host
        self.port: Final = port
        self._log: Final = logging.LoggerAdapter(log, fields(server=self.name))
        self._become(Condition.UP)
        self.since = engine.now
        self.error: RouterError | None = None
        self.ban: Ban | None = None
        self.admin_ban: Ban | None = None
        self.is_paused = self.is_draining = False
        self.attempts = 0
        self.checks = 0
        self.failed_checks = 0
        self.checked_at: float | None = None
        self.check_time = 0.0
        self.addresses: Final = Addresses()
        self.parts: Final[list[AddressPool]] = []
        self.facts: Facts | None = None
        self.positions: Final = Positions()
        self.instances: Final = Instances()
        self.lag: Lag | None = None
        self.role_problem = ""
        self.wanted = trio.Event()
        self._began = engine.now
        self._came_back = -math.inf
        self._failures = 0
        self._failed_at = self._refused_at = -math.inf
        self._pause = _FIRST_PAUSE
        # What had been received when a check began that was not answered, or None.
        self._heard_before: int | None = None
        # For `look`: what had been received then, and since when it has not become more.
        self._heard = 0
        self._silent_since = engine.now
        self._patience = _SILENCE

    def __repr__(self) -> str:
        return f"<ServerHealth {self.name} {self.condition.value}>"

    @property
    def name(self) -> str:
        """What logs call it."""
        return f"{self.host}:{self.port}"

    @property
    def settings(self) -> PoolSettings | None:
        """What checks go by; None if no pool uses the server."""
        return self.parts[-1].settings if self.parts else None

    @property
    def serves_reads(self) -> bool:
        """Whether it may have reads that another server could have."""
        return self.is_up and self.ban is None and self.admin_ban is None

    @property
    def is_auto(self) -> bool:
        """Whether it has to tell what it is before it is used."""
        return any(part.address.is_auto for part in self.parts)

    @property
    def has_replica(self) -> bool:
        """Whether it is a replica to somebody, so that bans matter."""
        return any(not part.is_primary for part in self.parts)

    def recent_failures(self, now: float) -> int:
        """How many times running it has failed lately."""
        return self._failures if now - self._failed_at < _MEMORY else 0

    # --- who uses it

    def join(self, part: AddressPool) -> None:
        """An address pool uses the server."""
        self.parts.append(part)

    def leave(self, part: AddressPool) -> None:
        """An address pool does not use it any more."""
        if part in self.parts:
            self.parts.remove(part)

    # --- what connections tell

    def reached(self, since: float) -> None:
        """Somebody has logged in who began to connect then."""
        if (self.is_auto and not self.is_up) or since < self._refused_at:
            self.doubt()  # it may have another role than before, or be about to end
        else:
            self._recover()

    def unreachable(self, error: RouterError) -> None:
        """It could not be connected to."""
        if self.addresses.has_hope:
            self.doubt()  # who asks will see whether another of its addresses does
            return
        self._note_failure()
        is_slow = isinstance(error, ServerTimeout) and self.condition is not Condition.DOWN
        self._fail(Condition.SUSPECT if is_slow else Condition.DOWN, error)
        self.doubt()

    def doubt(self) -> None:
        """Something has happened that may concern the whole server: it should be asked."""
        self.wanted.set()

    # --- what checks tell

    def pause(self) -> float:
        """How long to wait until the next check, in seconds, unless one is `wanted`."""
        settings, now = self.settings, self._engine.now
        if self.checked_at is None and self.is_auto:
            due = now
        elif self.checked_at is None:
            due = self._began + (math.inf if settings is None else settings.healthcheck_delay)
        elif not self.is_up:
            due = self.checked_at + self._pause
        else:
            due = self.checked_at + min(
                (_delay(part.settings) for part in self.parts), default=0.0
            )
            if self.ban is not None:
                due = min(due, self.ban.until)
            if self.admin_ban is not None:
                due = min(due, self.admin_ban.until)
        return max(due - now, 0.0)

    @property
    def least_pause(self) -> float:
        """How long to wait after a check, whatever happens, in seconds."""
        settings = self.settings
        if settings is None or not self.is_up:
            return _LEAST_PAUSE
        return min(max(settings.healthcheck_delay, _LEAST_PAUSE), _LEAST_PAUSE_UP)

    def begin_check(self) -> int:
        """A check begins; returns what `unanswered` is to be told."""
        self.wanted = trio.Event()
        return self._received()

    def answered(self, facts: Facts | None, took: float) -> None:
        """The server has answered a check, and told `facts` if it was able to."""
        self._end_check(took)
        had, self.facts = self.facts, facts
        if facts is not None and not facts.is_standby:
            self.positions.note(self._engine.now, facts.position)
        was_up = self.is_up
        if self._engine.now - took < self._refused_at:
            self.doubt()
        else:
            self._recover()
        if _role(had) != _role(facts):
            if facts is not None and self.is_auto:
                self._log.info("%s is a %s", self.name, facts.role)
            if was_up:
                self._changed()
        for part in list(self.parts):
            part.on_facts()

    def unanswered(self, error: RouterError, heard: int, took: float) -> None:
        """The server has not passed a check; `heard` is what `begin_check` returned."""
        self._end_check(took)
        self.failed_checks += 1
        self._note_failure()
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        if not isinstance(error, ServerTimeout):
            self._heard_before = None
            self._fail(Condition.DOWN, error)
            return
        if self._heard_before is None or self._heard_before != self._received():
            # The first, or else something has come from it meanwhile: it lives, but takes no
            # new connections.
            self._heard_before = heard
            is_down = self.condition is Condition.DOWN
            self._fail(Condition.DOWN if is_down else Condition.SUSPECT, error)
            self.doubt()
            for part in list(self.parts):
                upkeep.check_idle(part)
            return
        self._fail(Condition.DOWN, error)
        for part in list(self.parts):
            _fence(part, error)

    def unanswered_at(self, ip: str, error: RouterError, heard: Heard) -> None:
        """One of its host's addresses has not passed a check that another has.

        It gets no new connections; `heard` is what `heard_at` was when the check began.
        """
        self.addresses.failed(ip)
        if _takes_nobody(error):
            self._drain(ip)
        if ip not in self.addresses.reported:
            self.addresses.reported.add(ip)
            self._log.warning("%s is not used at %s: %s", self.name, ip, error.line)
        before, self.addresses.heard[ip] = self.addresses.heard.get(ip), heard
        if not isinstance(error, ServerTimeout):
            return
        now = self.heard_at(ip)
        # As for a server that has one address: the second time it is given up, if silent.
        if before is None or any(before.get(serial) != size for serial, size in now.items()):
            self.doubt()
            for part in list(self.parts):
                upkeep.check_idle(part, ip)
            return
        for part in list(self.parts):
            _fence(part, error, ip)
            upkeep.let_go(part, ip.__eq__)

    def answered_at(self, ip: str) -> None:
        """One of its host's addresses has passed a check."""
        if ip in self.addresses.reported:
            self.addresses.reported.discard(ip)
            self._log.info("%s is used at %s again", self.name, ip)

    def heard_at(self, ip: str) -> Heard:
        """How many bytes have come on each connection to an address."""
        return {
            server.serial: server.link.received
            for part in self.parts
            for server in part.servers()
            if server.ip == ip and server.link is not None
        }

    def _end_check(self, took: float) -> None:
        self.checks += 1
        self.checked_at = self._engine.now
        self.check_time = took

    def _received(self) -> int:
        return sum(part.counters.received for part in self.parts)

    # --- bans

    def ban_by_admin(self, seconds: float, reason: str = "banned by an administrator") -> None:
        """Leave the server out for so long, which may be math.inf, or until `unban`."""
        now = self._engine.now
        self.admin_ban = Ban(reason, now, now + seconds, is_firm=True)
        self._log.info("%s is banned by an administrator for %g s", self.name, seconds)
        self._changed()

    def unban(self) -> bool:
        """End all bans; the server is asked before it is used. Returns whether there were."""
        if self.ban is None and self.admin_ban is None:
            return False
        self.ban = self.admin_ban = None
        self._try_out()
        return True

    def take_out(self) -> bool:
        """Give its connections to nobody, until `take_in`; returns whether that is news."""
        if self.is_paused:
            return False
        self.is_paused = True
        self._log.info("%s is paused by an administrator", self.name)
        self._changed()
        return True

    def take_in(self) -> bool:
        """End a `take_out`; returns whether there was one."""
        if not self.is_paused:
            return False
        self.is_paused = False
        self._log.info("%s is not paused any more", self.name)
        self._changed()
        return True

    @property
    def is_drained(self) -> bool:
        """Whether nobody has a connection to it any more; also if it has been resumed."""
        return not self.is_paused or not any(part.size for part in self.parts)

    def lift(self, why: str) -> None:
        """End the ban of a server that is well, and use it at once."""
        if self.ban is not None and self.is_up:
            self._log.info("%s is not left out any more: %s", self.name, why)
            self.ban = None
            self._changed()

    def _try_out(self) -> None:
        if self.condition is Condition.UP:
            self._become(Condition.UP, is_on_trial=True)
            self.doubt()
        self._changed()

    # --- upkeep

    def look(self, now: float) -> None:
        """End bans whose time is over, and notice that the server owes answers for long."""
        if self.admin_ban is not None and self.admin_ban.until <= now:
            self.admin_ban = None
            self._try_out()
        if self.ban is not None and self.ban.until <= now and self.condition is Condition.UP:
            self.ban = None
            self._try_out()
        heard = self._received()
        if heard != self._heard or not any(_owes_answers(part) for part in self.parts):
            self._heard = heard
            self._silent_since = now
            self._patience = _SILENCE
        elif now - self._silent_since >= self._patience and self.is_up:
            # It may be long at one statement: it is asked less and less often.
            self._patience += now - self._silent_since
            self.doubt()

    def silence(self, now: float) -> float:
        """For how long it has owed answers and said nothing, at least, in seconds."""
        owes = any(_owes_answers(part) for part in self.parts)
        return now - self._silent_since if owes and self._received() == self._heard else 0.0

    # --- changes

    def _become(self, condition: Condition, *, is_on_trial: bool = False) -> None:
        self.condition = condition
        self.is_on_trial = is_on_trial
        # Asked for whoever waits for a connection: this is quicker than to see it then.
        self.is_up = condition is Condition.UP and not is_on_trial

    def _note_failure(self) -> None:
        now = self._engine.now
        self._failures = self.recent_failures(now) + 1
        self._failed_at = now
        self.attempts += 1

    def _fail(self, condition: Condition, error: RouterError) -> None:
        now = self._engine.now
        self._renew_ban(error.message, now)
        was, self.error = self.condition, error
        was_draining = self.is_draining
        self._become(condition)
        if _takes_nobody(error):
            self.is_draining, self._refused_at = True, now
            self._drain()
        if was is condition:
            if self.is_draining is not was_draining:
                self._changed()
            return
        if was is Condition.UP:
            self.since = now
        more = fields(server=self.name, sqlstate=error.sqlstate)
        log.warning("%s is %s: %s", self.name, condition.value, error.line, extra=more)
        if (
            self.ban is not None
            and self.ban.is_firm
            and was is Condition.UP
            and self.has_replica
        ):
            self._log.warning(
                "%s has failed again: as a replica it is left out for %g s",
                self.name,
                self.ban.until - now,
            )
        self._changed()

    def _drain(self, ip: str | None = None) -> None:
        """Let go of the connections that there are, or of those to one address."""
        count = sum(
            upkeep.phase_out(part.servers()) if ip is None else upkeep.let_go(part, ip.__eq__)
            for part in list(self.parts)
        )
        if count:
            self._log.info(
                "%s takes nobody now: %d connections to it end as they come free",
                self.name if ip is None else f"{self.name} at {ip}",
                count,
            )

    def _renew_ban(self, reason: str, now: float) -> None:
        settings = self.settings
        duration = 0.0 if settings is None else settings.ban_time
        if self.ban is not None and self.ban.until > now:
            return
        if duration > 0:
            # Who fails soon after having come back is not let in again so soon.
            is_firm = now - self._came_back < duration
            self.ban = Ban(reason, now, now + duration, is_firm=is_firm)

    def _recover(self) -> None:
        self._pause = _FIRST_PAUSE
        self._heard_before = None
        self._failures = 0
        self.is_draining = False
        if self.is_up:
            return
        now = self._engine.now
        was, self.error = self.condition, None
        self._become(Condition.UP)
        if self.ban is not None and (not self.ban.is_firm or self.ban.until <= now):
            self.ban = None
        if was is not Condition.UP:
            self._log.info(
                "%s is up again, after %.0f s and %d failed attempts%s",
                self.name,
                now - self.since,
                self.attempts,
                ""
                if self.ban is None or not self.has_replica
                else "; it stays left out as a replica",
            )
            self._came_back = self.since = now
            self.attempts = 0
        self._changed()

    def _changed(self) -> None:
        for part in list(self.parts):
            part.on_health()


def _delay(settings: PoolSettings) -> float:
    """How long after a check the next one is due: lag has to be known in time."""
    if settings.max_replica_lag:
        return min(settings.healthcheck_delay, settings.max_replica_lag / 2)
    return settings.healthcheck_delay


def _takes_nobody(error: RouterError) -> bool:
    """Whether a server has refused a login as one that starts or stops, in any language."""
    return isinstance(error, ServerRefused) and error.sqlstate == "57P03"


def _owes_answers(part: AddressPool) -> bool:
    """Whether the server has been sent something that it has not answered."""
    return any(server.queue for server in part.active)


def _role(facts: Facts | None) -> tuple[bool, int] | None:
    return None if facts is None else (facts.is_standby, facts.timeline)


class Healths:
    """The health of all servers, by address."""

    def __init__(self, engine: Engine) -> None:
        self._engine: Final = engine
        self._servers: dict[tuple[str, int], ServerHealth] = {}
        # Replaced when there are other servers than before.
        self.news = trio.Event()

    def __iter__(self) -> Iterator[ServerHealth]:
        return iter(list(self._servers.values()))

    def of(self, address: Address) -> ServerHealth:
        """The health of the server at an address."""
        key = address.host, address.port
        health = self._servers.get(key)
        if health is None:
            health = self._servers[key] = ServerHealth(self._engine, *key)
            self._tell()
        return health

    def forget_unused(self) -> None:
        """Drop the servers that no pool has any more."""
        unused = [key for key, health in self._servers.items() if not health.parts]
        for key in unused:
            self._servers.pop(key).wanted.set()

    def _tell(self) -> None:
        self.news.set()
        self.news = trio.Event()


def _fence(part: AddressPool, error: RouterError, ip: str | None = None) -> None:
    """A server is silent, be it at one address: give up what waits, and what nobody has.

    A client that is in a transaction and asks for nothing keeps its connection.
    """
    lost = ServerLost(
        f"server connection to {part.address.label} was given up: {error.message}",
        hint="The server accepts connections and does not answer, or its network is cut.",
    )
    for server in part.servers():
        client = server.client
        if ip not in (None, server.ip):
            continue
        if client is None:
            server.fail(lost)  # several may share it
        elif server.queue and not client.congested:
            server.fail(lost)
