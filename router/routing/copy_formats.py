"""What deals out the rows of a COPY, by their format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .copy_binary import BinaryRows
from .copy_csv import CsvRows
from .copy_rows import TextRows
from .copy_text import BINARY, CSV

if TYPE_CHECKING:
    from .copy_keys import CopyKeys
    from .copy_rows import CopyRows
    from .copy_text import CopyText


def rows_of(
    text: CopyText,
    keys: CopyKeys,
    index: int,
    *,
    columns: int,
    shards: int,
    home: int,
    version: int,
) -> CopyRows:
    """Make it.

    Args:
        text: what the COPY says.
        keys: of its key column.
        index: of that among the columns of a row.
        columns: how many these are.
        shards: how many there are.
        home: the one that gets what its server will refuse.
        version: of the servers, `server_version_num`.
    """
    if text.format == BINARY:
        return BinaryRows(text, keys, index, shards, home, columns)
    if text.format == CSV:
        return CsvRows(text, keys, index, shards, home, version)
    return TextRows(text, keys, index, shards, home)
