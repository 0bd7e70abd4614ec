"""SET: what drivers say when they connect is accepted, all else is refused with a reason.

Nothing is set in either case. A key of the configuration is changed in the file, so that it is
not lost with the process.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from ..config.declared import Declaration, declarations
from ..config.general import General
from ..config.pools import PoolConfig, User
from ..errors import ClientError
from .statements import Words, keyword, name

ACCEPTED: Final = frozenset(
    (
        "application_name",
        "bytea_output",
        "client_encoding",
        "client_min_messages",
        "datestyle",
        "default_transaction_isolation",
        "default_transaction_read_only",
        "extra_float_digits",
        "idle_in_transaction_session_timeout",
        "intervalstyle",
        "lock_timeout",
        "names",
        "search_path",
        "session characteristics",
        "standard_conforming_strings",
        "statement_timeout",
        "timezone",
    )
)
"""Settings that drivers and tools make on their own account, in lower case."""

_SIGNS: Final = (",", "=")


def is_assignment(arguments: Words) -> bool:
    """Whether it is one in the grammar of PostgreSQL."""
    return _target(arguments) is not None


def check(arguments: Words) -> None:
    """Insist that it is one of those that are accepted.

    Raises:
        ClientError: it is not.
    """
    setting = _target(arguments) or ""
    if setting.lower() in ACCEPTED:
        return
    key = _keys().get(setting.rpartition(".")[2].lower())
    # The message is PgBouncer's.
    if key is None:
        raise ClientError(
            "SET failed", detail=f'unrecognized configuration parameter "{setting}"'
        )
    if key.key.unused:
        hint = f"It has no effect: {key.key.unused}."
    elif key.changes_at_reload:
        hint = "Change it in the configuration file, then RELOAD."
    else:
        hint = "Change it in the configuration file, then restart the router."
    raise ClientError(
        "SET failed", detail=f'"{setting}" is a key of the configuration file', hint=hint
    )


def _target(arguments: Words) -> str | None:
    """What is to be set, or None if this is no assignment."""
    words = list(arguments)
    match [keyword(word) for word in words]:
        case ["SESSION", "CHARACTERISTICS", "AS", "TRANSACTION", _, *_]:
            return "session characteristics"
        case ["SESSION" | "LOCAL", _, *_]:
            del words[0]
    match [keyword(word) for word in words]:
        case ["TIME", "ZONE", value] if value not in _SIGNS:
            return "timezone"
        case ["NAMES", value] if value not in _SIGNS:
            return "names"
        case [_, "=" | "TO", *values] if _is_list(values):
            return name(words[0])
    return None


def _is_list(values: list[str]) -> bool:
    """Whether they are values with commas between them."""
    return len(values) % 2 == 1 and all(
        (value == ",") if position % 2 else (value not in _SIGNS)
        for position, value in enumerate(values)
    )


@cache
def _keys() -> dict[str, Declaration]:
    """Keys of the configuration by all their names."""
    return {
        spelling: declared
        for section in (User, PoolConfig, General)
        for declared in declarations(section).values()
        for spelling in (declared.name, *declared.key.aliases)
    }
