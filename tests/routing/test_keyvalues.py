"""Keys as clients write them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from router.errors import ConfigError, InvalidShardingKey
from router.routing.keyvalues import KEY_MAX, KEY_MIN, plain_integers
from router.routing.sharding import Sharder
from router.routing.types import KeyType, RouterOptions

if TYPE_CHECKING:
    from router.routing.types import KeyValue

BIGINTS = Sharder(RouterOptions())
UUIDS = Sharder(RouterOptions(sharding_function="pg_uuid_hash"))
TEXTS = Sharder(RouterOptions(sharding_function="pg_text_hash"))
BY_NAME = {"bigint": BIGINTS, "uuid": UUIDS, "text": TEXTS}

ONE = UUID("01234567-89ab-cdef-0123-456789abcdef")
INT2, INT4, INT8, TEXT, UNKNOWN, VARCHAR, BPCHAR = 21, 23, 20, 25, 705, 1043, 1042
FLOAT8, NUMERIC, UUID_OID, TEXT_ARRAY, INT8_ARRAY = 701, 1700, 2950, 1009, 1016


# --- as text


@pytest.mark.parametrize(
    "text",
    [
        "01234567-89ab-cdef-0123-456789abcdef",
        "01234567-89AB-CDEF-0123-456789ABCDEF",
        "0123456789abcdef0123456789abcdef",
        "{01234567-89ab-cdef-0123-456789abcdef}",
        "0123-4567-89ab-cdef-0123-4567-89ab-cdef",
        b"{0123456789abcdef0123456789abcdef}",
    ],
)
def test_a_uuid_is_read_in_all_forms_that_postgresql_takes(text: str | bytes) -> None:
    assert UUIDS.parse(text) == ONE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        " 01234567-89ab-cdef-0123-456789abcdef",
        "{01234567-89ab-cdef-0123-456789abcdef",
        "01234567-89ab-cdef-0123-456789abcdef}",
        "01-234567-89ab-cdef-0123-456789abcdef",
        "01234567-89ab-cdef-0123-456789abcdef-",
        "01234567-89ab-cdef-0123-456789abcdeg",
        "urn:uuid:01234567-89ab-cdef-0123-456789abcdef",
        b"\xff" * 32,
        "\N{ARABIC-INDIC DIGIT FIVE}" * 32,
        "0" * 100_000,
    ],
)
def test_what_is_no_uuid_is_refused_with_its_form(text: str | bytes) -> None:
    with pytest.raises(InvalidShardingKey, match="is not a uuid") as caught:
        UUIDS.parse(text)
    assert caught.value.sqlstate == "22023"
    assert "hexadecimal" in caught.value.hint
    assert len(caught.value.message) < 100


@pytest.mark.parametrize("text", ["", " a ", "5", "it's", "grün", "🙂", "x" * 10_000])
def test_any_text_is_a_key_as_it_stands(text: str) -> None:
    assert TEXTS.parse(text) == text
    assert TEXTS.parse(text.encode()) == text


@pytest.mark.parametrize(
    "text", [b"\xff", b"gr\xfcn", b"\xed\xa0\x80", "\udcff", b"a" * 99 + b"\xe9"]
)
def test_text_that_is_not_utf_8_is_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidShardingKey, match="is not valid UTF-8") as caught:
        TEXTS.parse(text)
    assert "client_encoding" in caught.value.hint
    caught.value.message.encode()


def test_text_with_a_zero_byte_is_refused() -> None:
    with pytest.raises(InvalidShardingKey, match="zero byte"):
        TEXTS.parse(b"a\0b")


# --- as literals


@pytest.mark.parametrize(
    ("name", "literal", "key"),
    [
        ("bigint", b"5", 5),
        ("bigint", b"'5'", 5),
        ("bigint", b"' 5 '", 5),
        ("bigint", b"'x'", None),
        ("bigint", b"5.0", 5),
        ("bigint", b"5.5", None),
        ("bigint", b"0x10", 16),
        ("bigint", b"0x7fffffffffffffff", KEY_MAX),
        ("bigint", b"0x8000000000000000", None),
        ("uuid", b"'01234567-89ab-cdef-0123-456789abcdef'", ONE),
        ("uuid", b"$$0123456789abcdef0123456789abcdef$$", ONE),
        ("uuid", b"'x'", None),
        ("uuid", b"5", None),
        ("text", b"'it''s'", "it's"),
        ("text", b"''", ""),
        ("text", b"$x$it's$x$", "it's"),
        ("text", "'grün'".encode(), "grün"),
        ("text", rb"'a\n'", r"a\n"),
        ("text", b"5", "5"),
        ("text", b"007", "7"),
        ("text", b"000", "0"),
        ("text", b"1.50", None),
        ("text", b"1e3", None),
        ("text", b"0x1f", None),
        ("text", b"1_000", None),
    ],
)
def test_a_literal_gives_its_key_or_is_not_known(
    name: str, literal: bytes, key: KeyValue | None
) -> None:
    assert BY_NAME[name].literal(literal, False, False) == key


@pytest.mark.parametrize(
    ("name", "literal", "key"),
    [
        ("bigint", b"5", -5),
        ("bigint", b"'5'", -5),
        ("bigint", b"9223372036854775808", KEY_MIN),
        ("bigint", b"0x8000000000000000", KEY_MIN),
        ("bigint", b"0x8000000000000001", None),
        ("uuid", b"'0123456789abcdef0123456789abcdef'", None),
        ("text", b"5", "-5"),
        ("text", b"0", "0"),
        ("text", b"'5'", None),
    ],
)
def test_a_minus_sign_belongs_to_numbers(
    name: str, literal: bytes, key: KeyValue | None
) -> None:
    assert BY_NAME[name].literal(literal, True, False) == key


def test_a_literal_may_have_escapes() -> None:
    assert TEXTS.literal(rb"'it\'s\u00e9'", False, True) == "it'sé"
    assert TEXTS.literal(rb"'\u12'", False, True) is None
    assert BIGINTS.literal(rb"'\x35'", False, True) == 5
    assert UUIDS.literal(rb"'\x30123456789abcdef0123456789abcdef'", False, True) == ONE


@pytest.mark.parametrize(("literal", "escaped"), [(b"'gr\xfcn'", False), (rb"'\xff'", True)])
def test_a_text_literal_that_is_not_utf_8_is_refused(literal: bytes, escaped: bool) -> None:
    with pytest.raises(InvalidShardingKey, match="UTF-8"):
        TEXTS.literal(literal, False, escaped)


# --- as parameters


@pytest.mark.parametrize(
    ("name", "value", "binary", "oid", "key"),
    [
        ("bigint", b"\x00\x05", True, INT2, 5),
        ("bigint", b"\xff\xff\xff\xfb", True, 0, -5),
        ("bigint", bytes(7) + b"\x05", True, INT8, 5),
        ("bigint", b"42", True, TEXT, 42),
        ("bigint", b"42", True, VARCHAR, 42),
        ("bigint", b"42", False, VARCHAR, 42),
        ("bigint", b"42", False, NUMERIC, 42),
        ("bigint", bytes(8), True, FLOAT8, None),
        ("bigint", bytes(8), True, NUMERIC, None),
        ("uuid", ONE.bytes, True, 0, ONE),
        ("uuid", ONE.bytes, True, UUID_OID, ONE),
        ("uuid", str(ONE).encode(), False, 0, ONE),
        ("uuid", str(ONE).encode(), True, TEXT, ONE),
        ("uuid", ONE.bytes, True, FLOAT8, None),
        ("text", b"42", True, 0, "42"),
        ("text", b"42", False, 0, "42"),
        ("text", b"it's", True, TEXT, "it's"),
        ("text", b"it's", False, UNKNOWN, "it's"),
        ("text", b" a ", True, VARCHAR, " a "),
        ("text", b"a  ", True, BPCHAR, None),
        ("text", b"a  ", False, BPCHAR, None),
        ("text", b"ABCDEFGH", True, INT8, None),
        ("text", b"007", False, INT4, None),
    ],
)
def test_a_parameter_is_read_by_its_format_and_its_declared_type(
    name: str, value: bytes, binary: bool, oid: int, key: KeyValue | None
) -> None:
    assert BY_NAME[name].parameter(value, binary=binary, oid=oid) == key


@pytest.mark.parametrize("name", BY_NAME)
def test_null_is_no_key(name: str) -> None:
    for binary in (False, True):
        assert BY_NAME[name].parameter(None, binary=binary) is None


@pytest.mark.parametrize(
    ("name", "value", "binary"),
    [
        ("bigint", b"\0", True),
        ("bigint", b"x", False),
        ("uuid", ONE.bytes[1:], True),
        ("uuid", b"x", False),
        ("text", b"\xff", True),
        ("text", b"\xff", False),
        ("text", b"a\0", True),
    ],
)
def test_a_parameter_that_is_no_key_is_refused(name: str, value: bytes, binary: bool) -> None:
    with pytest.raises(InvalidShardingKey):
        BY_NAME[name].parameter(value, binary=binary)


@pytest.mark.parametrize(
    ("name", "value", "oid", "keys"),
    [
        ("bigint", b"{1,-2,NULL}", 0, (1, -2)),
        ("bigint", b'{"1"}', INT8_ARRAY, (1,)),
        ("bigint", b"{}", 0, ()),
        ("bigint", b"{{1},{2}}", 0, None),
        ("text", b'{a,"it\'s, \\"b\\"",NULL,"NULL"}', TEXT_ARRAY, ("a", 'it\'s, "b"', "NULL")),
        ("text", b"{007}", INT8_ARRAY, None),
        ("uuid", f"{{{ONE}}}".encode(), 0, (ONE,)),
    ],
)
def test_an_array_in_text_format_has_many_keys(
    name: str, value: bytes, oid: int, keys: tuple[KeyValue, ...] | None
) -> None:
    assert BY_NAME[name].parameter_array(value, binary=False, oid=oid) == keys


def array(oid: int, *members: bytes | None) -> bytes:
    """An array of one dimension in binary format."""
    head = b"".join(part.to_bytes(4, "big") for part in (1, 0, oid, len(members), 1))
    return head + b"".join(
        b"\xff\xff\xff\xff" if member is None else len(member).to_bytes(4, "big") + member
        for member in members
    )


def test_an_array_in_binary_format_tells_the_type_of_its_members() -> None:
    def read(sharder: Sharder, value: bytes) -> object:
        return sharder.parameter_array(value, binary=True)

    assert read(BIGINTS, array(INT4, b"\0\0\0\5", None, b"\xff" * 4)) == (5, -1)
    assert read(BIGINTS, array(FLOAT8, bytes(8))) is None
    assert read(TEXTS, array(TEXT, b"a", b"")) == ("a", "")
    assert read(TEXTS, array(INT8, b"ABCDEFGH")) is None
    assert read(UUIDS, array(UUID_OID, ONE.bytes)) == (ONE,)
    assert read(BIGINTS, b"broken") is None


# --- sharders


def test_the_type_of_keys_follows_from_the_hash_function() -> None:
    assert [sharder.type for sharder in BY_NAME.values()] == list(KeyType)
    chosen = RouterOptions(sharding_function="sha1", sharding_key_type="text")
    assert Sharder(chosen).type is KeyType.TEXT
    assert repr(Sharder(chosen)) == "<Sharder text>"


@pytest.mark.parametrize(
    "options",
    [
        RouterOptions(sharding_function="pg_uuid_hash", sharding_key_type="text"),
        RouterOptions(sharding_function="md5"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: RouterOptions) -> None:
    with pytest.raises(ConfigError):
        Sharder(options)


def test_a_cautious_sharder_refuses_text_that_may_mean_something_else() -> None:
    options = RouterOptions(sharding_function="pg_text_hash", shard_count=3)
    cautious = Sharder(options, is_cautious=True)
    assert cautious.shard("it's") == Sharder(options).shard("it's")
    for key in ("grün", "a\\b"):
        with pytest.raises(InvalidShardingKey, match="not plain ASCII") as caught:
            cautious.shard(key)
        assert "client_encoding" in caught.value.hint
        assert 0 <= Sharder(options).shard(key) < 3


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (b"5", [5]),
        (b" 5,\n-6 ,0", [5, -6, 0]),
        (b"007,-0", [7, 0]),
        (b"%d,%d" % (KEY_MIN, KEY_MAX), [KEY_MIN, KEY_MAX]),
        (b"%d" % (KEY_MAX + 1), None),
        (b"5,%d" % (KEY_MIN - 1), None),
        (b"", None),
        (b" ", None),
        (b"5,", None),
        (b"5 6", None),
        (b"5,,6", None),
        (b"- 5", None),
        (b"--5", None),
        (b"5.0", None),
        (b"1_000", None),
        (b"NULL", None),
        (b"'5'", None),
        ("\u0665".encode(), None),
    ],
)
def test_plain_integers_are_read_at_once(listed: bytes, expected: list[int] | None) -> None:
    assert plain_integers(listed) == expected


@pytest.mark.parametrize("text", ["{5}", " {5} ", "{5,-6}", "{ 5 , 6 }", "{5,5,5}"])
def test_an_array_says_the_same_with_what_makes_it_slow_to_read(text: str) -> None:
    slow = BIGINTS.parameter_array(text.replace("}", ",NULL}").encode(), binary=False)
    assert BIGINTS.parameter_array(text.encode(), binary=False) == slow


@pytest.mark.parametrize("text", ["{5", "5}", "{5}}", "{{5}}", "5", "5,6", "{5,}", "{,5}"])
def test_what_only_looks_like_an_array_is_none(text: str) -> None:
    assert BIGINTS.parameter_array(text.encode(), binary=False) is None
