"""Types of PostgreSQL by name, and their binary formats as far as they are simple."""

from __future__ import annotations

import re
import struct
import uuid
from typing import TYPE_CHECKING, Final

from ..errors import RoutingError
from ..protocol.messages import TEXT_OID

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# As pg_type has them; they never change.
_OIDS: Final[Mapping[str, int]] = {
    "bool": 16,
    "bytea": 17,
    "name": 19,
    "int8": 20,
    "int2": 21,
    "int4": 23,
    "text": TEXT_OID,
    "oid": 26,
    "xid": 28,
    "json": 114,
    "xml": 142,
    "pg_node_tree": 194,
    "cidr": 650,
    "float4": 700,
    "float8": 701,
    "unknown": 705,
    "money": 790,
    "macaddr": 829,
    "inet": 869,
    "bpchar": 1042,
    "varchar": 1043,
    "date": 1082,
    "time": 1083,
    "timestamp": 1114,
    "timestamptz": 1184,
    "interval": 1186,
    "timetz": 1266,
    "bit": 1560,
    "varbit": 1562,
    "numeric": 1700,
    "regproc": 24,
    "regclass": 2205,
    "regtype": 2206,
    "regrole": 4096,
    "regnamespace": 4089,
    "void": 2278,
    "anyarray": 2277,
    "uuid": 2950,
    "pg_lsn": 3220,
    "jsonb": 3802,
}
_ARRAYS: Final[Mapping[str, int]] = {
    "bool": 1000,
    "bytea": 1001,
    "name": 1003,
    "int8": 1016,
    "int2": 1005,
    "int4": 1007,
    "text": 1009,
    "oid": 1028,
    "json": 199,
    "float4": 1021,
    "float8": 1022,
    "inet": 1041,
    "bpchar": 1014,
    "varchar": 1015,
    "date": 1182,
    "time": 1183,
    "timestamp": 1115,
    "timestamptz": 1185,
    "interval": 1187,
    "timetz": 1270,
    "numeric": 1231,
    "uuid": 2951,
    "jsonb": 3807,
}
_ALIASES: Final[Mapping[str, str]] = {
    "boolean": "bool",
    "bigint": "int8",
    "smallint": "int2",
    "int": "int4",
    "integer": "int4",
    "real": "float4",
    "float": "float8",
    "double precision": "float8",
    "char": "bpchar",
    "character": "bpchar",
    "character varying": "varchar",
    "bit varying": "varbit",
    "decimal": "numeric",
    "time without time zone": "time",
    "time with time zone": "timetz",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
}
_MODIFIER: Final = re.compile(r"\([\d\s,]*\)")
_TRUE: Final = frozenset(("t", "true", "y", "yes", "on", "1"))


def type_oid(name: str) -> int:
    """The oid of a type by its name or one of its aliases; that of text for any other."""
    plain = " ".join(_MODIFIER.sub(" ", name.lower()).split()).removeprefix("pg_catalog.")
    if plain.endswith("[]"):
        element = plain[:-2].rstrip()
        return _ARRAYS.get(_ALIASES.get(element, element), TEXT_OID)
    if plain.startswith("_"):
        return _ARRAYS.get(plain[1:], TEXT_OID)
    return _OIDS.get(_ALIASES.get(plain, plain), TEXT_OID)


def _integer(form: str) -> Callable[[str], bytes]:
    pack = struct.Struct(form).pack
    return lambda text: pack(int(text))


def _real(form: str) -> Callable[[str], bytes]:
    pack = struct.Struct(form).pack
    return lambda text: pack(float(text))


def _as_text(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


_BINARY: Final[Mapping[int, Callable[[str], bytes]]] = {
    16: lambda text: bytes((text.strip().lower() in _TRUE,)),
    20: _integer("!q"),
    21: _integer("!h"),
    23: _integer("!i"),
    26: _integer("!I"),
    700: _real("!f"),
    701: _real("!d"),
    2950: lambda text: uuid.UUID(text).bytes,
    3802: lambda text: b"\x01" + _as_text(text),
    **dict.fromkeys((19, TEXT_OID, 114, 142, 705, 1042, 1043), _as_text),
}


def encoded(text: str, oid: int, *, binary: bool) -> bytes:
    """A value that is written as text in the format that the client wants.

    Raises:
        RoutingError: the router cannot make a binary value of it.
    """
    if not binary:
        return _as_text(text)
    try:
        return _BINARY[oid](text)
    except (KeyError, ValueError, struct.error, OverflowError):
        raise RoutingError(
            f"no binary format for the value of a column of type oid {oid}",
            sqlstate="0A000",
            hint="Ask for the text format, or give the column another type in the plugin "
            "intercept of the router.",
        ) from None
