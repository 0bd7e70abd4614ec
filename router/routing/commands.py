"""The router's own SQL commands: ``SET SHARD``, ``RESET SERVER ROLE`` and their kin.

They are spelled forgivingly: any case, any white space and comments between the words, quotes
where one likes, semicolons at the end. What begins like one of them but carries a value that is
none is an error of ours, for PostgreSQL could only answer it with a riddle.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from ..errors import InvalidShard, InvalidShardingKey, RoutingError
from ..firstwords import BEFORE, GAP, beginnings, may_begin
from .positions import positions_of
from .sharding import BIGINTS
from .types import KeyType, ServerRole

if TYPE_CHECKING:
    from .positions import Positions
    from .sharding import Sharder
    from .types import KeyValue


class Verb(Enum):
    """The commands, by the words that name them."""

    SET_SHARDING_KEY = "SET SHARDING KEY"
    SET_SHARD = "SET SHARD"
    SHOW_SHARD = "SHOW SHARD"
    SET_SERVER_ROLE = "SET SERVER ROLE"
    SHOW_SERVER_ROLE = "SHOW SERVER ROLE"
    SET_PRIMARY_READS = "SET PRIMARY READS"
    SHOW_PRIMARY_READS = "SHOW PRIMARY READS"
    SET_READ_POSITION = "SET READ POSITION"
    SHOW_READ_POSITION = "SHOW READ POSITION"


COLUMNS: Final = {
    Verb.SHOW_SHARD: "shard",
    Verb.SHOW_SERVER_ROLE: "server role",
    Verb.SHOW_PRIMARY_READS: "primary reads",
    Verb.SHOW_READ_POSITION: "read position",
}
"""The column that each SHOW answers with."""


@dataclass(frozen=True, slots=True)
class ClientCommand:
    """A routing command with its value.

    Attributes:
        verb: which command; it decides which of the others count.
        number: the shard, or the sharding key if it is a bigint; None stands for ANY shard.
        key: the sharding key, if it is none.
        role: the choice of SET SERVER ROLE.
        switch: the value of SET PRIMARY READS; None is DEFAULT.
        positions: the value of SET READ POSITION; None is DEFAULT.
        local: whether it lasts for one transaction only (SET LOCAL).
        is_unset: there is to be no shard, until a statement says which.
        is_reset: it says RESET, not SET ... TO DEFAULT.
    """

    verb: Verb
    number: int | None = None
    role: ServerRole = ServerRole.DEFAULT
    switch: bool | None = None
    local: bool = False
    key: KeyValue | None = None
    is_unset: bool = False
    is_reset: bool = False
    positions: Positions | None = None

    @property
    def words(self) -> str:
        """What to call it in an error."""
        return self.verb.value.replace("SET", "RESET", 1) if self.is_reset else self.verb.value

    @property
    def tag(self) -> str:
        """That of its CommandComplete."""
        return "RESET" if self.is_reset else self.verb.value


def _words(*phrases: bytes) -> bytes:
    """Write a pattern for any of the phrases, with anything blank between their words."""
    return b"|".join((GAP + b"+").join(phrase.split()) for phrase in phrases)


_SUBJECT: Final = _words(
    b"sharding key", b"shard", b"server role", b"primary reads", b"read position"
)

# What begins so belongs to us, for no PostgreSQL statement does.
_COMMAND: Final = re.compile(
    rb"%(before)s"
    rb"(?:set%(gap)s+(?:(?P<scope>local|session)%(gap)s+)?"
    rb"(?P<set>%(subject)s)%(gap)s*(?:\bto(?![\w$])|=)%(gap)s*(?P<value>.*)"
    rb"|(?:show%(gap)s+(?P<show>%(subject)s)|reset%(gap)s+(?P<reset>%(subject)s))"
    rb"(?![\w.$])(?P<rest>.*))" % {b"gap": GAP, b"before": BEFORE, b"subject": _SUBJECT},
    re.IGNORECASE | re.DOTALL,
)
_END: Final = re.compile(rb"%b\Z" % BEFORE)
_VALUE: Final = re.compile(rb"'([^']*+)'?|\"([^\"]*+)\"?|([^\s;'\"]*+)['\"]?")
_TEXT: Final = re.compile(rb"'((?:[^']++|'')*)'(?!')")
# The type that a driver may write behind it decides nothing here.
_PARAMETER: Final = re.compile(rb"\$1(?:::\w+)?")
_BLANKS: Final = re.compile(rb"%s+" % GAP)

_FIRST: Final = beginnings(b"set", b"show", b"reset")

_SHARD_DIGITS: Final = 18
_SHARD_VERBS: Final = (Verb.SET_SHARD, Verb.SET_SHARDING_KEY)
_ROLES: Final = {choice.value: choice for choice in ServerRole}
_SWITCHES: Final = {"on": True, "off": False, "default": None}


@dataclass(frozen=True, slots=True)
class Wording:
    """A routing command whose value nobody has looked at yet.

    Attributes:
        verb: which command.
        value: of a SET, as it is written between its quotes; b"" of a SHOW.
        has_parameter: the value is that of the parameter $1.
        local: whether it lasts for one transaction only (SET LOCAL).
        is_string: the value is that of a string, with its quotes still doubled.
        is_bare: the value has no quotes, and may be the word DEFAULT.
        is_reset: it says RESET.
    """

    verb: Verb
    value: bytes = b""
    has_parameter: bool = False
    local: bool = False
    is_string: bool = False
    is_bare: bool = False
    is_reset: bool = False

    @property
    def is_show(self) -> bool:
        """Whether it asks, and changes nothing."""
        return self.verb in COLUMNS

    @property
    def column(self) -> str | None:
        """The name of the column of a SHOW, or None for a SET."""
        return COLUMNS.get(self.verb)

    def command(
        self,
        value: str | None = None,
        *,
        shards: int | None = None,
        sharder: Sharder = BIGINTS,
    ) -> ClientCommand:
        """Make the command of it.

        Args:
            value: that of the parameter, if there is one.
            shards: how many there are, if that is known: for the words of an error.
            sharder: that of the pool; it knows what sharding keys are.

        Raises:
            RoutingError: the value is none that the command knows (22023).
        """
        verb = self.verb
        if verb in COLUMNS:
            return ClientCommand(verb)
        if self.is_reset:
            return ClientCommand(verb, is_unset=verb in _SHARD_VERBS, is_reset=True)
        if self.has_parameter and value is None:
            raise RoutingError(f"{verb.value} needs a value, not NULL", sqlstate="22023")
        if verb is Verb.SET_SHARDING_KEY:
            # A text 'default' is a key like any other; only the bare word takes it back.
            if self.is_bare and self.value.lower() == b"default":
                return ClientCommand(verb, local=self.local, is_unset=True)
            key = sharder.parse(self._key(sharder) if value is None else value)
            if isinstance(key, int):
                return ClientCommand(verb, number=key, local=self.local)
            return ClientCommand(verb, key=key, local=self.local)
        written = self.value.decode("utf-8", "replace") if value is None else value
        return _valued(verb, written.strip(), self.local, shards)

    def _key(self, sharder: Sharder) -> bytes | str:
        if sharder.type is not KeyType.TEXT:
            return self.value.decode("utf-8", "replace").strip()
        if self.is_string:
            return self.value.replace(b"''", b"'")
        shown = _shortened(self.value.decode("utf-8", "replace"))
        raise InvalidShardingKey(
            f'sharding key "{shown}" is not in quotes', hint="Write it as '...'."
        )


def worded(text: bytes) -> Wording | None:
    """Recognise a routing command by its words; None for all other SQL.

    Raises:
        RoutingError: another statement follows it in the same text (0A000).
    """
    if not may_begin(text, _FIRST):
        return None
    match = _COMMAND.match(text)
    if match is None:
        return None
    shown = match["show"]
    if shown is not None:
        return _show(_canonical(shown), match["rest"])
    reset = match["reset"]
    if reset is not None:
        return _reset(_canonical(reset), match["rest"])
    scope = match["scope"]
    local = scope is not None and scope.lower() == b"local"
    return _set(_canonical(match["set"]), match["value"], local)


def _canonical(subject: bytes) -> str:
    return _BLANKS.sub(b" ", subject).decode("ascii").upper()


def _show(subject: str, rest: bytes) -> Wording | None:
    if subject == "SHARDING KEY":
        return None
    _refuse_more(f"SHOW {subject}", rest)
    return Wording(Verb(f"SHOW {subject}"))


def _reset(subject: str, rest: bytes) -> Wording:
    _refuse_more(f"RESET {subject}", rest)
    return Wording(Verb(f"SET {subject}"), is_reset=True)


def _set(subject: str, written: bytes, local: bool) -> Wording:
    verb = Verb(f"SET {subject}")
    match = _TEXT.match(written) if verb is Verb.SET_SHARDING_KEY else None
    is_string = match is not None
    match = match or _VALUE.match(written)
    assert match is not None, "the last alternative matches anything"
    _refuse_more(verb.value, written[match.end() :])
    group = match.lastindex or 3
    value = written[match.start(group) : match.end(group)]
    has_parameter = group == 3 and _PARAMETER.fullmatch(value) is not None
    is_bare = group == 3 and not has_parameter
    return Wording(verb, value, has_parameter, local, is_string, is_bare)


def _valued(verb: Verb, text: str, local: bool, shards: int | None) -> ClientCommand:
    if verb is Verb.SET_SHARD:
        if text.lower() == "default":
            return ClientCommand(verb, local=local, is_unset=True)
        return ClientCommand(verb, number=_shard(text, shards), local=local)
    if verb is Verb.SET_READ_POSITION:
        return _read_position(text, local, shards)
    if verb is Verb.SET_SERVER_ROLE:
        if text.lower() not in _ROLES:
            raise _unknown(verb, text, tuple(_ROLES))
        return ClientCommand(verb, role=_ROLES[text.lower()], local=local)
    if text.lower() not in _SWITCHES:
        raise _unknown(verb, text, tuple(_SWITCHES))
    return ClientCommand(verb, switch=_SWITCHES[text.lower()], local=local)


def _read_position(text: str, local: bool, shards: int | None) -> ClientCommand:
    verb = Verb.SET_READ_POSITION
    if local:
        raise RoutingError(
            f"there is no SET LOCAL for {verb.value.removeprefix('SET ')}",
            sqlstate="0A000",
            hint="What reads need is needed by all that follow.",
        )
    if text.lower() == "default":
        return ClientCommand(verb)
    return ClientCommand(verb, positions=positions_of(text, shards))


def _refuse_more(words: str, rest: bytes) -> None:
    if _END.match(rest) is None:
        raise RoutingError(
            f"{words} must be the only statement of its query",
            sqlstate="0A000",
            hint="Send it on its own.",
        )


def _shard(text: str, shards: int | None) -> int | None:
    if text.lower() == "any":
        return None
    if text.isascii() and text.isdigit() and len(text.lstrip("0")) <= _SHARD_DIGITS:
        return int(text)
    numbers = "that counts from 0" if shards is None else f"from 0 to {shards - 1}"
    raise InvalidShard(
        f'invalid shard "{_shortened(text)}"', hint=f"Use a number {numbers}, ANY or DEFAULT."
    )


def _unknown(verb: Verb, text: str, allowed: tuple[str, ...]) -> RoutingError:
    return RoutingError(
        f'invalid value for {verb.value}: "{_shortened(text)}"',
        sqlstate="22023",
        hint=f"Use one of: {', '.join(allowed)}.",
    )


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}..."
