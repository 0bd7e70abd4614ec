"""A client's settings: what it asked for at start-up and what it has set since, as a value.

Settings travel with the client: before a server connection works for a client, it is given the
client's settings, and the router knows what it has by keeping the `Variables` that were last
applied. Equal settings are one object, so that comparing them costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Mapping

# The settings that PostgreSQL reports whenever they change, and that clients may change: a
# ParameterStatus for one of these becomes part of the client's settings.
TRACKED: Final = {
    name.lower(): name
    for name in (
        "application_name",
        "client_encoding",
        "DateStyle",
        "IntervalStyle",
        "standard_conforming_strings",
        "TimeZone",
    )
}

_interned: WeakValueDictionary[frozenset[tuple[str, str]], Variables] = WeakValueDictionary()


ROLE: Final = "role"

# What no text means anything else by: names, and beginnings and ends of names.
_MEANINGLESS: Final = frozenset(
    ("application_name", "client_min_messages", "jit", "row_security", "synchronous_commit")
)
_BEGINNINGS: Final = ("default_transaction_", "enable_", "log_", "temp_")
_ENDS: Final = ("_timeout", "_mem", "_cost", "_delay")


def _has_meaning(name: str) -> bool:
    """Whether a setting may decide what a text means; custom ones are read when it runs."""
    return not (
        name in _MEANINGLESS
        or "." in name
        or name.startswith(_BEGINNINGS)
        or name.endswith(_ENDS)
    )


class Variables:
    """An immutable set of settings; equal ones are the same object.

    Attributes:
        values: by lower-case name.
        proven: a server has accepted them, so they can be applied without waiting for the
            answer.
        context: those that may decide what a text means when it is parsed, as text: the time
            zone and the date style are in a literal's value for good, and so are the encoding
            and search_path.
        is_plain: there are only such as PostgreSQL reports.
        makes_temporary: what is created may be temporary though nobody says so.
        replication: what kind of replication a connection with these is for, or "". Such are
            made by hand, and equal to no others.
    """

    __slots__ = (
        "__weakref__",
        "context",
        "is_plain",
        "makes_temporary",
        "proven",
        "replication",
        "values",
    )

    def __init__(self, values: Mapping[str, str], replication: str = "") -> None:
        self.replication: Final = replication
        self.values: Final = dict(values)
        self.proven = not values
        self.context: Final = "\0".join(
            f"{name}={value}" for name, value in sorted(values.items()) if _has_meaning(name)
        )
        self.is_plain: Final = values.keys() <= TRACKED.keys()
        self.makes_temporary: Final = "pg_temp" in values.get("search_path", "").lower()

    @staticmethod
    def of(values: Mapping[str, str]) -> Variables:
        """The one object for these settings."""
        lowered = {name.lower(): value for name, value in values.items()}
        key = frozenset(lowered.items())
        found = _interned.get(key)
        if found is None:
            found = _interned[key] = Variables(lowered)
        return found

    @property
    def kind_of_replication(self) -> str:
        """The same in PgBouncer's words."""
        return {"": "none", "true": "physical"}.get(self.replication, "logical")

    def replaced(self, name: str, value: str) -> Variables:
        """These settings with one of them changed."""
        if self.values.get(name.lower()) == value:
            return self
        return Variables.of({**self.values, name.lower(): value})

    def change_from(self, old: Variables) -> bytes:
        """The SQL that brings a connection from other settings to these.

        A role may not be allowed what is done to the others: it goes first and comes last.
        """
        if self.values == old.values:
            return b""
        values = dict(self.values)
        role = values.pop(ROLE, None)
        parts = [f'RESET "{ROLE}"'] if ROLE in old.values else []
        parts += [
            f"RESET {quote_identifier(name)}"
            for name in old.values
            if name not in values and name != ROLE
        ]
        changed = [
            (name, value) for name, value in values.items() if old.values.get(name) != value
        ]
        if role is not None:
            changed.append((ROLE, role))
        if changed:
            parts.append("SELECT " + ", ".join(_call(*setting) for setting in changed))
        return ";".join(parts).encode("ascii")

    def __repr__(self) -> str:
        return f"<Variables {self.values!r}>"


def _call(name: str, value: str) -> str:
    # A search_path may put others' functions before PostgreSQL's own.
    return f"pg_catalog.set_config({quote_literal(name)}, {quote_literal(value)}, false)"


EMPTY: Final = Variables.of({})


def quote_identifier(name: str) -> str:
    """Quote a setting's name; a dot separates the parts of a custom one.

    Names are ASCII in all of PostgreSQL's settings; others cannot exist and are made harmless.
    """
    parts = name.encode("ascii", "replace").decode().split(".")
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def quote_literal(text: str) -> str:
    r"""Quote a value so that no client_encoding and no setting changes its meaning.

    Text that is not plain ASCII is written in hexadecimal: in encodings such as Big5 a quote
    may be the second byte of a character.
    """
    if text.isascii() and "\\" not in text:
        return "'" + text.replace("'", "''") + "'"
    data = text.encode("utf-8", "surrogateescape").hex()
    return f"pg_catalog.convert_from(pg_catalog.decode('{data}', 'hex'), 'UTF8')"


def quote_relation(schema: str, table: str) -> str:
    """Quote the name of a relation, as a value that means it alone; "" is any schema."""
    parts = [schema, table] if schema else [table]
    return quote_literal(".".join('"' + part.replace('"', '""') + '"' for part in parts))


_ENCODINGS: Final = {
    "UNICODE": "UTF8",
    "LATIN1": "LATIN1",
    "ISO88591": "LATIN1",
    "ASCII": "SQL_ASCII",
}


def as_reported(name: str, value: str, baseline: Mapping[str, str]) -> str:
    """Spell a start-up value as the server will report it, as far as that can be known here.

    The server's own ParameterStatus corrects the rest when the settings are applied.
    """
    if name == "client_encoding":
        plain = value.upper().replace("-", "").replace("_", "").strip("'\" ")
        return _ENCODINGS.get(plain, plain if plain == "UTF8" else value)
    if name == "datestyle":
        style, _, order = baseline.get("DateStyle", "ISO, MDY").partition(",")
        words = [word.strip().upper() for word in value.split(",")]
        if len(words) == 1 and words[0] in ("ISO", "SQL", "POSTGRES", "GERMAN"):
            known = {"ISO": "ISO", "SQL": "SQL", "POSTGRES": "Postgres", "GERMAN": "German"}
            return f"{known[words[0]]}, {order.strip() or style}"
    return value
