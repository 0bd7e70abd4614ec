"""Sharding functions: a 64-bit integer key -> the number of its shard.

``pg_bigint_hash`` is PostgreSQL's own: it puts a key where ``PARTITION BY HASH`` on one bigint
column puts it, so a shard can be such a partition. Its parts are ``hash_bytes_uint32_extended``
of src/common/hashfn.c, with the seed of ``HASH_PARTITION_SEED``, and ``hash_combine64``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Final

from ..errors import InvalidShardingKey

KEY_MIN: Final = -(1 << 63)
KEY_MAX: Final = (1 << 63) - 1

_MASK32: Final = 0xFFFFFFFF
_MASK64: Final = 0xFFFFFFFFFFFFFFFF

# hashfn.c initialises a = b = c with a constant and mixes the seed in before the key comes in;
# the seed is fixed, so these are the three words after that.
_A: Final = 0xE933553E
_B: Final = 0xC5DA07A8
_C: Final = 0xFDFD95ED

# hash_combine64(0, h) with its golden-ratio constant.
_COMBINE: Final = 0x49A0F4DD15E5A8E3

_INTEGER: Final = re.compile(r"[ \t\n\r\f\v]*([+-]?[0-9]+)[ \t\n\r\f\v]*")


def _rotated(word: int, bits: int) -> int:
    return (word << bits | word >> (32 - bits)) & _MASK32


def pg_bigint_hash(key: int, shards: int) -> int:
    """Give the shard where PostgreSQL's hash partitioning by a bigint column puts ``key``."""
    low, high = key & _MASK32, key >> 32 & _MASK32
    # hashint8: equal numbers hash equally whether they are int2, int4 or int8.
    a = _A + (low ^ (high if key >= 0 else ~high & _MASK32)) & _MASK32
    c = (_C ^ _B) - _rotated(_B, 14) & _MASK32
    a = (a ^ c) - _rotated(c, 11) & _MASK32
    b = (_B ^ a) - _rotated(a, 25) & _MASK32
    c = (c ^ b) - _rotated(b, 16) & _MASK32
    a = (a ^ c) - _rotated(c, 4) & _MASK32
    b = (b ^ a) - _rotated(a, 14) & _MASK32
    c = (c ^ b) - _rotated(b, 24) & _MASK32
    return ((b << 32 | c) + _COMBINE & _MASK64) % shards


def sha1(key: int, shards: int) -> int:
    """Give the shard by the last four bytes of the SHA-1 of the key written in decimal."""
    digest = hashlib.sha1(b"%d" % key, usedforsecurity=False).digest()
    return int.from_bytes(digest[-4:], "big") % shards


ShardingFunction = Callable[[int, int], int]

FUNCTIONS: Final[Mapping[str, ShardingFunction]] = {
    "pg_bigint_hash": pg_bigint_hash,
    "sha1": sha1,
}


def integer(text: str | bytes, *, negative: bool = False) -> int | None:
    """Read a bigint as PostgreSQL writes one; None for all else."""
    written = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    match = _INTEGER.fullmatch(written)
    # The length first: int() takes long for long numbers, and refuses 4,301 digits.
    if match is None or len(match[1].lstrip("+-0")) > 19:
        return None
    key = -int(match[1]) if negative else int(match[1])
    return key if KEY_MIN <= key <= KEY_MAX else None


def parse_key(text: str | bytes) -> int:
    """Read a sharding key, which is a bigint.

    Raises:
        InvalidShardingKey: it is no integer, or does not fit into 64 bits.
    """
    key = integer(text)
    if key is None:
        shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        shown = shown if len(shown) <= 40 else f"{shown[:40]}..."
        raise InvalidShardingKey(
            f'sharding key "{shown}" is not a bigint',
            hint=f"Use an integer from {KEY_MIN} to {KEY_MAX}.",
        )
    return key


def parameter_key(value: bytes | None, *, binary: bool) -> int | None:
    """Read the value that Bind carries for a sharding key parameter; None for NULL.

    Raises:
        InvalidShardingKey: it is no integer of 2, 4 or 8 bytes.
    """
    if value is None:
        return None
    if not binary:
        return parse_key(value)
    if len(value) in (2, 4, 8):
        return int.from_bytes(value, "big", signed=True)
    raise InvalidShardingKey(
        f"sharding key parameter of {len(value)} bytes in binary format",
        hint="Send it as smallint, integer or bigint, or in text format.",
    )
