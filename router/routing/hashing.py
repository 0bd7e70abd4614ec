"""The hash functions of sharding keys, which give the number of a key's shard.

Those with ``pg_`` are PostgreSQL's own: they put a key where ``PARTITION BY HASH`` on a column
of its type puts it, so that a shard can be such a partition. Their parts are those of
src/common/hashfn.c, ``hash_bytes_extended`` and ``hash_bytes_uint32_extended``, with the seed
of ``HASH_PARTITION_SEED``, and ``hash_combine64``. Bytes are taken as a little-endian server
takes them.
"""

from __future__ import annotations

import hashlib
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from uuid import UUID

    from ..compiling import i64

_MASK32: Final = 0xFFFFFFFF
_MASK64: Final = 0xFFFFFFFFFFFFFFFF

_INITIAL: Final = 0x9E3779B9 + 3923095
_SEED_HIGH: Final = 0x7A5B2236
_SEED_LOW: Final = 0x7996DCFD

# hash_combine64(0, h) with its golden-ratio constant.
_COMBINE_HIGH: Final = 0x49A0F4DD
_COMBINE_LOW: Final = 0x15E5A8E3
_TWO_TO_32: Final = 1 << 32

_BLOCK: Final = struct.Struct("<3I")

Words = tuple[int, int, int]
"""The state of the hash, three words of 32 bits."""


def _mixed(a: int, b: int, c: int) -> Words:
    """mix() of hashfn.c; a rotated word is cut to 32 bits together with what is made of it."""
    a = (a - c ^ (c << 4 | c >> 28)) & _MASK32
    c = c + b & _MASK32
    b = (b - a ^ (a << 6 | a >> 26)) & _MASK32
    a = a + c & _MASK32
    c = (c - b ^ (b << 8 | b >> 24)) & _MASK32
    b = b + a & _MASK32
    a = (a - c ^ (c << 16 | c >> 16)) & _MASK32
    c = c + b & _MASK32
    b = (b - a ^ (a << 19 | a >> 13)) & _MASK32
    a = a + c & _MASK32
    c = (c - b ^ (b << 4 | b >> 28)) & _MASK32
    b = b + a & _MASK32
    return a, b, c


@lru_cache(maxsize=128)
def _begun(length: int) -> Words:
    """Begin the hash of so many bytes: the seed is mixed in before the key."""
    word = _INITIAL + length & _MASK32
    return _mixed(word + _SEED_HIGH & _MASK32, word + _SEED_LOW & _MASK32, word)


def _finished(a: i64, b: i64, c: i64, shards: i64) -> i64:
    """final() of hashfn.c, then what makes a row's hash of that of its only column.

    That has 64 bits without a sign; it is in halves here, so that no number has more than 63.
    """
    c = (c ^ b) - (b << 14 | b >> 18) & _MASK32
    a = (a ^ c) - (c << 11 | c >> 21) & _MASK32
    b = (b ^ a) - (a << 25 | a >> 7) & _MASK32
    c = (c ^ b) - (b << 16 | b >> 16) & _MASK32
    a = (a ^ c) - (c << 4 | c >> 28) & _MASK32
    b = (b ^ a) - (a << 14 | a >> 18) & _MASK32
    c = (c ^ b) - (b << 24 | b >> 8) & _MASK32
    low: i64 = c + _COMBINE_LOW
    high: i64 = b + _COMBINE_HIGH + (low >> 32) & _MASK32
    return ((high % shards) * (_TWO_TO_32 % shards) + (low & _MASK32)) % shards


_BIGINT: Final = _begun(4)
_BIGINT_A: Final = _BIGINT[0]
_BIGINT_B: Final = _BIGINT[1]
_BIGINT_C: Final = _BIGINT[2]
_UUID: Final = _begun(16)


def pg_bigint_hash(key: int, shards: int) -> int:
    """Give the shard where PostgreSQL's hash partitioning by a bigint column puts ``key``."""
    return shard_of_bigint(key, shards)


def shard_of_bigint(key: i64, shards: i64) -> i64:
    """Do the same, without making an object of a number."""
    low: i64 = key & _MASK32
    high: i64 = key >> 32 & _MASK32
    if key < 0:
        high ^= _MASK32
    # hashint8: equal numbers hash equally whether they are int2, int4 or int8.
    return _finished(_BIGINT_A + (low ^ high) & _MASK32, _BIGINT_B, _BIGINT_C, shards)


def pg_uuid_hash(key: UUID, shards: int) -> int:
    """Give the shard where PostgreSQL's hash partitioning by a uuid column puts ``key``."""
    return _of_bytes(key.bytes, _UUID, shards)


def pg_text_hash(key: str, shards: int) -> int:
    """Give the shard where hash partitioning by a text or varchar column puts ``key``."""
    data = key.encode()
    return _of_bytes(data, _begun(len(data)), shards)


def sha1(key: int | str | UUID, shards: int) -> int:
    """Give the shard by the last four bytes of the SHA-1 of the key as text, in UTF-8."""
    digest = hashlib.sha1(str(key).encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[-4:], "big") % shards


def _of_bytes(data: bytes, begun: Words, shards: int) -> int:
    a, b, c = begun
    whole = len(data) - len(data) % 12
    for x, y, z in _BLOCK.iter_unpack(data[:whole]):
        a, b, c = _mixed(a + x & _MASK32, b + y & _MASK32, c + z & _MASK32)
    # The lowest byte of c is the length's, so the tail's third word is put above it.
    tail = data[whole:]
    a = a + int.from_bytes(tail[:4], "little") & _MASK32
    b = b + int.from_bytes(tail[4:8], "little") & _MASK32
    c = c + (int.from_bytes(tail[8:], "little") << 8) & _MASK32
    return _finished(a, b, c, shards)
