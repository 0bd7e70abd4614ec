"""The [plugins] sections."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from .keys import Flag, Form, Key, Name, Numbered, Reload, Section, Text

Texts = Annotated[tuple[Text, ...], Form("an array of strings")]
Row = tuple[Text, ...]
_PART = r'\s*(?:"(?:[^"\x00]|"")+"|[^".\s\x00]+)\s*'
_TABLE: Final = re.compile(rf"{_PART}(?:\.{_PART})*")


def _table_name(text: str) -> str:
    if not _TABLE.fullmatch(text):
        raise ValueError('must be the name of a table as SQL writes it, such as app."Users"')
    return text


TableNames = Annotated[
    tuple[Annotated[Text, AfterValidator(_table_name)], ...],
    Form("an array of names of tables"),
]


class QueryLoggerSection(Section):
    """Logs every statement."""

    enabled: Annotated[Flag, Key("Turn it on.", Reload.AT_ONCE)] = False


class InterceptedQuery(Section):
    """A statement that the router answers by itself."""

    query: Annotated[Name, Key("The statement.", Reload.AT_ONCE)]
    columns: Annotated[
        tuple[tuple[Name, Name], ...],
        Field(alias="schema"),
        Form("an array of [name, type]"),
        Key("The columns of the answer.", Reload.AT_ONCE),
    ]
    result: Annotated[
        tuple[Row, ...],
        Form("an array of arrays of strings"),
        Key(
            "The rows; an empty string is NULL, `${USER}` and `${DATABASE}` are filled in.",
            Reload.AT_ONCE,
        ),
    ]


class InterceptSection(Section):
    """Answers chosen statements without a server."""

    enabled: Annotated[Flag, Key("Turn it on.", Reload.AT_ONCE)] = False
    queries: Annotated[
        tuple[InterceptedQuery, ...], Numbered(), Key("The statements.", Reload.AT_ONCE)
    ] = ()


class TableAccessSection(Section):
    """Refuses statements that name certain tables; see docs/plugins.md."""

    enabled: Annotated[Flag, Key("Turn it on.", Reload.AT_ONCE)] = False
    tables: Annotated[
        TableNames,
        Key(
            "Names of the tables as in SQL: `table` in any schema, or `schema.table`.",
            Reload.AT_ONCE,
        ),
    ] = ()


class PrewarmerSection(Section):
    """Runs queries on each new server connection before its first use."""

    enabled: Annotated[Flag, Key("Turn it on.", Reload.CONNECTIONS)] = False
    queries: Annotated[Texts, Key("The queries, in their order.", Reload.CONNECTIONS)] = ()


class Plugins(Section):
    """What is done to statements besides routing them."""

    query_logger: Annotated[
        QueryLoggerSection | None, Key("Logs every statement.", Reload.AT_ONCE)
    ] = None
    intercept: Annotated[
        InterceptSection | None, Key("Answers chosen statements itself.", Reload.AT_ONCE)
    ] = None
    table_access: Annotated[
        TableAccessSection | None, Key("Refuses statements on certain tables.", Reload.AT_ONCE)
    ] = None
    prewarmer: Annotated[
        PrewarmerSection | None,
        Key("Runs queries on new server connections.", Reload.CONNECTIONS),
    ] = None
