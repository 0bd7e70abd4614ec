"""Whether what a statement computes is the same on each of several shards."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from .functions import names
from .tokens import calls

if TYPE_CHECKING:
    from collections.abc import Iterable

ALIKE: Final = names(
    """
    abs acos array_append array_cat array_dims array_length array_lower array_ndims
    array_position array_positions array_prepend array_remove array_replace array_to_json
    array_to_string array_upper ascii asin atan atan2 bit_and bit_count bit_length bit_or bool
    bool_and bool_or btrim cardinality cbrt ceil ceiling char_length character_length chr
    concat concat_ws convert_from convert_to cos cot count date date_bin date_part date_trunc
    decode degrees div encode every exp extract factorial float4 float8 floor format gcd
    generate_series get_bit get_byte hashtext initcap int2 int4 int8 interval isfinite
    json_array_elements json_array_elements_text json_array_length json_build_array
    json_build_object json_each json_each_text json_extract_path json_extract_path_text
    json_object json_object_keys json_strip_nulls json_typeof jsonb_array_elements
    jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object
    jsonb_each jsonb_each_text jsonb_extract_path jsonb_extract_path_text jsonb_insert
    jsonb_object jsonb_object_keys jsonb_pretty jsonb_set jsonb_strip_nulls jsonb_typeof
    justify_days justify_hours justify_interval lcm left length ln log log10 lower
    lower_inc lower_inf lpad ltrim make_date make_interval make_time make_timestamp
    make_timestamptz max md5 min mod normalize num_nonnulls num_nulls numeric numrange int4range
    int8range tsrange tstzrange daterange octet_length overlay parse_ident pi plainto_tsquery
    position pow power quote_ident quote_literal quote_nullable radians range_merge regexp_count
    regexp_instr regexp_like regexp_match regexp_matches regexp_replace regexp_split_to_array
    regexp_split_to_table regexp_substr repeat replace reverse right round row_to_json rpad
    rtrim scale setweight sha224 sha256 sha384 sha512 sign sin split_part sqrt starts_with
    string_to_array strip strpos substr substring tan text time timestamp timestamptz
    timezone to_char to_date to_hex to_json to_jsonb to_number to_timestamp to_tsquery
    to_tsvector translate trim_array trim_scale trunc unistr unnest upper upper_inc upper_inf
    varchar websearch_to_tsquery width_bucket
    """
)
"""Functions that give the same for the same, or depend on settings of the session besides.

Aggregates are among them if the order of the rows does not matter.
"""

_CLOCK: Final = names("current_date current_time current_timestamp localtime localtimestamp")
_PLACES: Final = names("ctid xmin xmax cmin cmax tableoid")
_CHOICES: Final = names("limit offset fetch tablesample over")
_TIMES: Final = re.compile(
    rb"'\s*(?:now|today|tomorrow|yesterday)(?:\s[^'a-z]*)?'", re.IGNORECASE
)
_STRING: Final = re.compile(rb"'[^']*+'")
_IN_ROWS: Final = re.compile(rb"(?<!\w)(?:now|current_timestamp)(?!\w)", re.IGNORECASE)
_DEFAULT: Final = re.compile(rb"(?<!\w)default(?!\w)", re.IGNORECASE)


def varies(tokens: list[str]) -> str:
    """Say what in a statement may be another thing on each shard; "" if nothing is."""
    for call in calls(tokens):
        if call.name not in ALIKE or call.schema not in ("", "pg_catalog"):
            return f"function {call.name} may give another value on each shard"
    before = ""
    for token in tokens:
        if token in _CLOCK:
            return f"{token.upper()} is another time on each shard"
        if token in _PLACES and before != "as":
            return f"{token} is another on each shard"
        if token in _CHOICES or (token == "on" and before == "distinct"):
            return f"{token.upper()} may choose other rows on each shard"
        before = token
    return ""


def literals_vary(literals: Iterable[bytes]) -> str:
    """The same of the literals of a text, among which are rows of VALUES."""
    for literal in literals:
        if _TIMES.search(literal):
            return (
                f"{literal.decode('utf-8', 'replace')[:20]} may be another time on each shard"
            )
        if _IN_ROWS.search(_STRING.sub(b"", literal)):
            return "the time is another on each shard"
    return ""


def has_default(literals: Iterable[bytes]) -> bool:
    """Whether DEFAULT stands in the rows of VALUES among literals."""
    return any(_DEFAULT.search(_STRING.sub(b"", literal)) for literal in literals)
