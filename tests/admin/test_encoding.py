"""Values of rows in both formats."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from psycopg.types.numeric import NumericBinaryLoader

from router.admin import encoding
from router.admin.show import Heading
from router.protocol.messages import INT4_OID, NUMERIC_OID, TEXT_OID

from .builders import decode


def encoded(value: str | int, oid: int, fmt: int) -> bytes:
    """One value, as it comes out of a DataRow."""
    [[data]] = decode(encoding.data_row((value,), [Heading("x", oid)], [fmt])).raw_rows
    return data


@given(st.integers(min_value=-(10**30), max_value=10**30))
def test_a_binary_numeric_is_read_back_by_a_driver(number: int) -> None:
    data = encoded(number, NUMERIC_OID, encoding.BINARY)
    assert NumericBinaryLoader(NUMERIC_OID).load(data) == Decimal(number)


def test_an_int4_that_is_too_large_becomes_the_largest_one() -> None:
    assert encoded(2**32 - 1, INT4_OID, encoding.BINARY) == b"\x7f\xff\xff\xff"
    assert encoded(2**32 - 1, INT4_OID, encoding.TEXT) == b"2147483647"


def test_a_bool_is_a_number() -> None:
    assert encoded(True, INT4_OID, encoding.TEXT) == b"1"
    assert encoded(False, INT4_OID, encoding.BINARY) == b"\0\0\0\0"


def test_text_is_utf_8_whatever_it_holds() -> None:
    assert encoded("Ä\0b", TEXT_OID, encoding.TEXT) == "Äb".encode()
    assert encoded("\udc80", TEXT_OID, encoding.BINARY) == b"?"
