"""The other processes of a group: cancel requests for their clients are passed on to them.

Where several processes share a port, or a load balancer, a cancel request reaches any of them.
So a client's key says whose it is: of the process id, a positive Int32, the upper 14 bits are
the peer's id, and the rest is the client's. The secret is as long as ever. A request that has
been passed on has the sign bit, and goes no further.
"""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING, Final

import trio

from ..engine.tls import client_context
from ..engine.wire import WireClosed, connect
from ..errors import RouterError
from ..pool.throttle import Throttle
from ..printable import printable
from ..protocol import messages
from ..reasons import reason
from ..records import fields
from ..snapshots import PeerSnapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..config.model import Config
    from ..config.peers import Peer

log = logging.getLogger("router.peers")

_NUMBER_BITS: Final = 17
_PASSED_ON: Final = 1 << 31
# How long a request may take to get to a peer and to be dealt with there, in seconds: what
# PgBouncer allows to those that wait (cancel_wait_timeout).
_PATIENCE: Final = 10.0
# So many may wait for their turn to be passed on to one peer.
_MOST_WAITING: Final = 1000


def signed(peer_id: int, number: int) -> int:
    """The process id for the key of a client that is called by a number."""
    return peer_id << _NUMBER_BITS | number & ((1 << _NUMBER_BITS) - 1)


class Path:
    """The way to one peer.

    Attributes:
        place: where it is, as the log calls it.
        passed_on, failed, dropped: requests that it has had, that did not reach it or were not
            dealt with in time, and that there were too many of.
    """

    def __init__(self, peer_id: int, host: str, port: int, size: int) -> None:
        self.peer_id: Final = peer_id
        self.host: Final = host
        self.port: Final = port
        self.place: Final = f"peer {peer_id} at {printable(host)}:{port}"
        self.places: Final = trio.CapacityLimiter(size)
        self._connecting = 0
        self._troubles: Final = Throttle()
        self.passed_on = self.failed = self.dropped = 0

    @property
    def _waiting(self) -> int:
        return self.places.statistics().tasks_waiting

    async def pass_on(self, pid: int, secret: bytes, tls: ssl.SSLContext | None) -> None:
        """Hand it a request; returns when the peer has dealt with it, or it is given up."""
        if self._waiting >= _MOST_WAITING:
            self.dropped += 1
            self._tell(f"{_MOST_WAITING} others wait already")
            return
        why = f"no answer within {_PATIENCE:g} s"
        with trio.move_on_after(_PATIENCE):
            async with self.places:
                why = await self._deliver(pid, secret, tls)
        if why:
            self.failed += 1
            self._tell(why)
        else:
            self.passed_on += 1

    async def _deliver(self, pid: int, secret: bytes, tls: ssl.SSLContext | None) -> str:
        """Returns why it could not be; "" if it has been."""
        self._connecting += 1
        try:
            wire = await connect(self.host, self.port, None)
        except OSError as error:
            return reason(error)
        finally:
            self._connecting -= 1
        try:
            if tls is not None and not self.host.startswith("/"):
                await wire.send(messages.ssl_request())
                if await wire.read_exactly(1) != b"S":
                    return "it does not speak TLS, and this process does"
                await wire.start_tls(tls, server_side=False, server_hostname=self.host)
            await wire.send(messages.cancel_request(pid | _PASSED_ON, secret))
        except (WireClosed, RouterError, ssl.SSLError) as error:
            wire.close()
            return str(error)
        try:
            await wire.read_exactly(1)
        except WireClosed:
            return ""  # the end of the connection is the only answer there is
        finally:
            wire.close()
        return "it answered, as no peer does"

    def _tell(self, why: str) -> None:
        others = self._troubles.admit(trio.current_time())
        if others is not None:
            text = "cannot pass on a cancel request to %s: %s%s"
            log.warning(text, self.place, why, others, extra=fields(peer_id=self.peer_id))

    def snapshot(self) -> PeerSnapshot:
        """Its row of SHOW PEERS and SHOW PEER_POOLS."""
        taken = self.places.borrowed_tokens
        return PeerSnapshot(
            peer_id=self.peer_id,
            host=self.host,
            port=self.port,
            pool_size=int(self.places.total_tokens),
            active=taken,
            waiting=self._waiting,
            connecting=self._connecting,
            passed_on=self.passed_on,
            failed=self.failed,
            dropped=self.dropped,
        )


class Peers:
    """Those of the group of this process.

    Attributes:
        peer_id: of this process; 0 if it is in no group.
    """

    def __init__(self, peer_id: int) -> None:
        self.peer_id: Final = peer_id
        self._paths: dict[int, Path] = {}
        self._tls: ssl.SSLContext | None = None
        self._strays: Final = Throttle()

    def __iter__(self) -> Iterator[Path]:
        return iter(self._paths.values())

    def use(self, config: Config, *, with_tls: bool) -> None:
        """Take a new configuration; a path that has not changed keeps what it has counted."""
        paths = {}
        for name, peer in config.peers.items() if self.peer_id else ():
            if int(name) != self.peer_id:
                paths[int(name)] = self._path(int(name), peer, config.general.port)
        self._paths = dict(sorted(paths.items()))
        self._tls = client_context(verify=False, ca_file=None) if with_tls else None

    def _path(self, peer_id: int, peer: Peer, port: int) -> Path:
        old, port = self._paths.get(peer_id), peer.port or port
        if old is None or (old.host, old.port) != (peer.host, port):
            return Path(peer_id, peer.host, port, peer.pool_size)
        old.places.total_tokens = peer.pool_size
        return old

    def read(self, pid: int) -> tuple[int, bool]:
        """A process id as a client has been told it, and whether somebody has passed it on."""
        if not self.peer_id or not pid & _PASSED_ON:
            return pid, False
        pid ^= _PASSED_ON
        if pid >> _NUMBER_BITS != self.peer_id:
            others = self._strays.admit(trio.current_time())
            if others is not None:
                text = "a cancel request for peer %d has come to peer %d: look at [peers]%s"
                more = fields(peer_id=self.peer_id)
                log.warning(text, pid >> _NUMBER_BITS, self.peer_id, others, extra=more)
        return pid, True

    def has(self, pid: int) -> bool:
        """Whether a process id names a peer that is known."""
        return pid >> _NUMBER_BITS in self._paths

    async def pass_on(self, pid: int, secret: bytes) -> None:
        """Hand a request for no client of ours to the peer that it names, if it names one."""
        path = self._paths.get(pid >> _NUMBER_BITS)
        if path is not None:
            await path.pass_on(pid, secret, self._tls)

    def snapshots(self) -> list[PeerSnapshot]:
        """The rows of SHOW PEERS."""
        return [path.snapshot() for path in self]
