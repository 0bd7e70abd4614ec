"""What a client has left on its server connection: the question to the server, and its answer.

Marks say what may be there, the catalogue says what is. So a server that has marks when its
client's transaction ends is asked, before it is given back, for as much of this as the marks
call for. PostgreSQL's own rules for transactions come for free: what was rolled back, or held
for the transaction only, is simply not there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..protocol import marks
from ..protocol.variables import quote_literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .answer import Row

# As hexadecimal: else values come in the client's encoding.
_HEX: Final = "pg_catalog.encode(pg_catalog.convert_to({}, 'UTF8'), 'hex')"

# A client's search_path may put others' functions and operators before PostgreSQL's own. The
# settings of a transaction keep the source of the statement that has set them, though their
# values are gone.
_SETTINGS: Final = f"""
SELECT 's', s.name, {_HEX.format("s.setting")} FROM pg_catalog.pg_settings s
 WHERE s.source OPERATOR(pg_catalog.=) 'session'
 AND s.name OPERATOR(pg_catalog.<>) ALL (ARRAY['transaction_isolation',
 'transaction_read_only', 'transaction_deferrable']::pg_catalog.text[])
UNION ALL SELECT 's', 'role', {_HEX.format("pg_catalog.current_setting('role')")}
 WHERE pg_catalog.current_setting('role') OPERATOR(pg_catalog.<>) 'none'"""
# Custom settings are in no catalogue.
_CUSTOM: Final = f"""
UNION ALL SELECT 's', c.name, {_HEX.format("pg_catalog.current_setting(c.name, true)")}
 FROM pg_catalog.unnest(ARRAY[{{names}}]::pg_catalog.text[]) c(name)
 WHERE pg_catalog.current_setting(c.name, true) IS NOT NULL"""

# For a client whose statement_timeout is too short: without one, and what it is first.
_TIMEOUT: Final = _HEX.format("pg_catalog.current_setting('statement_timeout')")
_UNHURRIED: Final = f"""SELECT 's', 'statement_timeout', {_TIMEOUT};
BEGIN; SET LOCAL statement_timeout TO 0; """.encode()

LISTEN: Final = "LISTEN"
"""Among the reasons."""
# The reasons to keep a server: the marks that call for the question, and where there are rows.
_KEPT: Final = (
    (
        marks.TEMP,
        "temporary table",
        "pg_catalog.pg_depend WHERE refclassid OPERATOR(pg_catalog.=)"
        " 'pg_catalog.pg_namespace'::pg_catalog.regclass"
        " AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()",
    ),
    (
        marks.LOCK,
        "advisory lock",
        "pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory'"
        " AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()",
    ),
    (marks.CURSOR, "cursor WITH HOLD", "pg_catalog.pg_cursors WHERE is_holdable"),
    (marks.LISTEN, LISTEN, "pg_catalog.pg_listening_channels()"),
    (
        marks.PREPARE,
        "PREPARE",
        "pg_catalog.pg_prepared_statements WHERE from_sql"
        " AND NOT pg_catalog.starts_with(name, 'PGCAT_')",
    ),
)
_MOST: Final = 1000
# The first ones, and those that are known.
_MOST_CHANNELS: Final = 200
_CHANNELS: Final = f"""
SELECT 'l', {_HEX.format("c.name")}, NULL
 FROM pg_catalog.pg_listening_channels() WITH ORDINALITY c(name, number)
 WHERE c.number OPERATOR(pg_catalog.<=) {_MOST_CHANNELS} OR {_HEX.format("c.name")}
 OPERATOR(pg_catalog.=) ANY (ARRAY[{{names}}]::pg_catalog.text[])"""
_HIDDEN: Final = "LOAD, setseed or dblink"
_SESSION_USER: Final = "SET SESSION AUTHORIZATION"


class Leftovers:
    """What has been found.

    Attributes:
        settings: those of the session, by name; None if there was no reason to ask for them.
        reasons: why the server has to be kept.
        marks: what may still be there.
        channels: that are listened to; None if there was no reason to ask for them.
    """

    __slots__ = ("channels", "marks", "reasons", "settings")

    def __init__(
        self,
        settings: dict[str, str] | None,
        reasons: tuple[str, ...],
        left: int,
        channels: frozenset[bytes] | None = None,
    ) -> None:
        self.channels: Final = channels
        self.settings: Final = settings
        self.reasons: Final = reasons
        self.marks: Final = left


def question(
    found: int,
    custom: Iterable[str],
    named: Sequence[bytes] = (),
    known: Iterable[bytes] | None = None,
) -> bytes:
    """The query for what marks may stand for.

    Args:
        found: the marks.
        custom: names of custom settings that may be there.
        named: names of statements that may be there, and that can be anywhere.
        known: channels that may be listened to, whatever others there are; None: no channels
            are asked for.
    """
    parts = []
    if found & (marks.SET | marks.UNKNOWN):
        names = ", ".join(map(quote_literal, custom))
        parts.append(_SETTINGS + (_CUSTOM.format(names=names) if names else ""))
    parts += [
        f"\nSELECT 'k', '{mark}', NULL WHERE EXISTS (SELECT FROM {where}"
        f"{_but(named) if mark == marks.PREPARE and named else ''})"
        for mark, _, where in _KEPT
        if found & (mark | marks.UNKNOWN)
    ]
    if known is not None and found & (marks.LISTEN | marks.UNKNOWN):
        parts.append(_CHANNELS.format(names=", ".join(f"'{name.hex()}'" for name in known)))
    return "\nUNION ALL".join(parts).encode("ascii")


def _but(named: Sequence[bytes]) -> str:
    """That a statement is none of these; of too many it is not asked."""
    listed = ", ".join(quote_literal(name.decode("ascii", "replace")) for name in named[:_MOST])
    return f" AND name OPERATOR(pg_catalog.<>) ALL (ARRAY[{listed}]::pg_catalog.text[])"


def unhurried(sql: bytes) -> bytes:
    """The same question, with as much time as it takes."""
    return _UNHURRIED + sql + b"; COMMIT"


def answer(
    rows: Sequence[Row], found: int, *, is_other_user: bool, with_channels: bool = False
) -> Leftovers:
    """Read the answer to that question.

    Args:
        rows: of the answer.
        found: the marks that the question was about.
        is_other_user: the session's user is not the one who has logged in.
        with_channels: the question was about channels as well.
    """
    settings: dict[str, str] | None = None
    if found & (marks.SET | marks.UNKNOWN):
        settings = {
            str(name): bytes.fromhex(value or "").decode("utf-8", "surrogateescape")
            for kind, name, value in rows
            if kind == "s"
        }
    there = sum(int(name or 0) for kind, name, _ in rows if kind == "k")
    reasons = [name for mark, name, _ in _KEPT if there & mark]
    if found & marks.HIDDEN:
        reasons.append(_HIDDEN)
    if is_other_user:
        reasons.append(_SESSION_USER)
    left = found
    if not found & marks.UNKNOWN:
        for mark, _, _ in _KEPT:
            if not there & mark:
                left &= ~mark
    channels: frozenset[bytes] | None = None
    if with_channels and found & (marks.LISTEN | marks.UNKNOWN):
        channels = frozenset(bytes.fromhex(name or "") for kind, name, _ in rows if kind == "l")
    return Leftovers(settings, tuple(reasons), left | there, channels)
