"""The channels that clients of a pool listen to in one shard, and the one connection for all.

A client's LISTEN is run by the server that it has at that moment, by PostgreSQL's own rules for
transactions. What then is listened to there is taken over by the *line*, a connection that does
nothing else, and the server is given back. From where in the stream of notifications the line
speaks for the client, and the server does not any more, must be exact, or else one is lost or
told twice. So once the line listens, the server sends a notification of the router's own, the
*marker*: all before it is the server's to tell, all behind it the line's, since PostgreSQL
gives notifications to all who listen in one order.

A line that is lost is opened anew, and at another server if that is the primary now. What was
sent meanwhile is gone, which everybody who listens is told by a notice.
"""

from __future__ import annotations

import logging
import secrets
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

from ..protocol import messages
from ..protocol.naming import quoted
from .retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..engine.loop import Engine, Timer
    from ..errors import RouterError
    from .address_pool import AddressPool
    from .contracts import Connector, Ear
    from .line import Line

log = logging.getLogger("router.server")

# So many clients are told of something before others have a turn.
_SHARE: Final = 200
# Who could not be taken over by a line that is there tries again after so long, in seconds.
_AGAIN: Final = 1.0
# So long a line is kept that nobody needs, in seconds.
_KEPT: Final = 10.0
# PostgreSQL ends connections that are idle for longer than this; only newer ones know it.
_STAY: Final = (
    b"SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings"
    b" WHERE name OPERATOR(pg_catalog.=) 'idle_session_timeout'"
)


class Channel:
    """What one name stands for.

    Attributes:
        ears: who listens to it.
        wanted: how many are about to.
        is_heard: the line listens to it.
        received, dropped: notifications, and those of them that somebody was not told.
    """

    __slots__ = ("_audience", "dropped", "ears", "is_heard", "received", "wanted")

    def __init__(self) -> None:
        self.ears: Final[dict[Ear, None]] = {}
        self.wanted = 0
        self.is_heard = False
        self.received = self.dropped = 0
        self._audience: tuple[Ear, ...] | None = None

    def add(self, ear: Ear) -> None:
        """Somebody listens."""
        self.ears[ear] = None
        self._audience = None

    def remove(self, ear: Ear) -> None:
        """Somebody does not listen any more."""
        self.ears.pop(ear, None)
        self._audience = None

    @property
    def audience(self) -> tuple[Ear, ...]:
        """Who listens now."""
        if self._audience is None:
            self._audience = tuple(self.ears)
        return self._audience


class _Request:
    """Somebody wants the line to listen to channels."""

    __slots__ = ("names", "ready")

    def __init__(self, names: frozenset[bytes], ready: Callable[[bool], None]) -> None:
        self.names: Final = names
        self.ready: Final = ready


class _Delivery:
    """A notification that not all have been told of yet, in the order of `audience`."""

    __slots__ = ("audience", "channel", "data", "name", "told")

    def __init__(self, name: bytes, channel: Channel, data: bytes) -> None:
        self.name: Final = name
        self.channel: Final = channel
        self.data: Final = data
        self.audience: Final = channel.audience
        self.told = 0


class Hub:
    """The channels of one shard.

    Attributes:
        shard: its number.
        marker: the channel of notifications of the router's own.
        channels: by name.
        line: the connection, as soon as it listens to what it should.
        reconnects: how often it was lost.
        received, dropped: of all channels that there have been.
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        shard: int,
        connector: Connector,
        find: Callable[[], AddressPool | None],
    ) -> None:
        """Make one; `name` is the pool's, `find` finds the shard's primary."""
        self._engine: Final = engine
        self._name: Final = name
        self._connector: Final = connector
        self._find: Final = find
        self.shard: Final = shard
        self.marker: Final = b"pgcat_" + secrets.token_hex(8).encode()
        self.channels: Final[dict[bytes, Channel]] = {}
        self.line: Line | None = None
        self.reconnects = 0
        self.received = self.dropped = 0
        self._part: AddressPool | None = None  # whose line it is, or is to be
        self._opening: Line | None = None  # logged in, and not listening to everything yet
        self._is_connecting = False
        self._is_closed = False
        self._has_failed = False
        self._gap = ""  # why notifications may have been missed since
        self._requests: list[_Request] = []
        self._hopeful: dict[Ear, None] = {}
        self._again: Timer | None = None
        self._expected: dict[bytes, tuple[Ear, set[bytes]]] = {}
        self._serial = 0
        self._unused_since = 0.0
        self._backlog: deque[_Delivery] = deque()
        self._turn: Timer | None = None
        self._retry: Final = Retry(engine, self.heed)

    def __repr__(self) -> str:
        return f"<Hub {self._name} shard {self.shard} {self.state} [{len(self.channels)}]>"

    @property
    def state(self) -> str:
        """What SHOW LISTENERS says of the connection."""
        if self.line is not None:
            return "listening"
        if self._is_connecting or self._opening is not None:
            return "connecting"
        part = self._find()
        if part is not None and part.paused:
            return "paused"
        is_away = part is None or part.health.is_draining
        return "failed" if self._has_failed or is_away else "none"

    # --- what clients want

    def listen(self, names: frozenset[bytes], ready: Callable[[bool], None]) -> None:
        """Have the line listen to channels.

        `ready` is told whether it does, and has to call `expect` or `release` for them then.
        """
        for name in names:
            self.channels.setdefault(name, Channel()).wanted += 1
        request = _Request(names, ready)
        if self.line is not None:
            self._serve(self.line, request)
        elif self._has_failed or not self._may_open:
            self._engine.call_later(0.0, partial(self._refuse, request))
            self.heed()
        else:
            self._requests.append(request)
            self.heed()

    def _serve(self, line: Line, request: _Request) -> None:
        missing = [name for name in request.names if not self.channels[name].is_heard]
        if not missing:
            request.ready(True)
            return

        def done(error: dict[str, str] | None) -> None:
            self._requests.remove(request)
            if error is not None:
                self._refuse(request)
                return
            for name in missing:
                self.channels[name].is_heard = True
            request.ready(True)

        self._requests.append(request)
        line.ask(listen(missing), done)

    def _refuse(self, request: _Request) -> None:
        request.ready(False)

    def release(self, names: Iterable[bytes]) -> None:
        """What was asked for by `listen` is not needed after all."""
        for name in names:
            self.channels[name].wanted -= 1
        self._tidy(names)

    def expect(self, ear: Ear, names: frozenset[bytes]) -> bytes:
        """A marker will be sent from which on an ear is told; returns its payload."""
        self._serial += 1
        serial = str(self._serial).encode()
        self._expected[serial] = ear, set(names)
        return serial

    def forget(self, serial: bytes) -> None:
        """That marker will not be sent."""
        _, names = self._expected.pop(serial, (None, ()))
        self.release(names)

    def hope(self, ear: Ear) -> None:
        """Tell an ear when the line is there again, or after a pause if it is there."""
        self._hopeful[ear] = None
        if self.line is None:
            self.heed()
        elif self._again is None:
            self._again = self._engine.call_later(_AGAIN, self._tell_hopeful)

    def _tell_hopeful(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self.line is None:
            return  # they are told when it is there
        hopeful, self._hopeful = self._hopeful, {}
        for ear in hopeful:
            ear.may_share()

    def leave(self, ear: Ear, names: Iterable[bytes] | None = None) -> None:
        """An ear does not listen to some channels any more, or to none."""
        self._hopeful.pop(ear, None)
        gone = list(self.channels if names is None else names)
        for name in gone:
            channel = self.channels.get(name)
            if channel is not None and ear in channel.ears:
                channel.remove(ear)
        for other, expected in self._expected.values():
            if other is ear:
                cancelled = expected.intersection(gone)
                expected -= cancelled
                self.release(cancelled)
        self._tidy(gone)

    def _tidy(self, names: Iterable[bytes]) -> None:
        """Do not listen any more to what nobody wants."""
        gone = []
        for name in names:
            channel = self.channels.get(name)
            if channel is not None and not channel.ears and not channel.wanted:
                del self.channels[name]
                if channel.is_heard:
                    gone.append(name)
        line = self.line or self._opening
        if gone and line is not None:
            line.ask(b";".join(b"UNLISTEN " + quoted(name) for name in gone), _nothing)
        if not self.is_wanted:
            self._unused_since = self._engine.now

    @property
    def is_wanted(self) -> bool:
        """Whether there is something to listen to."""
        return bool(self.channels or self._hopeful)

    @property
    def _may_open(self) -> bool:
        part = self._find()
        if part is None or part.paused or part.retired:
            return False
        return not (part.health.is_draining or self._is_closed)

    def serves(self, part: AddressPool) -> bool:
        """Whether it hears what is sent on a connection of this one."""
        mine = self._find() if self._part is None else self._part
        return mine is not None and (mine is part or _are_alike(mine, part))

    # --- the connection

    def heed(self) -> None:
        """See whether there is a line where there should be one, and nowhere else."""
        part = self._find()
        line = self.line or self._opening
        if line is not None and self._part is not None:
            if part is None:
                self._drop("there is no primary")
            elif part.paused:
                self._drop("the pool is paused")
            elif part.health.is_draining:
                self._drop("the server is about to end")
            elif part is self._part or _are_alike(part, self._part):
                self._part = part
            else:
                self._drop("the primary is another server now")
        if (
            self.is_wanted
            and part is not None
            and self._may_open
            and not self._is_connecting
            and self.line is None
            and self._opening is None
            and not self._retry.is_pending
        ):
            self._is_connecting = True
            self._part = part
            self._connector.listen(part, self._opened, self._failed)

    def maintain(self, now: float) -> None:
        """Periodic upkeep."""
        if self.is_wanted:
            self.heed()
        elif self.line is not None and now - self._unused_since > _KEPT:
            self.line.close()
            self.line = None

    def let_go(self, part: AddressPool, is_old: Callable[[str], bool]) -> bool:
        """Replace the connection if it is to one of certain addresses of a server."""
        line = self.line or self._opening
        if line is None or self._part is None or self._part.health is not part.health:
            return False
        if not is_old(line.ip):
            return False
        self.reconnect(f"the server is not used at {line.ip} any more")
        return True

    def reconnect(self, why: str) -> None:
        """Replace the connection."""
        self._retry.reset()
        self._drop(why)
        self.heed()

    def close(self) -> None:
        """There is no shard or no pool any more, or no router."""
        self._is_closed = True
        self._retry.reset()
        if self._again is not None:
            self._again.cancel()
        line, self.line = self.line or self._opening, None
        self._opening = None
        if line is not None:
            line.close()

    def dismiss(self, error: RouterError) -> None:
        """Nobody can listen any more."""
        ears = self.ears()
        self.close()
        for ear in ears:
            ear.dismissed(error)

    def ears(self) -> list[Ear]:
        """All who listen, or are about to."""
        found = {ear: None for channel in self.channels.values() for ear in channel.ears}
        found.update({ear: None for ear, _ in self._expected.values()})
        return list(found)

    def _opened(self, line: Line) -> None:
        """There is a connection: let it listen to everything."""
        self._is_connecting = False
        if self._is_closed or not self.is_wanted:
            line.close()
            return
        self._opening = line
        line.on_notification = self._heard
        line.on_lost = self._lost
        self.heed()  # it may have come too late
        if not self._is_opening(line):
            return
        names = list(self.channels)
        for name in names:
            self.channels[name].is_heard = True

        def done(error: dict[str, str] | None) -> None:
            if error is None:
                self._is_up(line)
            else:
                line.close()
                self._lost(error.get("M", ""))

        line.ask(b";".join((_STAY, listen([self.marker, *names]))), done)

    def _is_opening(self, line: Line) -> bool:
        # Asked apart: the compiler would take for granted that what was set is still there.
        return self._opening is line

    def _is_up(self, line: Line) -> None:
        self._opening, self.line = None, line
        self._has_failed = False
        self._retry.reset()
        gap, self._gap = self._gap, ""
        if gap:
            log.info("%r listens again: %r", self, line)
            notice = messages.notice_response(
                "notifications may have been missed", "01000", severity="WARNING", detail=gap
            )
            for ear in self.ears():
                ear.missed(self.shard, notice)
        requests, self._requests = self._requests, []
        for request in requests:
            self._serve(line, request)
        self._tell_hopeful()

    def _failed(self, error: RouterError) -> None:
        """There is no connection."""
        self._is_connecting = False
        if not self._has_failed:
            log.warning("[%s] nobody listens for its clients: %s", self._name, error.line)
        self._give_up()

    def _lost(self, why: str) -> None:
        """The connection is over."""
        part = self._part
        if part is not None:
            part.health.doubt()
            why = f"server connection to {part.address.label} was lost: {why}"
        self._miss(why)
        if self._opening is not None:
            self._opening = None
            self._give_up()
        else:
            self.line = None
            self._refuse_all()
            self.heed()

    def _drop(self, why: str) -> None:
        """Close the connection, if there is one."""
        line, self.line = self.line or self._opening, None
        self._opening = None
        if line is not None:
            line.close()
            self._miss(why)
            self._refuse_all()

    def _give_up(self) -> None:
        """It could not be opened: try again after a pause."""
        self._has_failed = True
        self._refuse_all()
        self._retry.schedule(is_wanted=self.is_wanted)

    def _refuse_all(self) -> None:
        requests, self._requests = self._requests, []
        for request in requests:
            self._refuse(request)

    def _miss(self, why: str) -> None:
        """What is sent from now on is missed."""
        for serial in list(self._expected):
            self._begin(serial)
        for channel in self.channels.values():
            channel.is_heard = False
        ears = self.ears()
        if ears and not self._gap:
            self.reconnects += 1
            self._gap = why
            log.warning("[%s] notifications may be missed: %s", self._name, why)
        for ear in ears:
            ear.line_lost(self.shard)

    # --- notifications

    def _heard(self, data: bytes) -> None:
        name, payload = messages.notification_parts(data)
        if name == self.marker:
            self._begin(payload)
            return
        channel = self.channels.get(name)
        if channel is not None and channel.ears:
            channel.received += 1
            self.received += 1
            self._backlog.append(_Delivery(name, channel, data))
            if self._turn is None:
                self._give_out()

    def _begin(self, serial: bytes) -> None:
        """An ear is told of what comes from here on."""
        ear, names = self._expected.pop(serial, (None, ()))
        for name in names:
            channel = self.channels[name]
            channel.wanted -= 1
            if ear is not None:
                channel.add(ear)

    def _give_out(self) -> None:
        """Tell as many as may be told in one turn."""
        self._turn = None
        left = _SHARE
        backlog = self._backlog
        while backlog and left > 0:
            delivery = backlog[0]
            audience = delivery.audience
            end = min(delivery.told + left, len(audience))
            left -= end - delivery.told
            for number in range(delivery.told, end):
                if not audience[number].notified(self.shard, delivery.name, delivery.data):
                    delivery.channel.dropped += 1
                    self.dropped += 1
            delivery.told = end
            if end == len(audience):
                backlog.popleft()
        link = None if self.line is None else self.line.link
        if backlog:
            self._turn = self._engine.call_later(0.0, self._give_out)
            if link is not None:
                link.pause()
        elif link is not None:
            link.resume()


def listen(names: Iterable[bytes]) -> bytes:
    """The text that listens to channels."""
    return b";".join(b"LISTEN " + quoted(name) for name in names)


def _are_alike(part: AddressPool, other: AddressPool) -> bool:
    """Whether a line to the one does for the other: a reload may have replaced the pool."""
    return part.address == other.address and part.settings.login == other.settings.login


def _nothing(error: dict[str, str] | None) -> None:
    """Nothing follows from an UNLISTEN."""
