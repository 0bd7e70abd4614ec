"""All clients that are logged in, by the keys of their cancel requests."""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING, Final

from ..pool import calls
from ..snapshots import ClientSnapshot
from ..stats import microseconds
from .peers import signed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .session import Session

# Of the secrets of cancel keys, in bytes: what protocol 3.0 has room for, and what PostgreSQL
# gives to who speaks 3.2.
_SECRET: Final = 4
_LONG_SECRET: Final = 32


class Clients:
    """The sessions by number, which is made up: it only has to be unique.

    A cancel request has a process id, which is the same number, or that of the session's
    server: several may have that, since there are many servers. The secret is always our own.
    In a group of processes the process id says whose client it is, and there it is not the
    server's; it has fewer numbers of its own then, so several sessions may have one, too.
    """

    def __init__(self, peer_id: int = 0) -> None:
        """Begin without any; `peer_id` is that of this process, 0 outside of a group."""
        self._peer_id: Final = peer_id
        self._sessions: dict[int, Session] = {}
        self._by_pid: dict[int, list[Session]] = {}

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    def __len__(self) -> int:
        return len(self._sessions)

    def new_number(self) -> int:
        """A number for a new session."""
        while True:
            # As PostgreSQL's process ids, positive in an Int32.
            number = secrets.randbelow(2**31 - 2) + 1
            if number not in self._sessions and number not in self._by_pid:
                return number

    def new_key(self, number: int, *, is_long: bool) -> tuple[int, bytes]:
        """A process id and a secret for a new session of that number."""
        pid = number if not self._peer_id else signed(self._peer_id, number)
        secret = secrets.token_bytes(_LONG_SECRET if is_long else _SECRET)
        while self.find_by_key(pid, secret) is not None:
            secret = secrets.token_bytes(len(secret))
        return pid, secret

    def add(self, session: Session) -> None:
        """Note a session that is logged in, or is about to be."""
        self._sessions[session.client.number] = session
        self._by_pid.setdefault(session.client.pid, []).append(session)

    def remove(self, session: Session) -> None:
        """Forget a session."""
        if self._sessions.pop(session.client.number, None) is not None:
            self._forget_key(session)

    def _forget_key(self, session: Session) -> None:
        pid = session.client.pid
        others = [other for other in self._by_pid[pid] if other is not session]
        if others:
            self._by_pid[pid] = others
        else:
            del self._by_pid[pid]

    def take_pid(self, session: Session, pid: int) -> None:
        """Have a session's key be of its server's process, if it need not say which peer's."""
        if self._peer_id:
            return
        self._forget_key(session)
        client = session.client
        client.pid = pid
        while self.find_by_key(pid, client.secret) is not None:
            client.secret = secrets.token_bytes(len(client.secret))
        self._by_pid.setdefault(pid, []).append(session)

    def find(self, number: int) -> Session | None:
        """The session of that number."""
        return self._sessions.get(number)

    def cancel(self, pid: int, secret: bytes) -> bool:
        """Act on a cancel request; returns whether its key is right."""
        session = self.find_by_key(pid, secret)
        if session is not None:
            session.cancel()
        return session is not None

    def find_by_key(self, pid: int, secret: bytes) -> Session | None:
        """The session with this key for cancel requests."""
        for session in self._by_pid.get(pid, ()):
            if hmac.compare_digest(session.client.secret, secret):
                return session
        return None

    def drain(self) -> None:
        """Let all sessions go as soon as they are outside of a transaction."""
        for session in list(self._sessions.values()):
            try:
                session.drain()
            except Exception:
                calls.give_up(session)

    def expel(self) -> None:
        """Send all away at once."""
        for session in list(self._sessions.values()):
            calls.expel(session)

    def snapshots(self, clock: Callable[[], float]) -> Iterator[ClientSnapshot]:
        """The rows of SHOW CLIENTS, each made when it is asked for: there may be thousands.

        Those that leave meanwhile are left out, and so are those that come.
        """
        for key, session in list(self._sessions.items()):
            if key in self._sessions:
                yield _snapshot(session, clock())


def _snapshot(session: Session, now: float) -> ClientSnapshot:
    server, pin = session.lease.server, session.lease.pins.pin
    return ClientSnapshot(
        client_id=session.client.number,
        database=session.lease.pool.database,
        user=session.lease.pool.user,
        application_name=session.settings.application_name,
        state=session.lease.state.value,
        addr=session.client.peer,
        tls=session.client.tls,
        transaction_count=session.client.transaction_count,
        query_count=session.client.query_count,
        error_count=session.client.error_count,
        age_seconds=int(now - session.client.opened_at),
        maxwait_us=int(session.lease.longest_wait(now) * 1e6),
        activity=session.lease.activity.value,
        server_id=None if server is None else server.serial,
        server_pid=None if server is None else server.pid,
        replication=session.startup.kind_of_replication,
        xact_us=microseconds(session.lease.transaction_age(now)),
        wait_us=_wait(session, now),
        statements=len(session.batch.names.statements),
        pinned="" if pin is None else str(pin),
        pinned_us=0 if pin is None else microseconds(now - pin.since),
        fd=-1 if session.client.link is None else session.client.link.fd,
    )


def _wait(session: Session, now: float) -> int:
    """How long it has been waiting for a server, in microseconds."""
    since = session.lease.waiting_since
    return 0 if since is None else microseconds(now - since)
