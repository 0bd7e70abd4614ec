"""Prepared statements that follow their text."""

from __future__ import annotations

from router.protocol.marks import HARMLESS
from router.protocol.prepared import ServerStatements, StatementRegistry, is_reserved


def registry(capacity: int) -> StatementRegistry[str]:
    """One whose analysis of a text is the text."""
    return StatementRegistry(capacity, lambda text: (text.decode(), HARMLESS))


def body(text: str, *types: int) -> bytes:
    """What follows the name in a Parse."""
    return (
        text.encode() + b"\0" + len(types).to_bytes(2) + b"".join(t.to_bytes(4) for t in types)
    )


def test_the_same_body_is_the_same_statement() -> None:
    found = registry(10)
    one = found.get(body("SELECT $1", 23), "")
    assert found.get(body("SELECT $1", 23), "") is one
    assert one.text == b"SELECT $1"
    assert one.analysis == "SELECT $1"


def test_types_and_context_make_another_statement() -> None:
    found = registry(10)
    names = {
        found.get(body("SELECT $1", 23), "").name,
        found.get(body("SELECT $1", 25), "").name,
        found.get(body("SELECT $1", 23), "other_schema").name,
    }
    assert len(names) == 3
    assert all(map(is_reserved, names))


def test_a_registry_forgets_what_was_parsed_longest_ago() -> None:
    found = registry(2)
    one = found.get(body("1"), "")
    two = found.get(body("2"), "")
    assert found.get(body("1"), "") is one
    found.get(body("3"), "")
    assert found.get(body("1"), "") is one
    assert found.get(body("2"), "") is not two
    assert len(found) == 2


def test_a_server_closes_what_was_used_longest_ago() -> None:
    names = ServerStatements(2)
    assert names.add(b"a") is None
    assert names.add(b"b") is None
    assert names.use(b"a")
    assert names.add(b"c") == b"b"
    assert not names.use(b"b")
    assert (names.hits, names.misses, names.evictions, len(names)) == (1, 1, 1, 2)


def test_a_statement_that_was_never_made_is_forgotten() -> None:
    names = ServerStatements(2)
    names.add(b"a")
    names.discard(b"a")
    assert not names.use(b"a")
    names.restore(b"a")
    assert names.use(b"a")
    names.clear()
    assert len(names) == 0
