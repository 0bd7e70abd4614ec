"""Messages of every size, cut into pieces in every way: through the router as to PostgreSQL.

What a message asks for says how long it was, so that an answer proves that all of it arrived.
Between two pieces the router has read what came before: none are put together on the way.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from router.engine.link import HIGH_WATER, LOW_WATER, MAX_RECV, MEDIUM_RECV, MIN_RECV
from router.protocol.framing import TEXT_LIMIT
from router.protocol.frontend import HOLD_LIMIT
from router.session.batch import BATCH_LIMIT
from tests.support.wire import (
    COPY_DONE,
    SSL_REQUEST,
    SYNC,
    Message,
    WireClient,
    bind,
    close,
    copy_data,
    copy_fail,
    describe,
    execute,
    function_call,
    kinds,
    parse,
    query,
    rows,
    run,
    startup,
)

if TYPE_CHECKING:
    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.router import RouterProcess

pytestmark = pytest.mark.slow

TLS = Path(__file__).parent.parent / "config/tls"
LENGTH = 1317  # the oid of length(text)
# Whatever has a limit of its own; the longest message that is held as a whole is among them.
LIMITS = sorted(
    {
        MIN_RECV,
        MEDIUM_RECV,
        BATCH_LIMIT,
        HOLD_LIMIT,
        LOW_WATER,
        MAX_RECV,
        128 * 1024,
        HIGH_WATER,
        TEXT_LIMIT,
    }
)
LONGEST = TEXT_LIMIT + MAX_RECV + 10_000

sizes = st.one_of(
    st.builds(int.__add__, st.sampled_from(LIMITS), st.integers(-9, 9)),
    st.integers(100, LONGEST),
)

# Each makes messages of which one has so many bytes, and says what the answer is.
Program = Callable[[int], tuple[bytes, str, list[list[bytes | None]]]]


def padded(make: Callable[[bytes], bytes], size: int) -> tuple[bytes, int]:
    """A message of so many bytes with a filler in it, and the filler's length."""
    length = size - len(make(b""))
    return make(b"x" * length), length


def a_query(size: int) -> tuple[bytes, str, list[list[bytes | None]]]:
    data, length = padded(lambda filler: query(b"SELECT length('%b')" % filler), size)
    return data, "TDCZ", [[b"%d" % length]]


def a_comment(size: int) -> tuple[bytes, str, list[list[bytes | None]]]:
    data, _ = padded(lambda filler: query(b"/* %b */ SELECT 7" % filler), size)
    return data, "TDCZ", [[b"7"]]


def a_parse(size: int) -> tuple[bytes, str, list[list[bytes | None]]]:
    data, length = padded(lambda filler: parse(b"SELECT length('%b')" % filler), size)
    return data + bind() + execute() + SYNC, "12DCZ", [[b"%d" % length]]


def a_named_parse(size: int) -> tuple[bytes, str, list[list[bytes | None]]]:
    data, length = padded(lambda filler: parse(b"SELECT length('%b')" % filler, "s"), size)
    rest = bind(name="s") + execute() + close("S", "s") + SYNC
    return data + rest, "12DC3Z", [[b"%d" % length]]


def a_bind(size: int) -> tuple[bytes, str, list[list[bytes | None]]]:
    data, length = padded(bind, size)
    return (
        parse("SELECT length($1)") + data + execute() + SYNC,
        "12DCZ",
        [[b"%d" % length]],
    )


def two_binds(size: int) -> tuple[bytes, str, list[list[bytes | None]]]:
    data, length = padded(bind, size)
    more = data + execute()
    return (
        parse("SELECT length($1)") + more + more + SYNC,
        "12DC2DCZ",
        [[b"%d" % length]] * 2,
    )


def a_function_call(size: int) -> tuple[bytes, str, list[list[bytes | None]]]:
    data, _ = padded(lambda filler: function_call(LENGTH, filler), size)
    return data, "VZ", []


def a_copy(size: int) -> tuple[bytes, str, list[list[bytes | None]]]:
    data, _ = padded(lambda filler: copy_data(filler + b"\n"), size)
    return (
        query("BEGIN; CREATE TEMP TABLE c (v text); COPY c FROM STDIN")
        + data * 3
        + COPY_DONE
        + query("SELECT sum(length(v)) FROM c; ROLLBACK"),
        "CCGCZTDCCZ",
        [[b"%d" % (3 * (size - 6))]],
    )


def a_copy_fail(size: int) -> tuple[bytes, str, list[list[bytes | None]]]:
    size = 100 + size % 9_900  # longer ones PostgreSQL takes for nonsense
    data, _ = padded(lambda filler: copy_fail(filler.decode()), size)
    return query("COPY t FROM STDIN") + copy_data(b"0\tx\n") + data, "GEZ", []


def a_describe(size: int) -> tuple[bytes, str, list[list[bytes | None]]]:
    size = 100 + size % 9_900
    data, _ = padded(lambda filler: describe("P", filler.decode()), size)
    return data + SYNC + run("SELECT 5") + SYNC, "EZ12TDCZ", [[b"5"]]


def an_execute(size: int) -> tuple[bytes, str, list[list[bytes | None]]]:
    size = 100 + size % 9_900
    data, _ = padded(lambda filler: execute(filler.decode()), size)
    return data + SYNC + run("SELECT 5") + SYNC, "EZ12TDCZ", [[b"5"]]


PROGRAMS: list[Program] = [
    a_query,
    a_comment,
    a_parse,
    a_named_parse,
    a_bind,
    two_binds,
    a_function_call,
    a_copy,
    a_copy_fail,
    a_describe,
    an_execute,
]


@st.composite
def choppings(draw: st.DrawFn) -> Callable[[int], list[int]]:
    """Where to cut: returns the positions for bytes of a length."""
    piece = draw(st.sampled_from((0, 1, 1000, 1024, 8192, 8193, 65536, 100_000)))
    cuts = draw(st.lists(st.floats(0, 1), max_size=3))

    def positions(length: int) -> list[int]:
        found = {int(cut * length) for cut in cuts}
        if piece == 1:  # not all of it, which would take minutes
            starts = [0, *found, max(0, length - 100)]
            found |= {start + n for start in starts for n in range(100)}
        elif piece:
            found |= set(range(piece, length, piece))
        return sorted(cut for cut in found if 0 < cut < length)

    return positions


def send_chopped(client: WireClient, data: bytes, cuts: list[int]) -> None:
    """Send in pieces; the router has read each before the next is sent."""
    for start, end in pairwise([0, *cuts, len(data)]):
        client.send(data[start:end])
        client.wait_consumed()


def read_answers(client: WireClient, ready: int) -> list[Message]:
    """Read until so many ReadyForQuery have come."""
    return client.read_until("Z" * ready)


@pytest.fixture(scope="module")
def router(module_router: ModuleRouter, pool_for: PoolFor) -> RouterProcess:
    """One with a pool for each mode, and one that looks at texts."""
    return module_router(
        {
            "transaction": pool_for(),
            "session": pool_for(mode="session"),
            "parsing": pool_for(
                options="query_parser_enabled = true\n"
                "query_parser_read_write_splitting = true\n"
                "primary_reads_enabled = true"
            ),
        },
        f'tls_certificate = "{TLS / "certificate.pem"}"\ntls_private_key = "{TLS / "key.pem"}"',
    )


def over_tls(port: int, database: str) -> WireClient:
    """Log a client in over TLS."""
    client = WireClient(port)
    client.send(SSL_REQUEST)
    assert client.read_byte() == b"S"
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client.sock = context.wrap_socket(client.sock)
    client.send(startup({"user": "postgres", "database": database}))
    client.read_until("Z")
    return client


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # each failure waits for long: none is made smaller
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    size=sizes,
    chopping=choppings(),
    database=st.sampled_from(("transaction", "session", "parsing")),
    tls=st.booleans(),
)
def test_a_message_of_any_size_arrives_in_any_pieces(
    router: RouterProcess,
    program: Program,
    size: int,
    chopping: Callable[[int], list[int]],
    database: str,
    tls: bool,
) -> None:
    data, wanted, values = program(size)
    login = over_tls if tls else WireClient.login
    with login(router.port, database) as client:
        send_chopped(client, data, chopping(len(data)))
        answers = read_answers(client, wanted.count("Z"))
        assert kinds(answers) == wanted
        assert rows(answers) == values
        # The next one finds a clean server.
        assert client.value("SELECT 1") == "1"


@pytest.mark.parametrize("size", [HOLD_LIMIT + 1, 128 * 1024 + 6, TEXT_LIMIT + 5])
@pytest.mark.parametrize("program", [a_query, a_parse, a_bind, a_copy])
def test_what_waits_for_a_server_goes_on_when_there_is_one(
    router: RouterProcess, program: Program, size: int
) -> None:
    data, wanted, values = program(size)
    with (
        WireClient.login(router.port, "transaction") as holder,
        WireClient.login(router.port, "transaction") as client,
    ):
        holder.query("BEGIN")
        for start in range(0, len(data) // 2, 8192):
            client.send(data[start : min(start + 8192, len(data) // 2)])
        holder.query("COMMIT")
        client.send(data[len(data) // 2 :])
        answers = read_answers(client, wanted.count("Z"))
        assert kinds(answers) == wanted
        assert rows(answers) == values
