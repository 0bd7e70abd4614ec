"""Why tests that pass directly do not pass through the router, as far as that is known."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from .places import SESSION, TRANSACTION

UNEXPLAINED: Final = "not explained"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A reason for the failure of all tests whose names match, in some places."""

    suites: str
    tests: str
    reason: str
    places: tuple[str, ...] = (SESSION, TRANSACTION)


_SYNTHETIC_PID: Final = (
    "asks for the process that it was told of at its login, which is the router's own number: "
    "the real one is that of `pg_backend_pid()`"
)
_OTHER_PROCESS: Final = (
    "ends a process of which it was told in an earlier transaction: it may be another's by now"
)
_ROUTERS_STATEMENTS: Final = (
    "counts pg_prepared_statements, which has those of the router, for all clients"
)
EXPLANATIONS: Final[tuple[Explanation, ...]] = (
    Explanation(
        "asyncpg",
        "pool_implicit_init_size",
        "needs 21 connections at once, and the pool has 20",
        (SESSION,),
    ),
    Explanation(
        "asyncpg",
        "executemany_server_failure_during_writes",
        "expects an error before it has sent 4 MiB: with a router between, more of that is on "
        "its way, so that it depends on who is quicker",
    ),
    Explanation(
        "pg8000",
        "legacy.*test_scram_sha_256",
        "passes if the database of another test is there, which has no pool",
    ),
    Explanation(
        "asyncpg",
        "type_cache_invalidation_in_pool|basetypes_of_domains|introspection_on_large_db",
        "makes a database and connects to it: there is no pool for it",
    ),
    Explanation(
        "regress",
        "::(guc|stats|temp)$",
        "expects a new process behind each connection, which has loaded no library, made no "
        "schema for temporary tables and is counted as a new one",
    ),
    Explanation("asyncpg", "TestListeners|restored_after_idle_connection_loss", _SYNTHETIC_PID),
    Explanation(
        "node",
        "can only send 1 query",
        "counts connections by their last statement, and finds all those of the pool",
        (TRANSACTION,),
    ),
    Explanation("pq", "TestSSL", "logs in as users that are not configured at the router"),
    Explanation("pq", "TestRuntimeParameters(/#00)?$", "the error has another wording"),
    Explanation(
        "pg8000",
        "broken_pipe|BrokenPipe",
        _OTHER_PROCESS,
        (TRANSACTION,),
    ),
    Explanation(
        "asyncpg",
        "execute_script_interrupted_by_server",
        _OTHER_PROCESS,
        (TRANSACTION,),
    ),
    Explanation(
        "pq",
        "TestPing",
        _OTHER_PROCESS,
        (TRANSACTION,),
    ),
    Explanation(
        "pg8000",
        "close_prepared_statement",
        _ROUTERS_STATEMENTS,
        (TRANSACTION,),
    ),
    Explanation(
        "asyncpg",
        "no_stmt_cache",
        _ROUTERS_STATEMENTS,
        (TRANSACTION,),
    ),
    Explanation(
        "asyncpg",
        "prepare_explicitly_named",
        "prepares by the protocol and executes by SQL: the servers know it by another name",
        (TRANSACTION,),
    ),
)


def explain(place: str, suite: str, test: str) -> str:
    """Return the reason why a test does not pass in a place."""
    for one in EXPLANATIONS:
        if (
            place in one.places
            and re.fullmatch(one.suites, suite)
            and re.search(one.tests, test)
        ):
            return one.reason
    return UNEXPLAINED
