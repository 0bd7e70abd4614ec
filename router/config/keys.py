"""What the declaration of a configuration key is made of, beside its type and its default."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import partial
from types import GenericAlias
from typing import TYPE_CHECKING, Annotated, ClassVar, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
)
from pydantic_core import CoreSchema, core_schema

if TYPE_CHECKING:
    from collections.abc import Mapping


class Reload(Enum):
    """When a changed value takes effect; the value is the wording of the reference page."""

    RESTART = "no, at restart"
    """Read once, when the process starts."""
    AT_ONCE = "yes"
    """Read anew whenever it matters."""
    CONNECTIONS = "yes, new connections"
    """Those that are open keep what they began with."""
    POOLS = "yes, changed pools"
    """Exactly the pools whose effective settings differ take the new ones over."""
    REPLACED = "yes, pools replaced"
    """Exactly these pools give way to new ones; see `Fixed`."""


class Unit(StrEnum):
    """What a number counts; part of the type."""

    MILLISECONDS = "ms"
    SECONDS = "s"
    BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class Key:
    """Makes a model's field a key of the file.

    Attributes:
        meaning: one line for the reference page.
        reload: when a changed value takes effect.
        aliases: other names under which the key is accepted.
        unset: what it means to leave the key out, if its default is None.
        unused: why the key has no effect, or none yet; empty for one that has. It is accepted
            for the sake of files written for PgCat, and the operator is told.
    """

    meaning: str
    reload: Reload = Reload.POOLS
    aliases: tuple[str, ...] = ()
    unset: str = "unset"
    unused: str = ""


Fixed = partial(Key, reload=Reload.REPLACED)
"""A key that a pool has for good: another value makes another pool."""


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a value in the file, where its type does not say it."""

    text: str


class Section(BaseModel):
    """A table of the file. Unknown keys are reported elsewhere: they are never an error."""

    model_config = ConfigDict(frozen=True, extra="ignore", arbitrary_types_allowed=False)

    array_form: ClassVar[tuple[str, ...]] = ()
    """The fields in the order of an array that may stand for the table."""
    array_more: ClassVar[tuple[str, ...]] = ()
    """Those that may follow in it."""


class Word(StrEnum):
    """One of several words, in any case, with or without `_` and `-`."""

    @classmethod
    def _missing_(cls, value: object) -> Word | None:
        if not isinstance(value, str):
            return None
        wanted = _plain(value)
        for member in cls:
            if wanted in (_plain(member.value), *map(_plain, cls.other_spellings(member))):
                return member
        return None

    @classmethod
    def other_spellings(cls, member: Word) -> tuple[str, ...]:
        """What else a member is called."""
        return ()


def spelled(kind: type[Enum]) -> BeforeValidator:
    """The same for an enumeration that is no `Word`."""

    def member(value: object) -> object:
        found = (each for each in kind if _plain(str(each.value)) == _plain(str(value)))
        return next(found, value)

    return BeforeValidator(member)


def _plain(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")


class Numbered:
    """A tuple of sections that is a table of tables in the file, ordered by key.

    Keys that are plain numbers come in numeric order if `numeric`, else all in string order.
    """

    def __init__(self, *, numeric: bool = False) -> None:
        self._numeric = numeric

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Validate as a dict, so that errors name the key, then take the values in order."""
        [inner, *_] = get_args(source)
        table = GenericAlias(dict, (str, inner))
        return core_schema.no_info_after_validator_function(
            self._in_order, handler.generate_schema(table)
        )

    def _in_order(self, table: dict[str, object]) -> tuple[object, ...]:
        return tuple(table[key] for key in self.ordered(table))

    def ordered(self, table: Mapping[str, object]) -> list[str]:
        """The keys of the table in the order of the tuple."""
        if self._numeric:
            return sorted(table, key=lambda key: (len(key), key))
        return sorted(table)


# The largest integer that TOML promises; it stands for no limit of our own.
LARGEST = 2**63 - 1


def _api(url: str) -> str:
    is_usable = url.startswith(("http://", "https://")) and url.isascii() and " " not in url
    try:
        found = urlsplit(url)
        is_usable = is_usable and bool(found.hostname) and found.port != 0
    except ValueError:
        raise ValueError('must be like "http://host:8008"') from None
    if not is_usable or not url.isprintable():
        raise ValueError('must be like "http://host:8008"')
    if "@" in found.netloc or found.query or found.fragment:
        raise ValueError("must have a host, a port and a path, and nothing else")
    return url


def _host(name: str) -> str:
    """Refuse what cannot be looked up; a directory is where a Unix socket is.

    An IPv6 address may be in brackets, as in addresses of the web.
    """
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    try:
        if not name.startswith("/"):
            name.encode("idna")
    except UnicodeError:
        raise ValueError("must be the name or the address of a host") from None
    return name


# A zero byte would end the string early in the messages of the PostgreSQL protocol.
Text = Annotated[str, Field(pattern=r"^[^\x00]*$"), Form("a string")]
Name = Annotated[str, Field(pattern=r"^[^\x00]+$"), Form("a string that is not empty")]
Api = Annotated[Name, AfterValidator(_api)]
Host = Annotated[Name, AfterValidator(_host), Form("the name or the address of a host")]
Flag = Annotated[bool, Field(strict=True)]
Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
Count = Annotated[int, Field(strict=True, ge=0, le=LARGEST)]
Millis = Annotated[int, Field(strict=True, ge=0, le=LARGEST), Unit.MILLISECONDS]
PositiveMillis = Annotated[int, Field(strict=True, ge=1, le=LARGEST), Unit.MILLISECONDS]
Seconds = Annotated[int, Field(strict=True, ge=0, le=LARGEST), Unit.SECONDS]
Ratio = Annotated[
    float,
    Field(strict=True, ge=0, le=1, allow_inf_nan=False),
    Form("a number from 0 to 1"),
]
# As PostgreSQL's: -1 is off, since 0 is a time.
OffOrMillis = Annotated[int, Field(strict=True, ge=-1, le=LARGEST), Unit.MILLISECONDS]
