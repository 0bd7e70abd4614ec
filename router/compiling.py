"""What the compiler has to be told, and nobody at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_extensions import i64, mypyc_attr

__all__ = ["i64", "mypyc_attr"]

T = TypeVar("T")

if not TYPE_CHECKING:
    i64 = int  # for counting in bytes, without a look at how large a number is

    def mypyc_attr(*_names: str, **_settings: bool) -> Callable[[T], T]:
        """Leave a class as it is: the decorator is for the compiler to read."""
        return lambda decorated: decorated
