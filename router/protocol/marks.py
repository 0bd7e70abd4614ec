"""What a statement may leave behind on a server connection, as bits: its marks.

A server connection may only be handed to another client when nothing of the last one is left on
it. What PostgreSQL tells by the tag of CommandComplete is taken from there, since a tag cannot
lie; the rest is looked for in the text, where a false alarm costs one clean-up and nothing
else.
"""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Final

from ..escapes import unescaped, unescaped_unicode
from ..firstwords import GAP, MAX_GAPS, MAX_SLASHES
from . import features
from .naming import PREPARE as PREPARES
from .naming import naming_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .naming import Naming

SET: Final = 1
PREPARE: Final = 2
CURSOR: Final = 4
LISTEN: Final = 8
LOCK: Final = 16
TEMP: Final = 32
UNKNOWN: Final = 64
# Statements that a client has parsed by names of its own.
PARSE: Final = 128
# What no catalogue shows, and nothing ends: a library, the seed of random(), a connection.
HIDDEN: Final = 256

ASKED: Final = SET | PREPARE | CURSOR | LISTEN | LOCK | TEMP | UNKNOWN | HIDDEN
"""What may be of use to the client in its next transaction."""


class Glance:
    """What a look at a text tells before it is run.

    Attributes:
        leaves: the marks of what it may leave behind without any tag telling.
        may_copy: it may start a COPY, during which Sync means nothing.
        resets_all: it has a RESET ALL, which a tag does not tell from RESETs of one setting.
        alters: it may give texts that are parsed after it another meaning.
        is_set_local: it is one SET LOCAL, whose tag tells of nothing that would be left.
        custom: custom settings that it may set, which no catalogue lists, in lower case.
        resets: settings that it resets, in lower case.
        naming: what it says of prepared statements by their names.
        uses: the features of a session that it uses, as bits; see `features`.
    """

    __slots__ = (
        "alters",
        "custom",
        "is_set_local",
        "leaves",
        "may_copy",
        "naming",
        "resets",
        "resets_all",
        "uses",
    )

    def __init__(
        self,
        leaves: int = 0,
        *,
        may_copy: bool = False,
        resets_all: bool = False,
        alters: bool = False,
        is_set_local: bool = False,
        custom: tuple[str, ...] = (),
        resets: tuple[str, ...] = (),
        naming: Naming | None = None,
        uses: int = 0,
    ) -> None:
        self.leaves: Final = leaves
        self.may_copy: Final = may_copy
        self.resets_all: Final = resets_all
        self.alters: Final = alters
        self.is_set_local: Final = is_set_local
        self.custom: Final = custom
        self.resets: Final = resets
        self.naming: Final = naming
        self.uses: Final = uses

    def __repr__(self) -> str:
        return f"<Glance {self.leaves:#x} {self.may_copy=} {self.resets_all=} {self.alters=}>"


HARMLESS: Final = Glance()
"""Of most texts."""
UNREAD: Final = Glance(UNKNOWN, may_copy=True)
"""Of a text that nobody has read."""

# By the tag of CommandComplete; 0: leaves nothing behind. Every tag that is not here and that
# is not one of a data or transaction command is UNKNOWN, unless it is one of a schema change.
_TAGS: Final = {
    b"SET": SET,
    b"RESET": SET,
    b"PREPARE": PREPARE,
    b"DECLARE CURSOR": CURSOR,
    b"LISTEN": LISTEN,
    b"UNLISTEN": 0,
    b"NOTIFY": 0,
    b"DEALLOCATE": 0,
    b"DEALLOCATE ALL": 0,
    b"DISCARD": 0,
    b"DISCARD ALL": 0,
    b"DISCARD PLANS": 0,
    b"DISCARD TEMP": 0,
    b"DISCARD SEQUENCES": 0,
    b"LOAD": UNKNOWN | HIDDEN,
    b"DO": UNKNOWN,
    b"CALL": UNKNOWN,
    b"EXECUTE": UNKNOWN,
    b"PREPARE TRANSACTION": 0,
    b"LOCK TABLE": 0,
    b"ANALYZE": 0,
    b"VACUUM": 0,
    b"CHECKPOINT": 0,
    b"CLUSTER": 0,
    b"REINDEX": 0,
    b"REFRESH MATERIALIZED VIEW": 0,
}
# Schema changes leave nothing, but that a table may be a temporary one is in the text only.
_SCHEMA_CHANGE: Final = (
    b"CREATE ",
    b"ALTER ",
    b"DROP ",
    b"GRANT",
    b"REVOKE",
    b"IMPORT ",
    b"SECURITY ",
)

# Those after which a statement that has been prepared may have other columns. CREATE TABLE is
# not among them: a table that was there before has been dropped first.
_RESHAPING: Final = (b"ALTER ", b"DROP ", b"CREATE VIEW")
# And those after which tables and functions may be other ones.
_DEFINING: Final = (b"ALTER ", b"DROP ", b"CREATE ", b"IMPORT ")

CHANGES_FUNCTIONS: Final = frozenset(
    (b"CREATE FUNCTION", b"CREATE AGGREGATE", b"CREATE EXTENSION", b"DO")
)
"""Tags of what may have given a known function another body, besides ALTER and DROP."""

_GAP: Final = GAP.decode()
# These begin with their word, and not with what stands before it, for the same reason as _TEXT.
_RESET_ALL: Final = re.compile(rf"reset(?<=\breset){_GAP}+all{_GAP}*(?:[;\0]|\Z)")
# A setting's name, whose parts may stand apart; quotes and gaps are taken out later.
_PART: Final = r'(?:[a-z_][\w$]*+|"[^"\0]*+")'
_RESET: Final = re.compile(
    rf"reset(?<=\breset){_GAP}+({_PART}(?:\s*+\.\s*+{_PART})*)", re.ASCII
)
_SET_CUSTOM: Final = re.compile(
    rf"set(?<=\bset){_GAP}+(?:(?:session|local){_GAP}+)?({_PART}(?:\s*+\.\s*+{_PART})+)",
    re.ASCII,
)
_SPACE: Final = re.compile(r"\s")
_CUSTOM: Final = re.compile(r"[a-z_][\w$]*+(?:\.[a-z_][\w$]*+)+", re.ASCII | re.IGNORECASE)
# A name as a string. What fails to be one is not looked at again, but for its last quote.
_QUOTED_CUSTOM: Final = re.compile(r"'([a-z_][\w$]*+(?:\.[a-z_][\w$]*+)+)'", re.ASCII)
# The same in dollar quotes, with whatever is behind it up to a blank.
_DOLLAR_CUSTOM: Final = re.compile(
    r"\$((?:[a-z_\x80-\xff][\w\x80-\xff]*+)?)\$([a-z_][\w.$]*+)", re.ASCII
)
# What may be a name with escapes in it: E'..', or U&'..' and its escape character.
_ESCAPED_CUSTOM: Final = re.compile(
    r"(?:(e)|u&)'([^']{3,2000}+)'(?:\s*+uescape\s*+'([^'])')?", re.IGNORECASE
)
# So many of them are looked at.
_MOST_ESCAPED: Final = 200
_LONGEST_NAME: Final = 200
# One SET LOCAL: its value has no semicolon, or is a simple string.
_SET_LOCAL: Final = re.compile(
    rf"{_GAP}*set{_GAP}+local{_GAP}+[^;'\0]*+(?:'[^'\\\0]*+'{_GAP}*)?;?{_GAP}*\0?\Z"
)
# set_config() with simple arguments, for the transaction only.
_ARGUMENT: Final = r"(?:'[^'\\]*+'|\$\d++(?:::\w++)?)"
_LOCAL_CONFIG: Final = re.compile(
    rf"set_config\s*+\(\s*+{_ARGUMENT}\s*+,\s*+{_ARGUMENT}\s*+,\s*+true\s*+\)"
)
# The first words of statements after which the same text may mean something else.
_ALTERS: Final = rf"{_GAP}*(?:create|alter|drop|set|reset|do|call|discard|rollback|import)\b"
_FIRST_ALTERS: Final = re.compile(_ALTERS)
_NEXT_ALTERS: Final = re.compile(";" + _ALTERS)
# So many statements, SETs and RESETs of a text are looked at, and four times as many quotes;
# one with more may leave anything. Each takes up to a microsecond.
_MOST: Final = 2000
# A comment behind one of these is read to its end, which may be that of the text, each time
# anew: these may be so many bytes in all.
_COMMENTED: Final = re.compile(r"(?:;|set|session|local|all)\s*+(?:--|/\*)")
_MOST_COMMENTED: Final = 250_000
# Beginnings of texts that cannot match the first of these.
_NO_ALTERS: Final = frozenset(("select", "insert", "update", "delete"))
# Each begins with a word: the regex engine skims over a text for it, and for nothing else.
_TEXT: Final = (
    (re.compile(r"temp(?:(?<=\btemp)|(?<=\bpg_temp))(?:orary)?\b"), TEMP),
    (re.compile(r"pg_(?:try_)?advisory_lock"), LOCK),
    (re.compile(r"set_config(?<=\bset_config)\b"), SET),
    (re.compile(r"with(?<=\bwith)\s++hold\b"), CURSOR),
    (re.compile(r"setseed(?<=\bsetseed)\b"), UNKNOWN | HIDDEN),
    (re.compile(r"dblink_connect(?<=\bdblink_connect)(?:_u)?\b"), UNKNOWN | HIDDEN),
    (re.compile(r"lo_(?<=\blo_)(?:open|creat)"), UNKNOWN),
)


def of_tag(tag: bytes) -> int:
    """What the command with this tag has left on the connection."""
    found = _TAGS.get(tag)
    if found is not None:
        return found
    return 0 if tag.startswith(_SCHEMA_CHANGE) else UNKNOWN


def changes_columns(tag: bytes) -> bool:
    """Whether prepared statements may return other columns than before the command."""
    return tag.startswith(_RESHAPING)


def changes_catalogue(tag: bytes) -> bool:
    """Whether tables and functions may be other ones than before the command."""
    return tag == b"DO" or tag.startswith(_DEFINING)


def of_text(sql: bytes) -> Glance:
    """What there is to be known of a text beforehand, which may be all of a message."""
    # As text, because looking for bytes in bytes raises and drops an exception each time.
    low = sql.decode("latin-1").lower()
    # `in` costs a tenth of a regular expression.
    leaves = 0
    if (
        "temp" in low
        or "advisory" in low
        or "set_config" in low
        or "hold" in low
        or "setseed" in low
        or "dblink_" in low
        or "lo_" in low
    ):
        for pattern, mark in _TEXT:
            if pattern.search(low):
                leaves |= mark
    if leaves & SET and low.count("set_config") == len(_LOCAL_CONFIG.findall(low)):
        leaves &= ~SET
        alters_here = True
    else:
        alters_here = bool(leaves & (SET | TEMP | UNKNOWN))
    may_copy = "copy" in low
    has_reset = "reset" in low
    if len(low) > _MOST and _has_too_many(low):
        return Glance(leaves | UNKNOWN, may_copy=may_copy, resets_all=has_reset, alters=True)
    resets_all = has_reset and _RESET_ALL.search(low) is not None
    resets = tuple(_names(_RESET, low)) if has_reset else ()
    custom: tuple[str, ...] = ()
    if ("." in low and "set" in low) or "set_config" in low or "execute" in low:
        custom = _custom(low, sql)
    alters = (
        alters_here
        or (low[:6] not in _NO_ALTERS and _FIRST_ALTERS.match(low) is not None)
        or (0 <= low.find(";") < len(low) - 1 and _NEXT_ALTERS.search(low) is not None)
    )
    naming = None
    if "prepare" in low or "execute" in low or "deallocate" in low or "discard" in low:
        naming = naming_in(sql)
        if naming is not None and naming.only_prepares:
            # What it prepares is looked at when that is run.
            return Glance(naming=naming, uses=features.BITS[features.PREPARE])
    uses = 0
    if alters or leaves or naming or "listen" in low or "load" in low:
        uses = _uses(low, leaves, naming)
    if not (leaves or may_copy or resets_all or custom or resets or alters or naming or uses):
        return HARMLESS
    return Glance(
        leaves,
        may_copy=may_copy,
        resets_all=resets_all,
        alters=alters,
        is_set_local=alters and _SET_LOCAL.match(low) is not None,
        custom=custom,
        resets=resets,
        naming=naming,
        uses=uses,
    )


def _has_too_many(low: str) -> bool:
    """Whether a text has more of what is looked for than anybody should wait for."""
    return (
        low.count(";") > _MOST
        or low.count("set") > _MOST
        or (("set_config" in low or "execute" in low) and low.count("'") > 4 * _MOST)
        or (
            ("--" in low or "/*" in low)
            and (
                low.count("/") > MAX_SLASHES
                or low.count("--") > MAX_GAPS
                or low.count("/*") > MAX_GAPS
                or len(_COMMENTED.findall(low)) * len(low) > _MOST_COMMENTED
            )
        )
    )


_BY_MARK: Final = (
    (SET, "set_config()"),
    (TEMP, features.TEMPORARY),
    (LOCK, features.LOCK),
    (CURSOR, features.HOLD),
    (HIDDEN, features.HIDDEN),
)


def _uses(low: str, leaves: int, naming: Naming | None) -> int:
    """The features of a session that a text uses."""
    found = features.commands_in(low)
    for mark, name in _BY_MARK:
        if leaves & mark:
            found |= features.BITS[name]
    if leaves & UNKNOWN and not leaves & HIDDEN:
        found |= features.BITS["large object"]
    if naming is not None and any(change.tag == PREPARES for change in naming.changes):
        found |= features.BITS[features.PREPARE]
    return found


def _names(pattern: re.Pattern[str], low: str) -> Iterator[str]:
    """The names that a pattern finds, without their quotes."""
    for found in pattern.findall(low):
        yield _SPACE.sub("", found).replace('"', "")


def _custom(low: str, sql: bytes) -> tuple[str, ...]:
    """The custom settings that a text names where it may set them."""
    found = set(_names(_SET_CUSTOM, low)) if "." in low else set[str]()
    if "set_config" in low or "execute" in low:
        found.update(_QUOTED_CUSTOM.findall(low))
        if "$" in low:
            for tag, rest in _DOLLAR_CUSTOM.findall(low):
                found.add(rest.partition(f"${tag}$")[0])
        if "e'" in low or "u&'" in low:
            found.update(_escaped_names(sql))
    return tuple(sorted(name for name in found if _CUSTOM.fullmatch(name)))


def _escaped_names(sql: bytes) -> Iterator[str]:
    """The names that strings with escapes stand for, among what is none."""
    matches = _ESCAPED_CUSTOM.finditer(sql.decode("latin-1"))
    for match in islice(matches, _MOST_ESCAPED):
        is_e, written, escape = match.groups()
        # PostgreSQL itself objects to what is wrong here.
        with suppress(ValueError):
            if is_e:
                yield unescaped(written.encode("latin-1")).decode("latin-1").lower()
            else:
                yield unescaped_unicode(written, "'", escape or "\\").lower()


def is_custom(name: str) -> bool:
    """Whether a value may be the name of a custom setting."""
    return len(name) <= _LONGEST_NAME and _CUSTOM.fullmatch(name) is not None


# In this order, all but the last of them allowed in one simple Query.
_CLEANUP: Final = (
    (CURSOR, "CLOSE ALL"),
    (SET, "RESET SESSION AUTHORIZATION;RESET ROLE;RESET ALL"),
    (PREPARE | PARSE, "DEALLOCATE ALL"),
    (LISTEN, "UNLISTEN *"),
    (LOCK, "SELECT pg_catalog.pg_advisory_unlock_all()"),
    (TEMP, "DISCARD TEMP"),
)


def cleanup(marks: int) -> bytes:
    """The SQL that takes away what the marks stand for; what is unknown takes DISCARD ALL."""
    if marks & UNKNOWN:
        return b"DISCARD ALL"
    return ";".join(sql for mark, sql in _CLEANUP if marks & mark).encode()


def drops_statements(marks: int) -> bool:
    """Whether the clean-up drops the prepared statements of the connection."""
    return bool(marks & (UNKNOWN | PREPARE | PARSE))
