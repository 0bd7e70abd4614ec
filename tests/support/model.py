"""A model of a PostgreSQL server: the protocol and its states for real, a toy language for SQL.

It knows prepared statements, portals, transactions, settings and COPY FROM STDIN, and fails
where PostgreSQL would. What it does not know is data: every row says which statement asked for
it, so that a row which reaches the wrong client is found out.

Statements, of which a simple Query may hold several:
    SELECT ...          one row: the statement, and the values bound to it
    ROWS n ...          n such rows
    SLEEP ...           the same as SELECT, once `wake` is called; `cancel` fails it
    NOTICE ...          a NoticeResponse, and no row
    INSERT ...          no row
    FAIL ...            a syntax error
    COPY ...            COPY FROM STDIN
    SHOW name           the value of a setting
    BEGIN, COMMIT, ROLLBACK, SET name TO 'value', RESET ALL, DEALLOCATE, DISCARD ALL, and what
    the router sends to clean a connection, to give it a client's settings and to ask what a
    client has left there
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from router.protocol import messages
from router.protocol.messages import TEXT_OID, message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# What a server reports, with its defaults.
DEFAULTS: Final = {
    "DateStyle": "ISO, MDY",
    "TimeZone": "UTC",
    "application_name": "",
    "client_encoding": "UTF8",
}
_CANONICAL: Final = {name.lower(): name for name in DEFAULTS}
_COLUMN: Final = messages.row_description([("said", TEXT_OID)])
_SET: Final = re.compile(r"SET (\w+) TO '([^']*)'")
_SET_CONFIG: Final = re.compile(r"set_config\('(\w+)', '([^']*)', false\)")
_RESET: Final = re.compile(r'RESET "(\w+)"')
_ASKED: Final = re.compile(r"SELECT 'k', '(\d+)'")
# Those that the model takes without doing anything.
_NOTHING: Final = {
    "CLOSE ALL": "CLOSE CURSOR",
    "SET LOCAL exit_on_error TO on": "SET",
    "RESET SESSION AUTHORIZATION": "RESET",
    "RESET ROLE": "RESET",
    "UNLISTEN *": "UNLISTEN",
    'LISTEN "news"': "LISTEN",
    "SET LOCAL statement_timeout TO 0": "SET",
}


class ModelError(Exception):
    """What the server answers with an ErrorResponse."""

    def __init__(self, sqlstate: str, text: str) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate
        self.text = text


@dataclass(frozen=True, slots=True)
class Portal:
    """A bound statement."""

    sql: str
    values: tuple[str, ...]


def _cut(body: bytes) -> tuple[str, bytes]:
    """Take a String off the front."""
    text, _, rest = body.partition(b"\0")
    return text.decode(), rest


def _bound(rest: bytes) -> tuple[str, ...]:
    """The values in a Bind, which come after the formats."""
    (formats,) = struct.unpack_from("!H", rest)
    position = 2 + 2 * formats
    (count,) = struct.unpack_from("!H", rest, position)
    position += 2
    values = []
    for _ in range(count):
        (length,) = struct.unpack_from("!i", rest, position)
        values.append(rest[position + 4 : position + 4 + length].decode())
        position += 4 + length
    return tuple(values)


class Log:
    """The write-ahead log of a server, which all its connections share.

    Attributes:
        offset: where it ends; of a standby, what it has replayed.
        name: which standby it is, as long as it does not crash; "" for a primary.
        is_mute: questions about it stay without an answer.
        may_see: who asks may see what a standby receives.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.timeline = 1
        self.offset = (1 << 32) + 4096  # in the middle of a page
        self.is_mute = False
        self.may_see = True

    def answer(self, sql: str) -> list[str | None]:
        """The answer to one of the router's questions about it.

        Raises:
            ModelError: it is one for others.
        """
        if "pg_walfile_name" in sql:
            if self.name:
                raise ModelError("55000", "recovery is in progress")
            return [f"{self.timeline:08X}0000000000000001", str(self.offset), "8192"]
        who = [self.name, "1,2,3", "ft"[self.may_see]] if "string_agg" in sql else []
        return ["t" if self.name else "f", str(self.offset), str(self.timeline), *who]


class ModelServer:
    """One server process.

    Attributes:
        output: what it has said, and nobody has taken.
        status: its transaction status, as in ReadyForQuery.
        statements: prepared statements by name.
        sleeping: the statement that waits for `wake`, or None.
        log: all statements that it has executed.
        asked: how often it was asked what a client has left.
        kept: what it then says there is, as marks.
        is_failing: it can analyse no text, as if all tables were gone.
        wal: its log, if there is to be one.
        questions: those that were about its log, as one text.
        seen: the SELECTs that it has executed, with what it had of its log then.
        is_struck: a cancel request that came late hits the next Query, unless that is empty or
            a Sync has come before it.
    """

    def __init__(self, startup: Mapping[str, str] | None = None) -> None:
        self.defaults = dict(DEFAULTS)
        if startup is not None:  # these, and nothing of the router's own
            self.defaults["application_name"] = ""
            self.defaults.update((_CANONICAL[name], startup[name]) for name in startup)
        self.output = b""
        self.status = "I"
        self.statements: dict[str, str] = {}
        self.sleeping: Portal | None = None
        self.is_closed = False
        self.log: list[str] = []
        self.asked = 0
        self.kept = 0
        self.is_failing = False
        self.wal: Log | None = None
        self.questions = ""
        self.seen: list[tuple[str, int]] = []
        self.is_struck = False
        self.settings = dict(self.defaults)
        self._reported = dict(self.defaults)
        # The settings before the transaction, while there is one.
        self._kept: dict[str, str] | None = None
        self._portals: dict[str, Portal] = {}
        self._input = b""
        self._is_skipping = False
        # In COPY FROM STDIN: the rows so far, and whether it was begun by a simple Query.
        self._copied: int | None = None
        self._is_simple = False
        self._rest: list[str] = []

    # --- input

    def feed(self, data: bytes) -> None:
        """Take bytes from the client and act on the whole messages in them."""
        self._input += data
        while self.sleeping is None and not self.is_closed and len(self._input) >= 5:
            kind, length = chr(self._input[0]), struct.unpack_from("!I", self._input, 1)[0]
            if len(self._input) < length + 1:
                return
            body, self._input = self._input[5 : length + 1], self._input[length + 1 :]
            self.is_closed = kind == "X"
            try:
                self._message(kind, body)
            except (struct.error, ValueError, LookupError):
                self._lose("invalid message format")

    def take_output(self, limit: int | None = None) -> bytes:
        """Take what it has said, at most so many bytes."""
        taken, self.output = self.output[:limit], self.output[len(self.output[:limit]) :]
        return taken

    def wake(self) -> None:
        """Let the sleeping statement finish."""
        portal, self.sleeping = self.sleeping, None
        if portal is not None:
            self._rows(portal, 1, described=self._is_simple)
            self._after_sleep()

    def cancel(self, *, is_late: bool = False) -> None:
        """A cancel request: it fails what is being executed, and does nothing otherwise.

        The signal that a request becomes may take its time; then it may hit the next Query.
        """
        self.is_struck = is_late
        if self.sleeping is not None and not is_late:
            self.sleeping = None
            self._fail(ModelError("57014", "canceling statement due to user request"))
            self._after_sleep(failed=True)

    def _after_sleep(self, *, failed: bool = False) -> None:
        if self._is_simple:
            self._go_on([] if failed else self._rest)
        else:
            self._is_skipping = failed
        self.feed(b"")

    def _message(self, kind: str, body: bytes) -> None:
        if self._copied is not None:
            self._copy_message(kind, body)
        elif kind == "S":
            self._is_skipping = self.is_struck = False
            self._end_implicit()
            self._ready()
        elif kind == "Q" and not self._is_skipping:
            self._is_simple = True
            self._portals.pop("", None)
            self.statements.pop("", None)
            parts = [part.strip() for part in _cut(body)[0].split(";")]
            is_hit, self.is_struck = self.is_struck and any(parts), False
            if is_hit:
                self._fail(ModelError("57014", "canceling statement due to user request"))
                self._ready()
                return
            self._go_on([part for part in parts if part] or [""])
        elif kind == "F" and not self._is_skipping:
            self._fail(ModelError("42883", "the model has no functions"))
            self._go_on([])
        elif kind in "PBDEC" and not self._is_skipping:
            self._is_simple = False
            try:
                self._extended(kind, body)
            except ModelError as error:
                self._fail(error)
                self._is_skipping = True

    def _extended(self, kind: str, body: bytes) -> None:
        handlers: dict[str, Callable[[bytes], None]] = {
            "P": self._parse,
            "B": self._bind,
            "D": self._describe,
            "E": self._execute,
            "C": self._close,
        }
        handlers[kind](body)

    # --- output

    def _say(self, *data: bytes) -> None:
        self.output += b"".join(data)

    def _lose(self, text: str) -> None:
        """The client is not understood: end the connection."""
        self._say(messages.error_response(text, "08P01", severity="FATAL"))
        self.is_closed = True

    def _fail(self, error: ModelError) -> None:
        self._say(messages.error_response(error.text, error.sqlstate))
        if self.status == "T":
            self.status = "E"
        elif self.status == "I":
            self._end_implicit(failed=True)

    def _ready(self) -> None:
        for name, value in self.settings.items():
            if self._reported[name] != value:
                self._say(messages.parameter_status(name, value))
        self._reported = dict(self.settings)
        self._say(messages.ready_for_query(ord(self.status)))

    def _rows(self, portal: Portal, count: int, *, described: bool) -> None:
        if described:
            self._say(_COLUMN)
        row = messages.data_row([" ".join((portal.sql, *portal.values))])
        self._say(row * count, messages.command_complete(f"SELECT {count}"))

    # --- transactions

    def _keep(self) -> None:
        if self._kept is None:
            self._kept = dict(self.settings)

    def _end_implicit(self, *, failed: bool = False) -> None:
        """The transaction that every statement has around it ends."""
        if self.status == "I":
            self._end(failed=failed)

    def _end(self, *, failed: bool) -> None:
        if failed and self._kept is not None:
            self.settings = self._kept
        self._kept = None
        self._portals.clear()
        self.status = "I"

    def _transaction(self, verb: str) -> str:
        if verb == "BEGIN":
            if self.status == "I":
                self.status = "T"
            return verb
        failed = verb == "ROLLBACK" or self.status == "E"
        self._end(failed=failed)
        return "ROLLBACK" if failed else "COMMIT"

    # --- statements

    def _go_on(self, parts: list[str]) -> None:
        """Run the statements of a Query; SLEEP and COPY leave the rest for later."""
        for number, part in enumerate(parts):
            self._rest = parts[number + 1 :]
            try:
                self._run(Portal(part, ()), described=True)
            except ModelError as error:
                self._fail(error)
                break
            if self.sleeping is not None or self._copied is not None:
                return
        self._end_implicit()
        self._ready()

    def _run(self, portal: Portal, *, described: bool) -> None:
        sql = portal.sql
        verb = sql.split(" ", 1)[0]
        if not sql:
            self._say(messages.EMPTY_QUERY_RESPONSE)
            return
        self._check(sql)
        self._keep()
        if sql.startswith(("SELECT 's', ", "SELECT 'k', ")):
            self._tell_leftovers(sql)
            return
        if self.wal is not None and ("pg_wal" in sql or "_wal_" in sql):
            self.questions += sql
            if self.wal.is_mute:
                self.sleeping = portal
                return
            row = self.wal.answer(sql)
            self._say(messages.data_row(row), messages.command_complete("SELECT 1"))
            return
        self.log.append(sql)
        if self.wal is not None:
            if self.wal.name and verb == "INSERT":
                raise ModelError("25006", "cannot execute INSERT in a read-only transaction")
            self.seen.append((sql, self.wal.offset))
            if verb in ("INSERT", "COMMIT") and not self.wal.name:
                self.wal.offset += 8
        if verb == "FAIL":
            raise ModelError("42601", f"syntax error: {sql}")
        if verb in ("BEGIN", "COMMIT", "ROLLBACK"):
            self._say(messages.command_complete(self._transaction(verb)))
        elif verb == "SELECT" and "set_config" in sql:
            self._change(dict(_SET_CONFIG.findall(sql)))
            self._rows(portal, 1, described=described)
        elif verb == "SELECT":
            self._rows(portal, 1, described=described)
        elif verb == "ROWS":
            self._rows(portal, int(sql.split()[1]), described=described)
        elif verb == "SHOW":
            shown = self.settings[_CANONICAL[sql.split()[1].lower()]]
            self._rows(Portal(f"{sql} is {shown}", ()), 1, described=described)
        elif verb == "NOTICE":
            self._say(messages.notice_response(sql), messages.command_complete("DELETE 0"))
        elif verb == "INSERT":
            self._say(messages.command_complete("INSERT 0 1"))
        elif verb == "SLEEP":
            self.sleeping = portal
        elif verb == "COPY":
            self._copied = 0
            self._say(message(ord("G"), b"\0\0\0"))
        else:
            self._say(messages.command_complete(self._utility(sql)))

    def _tell_leftovers(self, sql: str) -> None:
        """The router asks what its client has left."""
        self.asked += 1
        rows: list[tuple[str, str, str | None]] = []
        if "pg_settings" in sql:
            rows += [
                ("s", name, value.encode().hex())
                for name, value in self.settings.items()
                if value != self.defaults[name]
            ]
        rows += [("k", mark, None) for mark in _ASKED.findall(sql) if int(mark) & self.kept]
        self._say(_COLUMN, *(messages.data_row(row) for row in rows))
        self._say(messages.command_complete(f"SELECT {len(rows)}"))

    def _check(self, sql: str) -> None:
        """In a transaction that has failed nothing is done but its end."""
        if self.status == "E" and sql.split(" ", 1)[0] not in ("COMMIT", "ROLLBACK"):
            raise ModelError("25P02", "current transaction is aborted")

    def _utility(self, sql: str) -> str:
        """Carry out what is left; returns the tag."""
        if sql in _NOTHING:
            return _NOTHING[sql]
        if found := _SET.fullmatch(sql):
            self._change({found[1]: found[2]})
            return "SET"
        if found := _RESET.fullmatch(sql):
            self._change({found[1]: self.defaults[_CANONICAL[found[1].lower()]]})
            return "RESET"
        if sql == "RESET ALL":
            self.settings = dict(self.defaults)
            return "RESET"
        if sql == "DISCARD ALL":
            if self.status != "I":
                raise ModelError("25001", "DISCARD ALL cannot run inside a transaction block")
            self.settings = dict(self.defaults)
            self._drop_named()
            self._portals.clear()
            return "DISCARD ALL"
        if sql == "DEALLOCATE ALL":
            self._drop_named()
            return sql
        if sql.startswith("DEALLOCATE "):
            name = sql.split(" ", 1)[1]
            self._statement(name)
            del self.statements[name]
            return "DEALLOCATE"
        raise ModelError("42601", f"the model does not know {sql!r}")

    def _change(self, values: dict[str, str]) -> None:
        for name, value in values.items():
            self.settings[_CANONICAL[name.lower()]] = value

    # --- the extended protocol

    def _drop_named(self) -> None:
        self.statements = {name: sql for name, sql in self.statements.items() if not name}

    def _statement(self, name: str) -> str:
        if name not in self.statements:
            raise ModelError("26000", f'prepared statement "{name}" does not exist')
        return self.statements[name]

    def _portal(self, name: str) -> Portal:
        if name not in self._portals:
            raise ModelError("34000", f'portal "{name}" does not exist')
        return self._portals[name]

    def _parse(self, body: bytes) -> None:
        name, rest = _cut(body)
        sql = _cut(rest)[0]
        if not name:
            self.statements.pop("", None)
        # PostgreSQL would see a syntax error first; the router cannot.
        if name and name in self.statements:
            raise ModelError("42P05", f'prepared statement "{name}" already exists')
        if sql.startswith("FAIL"):
            raise ModelError("42601", f"syntax error: {sql}")
        if self.is_failing:
            raise ModelError("42P01", "relation does not exist")
        self.statements[name] = sql
        self._say(messages.PARSE_COMPLETE)

    def _bind(self, body: bytes) -> None:
        portal, rest = _cut(body)
        name, rest = _cut(rest)
        sql = self._statement(name)
        self._check(sql)
        if portal and portal in self._portals:
            raise ModelError("42P03", f'cursor "{portal}" already exists')
        self._portals[portal] = Portal(sql, _bound(rest))
        self._say(messages.BIND_COMPLETE)

    def _describe(self, body: bytes) -> None:
        name, _ = _cut(body[1:])
        sql = self._statement(name) if body[:1] == b"S" else self._portal(name).sql
        if body[:1] == b"S":
            self._say(message(ord("t"), b"\0\0"))
        has_rows = sql.startswith(("SELECT", "ROWS", "SLEEP", "SHOW"))
        self._say(_COLUMN if has_rows else messages.NO_DATA)

    def _execute(self, body: bytes) -> None:
        self._run(self._portal(_cut(body)[0]), described=False)

    def _close(self, body: bytes) -> None:
        name = _cut(body[1:])[0]
        if body[:1] == b"S":
            self.statements.pop(name, None)
        else:
            self._portals.pop(name, None)
        self._say(messages.CLOSE_COMPLETE)

    # --- COPY FROM STDIN

    def _copy_message(self, kind: str, body: bytes) -> None:
        """Take a message during a COPY, when Sync and Flush mean nothing."""
        if kind == "d":
            self._copied = (self._copied or 0) + body.count(b"\n")
        elif kind == "c":
            self._say(messages.command_complete(f"COPY {self._copied}"))
            self._copied = None
            if self._is_simple:
                self._go_on(self._rest)
        elif kind == "f":
            self._copied = None
            self._fail(ModelError("57014", f"COPY from stdin failed: {_cut(body)[0]}"))
            if self._is_simple:
                self._go_on([])
            else:
                self._is_skipping = True
        elif kind not in "SH":
            self._lose(f"unexpected message type {kind!r} during COPY from stdin")
