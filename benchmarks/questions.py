"""What the clients of the crosstalk harness ask, and the very bytes that must come back.

Each question is put to PostgreSQL once, with placeholders where a client has its tokens. These
are as long as tokens are, so the answer for any client is those bytes with its own tokens in
them: errors, notices and large rows included.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from tests.support import wire
from tests.support.wire import query

if TYPE_CHECKING:
    from random import Random

_OWN: Final = "#c@@@@@.@@own#"  # made for this question
_HOME: Final = "#c@@@@@.@home#"  # in the text of the prepared statement that is there now
_NAME: Final = "#c@@@@@.@name#"  # the application_name that has been set
TOKEN: Final = re.compile(rb"#c(\d{5})\.\d{5}#")

# What the tables of the harness are made of.
TABLES: Final = (
    "CREATE UNLOGGED TABLE IF NOT EXISTS one AS SELECT ''::text AS v",
    "CREATE UNLOGGED TABLE IF NOT EXISTS notes (v text)",
)


def token(client: int, number: int) -> bytes:
    """What only this client can be answered, in its question of that number."""
    return b"#c%05d.%05d#" % (client, number)


@dataclass(frozen=True, slots=True)
class Exchange:
    """What is sent at once, and what comes back.

    Attributes:
        question: the name of the question that it is a part of.
        ends: how many ReadyForQuery come back.
        messages: how many messages come back.
        is_slow: it takes long enough to be cancelled.
        may_fail: if it fails alone, the client can go on with its next question.
    """

    question: str
    request: bytes
    reply: bytes
    ends: int
    messages: int
    is_slow: bool
    may_fail: bool


@dataclass(frozen=True, slots=True)
class Question:
    """One or more requests; each is sent when the one before has been answered.

    Attributes:
        weight: how often it is asked.
        sets: "home" or "name" if it sets that to its own token.
        is_slow: it takes long enough to be cancelled.
        is_large: only few clients ask it, because each keeps the answer.
        named: who asks it: those that set an application_name (True), those that have none
            (False), or all (None).
    """

    name: str
    requests: tuple[bytes, ...]
    weight: int = 2
    sets: str = ""
    is_slow: bool = False
    is_large: bool = False
    named: bool | None = None


def _batch(*parts: bytes) -> bytes:
    return b"".join(parts) + wire.SYNC


def _use(name: str, *values: str) -> bytes:
    bound = wire.bind(*(value.encode() for value in values), name=name)
    return bound + wire.describe() + wire.execute()


_PREPARE = _batch(
    wire.close("S", "own"),
    wire.parse(f"SELECT '{_HOME}', $1::text", "own"),
    wire.close("S", "same"),
    wire.parse("SELECT $1::text, repeat($2::text, 3) || v FROM one", "same"),
    wire.close("S", "many"),
    wire.parse("SELECT $1::text, g FROM generate_series(1, 30) g", "many"),
)

PREPARE: Final = Question("prepare", (_PREPARE,), 1, "home")
SET_NAME: Final = Question(
    "set", (query(f"SET application_name = '{_NAME}'"),), 3, "name", named=True
)

_WRONG = f"SELECT '{_OWN}'::int"
QUESTIONS: Final = (
    PREPARE,
    SET_NAME,
    Question("show", (query("SHOW application_name"),), 3, named=True),
    Question("show nothing", (query("SHOW application_name"),), 1, named=False),
    Question(
        "no setting",
        (query(f"SELECT current_setting('application_name'), '{_OWN}'"),),
        3,
        named=False,
    ),
    Question("simple", (query(f"SELECT '{_OWN}'"),), 8),
    Question("read", (query(f"SELECT '{_OWN}' || v FROM one"),), 8),
    Question(
        "setting",
        (query(f"SELECT current_setting('application_name'), '{_OWN}'"),),
        3,
        named=True,
    ),
    Question("rows", (query(f"SELECT g, '{_OWN}' FROM generate_series(1, 100) g"),), 4),
    Question("wide", (query(f"SELECT repeat('{_OWN}', 3000)"),), 1),
    Question("large", (query(f"SELECT repeat('{_OWN}', 60000)"),), 1, is_large=True),
    Question("error", (query(_WRONG),), 3),
    Question("notice", (query(f"DO $$BEGIN RAISE NOTICE '{_OWN}'; END$$"),), 1),
    Question(
        "several", (query(f"SELECT '{_OWN}'; SELECT g, '{_OWN}' FROM generate_series(1, 3) g"),)
    ),
    Question("several fail", (query(f"SELECT '{_OWN}'; {_WRONG}; SELECT 'never'"),)),
    Question("empty", (query(""),), 1),
    Question("extended", (_batch(wire.run(f"SELECT $1::text, '{_OWN}'", _OWN.encode())),), 4),
    Question("extended error", (_batch(wire.run("SELECT $1::int", _OWN.encode())),)),
    Question("own statement", (_batch(_use("own", _OWN)),), 6),
    Question("same statement", (_batch(_use("same", _OWN, _OWN)),), 6),
    Question("many rows", (_batch(_use("many", _OWN)),), 4),
    Question(
        "unnamed later",
        (
            _batch(wire.parse(f"SELECT '{_OWN}', $1::text")),
            _batch(wire.bind(_OWN.encode()), wire.execute()),
            _batch(wire.bind(_OWN.encode()), wire.execute()),
        ),
    ),
    Question("describe", (_batch(wire.describe("S", "own"), wire.describe("S", "same")),), 1),
    Question("two in a batch", (_batch(_use("own", _OWN), _use("same", _OWN, _OWN)),)),
    Question(
        "batch that fails",
        (_batch(_use("own", _OWN), wire.run(_WRONG), _use("same", _OWN, _OWN)),),
    ),
    Question(
        "portal",
        (
            _batch(
                wire.bind(_OWN.encode(), name="many"),
                wire.execute(limit=7),
                wire.execute(limit=5),
                wire.execute(),
            ),
        ),
    ),
    Question(
        "pipelined",
        (
            _batch(_use("own", _OWN))
            + query(f"SELECT '{_OWN}'")
            + _batch(_use("same", _OWN, _OWN))
            + _batch(wire.run(_WRONG))
            + query(f"SELECT '{_OWN}' || v FROM one")
            + _batch(_use("many", _OWN)),
        ),
        4,
    ),
    Question(
        "copy out",
        (query(f"COPY (SELECT g, '{_OWN}' FROM generate_series(1, 20) g) TO STDOUT"),),
    ),
    Question(
        "transaction",
        (
            query("BEGIN"),
            query(f"INSERT INTO notes VALUES ('{_OWN}') RETURNING v"),
            _batch(_use("own", _OWN)),
            query(f"SELECT v || '' FROM notes WHERE v = '{_OWN}'"),
            query("ROLLBACK"),
        ),
    ),
    Question(
        "failed transaction",
        (query("BEGIN"), query(_WRONG), query(f"SELECT '{_OWN}'"), query("ROLLBACK")),
        1,
    ),
    Question(
        "copy in",
        (
            query("BEGIN")
            + query("COPY notes FROM STDIN")
            + wire.copy_data(f"{_OWN}\n".encode()) * 3
            + wire.COPY_DONE,
            query(f"SELECT count(*), min(v) FROM notes WHERE v = '{_OWN}'"),
            query("ROLLBACK"),
        ),
        1,
    ),
    Question(
        "prepare by SQL",
        (
            query(f"PREPARE mine AS SELECT '{_OWN}'"),
            query("EXECUTE mine"),
            query("DEALLOCATE mine"),
        ),
        1,
    ),
    Question(
        "temporary",
        (
            query("BEGIN"),
            query(f"CREATE TEMP TABLE mine ON COMMIT DROP AS SELECT '{_OWN}'::text AS v"),
            query("SELECT v || '' FROM mine"),
            query("COMMIT"),
        ),
        1,
    ),
    Question("slow", (query(f"SELECT '{_OWN}' FROM pg_sleep(0.03)"),), 1, is_slow=True),
)

# What is not for `Exchange.may_fail`: what later questions count on.
_STATEFUL: Final = ("prepare", "set", "prepare by SQL")


def templates(port: int, database: str) -> dict[str, list[Exchange]]:
    """Ask PostgreSQL itself all questions; returns them by name, with placeholders.

    Raises:
        OSError: it cannot be reached.
    """
    found = {}
    with (
        wire.WireClient.login(port, database) as named,
        wire.WireClient.login(port, database) as plain,
    ):
        plain.ask(_PREPARE)
        for question in QUESTIONS:
            client = plain if question.named is False else named
            may_fail = len(question.requests) == 1 and question.name not in _STATEFUL
            exchanges = []
            for request in question.requests:
                ends = _ends(request)
                replies = client.ask(request, until="Z" * ends)
                reply = b"".join(wire.message(each.kind, each.body) for each in replies)
                exchanges.append(
                    Exchange(
                        question.name,
                        request,
                        reply,
                        ends,
                        len(replies),
                        question.is_slow,
                        may_fail and ends == 1,
                    )
                )
            found[question.name] = exchanges
    return found


def _ends(request: bytes) -> int:
    """How many ReadyForQuery a request asks for."""
    pos = found = 0
    while pos < len(request):
        found += request[pos : pos + 1] in (b"Q", b"S")
        pos += 1 + int.from_bytes(request[pos + 1 : pos + 5], "big")
    return found


def program(
    templates: dict[str, list[Exchange]],
    client: int,
    rng: Random,
    length: int,
    *,
    asks_large: bool,
    is_named: bool,
) -> list[Exchange]:
    """What one client asks, over and over; it begins by setting all that is counted on."""
    choice = [
        each
        for each in QUESTIONS
        if (asks_large or not each.is_large) and each.named in (None, is_named)
    ]
    drawn = rng.choices(choice, [each.weight for each in choice], k=length)
    found: list[Exchange] = []
    tokens = {"home": b"", "name": b""}
    # It sets the name at its end, too: what is set twice is reported once.
    name = [SET_NAME] if is_named else []
    for number, question in enumerate([PREPARE, *name, *drawn, *name]):
        own = token(client, number)
        if question.sets:
            tokens[question.sets] = own
        found += [_filled(each, own, **tokens) for each in templates[question.name]]
    return found


def _filled(template: Exchange, own: bytes, home: bytes, name: bytes) -> Exchange:
    def fill(data: bytes) -> bytes:
        data = data.replace(_OWN.encode(), own)
        return data.replace(_HOME.encode(), home).replace(_NAME.encode(), name)

    return replace(template, request=fill(template.request), reply=fill(template.reply))
