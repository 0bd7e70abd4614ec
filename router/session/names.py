"""One client's names of statements: what each of them means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import ClientProtocolError, RouterError
from ..protocol import codes
from ..protocol.binds import declared_types
from ..protocol.marks import UNKNOWN
from ..protocol.naming import PREPARE, declared, quoted
from ..protocol.prepared import is_reserved, new_token
from ..routing.tags import trace_parent
from . import inspection, mistakes
from .answered import (
    AnsweredStatement,
    is_at_server,
)
from .operation import NOBODY, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..pool.server import ServerConnection
    from ..protocol.columns import Description
    from ..protocol.naming import Change, Naming
    from .answered import Deallocation, PreparedStatement
    from .client_routing import ClientRouting


# Of so many statements of a client's it is kept to which traces they belong.
_MOST_PARENTS: Final = 500


class Names:
    """The statements of one client by its own names; b"" is the unnamed one.

    Attributes:
        renames: whether statements go by other names on servers; else messages are forwarded.
        statements: what each name means at this point of the client's stream; without
            renaming, the router's own statements only.
        token: what tells its unnamed statement from all others; see `protocol.prepared`.
        told: the names of those that the client has been told the columns of.
        parents: the `traceparent` behind the texts of those prepared last by a name, if clients
            are traced; None: of none.
        is_changing: SQL is on its way that changes what names mean: what is about them has to
            wait for its answer.
    """

    __slots__ = (
        "_bytes",
        "_lease",
        "_routing",
        "is_changing",
        "parents",
        "renames",
        "statements",
        "token",
        "told",
    )

    def __init__(self, routing: ClientRouting) -> None:
        self._routing: Final = routing
        self._lease: Final = routing.lease
        self.renames = routing.lease.pool.renames_statements
        self.statements: Final = routing.lease.statements
        self._bytes = 0
        self.token = 0
        self.is_changing = False
        self.parents: dict[PreparedStatement, bytes] | None = None
        self.told: Final[dict[bytes, None]] = {}  # a set that takes little while it is empty
        routing.state.prepared_as = self.prepared_as

    def get(self, name: bytes) -> PreparedStatement | None:
        """What a name means now."""
        return self.statements.get(name)

    def has_room(self, size: int) -> bool:
        """Whether it may have another statement, of so many bytes."""
        return (
            len(self.statements) < mistakes.MAX_STATEMENTS
            and self._bytes + size <= mistakes.MAX_STATEMENT_BYTES
        )

    def hold(self, name: bytes, statement: PreparedStatement) -> None:
        """A name means this from here on."""
        self.drop(name)
        self.statements[name] = statement
        self._bytes += _size(statement)

    def drop(self, name: bytes) -> None:
        """A name means nothing from here on."""
        statement = self.statements.pop(name, None)
        self.told.pop(name, None)
        if statement is not None:
            self._bytes -= _size(statement)

    def statement_for(self, name: bytes, body: bytes) -> PreparedStatement:
        """What a Parse of this name makes of it; names in its text are those of this client."""
        if not name:
            return self._find(body)
        bare = self._lease.pool.router.bare(body)  # tags differ: they are to be one
        found = self._find(bare)
        if found.glance.naming is not None:
            found = self._lease.pool.statement_apart(bare)
        if self._lease.engine.figures.traces is not None:
            self._note_parent(found, b"" if bare is body else body[: body.find(b"\0")])
        return found

    def _note_parent(self, statement: PreparedStatement, text: bytes) -> None:
        """A statement is prepared with that text; b"" if there is no comment behind it."""
        parent = trace_parent(text)
        parents = self.parents
        if parents is not None:
            parents.pop(statement, None)
        elif parent:
            parents = self.parents = {}
        if parent and parents is not None:
            parents[statement] = parent
            if len(parents) > _MOST_PARENTS:
                del parents[next(iter(parents))]

    def _find(self, body: bytes, rest: bytes = b"") -> PreparedStatement:
        """The statement that stands for the body of a Parse, for this client.

        Others share it, unless they would not mean the same by it. The `rest` is that of a
        PREPARE.
        """
        lease = self._lease
        if self._means_its_own:
            return lease.pool.statement_apart(body, rest)
        return lease.pool.statement(body, lease.settings.context, rest)

    @property
    def _means_its_own(self) -> bool:
        """Whether others may mean something else by a text now."""
        server = self._lease.server
        return self._lease.is_altered or (server is not None and server.is_altered)

    def _described(
        self, statement: PreparedStatement, description: Description, *, is_news: bool = False
    ) -> PreparedStatement:
        """The statement of the same text of which that has been told."""
        pool = self._lease.pool
        if statement.glance.naming is None and not self._means_its_own:
            context = self._lease.settings.context
            return pool.statements.described(
                statement.body, context, statement.rest, description, is_news=is_news
            )
        found = pool.statement_apart(statement.body, statement.rest)
        found.description = description
        return found

    def tell(self, name: bytes, statement: PreparedStatement, description: Description) -> None:
        """The client is told of a statement that it has by this name, or had."""
        if self.statements.get(name) is not statement:
            held = self.statements.get(name)
            known = None if held is None else held.description
            if known is None or not known.is_same(description):
                return  # it is another one by now
        elif statement.description is None:
            statement.description = description
        elif not statement.description.is_same(description):
            self.hold(name, self._described(statement, description, is_news=True))
        self.told[name] = None

    def renew(self, statement: PreparedStatement, description: Description) -> None:
        """A server tells something else of a statement than others have.

        Who has been told that keeps it, and hears of it when it is used.
        """
        found = self._described(statement, description, is_news=True)
        for name, held in list(self.statements.items()):
            if held is statement and name not in self.told:
                self.hold(name, found)

    def rebind(self) -> Callable[[PreparedStatement, bool], PreparedStatement]:
        """Look all statements up anew; returns what does that for those held elsewhere.

        It is to know whether the client may have been told of the statement.
        """

        def found(statement: PreparedStatement, is_told: bool) -> PreparedStatement:
            if isinstance(statement, AnsweredStatement):
                return statement
            if is_told and statement.description is not None:
                return self._described(statement, statement.description)
            if statement.glance.naming is not None:
                return self._lease.pool.statement_apart(statement.body, statement.rest)
            return self._find(statement.body, statement.rest)

        for name, old in self.statements.items():
            self.statements[name] = found(old, name in self.told)
        return found

    def objection(self, naming: Naming | None) -> RouterError | None:
        """What there is against a text because of the names in it.

        Those of the router's own do not exist for clients.
        """
        if naming is None or not self.renames:
            return None
        for name in naming.names:
            if is_reserved(name):
                return mistakes.unknown_statement(name)
            statement = self.statements.get(name)
            if statement is not None and not isinstance(statement, AnsweredStatement):
                error = inspection.use_objection(self._lease, statement)
                if error is not None:
                    return error
        return None

    def known_to(self, naming: Naming | None) -> Mapping[bytes, PreparedStatement]:
        """What the names mean now that a text mentions, as far as they are known."""
        if naming is None or not self.renames:
            return NOBODY
        statements = self.statements
        return {name: statements[name] for name in naming.names if name in statements}

    def note_uses(
        self,
        server: ServerConnection,
        naming: Naming,
        known: Mapping[bytes, PreparedStatement],
    ) -> None:
        """A text is on its way that may run statements."""
        for name in naming.runs:
            statement = known.get(name)
            if statement is None:
                server.marks |= UNKNOWN
                self._lease.is_altered = True
            else:
                self._lease.note(server, statement.glance)
                self._lease.is_altered |= statement.glance.alters

    def changed(self, change: Change) -> PreparedStatement | None:
        """SQL has changed what a name means; returns what it means now.

        None after a PREPARE: the statement cannot follow the client, so that it stays where the
        server is, with its client.
        """
        name = change.name
        if not name:
            self.forget_all()
        elif change.tag != PREPARE:
            self.drop(name)
        elif not self._routing.state.has_odd_text and self.has_room(2 * len(change.rest)):
            statement = self._find(change.body, change.rest)
            self.hold(name, statement)
            return statement
        return None

    def prepared_as(self, name: str) -> tuple[bytes, bytes] | None:
        """The PREPARE for what a name means, and the query in it."""
        key = name.encode()
        statement = self.statements.get(key)
        if statement is None or isinstance(statement, AnsweredStatement):
            return None
        if statement.rest:
            return b"PREPARE " + quoted(key) + statement.rest, statement.text
        try:
            types = declared_types(statement.body)
        except ClientProtocolError:
            return None  # the server says what is wrong with it
        return declared(key, statement.body, types), statement.text

    def deallocate(self, wanted: Deallocation) -> bool:
        """A DEALLOCATE or DISCARD ALL comes as a Query; returns whether it needs no server.

        It does if the server has the statement, if it is the one to say that nobody has, or if
        it has to drop or refuse something itself.
        """
        lease = self._lease
        if wanted.name is not None:
            statement = self.get(wanted.name)
            if lease.server is not None and wanted.name in lease.server.named:
                return False  # with its tag the name goes here as well
            self.drop(wanted.name)
            return statement is not None and not is_at_server(statement)
        if wanted.discard and lease.status != codes.IDLE:
            return False
        self.forget_all()
        if lease.server is not None or not self.renames:
            return False
        if wanted.discard:
            self._routing.discard_all()
        return True

    def drop_unnamed(self) -> None:
        """A Query is on its way: PostgreSQL drops the unnamed statement for it."""
        self._lease.unnamed_in = None
        if self.statements:
            self.drop(b"")

    def parse_failed(self, token: int) -> None:
        """The Parse of an unnamed statement has failed, after which there is none."""
        if token and token == self.token and not isinstance(self.get(b""), AnsweredStatement):
            self.drop(b"")

    def token_of(self, name: bytes, statement: PreparedStatement) -> int:
        """The token of a statement that a name stands for; 0 of all but the unnamed one."""
        return 0 if name or isinstance(statement, AnsweredStatement) else self.token

    def forget_all(self) -> None:
        """DEALLOCATE ALL or DISCARD ALL."""
        self.statements.clear()
        self.told.clear()
        self._bytes = 0

    def forget_untold(self) -> None:
        """All statements are dropped, so those go that the server does not know of."""
        for name, statement in list(self.statements.items()):
            if not is_at_server(statement):
                self.drop(name)

    def undo(self, operation: Operation) -> None:
        """Bring names back to what they were: the operation was skipped."""
        answered, statement = operation.answered, operation.statement
        if answered is not None:
            answered.undo()
            for name, dropped in (answered.dropped or {}).items():
                self.drop(name)
                self._restore(name, dropped)
        if operation.kind == codes.PARSE:
            self.drop(operation.name)
            if operation.previous is not None:
                self._restore(operation.name, operation.previous)
        elif operation.kind == codes.CLOSE and statement is not None:
            self._restore(operation.name, statement)

    def _restore(self, name: bytes, statement: PreparedStatement) -> None:
        if not name:
            self.token = new_token()  # servers may have lost it
        self.statements[name] = statement
        self._bytes += _size(statement)
        if statement.description is not None:
            self.told[name] = None  # it may have been


def _size(statement: PreparedStatement) -> int:
    if isinstance(statement, AnsweredStatement):
        return statement.size
    return len(statement.body) + len(statement.rest)
