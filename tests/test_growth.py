"""Whoever reads what clients send takes time in proportion to it, whatever it is.

A text of 256 KiB takes some milliseconds so. If time grew with the square of its length, it
would take minutes, and longer than anybody lives if it grew faster: so nothing depends on how
fast this machine is, or on what else it does.
"""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import multiprocessing
import sys
from typing import TYPE_CHECKING, Final

import pytest

from router.admin import statements
from router.errors import ClientError, RouterError
from router.faults import Faults, Ledger
from router.plugins import intercept, query_logger, table_access
from router.protocol import features, marks, naming
from router.queries import shown
from router.routing import arrays, commands, comments, explain, fingerprint, literals, positions
from router.routing.limits import TooComplex
from router.routing.tokens import fold, statements_of
from router.session import answered

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE: Final = 256 << 10
# Of readers that make an object of each token.
SIZES: Final = {"names": 32 << 10, "forms": 128 << 10, "console": 128 << 10}
LONGEST_SECONDS: Final = 8

PIECES: Final = (
    *(b"'", b"''", b'"', b'""', b"$$", b"$a$", b"$", b"a$", b"$1", b"e'", b"e'\\", b"u&'"),
    *(b"\\", b"\\'", b"/*", b"*/", b"/", b"*", b"*a", b"/a", b"/**/", b"--", b"-- \n", b"-"),
    *(b" ", b"\n", b" \n", b"\0", b";", b";/*", b";--\n", b"--;\n", b";\n", b",", b".", b"="),
    *(b"(", b")", b"[", b"{", b"{,", b"in (1,", b"values (1,", b"(1),", b"array[1,", b"1::a,"),
    *(b"1", b"1 ", b"1.", b"1e", b"0x", b"a", b"a ", b"a.", b"a1", b"::", b"\x80", b"\xff"),
    *(b"set ", b"set a", b"set a.b=", b"set/*", b"set --\n", b"reset ", b"reset a.", b" to "),
    *(b"; set ", b";set--;\n", b"alter ", b"password", b"password ", b"password /*"),
    *(b"password--", b"password=", b"password '", b"execute ", b"execute '", b"prepare a as "),
    *(b"set_config(", b"set_config('a.b", b"'a.b'", b"$a.b$", b"'a.", b"with hold", b"temp "),
    *(b"discard ", b"explain ", b"case when a then ", b"do $$", b"0/1,", b"0:1:0/1,"),
)
STARTS: Final = (b"", b"/*", b"'", b"e'", b"select (")
STARTS_OF: Final = {
    "marks": (b"execute set_config reset temp -- \n", b"select set_config('a.b', "),
    "names": (b"prepare a as ", b"deallocate a; execute b; "),
    "forms": (b"set a = b; ", b"alter role a password "),
    "passwords": (b"password ", b"password /*", b"password '", b"password = "),
    "EXPLAIN ROUTE": (b"explain route ", b"/**/ explain route select "),
    "commands": (b"set shard to ", b"set sharding key to '", b"show shard "),
    "DEALLOCATE": (b"deallocate ", b'deallocate "'),
    "arrays": (b"{", b'{"', b"{a,"),
    "canned answers": (b"select $1, ",),
}


def _text_of(text: bytes) -> None:
    for escaped in (False, True):
        literals.text_of(b"'" + text + b"'", escaped=escaped)


def _explained(text: bytes) -> None:
    explain.parameter_count(explain.explained(text) or b"")


def _comments(text: bytes) -> None:
    for limit in (1, 1000, len(text)):
        fingerprint.comments_of(text, limit)


READERS: Final[dict[str, Callable[[bytes], object]]] = {
    "marks": marks.of_text,
    "names": naming._statements,
    "features": lambda text: features._COMMAND.findall(text.decode("latin-1")),
    "fingerprint": fingerprint.fingerprint_of,
    "short fingerprint": fingerprint.short_fingerprint_of,
    "comments": _comments,
    "tokens": lambda text: statements_of(fold(text)),
    "forms": shown,
    "passwords": query_logger.without_passwords,
    "tables": table_access.TableAccess(("users",))._judge,
    "canned answers": intercept.normal_form,
    "commands": commands.worded,
    "EXPLAIN ROUTE": _explained,
    "DEALLOCATE": answered.deallocation,
    "console": lambda text: statements.split(text.decode("latin-1")),
    "arrays": arrays.members_of_text,
    "strings": _text_of,
    "positions": lambda text: positions.positions_of(text.decode("latin-1")),
    "what is not UTF-8": comments._in_utf8,
    "errors": lambda text: Ledger(Faults(lambda: 0.0), "", "").note_message(
        "XX000", text.decode("latin-1")
    ),
}


def read_all(name: str) -> None:
    """Read all texts; ends the process where one takes too long."""
    read = READERS[name]
    for start, piece in itertools.product(STARTS + STARTS_OF.get(name, ()), PIECES):
        text = start + piece * (SIZES.get(name, SIZE) // len(piece))
        for whole in (text, text + b" x'") if start else (text,):
            sys.stderr.write(f"{name}: {start!r}, {piece!r}\n")
            faulthandler.dump_traceback_later(LONGEST_SECONDS, exit=True)
            with contextlib.suppress(ValueError, RouterError, ClientError, TooComplex):
                read(whole)
    faulthandler.cancel_dump_traceback_later()


@pytest.mark.parametrize("name", READERS)
def test_time_grows_with_the_length_of_a_text(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    process = multiprocessing.get_context("spawn").Process(target=read_all, args=(name,))
    process.start()
    process.join()
    assert process.exitcode == 0, capfd.readouterr().err[-2000:]
