"""What a log record has besides its message: fields, for logs that programs read."""

from __future__ import annotations


def fields(**values: object) -> dict[str, object]:
    """Make the argument `extra` of a log call; what is None or "" is left out.

    Values are strings, numbers or truth values. Times end in `_ms` and are milliseconds.
    """
    known = {name: value for name, value in values.items() if value is not None and value != ""}
    return {"fields": known}
