"""A program that says what the package makes of all inputs, a line for each.

Run with the argument "plain" it uses the plain files, also where they are compiled.
"""

from __future__ import annotations

import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from random import Random
from typing import TYPE_CHECKING

import router

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 300


def use_plain_files() -> None:
    """Make Python overlook what is compiled in the package."""
    places = tuple(router.__path__)

    def finder(path: str) -> FileFinder:
        if not path.startswith(places):
            raise ImportError(path)
        return FileFinder(path, (SourceFileLoader, SOURCE_SUFFIXES))

    sys.path_hooks.insert(0, finder)
    sys.path_importer_cache.clear()


def outcome(call: Callable[[], object]) -> str:
    """What comes of a call; of our own errors also what they say."""
    from router.errors import RouterError

    try:
        return ascii(call())
    except (RouterError, ValueError) as error:
        return f"{type(error).__name__}: {error!a}"
    except Exception as error:
        return type(error).__name__


def of_texts() -> Iterator[tuple[bytes, str, str]]:
    """What is made of texts."""
    from router.protocol import marks
    from router.routing import explain, tokens
    from router.routing.classify import ClassifierOptions, classify
    from router.routing.columns import ShardedTables
    from router.routing.fingerprint import fingerprint_of
    from router.routing.router import QueryRouter
    from router.routing.state import RoutingState
    from router.routing.types import RouterOptions
    from tests.routing.commanded import command_in

    from . import inputs

    keyed = ClassifierOptions(sharded=ShardedTables.of("*.id"))
    options = RouterOptions(
        query_parser_enabled=True,
        query_parser_read_write_splitting=True,
        shard_count=3,
        automatic_sharding_key=("t.id", "*.tenant"),
        omnisharded_tables=("u",),
    )
    strict, state = QueryRouter(options), RoutingState()
    calls: dict[str, Callable[[bytes], object]] = {
        "fingerprint": fingerprint_of,
        "tokens": lambda text: tokens.statements_of(tokens.fold(fingerprint_of(text)[0])),
        "classify": lambda text: classify(text, keyed),
        "route": lambda text: strict.route(text, state),
        "again": lambda text: strict.route(text, state),
        "command": command_in,
        "explain": explain.explained,
        "marks": marks.of_text,
    }
    for text in inputs.texts():
        for name, call in calls.items():
            yield text, name, outcome(lambda call=call, text=text: call(text))  # type: ignore[misc]


def quoted(data: bytes) -> bytes:
    """Write data as a literal, in which backslashes mean what they like."""
    return b"'" + data.replace(b"'", b"''") + b"'"


def of_values() -> Iterator[tuple[bytes, str, str]]:
    """What is made of keys, literals and arrays."""
    from router.protocol import messages
    from router.routing import arrays, hashing, keyvalues, literals
    from router.routing.fingerprint import string_value

    from . import inputs

    calls: dict[str, Callable[[bytes], object]] = {
        "integer": keyvalues.integer,
        "negative": lambda data: keyvalues.integer(data, negative=True),
        "bigint": lambda data: hashing.pg_bigint_hash(keyvalues.parse_key(data), 7),
        "bigint sha1": lambda data: hashing.sha1(keyvalues.parse_key(data), 7),
        "uuid": lambda data: hashing.pg_uuid_hash(keyvalues.parse_uuid(data), 7),
        "text": lambda data: hashing.pg_text_hash(keyvalues.parse_text(data), 7),
        "text parameter": lambda data: keyvalues.parameter_key(data, binary=False),
        "binary parameter": lambda data: keyvalues.parameter_key(data, binary=True, oid=20),
        "array": arrays.members_of_text,
        "binary array": arrays.members_of_binary,
        "string": lambda data: string_value(quoted(data)),
        "dollars": lambda data: string_value(b"$t$" + data + b"$t$"),
        "literal": lambda data: literals.text_of(quoted(data), escaped=False),
        "escaped": lambda data: literals.text_of(quoted(data), escaped=True),
        "row": messages.parse_data_row,
        "error": messages.parse_error_fields,
    }
    for value in inputs.values():
        for name, call in calls.items():
            yield value, name, outcome(lambda call=call, value=value: call(value))  # type: ignore[misc]


def of_sessions() -> Iterator[tuple[bytes, str, str]]:
    """What clients get, and what servers are sent, in sessions without sockets."""
    from router.routing.types import RouterOptions
    from tests.support.harness import Harness

    from . import inputs

    for number in range(ROUNDS):
        random = Random(inputs.SEED + number)
        harness = Harness(
            servers=((True, False), (True, False)),
            options=RouterOptions(
                shard_count=2,
                query_parser_enabled=True,
                query_parser_read_write_splitting=True,
                automatic_sharding_key="t.id",
            ),
        )
        clients = [harness.connect() for _ in range(3)]
        for step in range(40):
            place = random.randrange(len(clients))
            if clients[place].ended:
                clients[place] = harness.connect()
            client = clients[place]
            data = b"".join(inputs.client_messages(random))

            def act() -> object:
                harness.ask(client, data)  # noqa: B023
                return client.got, client.ended  # noqa: B023

            yield data, f"session {number}.{step}", outcome(act)
            if random.random() < 0.2:
                harness.engine.advance(random.randrange(10))


def of_streams() -> Iterator[tuple[bytes, str, str]]:
    """What is made of a server's bytes, however they are cut."""
    from router.protocol.segments import Segment
    from tests.protocol.test_backend import Sink, expecting

    from . import inputs

    for number in range(ROUNDS):
        random = Random(inputs.SEED + number)
        sink = Sink()
        stream = expecting(*(Segment(random.choice((sink, None))) for _ in range(4)))
        data = b"".join(inputs.server_messages(random) for _ in range(20))
        while data:
            size = random.randrange(1, 60)
            piece, data = data[:size], data[size:]

            def act() -> object:
                stream.feed(piece)  # noqa: B023
                return sink.got, sink.statuses, stream.events, stream.status  # noqa: B023

            yield piece, f"stream {number}", outcome(act)


def main() -> None:
    """Write the outcomes."""
    if sys.argv[1:] == ["plain"]:
        use_plain_files()
    for outcomes in (of_texts, of_values, of_streams, of_sessions):
        for given, name, found in outcomes():
            print(f"{name} {given[:200]!a}: {found}")  # noqa: T201
    from router.routing import fingerprint

    print(fingerprint.__file__, file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main()
