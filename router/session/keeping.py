"""What a client has left at its server: asked for when its transaction is over, and kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..pool.inquiry import ask_leftovers
from ..pool.leftovers import LISTEN
from ..protocol import codes, marks, messages
from ..protocol.variables import EMPTY, Variables
from .listening import Listening

if TYPE_CHECKING:
    from ..pool.contracts import Loss
    from ..pool.leftovers import Leftovers
    from ..pool.server import ServerConnection
    from .causality import Causality
    from .lease import Lease


class Keeping:
    """What happens between the end of a client's transaction and the return of its server.

    The server is asked where in the log it is, if the client may have written, and then what
    the client has left there, if it may have left anything. Settings are the client's from then
    on, wherever it goes, and channels are heard by a connection for all. What can be nowhere
    else pins the client to its server. Else the server is given back.
    """

    __slots__ = ("_lease",)

    def __init__(self, lease: Lease) -> None:
        self._lease: Final = lease

    def release(self, server: ServerConnection) -> bool:
        """Give the server back, if nothing is to be asked before; returns whether it is."""
        lease = self._lease
        if server.queue:
            return lease.release(server)
        causality = lease.causality
        if causality is not None and causality.is_due and not lease.mid_message:
            if not (server.doomed or lease.draining):
                self._ask_position(server, causality)
                return False
            causality.lose(server.pool.address.shard)
        if lease.drops:
            self._drop(server)
        if server.marks and self._follows(server):
            self._ask(server)
            return False
        return lease.give_back(server)

    def loses_nothing(self, loss: Loss) -> bool:
        """Whether a server that is lost had nothing to do but to say where it is in the log."""
        lease, server = self._lease, loss.server
        causality = lease.causality
        if causality is None or not causality.asks or lease.is_kept_for_good:
            return False
        if loss.segments or server.status != codes.IDLE:
            return False
        causality.lose(server.pool.address.shard)
        return True

    # --- the questions

    def _ask_position(self, server: ServerConnection, causality: Causality) -> None:
        """Ask where in the log the client's writes are: its next statement waits for that."""
        lease = self._lease
        lease.asks = True

        def told() -> None:
            if lease.server is server:
                lease.asks, causality.has_told = False, True
                lease.holder.leftovers_told(server, None)
            else:
                server.pool.settled(server)

        causality.ask(server, lease.engine.now, told)

    def _drop(self, server: ServerConnection) -> None:
        """The client has dropped what it has there, which the server does not know yet."""
        drops, self._lease.drops = self._lease.drops, 0
        if drops & marks.UNKNOWN:
            server.send_query(b"DISCARD ALL")
            server.forget_variables()
        else:
            server.send_query(b"DEALLOCATE ALL")

    def _follows(self, server: ServerConnection) -> bool:
        """Whether what the client has left is to follow it, or to keep it where it is."""
        lease = self._lease
        return (
            bool(server.marks & marks.ASKED)
            and server.client is lease.holder
            and (lease.pool.follows_state or lease.pins.pin is not None)
            # The question itself is a Query, which drops the unnamed statement.
            and not (lease.pinned or lease.unnamed_in is not None or lease.mid_message)
            and not (lease.draining or server.doomed)
        )

    def _ask(self, server: ServerConnection) -> None:
        """Ask what the client has left.

        If it is pinned already, it need not wait for that, but to have again after a RESET what
        it began with.
        """
        lease = self._lease
        server.tell_changes()
        settings = lease.settings
        lacks_settings = server.variables is EMPTY and settings.variables is not EMPTY
        lease.asks = lease.pins.pin is None or lacks_settings
        names = {name: None for name in settings.variables.values if "." in name}

        def take(found: Leftovers | None) -> None:
            if lease.server is server:
                lease.asks = False
                lease.holder.leftovers_told(server, found)
            else:
                server.pool.settled(server)

        listening = lease.listening
        if listening is None and lease.pool.is_listening:
            listening = lease.listening = Listening(
                lease.engine, lease.holder, lease.pool.hubs, self._is_quiet, self._share
            )
            server.ear = listening
        known = None if listening is None else listening.mirrored
        custom = {**names, **settings.custom}
        ask_leftovers(server, custom, take, lease.engine.now, known)

    def _share(self) -> None:
        """What the client listens to at its own server may be passed on now."""
        lease = self._lease
        if lease.server and lease.is_free and not lease.asks and self._follows(lease.server):
            self._ask(lease.server)

    def _is_quiet(self) -> bool:
        """Whether the client is in no transaction, and nothing is being said to it."""
        lease = self._lease
        return lease.deferred is None if lease.server is None else lease.is_free

    # --- the answers

    def told(self, server: ServerConnection, found: Leftovers | None) -> bool:
        """The server has told what the client has left there; `settle` is to follow.

        What keeps it here does so unless too many are kept already.

        Returns:
            Whether what decides about the meaning of texts has changed.
        """
        if found is None:
            return False  # the marks are there still: all of it is removed
        lease = self._lease
        is_other = found.settings is not None and lease.settings.found(found.settings)
        server.marks |= found.marks
        if not server.queue:
            lease.settings.take_resets()
            server.marks &= found.marks | ~marks.ASKED
        # Else the marks may be those of what the client has sent behind the question.
        reasons, new = found.reasons, frozenset[bytes]()
        if lease.listening is not None and found.channels is not None:
            new = lease.listening.settle(server, found.channels)
            if not new or self._can_pass_on(server, reasons, new):
                reasons = tuple(reason for reason in reasons if reason != LISTEN)
        if reasons:
            lease.pins.keep(server, lease.pool.features, reasons, lease.engine.now)
        else:
            lease.unpin(server)
            if new:
                self._pass_on(server, new)
        return is_other

    def settle(self, server: ServerConnection, found: Leftovers | None) -> bool:
        """Give the server back after that, if nothing keeps it; returns whether it is."""
        lease = self._lease
        if lease.asks:
            return False
        if lease.causality is not None and lease.causality.has_told:
            lease.causality.has_told = False
            return self.release(server)  # which asks what the client has left
        if server.queue or lease.give_back(server):
            return lease.server is None
        if lease.pins.pin is not None and found is not None:
            # It has what it has told; what has been reset is to be as it was at the start.
            if found.settings is not None:
                server.variables = Variables.of(found.settings)
            lease.awaits_settings = server.apply(lease.settings.variables)
        return False

    # --- channels

    def _can_pass_on(
        self, server: ServerConnection, reasons: tuple[str, ...], names: frozenset[bytes]
    ) -> bool:
        """Whether the connection for all can hear what the client listens to there."""
        lease = self._lease
        listening = lease.listening
        encoding = lease.settings.told("client_encoding", lease.pool)
        return (
            listening is not None
            and lease.pool.is_listening
            and reasons == (LISTEN,)
            and not server.queue
            and listening.may_take(server, names, encoding or "")
        )

    def _pass_on(self, server: ServerConnection, names: frozenset[bytes]) -> None:
        """Have it hear them; the client's next statement waits for that."""
        lease = self._lease
        lease.asks = True

        def done(is_passed: bool) -> None:
            if lease.server is not server:
                server.pool.settled(server)
                return
            lease.asks = False
            options = lease.pool.settings.routing
            is_drawn = options.shard_count > 1 and options.default_shard.startswith("random")
            if is_passed and is_drawn:
                shard = server.pool.address.shard
                detail = "Choose the shard with SET SHARD before you LISTEN and NOTIFY."
                lease.holder.reply(
                    messages.notice_response(f"you listen on shard {shard} only", detail=detail)
                )
            if not is_passed:
                lease.pins.keep(server, lease.pool.features, (LISTEN,), lease.engine.now)
            lease.holder.leftovers_told(server, None)

        assert lease.listening is not None
        lease.listening.take_over(server, names, done)
