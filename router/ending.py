"""How the router comes to its end: in which way, for how long, and with whom cut off."""

from __future__ import annotations

import logging
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from .engine.loop import Engine
    from .session.clients import Clients
    from .session.login import Login
    from .supervisor import Supervisor

log = logging.getLogger("router.app")

# How often those are looked for that may go now, in seconds.
_LOOK: Final = 0.05
# How much longer than that the end may take, for systemd, in seconds.
_GRACE: Final = 10.0
# What systemd is told of a wait without an end: a day.
_ENDLESS: Final = 86400.0


class Mode(Enum):
    """What the end waits for; each is more urgent than the one before."""

    CLIENTS = "all clients to leave"
    TRANSACTIONS = "transactions to end"
    NOW = "nobody"

    @property
    def urgency(self) -> int:
        """Its place."""
        return list(Mode).index(self)


class Listening(Protocol):
    """Where clients come from."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes listen on the same port."""

    def leave_shared(self) -> None:
        """Leave those who come from now on to them."""


class Ending:
    """Begins when told to, and may be told to be quicker; never the other way round.

    Attributes:
        mode: None while the router serves.
        sockets: where clients come from.
        done: set when nothing is waited for any more.
    """

    def __init__(
        self,
        engine: Engine,
        login: Login,
        clients: Clients,
        supervisor: Supervisor,
        patience: Callable[[], float],
    ) -> None:
        """Do nothing yet; `patience` is for how long transactions may go on, in seconds."""
        self.sockets: Listening | None = None
        self._engine: Final = engine
        self._login: Final = login
        self._clients: Final = clients
        self._supervisor: Final = supervisor
        self._patience: Final = patience
        self._began = 0.0
        self._deadline: float | None = None
        self._news = trio.Event()  # replaced at each
        self.mode: Mode | None = None
        self.done: Final = trio.Event()
        self._cut_off = 0

    @property
    def is_ready(self) -> bool:
        """Whether clients should come here."""
        return self.mode is None

    def begin(self, mode: Mode, why: str) -> None:
        """Let it begin, or be quicker than before."""
        if self.mode is not None and mode.urgency <= self.mode.urgency:
            log.info("%s: already stopping, waiting for %s", why, self.mode.value)
            return
        if self.mode is None:
            self._began = trio.current_time()
        self.mode = mode
        shares = self.sockets is not None and self.sockets.is_shared
        if mode is not Mode.CLIENTS or not shares:
            self._login.draining = True
        count = len(self._clients)
        log.info("%s: stopping, waiting for %s; %d clients", why, mode.value, count)
        patience = {Mode.CLIENTS: _ENDLESS, Mode.TRANSACTIONS: self._patience(), Mode.NOW: 0.0}
        if mode is Mode.TRANSACTIONS:
            self._deadline = trio.current_time() + patience[mode]
        self._supervisor.stopping(
            f"stopping, waiting for {mode.value}; {count} clients", patience[mode] + _GRACE
        )
        self._news.set()
        self._news = trio.Event()

    async def wait(self) -> None:
        """Wait until it has begun, and for what it waits for."""
        while self.mode is None:
            await self._news.wait()
        await self._leave()
        while len(self._clients) and self.mode is not Mode.NOW:
            if self.mode is Mode.TRANSACTIONS:
                self._engine.attempt(self._clients.drain)
                if not len(self._clients):
                    break
            if self._deadline is not None and trio.current_time() >= self._deadline:
                count = len(self._clients)
                self._engine.figures.timeouts.note("shutdown", count)
                log.warning("shutdown_timeout is over, %d clients are cut off", count)
                break
            with trio.move_on_after(_LOOK):
                await self._news.wait()
        self._cut_off = len(self._clients)
        self.done.set()

    async def _leave(self) -> None:
        """Leave ports that are shared, and then let nobody log in any more.

        Others take those who come now. Who has come here is let in, if clients are waited for.
        """
        sockets = self.sockets
        if sockets is not None and sockets.is_shared:
            sockets.leave_shared()
            while self.mode is Mode.CLIENTS and self._login.is_busy:
                with trio.move_on_after(_LOOK):
                    await self._news.wait()
        self._login.draining = True

    def tell(self) -> None:
        """Write the last line of the log."""
        took = trio.current_time() - self._began
        if self._cut_off:
            log.warning("stopped after %.1f s: %d clients were cut off", took, self._cut_off)
        else:
            log.info("stopped after %.1f s: drained, nobody was cut off", took)
