"""Where one client's statements go: what it has asked for, and whether its server will do.

A choice (SET SHARD and its kin) holds from the next statement that asks for a server. A client
that has one (in a transaction, in a batch, or for good in session mode) cannot be given
another. So a choice that this server would not do for is refused; it is never silently put off.
And a statement whose sharding key says that it belongs to another shard than that of the server
would read or write the wrong rows: it is refused as well (`wrong_shard`). Only a batch that has
done nothing yet but prepare and describe moves on: drivers ask for the types of the parameters
before they bind values, and so before anyone can know the shard.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ..errors import AmbiguousShard, ForEveryShard, NoSingleShard, RoutingError
from ..protocol import codes, marks
from ..routing import refusals
from ..routing.commands import COLUMNS, Verb
from ..routing.decisions import UNBOUND
from ..routing.state import PLAIN_SETTINGS, RoutingState
from ..routing.types import CommandReply, Role, ServerRole
from .bound_keys import bound_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..pool.server import ServerConnection
    from ..protocol.prepared import Statement
    from ..protocol.segments import Segment
    from ..routing.commands import ClientCommand, Wording
    from ..routing.keyplan import BoundKey
    from ..routing.router import QueryRouter
    from ..routing.types import Analysis
    from .everywhere import Everywhere
    from .lease import Lease

_random: Final = random.Random()


def in_transaction(command: str) -> RoutingError:
    """Why a command cannot be run now."""
    return RoutingError(
        f"{command} cannot run inside a transaction block",
        sqlstate="25001",
        hint="Send it before the first statement of the transaction, or after its end.",
    )


class ClientRouting:
    """The routing of one client's statements.

    Attributes:
        lease: its hold on a server.
        state: shard and role that it has asked for.
        may_pipeline: whether a statement may be sent behind one that is not answered.
        is_moving: with this transaction ends what binds the next one to the same server.
        epoch: the router's when it looked the client's statements up.
        was_reset: a segment that may still fail has reset all settings.
        branches: what its transaction has on all shards, if it is on all of them.
    """

    __slots__ = (
        "branches",
        "epoch",
        "is_moving",
        "lease",
        "may_pipeline",
        "state",
        "was_reset",
    )

    def __init__(self, lease: Lease) -> None:
        self.lease: Final = lease
        self.state: Final = RoutingState()
        for name in PLAIN_SETTINGS:
            self.state.note_setting(name, lease.settings.told(name, lease.pool) or "")
        self.is_moving = False
        self.may_pipeline = False
        self.was_reset = False
        self.branches: Everywhere | None = None
        self.epoch = self.router.epoch
        self.set_pipelining()

    @property
    def router(self) -> QueryRouter:
        """The pool's."""
        return self.lease.pool.router

    @property
    def has_chosen(self) -> bool:
        """Whether the client has chosen the shard of the transaction, by command or comment."""
        route = self.lease.route
        return route is not None and route.is_chosen

    def lets_follow(self, server: ServerConnection) -> bool:
        """Whether a statement may be sent behind one that is not answered."""
        return self.may_pipeline and self.lease.lets_follow(server)

    def set_pipelining(self) -> None:
        """Statements may follow each other unanswered if their text has no say in the route."""
        self.may_pipeline = (
            self.router.is_static
            and self.state.choice is not ServerRole.AUTO
            and not self.state.has_local
            and not self.is_moving
        )

    # --- transactions and resets

    def end_transaction(self) -> None:
        """A transaction is over, and with it what SET LOCAL chose for it."""
        lease = self.lease
        if lease.deferred is not None:
            return  # it has failed, and is over when its client says so
        self.leave_others()
        lease.route = None
        if self.is_moving or self.state.has_local:
            self.is_moving = False
            self.state.end_transaction()
            self.set_pipelining()
        if lease.writes is not None:
            lease.writes.settle()

    def spread(self, branches: Everywhere) -> None:
        """The transaction is on all shards from here on."""
        self.branches, self.is_moving = branches, True
        self.set_pipelining()

    def may_join(self, server: ServerConnection) -> bool:
        """Whether all of the transaction so far would have been there, had it been on all."""
        lease, router = self.lease, self.router
        return (
            lease.route is not None
            and lease.xact is not None
            and lease.xact.is_clear
            and router.may_spread(lease.route)
            and server.pool.address.shard == router.home
            and server.pool.is_primary
            and server.status == codes.IN_TRANSACTION
            and not server.marks & marks.ASKED
            and not lease.is_kept_for_good
        )

    def leave_others(self) -> None:
        """What the transaction has on other shards than its own is over, or rolled back."""
        branches, self.branches = self.branches, None
        self.lease.compares = None
        if branches is not None:
            branches.close()

    def expect_reset(self, segment: Segment) -> None:
        """A RESET ALL is on its way, after which the next statement may go elsewhere."""
        segment.resets_all = True
        if not self.state.is_default:
            self.is_moving = True
            self.may_pipeline = False

    def settle_reset(self, *, has_failed: bool) -> None:
        """The segment of a RESET ALL or DISCARD ALL is over: so are the client's choices."""
        is_due, self.was_reset = self.was_reset and not has_failed, False
        if is_due:
            self.forget_choices()

    def forget_choices(self) -> None:
        """Go back to automatic routing."""
        self.state.reset()
        self.set_pipelining()

    def discard_all(self) -> None:
        """DISCARD ALL of a client that has no server: back to how its session began."""
        self.lease.settings.discard(self.lease.pool)
        if self.lease.listening is not None:
            self.lease.listening.leave()
        self.forget_choices()

    # --- commands

    def choose(self, wording: Wording, value: str | None = None) -> CommandReply:
        """Carry out a routing command; `value` is that of its parameter.

        Raises:
            RoutingError: it cannot be; nothing has changed.
        """
        options, state, server = self.router.options, self.state, self.lease.server
        sharder = self.router.sharder
        command = wording.command(value, shards=options.shard_count, sharder=sharder)
        if command.verb in (Verb.SET_READ_POSITION, Verb.SHOW_READ_POSITION):
            return self._read_position(command)
        if wording.is_show:
            return state.execute(command, options, _random, sharder)
        before = state.overrides
        is_any = command.verb is Verb.SET_SHARD and command.number is None
        if server is not None and is_any and not command.is_unset:
            # Any shard will do, so the one in use does.
            command = replace(command, number=server.pool.address.shard)
        reply = state.execute(command, options, _random, sharder)
        if server is not None:
            error = self._objection(server, command, changed=state.overrides != before)
            if error is not None:
                state.restore(before)
                raise error
            if command.is_unset and state.overrides != before:
                self.is_moving = True
        self.set_pipelining()
        return reply

    def _read_position(self, command: ClientCommand) -> CommandReply:
        """Tell what the client's reads must see, or raise that, or forget it.

        Raises:
            RoutingError: the server that it has may not have that, or nobody looks at it.
        """
        causality, server = self.lease.causality, self.lease.server
        if command.verb is Verb.SHOW_READ_POSITION:
            token = "" if causality is None else causality.token
            return CommandReply("SELECT 1", COLUMNS[command.verb], token)
        if causality is None:
            if command.positions:
                raise RoutingError(
                    f'{command.words} has no effect: read_your_writes is "off"',
                    sqlstate="55000",
                    hint='Set read_your_writes = "session" for the pool.',
                )
        elif command.positions is None:
            causality.needed = {}
        else:
            before = causality.needed
            causality.need(command.positions)
            if server is not None and not causality.admits(server):
                causality.needed = before
                raise self._cannot_change(server, command)
        return CommandReply(command.tag)

    def _objection(
        self, server: ServerConnection, command: ClientCommand, *, changed: bool
    ) -> RoutingError | None:
        """Why the choice, which has been made, cannot stand with the server that there is."""
        if not changed:
            return None
        if self.branches is not None:
            return in_transaction(command.words)
        is_excluded = self._excludes(server)
        if server.status != codes.IDLE:
            is_shard = command.verb in (Verb.SET_SHARD, Verb.SET_SHARDING_KEY)
            if is_excluded or not is_shard:
                return in_transaction(command.words)
            return None
        return self._cannot_change(server, command) if is_excluded else None

    def _cannot_change(self, server: ServerConnection, command: ClientCommand) -> RoutingError:
        """Why a choice cannot take effect that calls for another server than there is."""
        if server.status != codes.IDLE:
            return in_transaction(command.words)
        if self.lease.is_kept_for_good:
            address, pin = server.pool.address, self.lease.pins.pin
            role = Role.PRIMARY if server.pool.is_primary else Role.REPLICA
            what = f"the session keeps its server, the {role.value} of shard {address.shard}"
            if pin is not None:
                return RoutingError(
                    f"{command.words} cannot take effect: {what}, for this: {pin}",
                    sqlstate="55006",
                    hint="End that before, or use another connection.",
                )
            return RoutingError(
                f"{command.words} cannot take effect: {what}, until it ends",
                sqlstate="55006",
                hint="Choose before the session's first statement, use another connection, "
                'or pool_mode = "transaction".',
            )
        # In a batch of which a part has been sent: what is left of it follows.
        return RoutingError(
            f"{command.words} cannot run behind other statements of its batch",
            sqlstate="25001",
            hint="Send a Sync before it.",
        )

    def _excludes(self, server: ServerConnection) -> bool:
        """Whether the choices forbid the server; its statements may forbid it besides."""
        address, options, state = server.pool.address, self.router.options, self.state
        if options.shard_count > 1 and state.shard not in (None, address.shard):
            return True
        role = state.role
        if (
            role is None
            and state.choice is ServerRole.DEFAULT
            and not (options.query_parser_enabled and options.query_parser_read_write_splitting)
        ):
            role = options.default_role
        return role is not None and (role is Role.PRIMARY) is not server.pool.is_primary

    # --- statements on the wrong shard

    def query_on_wrong_shard(self, server: ServerConnection, sql: bytes) -> RoutingError | None:
        """Why the text of a Query must not run on the server that the client has."""
        router = self.router
        if not router.finds_shards or server.status == codes.IN_FAILED_TRANSACTION:
            return None
        try:
            analysis = router.analyse(sql)
        except RoutingError as error:
            return error
        if analysis is None:
            return None
        router.note_prepared(analysis, sql, self.state)
        return self.wrong_shard(server, analysis, UNBOUND)

    def bind_on_wrong_shard(
        self,
        server: ServerConnection,
        statement: Statement[Analysis | None],
        values: bytes,
        *,
        is_whole: bool,
    ) -> RoutingError | None:
        """Why a Bind must not run on the server that the client has.

        `values` is what follows the names in it, or as much of that as there is.
        """
        router, analysis = self.router, statement.analysis
        if (
            not router.finds_shards
            or analysis is None
            or server.status == codes.IN_FAILED_TRANSACTION
        ):
            return None
        if self.epoch != router.epoch:  # the server has told more about its tables since
            analysis = router.analyse(statement.text) or analysis
        router.note_prepared(analysis, statement.text, self.state)
        try:
            keys = bound_values(
                router, self.state, statement, analysis, values, is_whole=is_whole
            )
        except RoutingError as error:
            return error
        return self.wrong_shard(server, analysis, keys)

    def wrong_shard(
        self, server: ServerConnection, analysis: Analysis, keys: Mapping[int, BoundKey]
    ) -> RoutingError | None:
        """Why a statement must not run on the server that the client has.

        Args:
            server: that.
            analysis: of the statement.
            keys: the values of its parameters that are sharding keys.
        """
        try:
            shard = self.router.demanded_shard(analysis, self.state, keys)
        except AmbiguousShard as error:
            return error
        except ForEveryShard as error:
            is_for_all = error.is_of_sharded or not self._has_its_own(server)
            return error if is_for_all and not self.has_chosen else None
        except NoSingleShard as error:
            return None if self.has_chosen else error
        except RoutingError as error:
            return error
        held = server.pool.address.shard
        if shard is None:
            shard = None if self.has_chosen else self.router.home_of(analysis, self.state)
            if shard is None or shard == held:
                return None
        elif shard == held:
            self._note_key()
            return None
        pin = self.lease.pins.pin
        if pin is not None and server.status == codes.IDLE:
            return RoutingError(
                f"the statement belongs to shard {shard}, but the session keeps a server of "
                f"shard {held}, for this: {pin}",
                sqlstate="0A000",
                hint="End that before, or use another connection.",
            )
        return RoutingError(
            f"the statement belongs to shard {shard}, but its transaction is on shard {held}",
            sqlstate="0A000",
            hint="Choose the shard with SET SHARDING KEY, SET SHARD or a comment before the "
            "first statement of the transaction, in session mode of the session.",
        )

    def _note_key(self) -> None:
        """By its key a statement belongs to the shard where the transaction is."""
        route = self.lease.route
        if route is not None and self.router.may_spread(route):
            self.lease.route = self.router.with_key(route)

    def _has_its_own(self, server: ServerConnection) -> bool:
        """Whether what is defined there may be about what only this session has."""
        return self.lease.is_kept_for_good or bool(server.marks & marks.TEMP)

    def too_long_to_place(self, kind: int) -> RoutingError | None:
        """Why a text that is too long to hold must not be sent, wherever that would be."""
        if kind not in b"QP" or not self.router.refuses:
            return None
        is_chosen = self.state.shard is not None or self.has_chosen
        if is_chosen or self.lease.status == codes.IN_FAILED_TRANSACTION:
            return None
        return refusals.too_long()

    def prepared_out_of_sight(self, sql: bytes) -> RoutingError | None:
        """Why a text must not be prepared by a name of which the router keeps no record.

        Nobody would look at what is bound to it.
        """
        router = self.router
        if not router.refuses or self.state.shard is not None or self.has_chosen:
            return None
        analysis = router.analyse(sql)
        if analysis is None or not (analysis.keys or analysis.unkeyed or analysis.obstacle):
            return None
        return refusals.unprepared()

    def may_leave(self, segment: Segment) -> bool:
        """Whether the open batch has done nothing that another server could not do as well."""
        return (
            not segment.has_bound
            and (self.lease.status == codes.IDLE or self.lease.deferred is not None)
            and not self.lease.keeps_server
        )
