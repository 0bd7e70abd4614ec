"""The values of string literals, as the PostgreSQL manual's "String Constants" has them."""

from __future__ import annotations

from ..escapes import unescaped
from .fingerprint import string_value


def text_of(literal: bytes, *, escaped: bool) -> bytes | None:
    r"""Return the bytes that a string literal stands for; None if that is not sure.

    Args:
        literal: '..' or $$..$$, as written.
        escaped: whether an E stands before it, so that \ means something.
    """
    if literal[:1] not in (b"'", b"$"):
        return None
    value = string_value(literal)
    if literal[:1] == b"$":
        return value
    if not escaped or b"\\" not in value:
        return value.replace(b"''", b"'")
    try:
        return unescaped(value)
    except ValueError:
        return None
