"""What drivers and tools ask of any server when they connect, and between transactions.

It is answered so that they work: nothing of it is a command of the router. Transactions are
opened and ended for those who cannot do without, but nothing is ever undone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ..protocol import messages
from ..protocol.messages import BOOL_OID, INT4_OID, TEXT_OID, VOID_OID
from . import show
from .replies import Command, Order, Reply
from .statements import keyword, name

if TYPE_CHECKING:
    from collections.abc import Callable

    from .replies import Console
    from .show import Heading, Row, Value
    from .statements import ConsoleStatement, Words

SERVER_VERSION: Final = "1.3.0"
"""PgCat's own, for drivers expect a number there and tools know this one."""

PARAMETERS: Final = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "extra_float_digits": "1",
    "in_hot_standby": "off",
    "integer_datetimes": "on",
    "search_path": '"$user", public',
    "server_encoding": "UTF8",
    "server_version": SERVER_VERSION,
    "server_version_num": "10300",
    "standard_conforming_strings": "on",
    "TimeZone": "Etc/UTC",
    "transaction_isolation": "read committed",
    "transaction_read_only": "off",
}
"""What SHOW says of PostgreSQL's settings, by their names."""

_BY_NAME: Final = {each.lower(): (each, value) for each, value in PARAMETERS.items()}

_FUNCTIONS: Final[dict[str, tuple[int, Callable[[Console], Value]]]] = {
    "current_catalog": (TEXT_OID, lambda console: console.database),
    "current_database()": (TEXT_OID, lambda console: console.database),
    "current_schema": (TEXT_OID, lambda _: "public"),
    "current_schema()": (TEXT_OID, lambda _: "public"),
    "current_user": (TEXT_OID, lambda console: console.user),
    "pg_advisory_unlock_all()": (VOID_OID, lambda _: ""),
    "pg_is_in_recovery()": (BOOL_OID, lambda _: False),
    "session_user": (TEXT_OID, lambda console: console.user),
    "user": (TEXT_OID, lambda console: console.user),
    "version()": (TEXT_OID, lambda _: f"PostgreSQL {SERVER_VERSION} ({show.PRODUCT})"),
}
_INTEGER: Final = re.compile(r"[+-]?\d{1,9}\Z")
_STRING: Final = re.compile(r"'((?:[^'\\]|'')*)'\Z")

# What is done for nothing, and its tag.
_NOTHING: Final[dict[Words, str]] = {
    ("CLOSE", "ALL"): "CLOSE CURSOR ALL",
    ("DISCARD", "ALL"): "DISCARD ALL",
    ("RESET", "ALL"): "RESET",
    ("UNLISTEN", "*"): "UNLISTEN",
}
_OPTIONAL: Final = ("WORK", "TRANSACTION")
# The words of transaction modes.
_MODES: Final = frozenset(
    (
        *("ISOLATION", "LEVEL", "READ", "COMMITTED", "UNCOMMITTED", "REPEATABLE"),
        *("SERIALIZABLE", "WRITE", "ONLY", "NOT", "DEFERRABLE", ","),
    )
)


def courtesy(statement: ConsoleStatement) -> Order | None:
    """The answer to one of these; None if it is none."""
    words = tuple(keyword(word) for word in statement.words)
    if words[0] == "SHOW":
        return _parameter(words[1:])
    if words[0] == "SELECT":
        return _selection(statement.words[1:])
    tag = _NOTHING.get(words)
    if tag is not None:
        return _order(tag, lambda _: Reply([]))
    return _transaction(words)


def _order(
    tag: str, run: Callable[[Console], Reply], headings: tuple[Heading, ...] | None = None
) -> Order:
    return Order(
        Command(tag, headings, lambda console, _: run(console), tag=tag, is_for_all=True), ()
    )


def _parameter(words: Words) -> Order | None:
    """SHOW of one of PostgreSQL's settings, which some of them have other words for."""
    asked = " ".join(words).lower()
    asked = {
        "transaction isolation level": "transaction_isolation",
        "time zone": "timezone",
    }.get(asked, (name(words[0]) or "").lower() if len(words) == 1 else "")
    found = _BY_NAME.get(asked)
    if found is None:
        return None
    spelled, value = found
    headings = (show.Heading(spelled, TEXT_OID),)
    return _order("SHOW", lambda _: Reply([(value,)]), headings)


def _selection(words: Words) -> Order | None:
    """A SELECT of constants and of what every server knows about itself."""
    headings: list[Heading] = []
    values: list[Callable[[Console], Value]] = []
    item: list[str] = []
    for word in (*words, ","):
        if word != ",":
            item.append(word)
            continue
        found = _item(item)
        if found is None:
            return None
        headings.append(found[0])
        values.append(found[1])
        item = []
    return _order("SELECT", lambda console: Reply([_row(console, values)]), tuple(headings))


def _row(console: Console, values: list[Callable[[Console], Value]]) -> Row:
    return tuple(value(console) for value in values)


def _item(words: list[str]) -> tuple[Heading, Callable[[Console], Value]] | None:
    """One expression of a SELECT: the column, and what gives its value."""
    match words:
        case [expression]:
            alias = None
        case [expression, as_, last] if keyword(as_) == "AS" and name(last) is not None:
            alias = name(last)
        case _:
            return None
    plain = expression.lower().removeprefix("pg_catalog.")
    function = _FUNCTIONS.get(plain)
    if function is not None:
        oid, value = function
        column = alias or plain.removesuffix("()")
        return show.Heading(column, oid), value
    if _INTEGER.match(expression):
        number = int(expression)
        return show.Heading(alias or "?column?", INT4_OID), lambda _: number
    string = _STRING.match(expression)
    if string is not None:
        text = string.group(1).replace("''", "'")
        return show.Heading(alias or "?column?", TEXT_OID), lambda _: text
    return None


def _transaction(words: Words) -> Order | None:
    """The beginning or the end of a transaction."""
    first, rest = words[0], list(words[1:])
    if first == "START" and rest[:1] != ["TRANSACTION"]:
        return None
    if rest and rest[0] in _OPTIONAL:
        del rest[0]
    if first in ("BEGIN", "START"):
        if not _MODES.issuperset(rest):
            return None
        return _order("BEGIN" if first == "BEGIN" else "START TRANSACTION", _begin)
    if rest:
        return None
    if first in ("COMMIT", "END"):
        return _order("COMMIT", _commit)
    if first in ("ROLLBACK", "ABORT"):
        return _order("ROLLBACK", _roll_back)
    return None


def _begin(console: Console) -> Reply:
    state = console.state
    if state.in_block:
        text = "there is already a transaction in progress"
        return Reply([], messages.notice_response(text, "25001", severity="WARNING"))
    state.in_block, state.has_changed = True, False
    return Reply([])


def _commit(console: Console) -> Reply:
    was_open, console.state.in_block = console.state.in_block, False
    return Reply([], b"" if was_open else _nothing_open())


def _roll_back(console: Console) -> Reply:
    state = console.state
    was_open, state.in_block = state.in_block, False
    if not was_open:
        return Reply([], _nothing_open())
    if not state.has_changed:
        return Reply([])
    text = "nothing has been undone: the admin database has no transactions"
    return Reply([], messages.notice_response(text, "01000", severity="WARNING"))


def _nothing_open() -> bytes:
    text = "there is no transaction in progress"
    return messages.notice_response(text, "25P01", severity="WARNING")
