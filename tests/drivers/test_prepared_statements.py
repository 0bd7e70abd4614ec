"""Prepared statements of clients that share one server connection."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from psycopg import pq

from .conftest import SINGLE, STATEMENT, TINY_CACHE, TINY_CACHE_SIZE, TRANSACTION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg.pq.abc import PGconn, PGresult

    from .conftest import Proxied

INT8 = 20
ERROR = pq.ExecStatus.FATAL_ERROR
TUPLES = pq.ExecStatus.TUPLES_OK
COMMAND = pq.ExecStatus.COMMAND_OK


@pytest.fixture
def clients(proxied: Proxied) -> Iterator[list[PGconn]]:
    """Three clients of the pool that has one server connection."""
    with ExitStack() as stack:
        yield [stack.enter_context(proxied.libpq(SINGLE)) for _ in range(3)]


def prepare(client: PGconn, name: str, sql: str, types: list[int] | None = None) -> None:
    result = client.prepare(name.encode(), sql.encode(), types)
    assert result.status == COMMAND, result.error_message


def value(result: PGresult) -> str:
    assert result.status == TUPLES, result.error_message
    found = result.get_value(0, 0)
    assert found is not None
    return found.decode()


def execute(client: PGconn, name: str, *params: str) -> str:
    return value(client.exec_prepared(name.encode(), [param.encode() for param in params]))


def sqlstate(result: PGresult) -> str:
    assert result.status == ERROR, result.status
    code = result.error_field(pq.DiagnosticField.SQLSTATE)
    assert code is not None
    return code.decode()


def answers(client: PGconn, syncs: int) -> list[str]:
    """What comes back of a pipeline, a word for each result, up to so many Syncs."""
    found: list[str] = []
    while syncs:
        result = client.get_result()
        if result is None:
            continue
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            syncs -= 1
            found.append("sync")
        elif result.status == TUPLES:
            found.append(value(result))
        elif result.status == ERROR:
            found.append(sqlstate(result))
        else:
            found.append(pq.ExecStatus(result.status).name)
    return found


@pytest.mark.parametrize("name", ["", "same"])
def test_equal_names_with_different_texts_stay_apart(clients: list[PGconn], name: str) -> None:
    for number, client in enumerate(clients):
        prepare(client, name, f"SELECT 'text {number}'")
    for _ in range(2):
        for number, client in enumerate(clients):
            assert execute(client, name) == f"text {number}"


def test_equal_texts_with_different_names_are_one_statement_on_the_server(
    clients: list[PGconn],
) -> None:
    for number, client in enumerate(clients):
        prepare(client, f"name_{number}", "SELECT 'shared text' || $1::text")
        assert execute(client, f"name_{number}", "!") == "shared text!"
    count = clients[0].exec_(
        b"SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%shared text%'"
    )
    assert value(count) == "1"


def test_equal_texts_with_different_parameter_types_are_different_statements(
    clients: list[PGconn],
) -> None:
    prepare(clients[0], "typed", "SELECT pg_typeof($1)", [INT8])
    prepare(clients[1], "typed", "SELECT pg_typeof($1)", [25])
    assert execute(clients[0], "typed", "1") == "bigint"
    assert execute(clients[1], "typed", "1") == "text"


def test_the_unnamed_statement_outlives_the_use_of_the_server_by_others(
    clients: list[PGconn],
) -> None:
    prepare(clients[0], "", "SELECT 'mine'")
    assert value(clients[1].exec_params(b"SELECT 'theirs'", None)) == "theirs"
    assert value(clients[2].exec_(b"SELECT 'simple'")) == "simple"
    assert execute(clients[0], "") == "mine"


def test_a_name_may_be_used_again_after_it_was_closed(clients: list[PGconn]) -> None:
    prepare(clients[0], "again", "SELECT 1")
    assert clients[0].close_prepared(b"again").status == COMMAND
    assert sqlstate(clients[0].exec_prepared(b"again", None)) == "26000"
    prepare(clients[0], "again", "SELECT 2")
    assert execute(clients[0], "again") == "2"


def test_closing_a_statement_leaves_those_of_others(clients: list[PGconn]) -> None:
    prepare(clients[0], "kept", "SELECT 'kept'")
    prepare(clients[1], "kept", "SELECT 'kept'")
    assert clients[0].close_prepared(b"kept").status == COMMAND
    assert clients[0].close_prepared(b"never existed").status == COMMAND
    assert execute(clients[1], "kept") == "kept"


def test_an_unknown_statement_is_refused_and_the_session_goes_on(
    clients: list[PGconn],
) -> None:
    prepare(clients[1], "known_to_another", "SELECT 1")
    for name in (b"unknown", b"known_to_another", b"", b"PGCAT_1", b"PGCAT_0"):
        assert sqlstate(clients[0].exec_prepared(name, None)) == "26000"
        assert sqlstate(clients[0].describe_prepared(name)) == "26000"
    assert value(clients[0].exec_(b"SELECT 1")) == "1"


def test_a_duplicate_name_is_refused_and_the_first_meaning_stays(
    clients: list[PGconn],
) -> None:
    prepare(clients[0], "taken", "SELECT 'first'")
    assert sqlstate(clients[0].prepare(b"taken", b"SELECT 'second'")) == "42P05"
    assert execute(clients[0], "taken") == "first"


def test_a_wrong_text_fails_each_time_and_leaves_its_name_free(
    clients: list[PGconn],
) -> None:
    for _ in range(2):
        assert sqlstate(clients[0].prepare(b"wrong", b"SELEKT 1")) == "42601"
    assert sqlstate(clients[1].prepare(b"other", b"SELEKT 1")) == "42601"
    prepare(clients[0], "wrong", "SELECT 'right'")
    assert execute(clients[0], "wrong") == "right"


def test_a_text_that_failed_is_prepared_once_it_is_right(
    clients: list[PGconn],
) -> None:
    sql = "SELECT count(*) FROM made_later"
    assert sqlstate(clients[0].prepare(b"late", sql.encode())) == "42P01"
    clients[1].exec_(b"CREATE TABLE made_later ()")
    prepare(clients[0], "late", sql)
    assert execute(clients[0], "late") == "0"
    clients[1].exec_(b"DROP TABLE made_later")


def test_a_statement_is_described_with_its_parameters_and_columns(
    clients: list[PGconn],
) -> None:
    prepare(clients[0], "described", "SELECT $1::bigint AS one, $2::text AS two")
    clients[1].exec_(b"SELECT 1")
    described = clients[0].describe_prepared(b"described")
    assert [described.param_type(number) for number in range(described.nparams)] == [20, 25]
    assert [described.fname(number) for number in range(described.nfields)] == [b"one", b"two"]


@pytest.mark.parametrize("sql", [b"DEALLOCATE ALL", b"DISCARD ALL", b"deallocate prepare all;"])
@pytest.mark.parametrize("extended", [False, True])
def test_deallocate_all_forgets_the_statements_of_this_client_only(
    clients: list[PGconn], sql: bytes, extended: bool
) -> None:
    for client in clients[:2]:
        prepare(client, "one", "SELECT 'one'")
        prepare(client, "two", "SELECT 'two'")
    dropper = clients[0]
    result = dropper.exec_params(sql, None) if extended else dropper.exec_(sql)
    assert result.status == COMMAND, result.error_message
    assert sqlstate(dropper.exec_prepared(b"one", None)) == "26000"
    prepare(dropper, "two", "SELECT 'new two'")
    assert execute(dropper, "two") == "new two"
    assert execute(clients[1], "one") == "one"
    assert execute(clients[1], "two") == "two"


@pytest.mark.parametrize("extended", [False, True])
def test_deallocate_of_a_name_forgets_that_name_of_this_client_only(
    clients: list[PGconn], extended: bool
) -> None:
    for client in clients[:2]:
        prepare(client, "Dropped", "SELECT 'dropped'")
        prepare(client, "stays", "SELECT 'stays'")
    dropper = clients[0]
    sql = b'DEALLOCATE "Dropped"'
    result = dropper.exec_params(sql, None) if extended else dropper.exec_(sql)
    assert result.status == COMMAND, result.error_message
    assert sqlstate(dropper.exec_prepared(b"Dropped", None)) == "26000"
    assert execute(dropper, "stays") == "stays"
    assert execute(clients[1], "Dropped") == "dropped"
    assert sqlstate(dropper.exec_(b"DEALLOCATE nobody_has_it")) == "26000"


@pytest.mark.parametrize("sql", [b"DEALLOCATE ALL", b"DEALLOCATE held"])
def test_deallocate_within_a_transaction_forgets_too(clients: list[PGconn], sql: bytes) -> None:
    prepare(clients[0], "held", "SELECT 'held'")
    prepare(clients[1], "held", "SELECT 'held'")
    clients[0].exec_(b"BEGIN")
    assert clients[0].exec_(sql).status == COMMAND
    assert sqlstate(clients[0].exec_prepared(b"held", None)) == "26000"
    clients[0].exec_(b"ROLLBACK")
    assert execute(clients[1], "held") == "held"


def test_a_failed_transaction_keeps_the_statements(clients: list[PGconn]) -> None:
    clients[0].exec_(b"BEGIN")
    prepare(clients[0], "survivor", "SELECT 'survivor'")
    assert sqlstate(clients[0].exec_(b"SELECT 1/0")) == "22012"
    assert sqlstate(clients[0].exec_(b"DEALLOCATE ALL")) == "25P02"
    assert sqlstate(clients[0].exec_prepared(b"survivor", None)) == "25P02"
    clients[0].exec_(b"ROLLBACK")
    clients[1].exec_(b"SELECT 1")
    assert execute(clients[0], "survivor") == "survivor"


def test_prepare_in_sql_does_not_reach_the_next_client(clients: list[PGconn]) -> None:
    clients[0].exec_(b"BEGIN")
    assert clients[0].exec_(b"PREPARE in_sql AS SELECT 'mine'").status == COMMAND
    assert value(clients[0].exec_(b"EXECUTE in_sql")) == "mine"
    assert execute(clients[0], "in_sql") == "mine"
    clients[0].exec_(b"COMMIT")
    assert sqlstate(clients[1].exec_(b"EXECUTE in_sql")) == "26000"
    assert sqlstate(clients[1].exec_prepared(b"in_sql", None)) == "26000"


def test_more_statements_than_the_server_may_have(proxied: Proxied) -> None:
    with proxied.libpq(TINY_CACHE) as first, proxied.libpq(TINY_CACHE) as second:
        for number in range(500):
            for client in (first, second):
                prepare(client, f"s{number}", f"SELECT {number} + $1::int")
            assert execute(first, f"s{number}", "1") == str(number + 1)
        for number in (0, 499, 7, 250, 0, 1, 2, 3, 4, 5, 6, 7):
            assert execute(first, f"s{number}", "0") == str(number)
            assert execute(second, f"s{number}", "0") == str(number)
        count = value(first.exec_(b"SELECT count(*) FROM pg_prepared_statements"))
        assert int(count) <= TINY_CACHE_SIZE


def test_a_pipeline_may_use_more_statements_than_the_server_may_have(
    proxied: Proxied,
) -> None:
    count = 4 * TINY_CACHE_SIZE
    with proxied.libpq(TINY_CACHE) as client:
        client.enter_pipeline_mode()
        for number in range(count):
            client.send_prepare(f"p{number}".encode(), f"SELECT {number}".encode(), None)
        client.pipeline_sync()
        for number in (*range(count), *range(count)):
            client.send_query_prepared(f"p{number}".encode(), None)
        client.pipeline_sync()
        found = answers(client, 2)
    numbers = [str(number) for number in range(count)]
    assert found == [*["COMMAND_OK"] * count, "sync", *numbers, *numbers, "sync"]


@pytest.mark.parametrize("pool", [SINGLE, TRANSACTION, TINY_CACHE])
def test_a_parse_that_fails_in_a_pipeline_takes_what_follows_with_it(
    proxied: Proxied, pool: str
) -> None:
    with proxied.libpq(pool) as client, proxied.libpq(pool) as other:
        client.enter_pipeline_mode()
        client.send_prepare(b"before", b"SELECT 'before'", None)
        client.send_query_prepared(b"before", None)
        client.send_prepare(b"failing", b"SELEKT", None)
        client.send_prepare(b"skipped", b"SELECT 'skipped'", None)
        client.send_query_prepared(b"skipped", None)
        client.pipeline_sync()
        client.send_query_prepared(b"before", None)
        client.pipeline_sync()
        client.send_query_prepared(b"skipped", None)
        client.pipeline_sync()
        client.send_prepare(b"skipped", b"SELECT 'second try'", None)
        client.send_query_prepared(b"skipped", None)
        client.pipeline_sync()
        found = answers(client, 4)
        prepare(other, "skipped", "SELECT 'skipped'")
        assert execute(other, "skipped") == "skipped"
    assert found == [
        *("COMMAND_OK", "before", "42601", "PIPELINE_ABORTED", "PIPELINE_ABORTED", "sync"),
        *("before", "sync"),
        *("26000", "sync"),
        *("COMMAND_OK", "second try", "sync"),
    ]


def test_a_close_that_is_skipped_in_a_pipeline_closes_nothing(
    clients: list[PGconn],
) -> None:
    client = clients[0]
    prepare(client, "open", "SELECT 'open'")
    client.enter_pipeline_mode()
    client.send_query_params(b"SELECT 1/0", None)
    client.send_close_prepared(b"open")
    client.pipeline_sync()
    client.send_query_prepared(b"open", None)
    client.pipeline_sync()
    assert answers(client, 2) == ["22012", "PIPELINE_ABORTED", "sync", "open", "sync"]


def test_statements_work_in_batches_of_an_open_transaction(clients: list[PGconn]) -> None:
    client, other = clients[0], clients[1]
    prepare(client, "tx", "SELECT $1::text")
    client.exec_(b"BEGIN")
    other.send_query(b"SELECT 'waits'")
    for word in ("one", "two"):
        assert execute(client, "tx", word) == word
    client.exec_(b"COMMIT")
    result = other.get_result()
    assert result is not None
    assert value(result) == "waits"


def test_statement_mode_knows_prepared_statements_too(proxied: Proxied) -> None:
    with proxied.libpq(STATEMENT) as first, proxied.libpq(STATEMENT) as second:
        prepare(first, "name", "SELECT 'first'")
        prepare(second, "name", "SELECT 'second'")
        for _ in range(3):
            assert execute(first, "name") == "first"
            assert execute(second, "name") == "second"


def test_statements_stay_usable_when_the_configuration_is_read_again(
    proxied: Proxied, clients: list[PGconn]
) -> None:
    prepare(clients[0], "reloaded", "SELECT 'still here'")
    proxied.router.reload(proxied.config)
    assert execute(clients[0], "reloaded") == "still here"
    # A pool that has changed is made anew, and so are its servers.
    changed = proxied.config.replace(
        'pool_mode = "transaction"', 'pool_mode = "transaction"\nidle_timeout = 31000'
    )
    proxied.router.reload(changed)
    assert execute(clients[0], "reloaded") == "still here"
    proxied.router.reload(proxied.config)
    assert execute(clients[0], "reloaded") == "still here"


def test_a_changed_result_type_fails_as_it_does_without_a_router(
    proxied: Proxied, clients: list[PGconn]
) -> None:
    clients[1].exec_(b"CREATE TABLE changing AS SELECT 1 AS a")
    prepare(clients[0], "plan", "SELECT * FROM changing")
    assert execute(clients[0], "plan") == "1"
    clients[1].exec_(b"ALTER TABLE changing ADD b int DEFAULT 2")
    # A client that prepares it only now has not seen the old shape and must not suffer for it.
    prepare(clients[2], "plan", "SELECT * FROM changing")
    fresh = clients[2].exec_prepared(b"plan", None)
    assert fresh.status == TUPLES, fresh.error_message
    assert fresh.nfields == 2
    clients[1].exec_(b"DROP TABLE changing")


def test_long_names_and_names_beyond_ascii(clients: list[PGconn]) -> None:
    for name in ("n" * 16_000, "Größe", 'quo"ted'):
        prepare(clients[0], name, f"SELECT '{len(name)}'")
        clients[1].exec_(b"SELECT 1")
        assert execute(clients[0], name) == str(len(name))


def test_a_known_statement_is_prepared_while_others_hold_all_servers(
    clients: list[PGconn],
) -> None:
    # pgbench does this: one thread serves many clients and waits for each Parse.
    prepare(clients[0], "begin", "BEGIN")
    assert clients[0].exec_prepared(b"begin", None).status == COMMAND
    prepare(clients[1], "begin", "BEGIN")
    prepare(clients[1], "gone", "BEGIN")
    assert clients[1].close_prepared(b"gone").status == COMMAND
    assert sqlstate(clients[0].exec_(b"SELECT 1/0")) == "22012"
    clients[0].exec_(b"ROLLBACK")
    assert clients[1].exec_prepared(b"begin", None).status == COMMAND
    assert clients[1].transaction_status == pq.TransactionStatus.INTRANS
    clients[1].exec_(b"ROLLBACK")


@pytest.mark.parametrize("extended", [False, True])
def test_discard_all_is_refused_in_a_transaction_and_then_forgets_nothing(
    clients: list[PGconn], extended: bool
) -> None:
    client = clients[0]
    prepare(client, "kept", "SELECT 'kept'")
    client.exec_(b"BEGIN")
    refused = (
        client.exec_params(b"DISCARD ALL", None) if extended else client.exec_(b"DISCARD ALL")
    )
    assert sqlstate(refused) == "25001"
    assert client.transaction_status == pq.TransactionStatus.INERROR
    client.exec_(b"ROLLBACK")
    assert execute(client, "kept") == "kept"


def test_statements_that_follow_a_deallocate_all_in_a_pipeline_are_new(
    clients: list[PGconn],
) -> None:
    client = clients[0]
    prepare(client, "a", "SELECT 'old a'")
    client.enter_pipeline_mode()
    client.send_query_prepared(b"a", None)
    client.send_query_params(b"DEALLOCATE ALL", None)
    client.send_prepare(b"a", b"SELECT 'new a'", None)
    client.send_query_prepared(b"a", None)
    client.pipeline_sync()
    client.send_query_prepared(b"a", None)
    client.pipeline_sync()
    assert answers(client, 2) == [
        *("old a", "COMMAND_OK", "COMMAND_OK", "new a", "sync"),
        *("new a", "sync"),
    ]


def test_a_deallocate_all_that_is_skipped_forgets_nothing(clients: list[PGconn]) -> None:
    client = clients[0]
    prepare(client, "a", "SELECT 'a'")
    client.enter_pipeline_mode()
    client.send_query_params(b"SELECT 1/0", None)
    client.send_query_params(b"DEALLOCATE ALL", None)
    client.pipeline_sync()
    client.send_query_prepared(b"a", None)
    client.pipeline_sync()
    assert answers(client, 2) == ["22012", "PIPELINE_ABORTED", "sync", "a", "sync"]


def test_a_table_that_is_changed_past_the_router_fails_no_statement(
    proxied: Proxied, clients: list[PGconn]
) -> None:
    with proxied.direct() as directly:
        directly.execute("CREATE TABLE changing_behind AS SELECT 1 AS a")
        prepare(clients[0], "plan", "SELECT * FROM changing_behind")
        assert execute(clients[0], "plan") == "1"
        directly.execute("ALTER TABLE changing_behind ADD b int DEFAULT 2")
        # PostgreSQL would go on failing; here the statement is prepared anew, and run again.
        assert clients[0].exec_prepared(b"plan", None).nfields == 2
        directly.execute("DROP TABLE changing_behind")
