"""A transaction that defines something is on all shards, and ends on all of them alike."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.router import primary_of, wait_until
from tests.support.shards import (
    KEYED,
    PROTOCOLS,
    SHARDS,
    Shards,
    ask_all,
    ask_in_batches,
    ask_simply,
    kill_at_each_step,
    make_shards,
    pool_of,
    wired_shards,
)
from tests.support.wire import (
    FLUSH,
    SYNC,
    Ended,
    WireClient,
    bind,
    cancel,
    execute,
    kinds,
    parse,
    query,
    run,
    sqlstates,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster.server import Server
    from tests.support.router import RouterProcess
    from tests.support.wire import Message

pytestmark = pytest.mark.postgres


@PROTOCOLS
def test_it_is_committed_on_all_or_rolled_back(
    shards: Shards,
    ask: Callable[[WireClient, str], list[Message]],
) -> None:
    with shards.client() as client:
        ask_all(client, ask, "BEGIN", "CREATE TABLE a (id int)")
        assert shards.has("a") == [False] * SHARDS
        ask_all(client, ask, "CREATE INDEX a_id ON a (id)", "SET LOCAL search_path TO public")
        assert ask(client, "SELECT 1")[-1].body == b"T"
        answer = ask(client, "COMMIT")
        assert [kind for kind in kinds(answer) if kind not in "12nS"] == ["C", "Z"]
        assert answer[-1].body == b"I"
        assert shards.has("a_id") == [True] * SHARDS
        ask_all(client, ask, "BEGIN", "DROP TABLE a")
        answer = ask(client, "ROLLBACK")
        assert answer[-1].body == b"I"
        assert shards.has("a_id") == [True] * SHARDS
        assert client.value("SELECT 1") == "1"
    assert shards.left() == 0


@PROTOCOLS
@pytest.mark.parametrize("shard", range(SHARDS))
def test_what_one_shard_refuses_fails_onask_all(
    shards: Shards,
    ask: Callable[[WireClient, str], list[Message]],
    shard: int,
) -> None:
    shards.databases[shard].execute("CREATE TABLE a (other text)")
    with shards.client() as client:
        for first in ("CREATE TABLE b (id int)", "SELECT 1"):
            ask_all(client, ask, "BEGIN", first, "SAVEPOINT s_0", "SAVEPOINT mine")
            ask_all(client, ask, "CREATE TABLE c (id int)", "SAVEPOINT s_1")
            answer = ask(client, "CREATE TABLE a (id int)")
            assert sqlstates(answer) == ["42P07"]
            assert answer[-1].body == b"E"
            for text in ("CREATE TABLE d (id int)", "SELECT 1", "SAVEPOINT s_2"):
                assert sqlstates(ask(client, text)) == ["25P02"], text
            if first == "SELECT 1":
                ask_all(
                    client,
                    ask,
                    "ROLLBACK TO s_1",
                    "RELEASE s_0",
                    "CREATE TABLE e (id int)",
                    "COMMIT",
                )
            else:
                answer = ask(client, "COMMIT")
                assert b"ROLLBACK" in b"".join(message.body for message in answer)
            assert client.value("SELECT 1") == "1"
    there = [number == shard for number in range(SHARDS)]
    assert shards.has("a") == there
    assert shards.has("b") == [False] * SHARDS
    assert shards.has("c") == [True] * SHARDS
    assert shards.has("e") == [True] * SHARDS
    assert shards.left() == 0


STEPS: Final = (
    *((0, text) for text in (b"BEGIN", b"CREATE TABLE", b"txid_current", b"COMMIT")),
    *(
        (shard, text)
        for shard in (1, 2)
        for text in (
            b"BEGIN",
            b"CREATE TABLE",
            b"CREATE INDEX",
            b"txid_current",
            b"PREPARE TRANSACTION",
            b"COMMIT PREPARED",
        )
    ),
)


@pytest.fixture
def server(private_primary: Callable[..., Server]) -> Server:
    """A server with prepared transactions."""
    return private_primary(max_prepared_transactions="20")


def _run(client: WireClient, number: int) -> str:
    """Run a transaction; returns "C", the detail of its first error, or "" if it is cut off."""
    texts = (
        "BEGIN",
        f"CREATE TABLE made_{number} (id int)",
        f"CREATE INDEX ON made_{number} (id)",
        "COMMIT",
    )
    told = "C"
    for text in texts:
        try:
            answer = client.ask(query(text))
        except (Ended, OSError):
            return ""
        errors = [message.fields.get("D", "") for message in answer if message.kind == "E"]
        if errors and told == "C":
            told = errors[0]
    return told


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_whatever_connection_is_lost_at_any_step_all_shards_have_it_or_none(
    before: bool, server: Server, start_router: Callable[..., RouterProcess]
) -> None:
    with wired_shards(server) as (databases, wires, pool):
        shards = Shards(databases, start_router({"items": pool}))
        for number, (shard, text) in enumerate(STEPS):
            with shards.client() as client:
                wires[shard].set(text, before=before, act=lambda: None)
                told = _run(client, number)
                assert wires[shard].has_gone_off, (shard, text)
                wait_until("nothing is left", lambda: not shards.left())
                has = shards.has(f"made_{number}")
                assert len(set(has)) == 1, (shard, text, has)
                if told == "C" or "has failed" in told or "Nothing has been changed" in told:
                    assert all(has) == (told == "C"), (shard, text)
                elif told:
                    assert "not known" in told, told
                if told:
                    assert client.value("SELECT 1") == "1"


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_if_the_router_is_killed_at_any_step_all_shards_have_it_or_none(
    before: bool, server: Server, start_router: Callable[..., RouterProcess]
) -> None:
    kill_at_each_step(STEPS, _run, server, start_router, before=before)


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "cancels"])
def test_who_stops_waiting_for_a_lock_has_changed_nothing(
    shards: Shards, shard: int, leaves: bool
) -> None:
    name = shards.databases[shard].name
    waits = (
        "SELECT count(*) FROM pg_stat_activity "
        f"WHERE wait_event_type = 'Lock' AND datname = '{name}'"
    )
    with shards.databases[shard].server.connect(name) as holder:
        holder.execute("BEGIN; LOCK TABLE items")
        with shards.client() as client:
            ask_all(client, ask_simply, "BEGIN", "CREATE TABLE a (id int)")
            client.send(query("ALTER TABLE items ADD n int"))
            wait_until("it waits", lambda: holder.execute(waits).fetchone() == (1,))
            if leaves:
                client.reset()
            else:
                cancel(shards.router.port, client.pid, client.secret)
                assert sqlstates(client.read_until("Z")) == ["57014"]
                assert sqlstates(client.ask(query("SELECT 1"))) == ["25P02"]
                ask_all(client, ask_simply, "ROLLBACK")
                assert client.value("SELECT 1") == "1"
        wait_until("it does not wait", lambda: holder.execute(waits).fetchone() == (0,))
        holder.execute("ROLLBACK")
    with shards.client() as client:
        assert kinds(client.ask(query("ALTER TABLE items ADD n int"))) == "CZ"
    assert shards.has("a") == [False] * SHARDS
    assert shards.left() == 0


@PROTOCOLS
def test_what_has_a_key_and_what_ends_it_in_passing_is_refused(
    shards: Shards, ask: Callable[[WireClient, str], list[Message]]
) -> None:
    with shards.client() as client:
        for text in (
            "DELETE FROM items WHERE id = 1",
            "SELECT count(*) FROM items",
            "COMMIT AND CHAIN",
            "CREATE TABLE b AS SELECT * FROM items",
            "SET SHARD TO 0",
            "/* a comment */ PREPARE TRANSACTION 'x'",
        ):
            ask_all(client, ask, "BEGIN", "CREATE TABLE a (id int)")
            answer = ask(client, text)
            assert sqlstates(answer)[0] in ("0A000", "25001"), text
            if text != "SET SHARD TO 0":
                assert answer[-1].body == b"E", text
            ask_all(client, ask, "ROLLBACK")
        for key in range(6):  # of all shards, that of such transactions as well
            ask_all(client, ask, "BEGIN", f"SELECT * FROM items WHERE id = {key}")
            for text in ("CREATE TABLE a (id int)", "ALTER TABLE items ADD n int"):
                assert sqlstates(ask(client, text))[0] in ("0A000", "25P02"), text
            ask_all(client, ask, "ROLLBACK")
            ask_all(client, ask, "BEGIN", "SELECT 1")
            answer = ask(client, f"SELECT * FROM items WHERE id = {key}")
            is_there = not sqlstates(answer)
            if is_there:
                assert sqlstates(ask(client, "CREATE TABLE a (id int)")) == ["0A000"]
            ask_all(client, ask, "ROLLBACK")
    assert shards.has("a") == [False] * SHARDS
    assert shards.left() == 0


def test_settings_are_those_of_all_shards_and_stay_with_the_client(shards: Shards) -> None:
    with shards.client() as client, shards.client() as other:
        ask_all(
            client,
            ask_simply,
            "BEGIN",
            "CREATE SCHEMA mine",
            "SELECT set_config('search_path', 'mine', false)",
            "CREATE TABLE a (id int)",
            "SET LOCAL search_path TO public",
            "CREATE TABLE b (id int)",
            "COMMIT",
        )
        assert shards.has("mine.a") == [True] * SHARDS
        assert shards.has("public.b") == [True] * SHARDS
        assert client.value("SHOW search_path") == "mine"
        for shard in range(SHARDS):
            other.ask(query(f"SET SHARD TO {shard}"))
            assert other.value("SHOW search_path") == '"$user", public'
        ask_all(
            client, ask_simply, "BEGIN", "DROP TABLE a", "SET search_path TO public", "ROLLBACK"
        )
        assert client.value("SHOW search_path") == "mine"
    assert shards.has("mine.a") == [True] * SHARDS


def test_several_statements_of_a_batch_are_run_in_their_order(shards: Shards) -> None:
    with shards.client() as client:
        batch = run("BEGIN") + run("CREATE TABLE a (id int)") + run("SELECT 1")
        answer = client.ask(batch + run("CREATE INDEX a_id ON a (id)") + SYNC)
        assert kinds(answer) == "12nC12nC12TDC12nCZ"
        batch = run("SAVEPOINT s_1") + run("CREATE TABLE b (id int)") + run("SELECT 1/0")
        answer = client.ask(batch + run("CREATE TABLE c (id int)") + SYNC)
        assert sqlstates(answer) == ["22012"]
        ask_all(client, ask_in_batches, "ROLLBACK TO s_1", "CREATE TABLE d (id int)")
        answer = client.ask(run("CREATE TABLE e (id int)") + run("COMMIT") + SYNC)
        assert sqlstates(answer) == ["0A000"]
        ask_all(client, ask_in_batches, "ROLLBACK TO s_1", "COMMIT")
    assert [all(shards.has(name)) for name in ("a", "a_id")] == [True] * 2
    assert [any(shards.has(name)) for name in "bcde"] == [False] * 4


@pytest.mark.parametrize("sql", ["CREATE TABLE b (id int)", "COMMIT", "SAVEPOINT s_1"])
def test_what_is_bound_does_nothing_before_it_is_executed(shards: Shards, sql: str) -> None:
    with shards.client() as client:
        ask_all(client, ask_in_batches, "BEGIN", "CREATE TABLE a (id int)")
        assert kinds(client.ask(parse(sql) + bind(portal="p") + SYNC)) == "12Z"
        assert [any(shards.has(name)) for name in "ab"] == [False] * 2
        ask_all(client, ask_in_batches, "CREATE TABLE c (id int)")
        if sql != "COMMIT":
            assert kinds(client.ask(execute("p") + SYNC)) == "CZ"
            ask_all(client, ask_in_batches, "COMMIT")
            made = "ac" if sql.startswith("SAVE") else "abc"
            assert all(all(shards.has(name)) for name in made)
        else:
            ask_all(client, ask_in_batches, "ROLLBACK")
            assert not any(shards.has("a"))
    assert shards.left() == 0


@pytest.mark.parametrize("is_apart", [True, False])
def test_it_may_be_ended_a_message_at_a_time(shards: Shards, is_apart: bool) -> None:
    unique = "id int UNIQUE DEFERRABLE INITIALLY DEFERRED"
    with shards.client() as client:
        for values, answer in (("(1), (1)", "EZ"), ("(1), (2)", "CZ")):
            for text in (
                "BEGIN",
                f"CREATE TABLE a ({unique})",
                f"INSERT INTO a VALUES {values}",
            ):
                client.send(parse(text) + SYNC)
                assert kinds(client.read_until("Z")) == "1Z"
                client.send(bind() + FLUSH)
                assert kinds(client.read_until("2")) == "2"
                client.send(execute() + FLUSH)
                assert kinds(client.read_until("C")) == "C"
                assert kinds(client.ask(SYNC)) == "Z"
            client.send(parse("COMMIT") + bind() + FLUSH * is_apart + execute() + FLUSH)
            assert kinds(client.read_until(answer[0])) == f"12{answer[0]}"
            told = client.ask(SYNC)
            assert (kinds(told), told[-1].body) == ("Z", b"I")
            wait_until("all are alike", lambda: len(set(shards.has("a"))) == 1)
            assert all(shards.has("a")) == (answer == "CZ")
            assert client.value("SELECT 1") == "1"
    assert shards.left() == 0


def test_bookkeeping_is_where_it_is_outside_of_such_transactions(shards: Shards) -> None:
    with shards.client() as client:
        ask_all(client, ask_simply, "BEGIN", "CREATE TABLE versions (v text, PRIMARY KEY (v))")
        assert kinds(client.ask(query("INSERT INTO versions VALUES ('one')"))) == "CZ"
        ask_all(client, ask_simply, "ALTER TABLE versions ADD n int", "COMMIT")
        assert client.value("SELECT v FROM versions") == "one"
        ask_all(
            client,
            ask_simply,
            "BEGIN",
            "SELECT v FROM versions",
            "ALTER TABLE versions ADD m int",
        )
        bound = parse("UPDATE versions SET v = $1 WHERE v = $2") + bind(b"two", b"one")
        assert kinds(client.ask(bound + execute() + SYNC)) == "12CZ"
        ask_all(client, ask_in_batches, "COMMIT")
    counts = [database.execute("SELECT v FROM versions") for database in shards.databases]
    assert counts == [[("two",)], [], []]


KILL: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"
)


@pytest.mark.parametrize("then", ["CREATE TABLE b (id int)", "COMMIT"])
@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_connection_that_is_lost_between_statements_fails_the_transaction(
    shards: Shards, shard: int, then: str
) -> None:
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(shards.client())
        ask_all(client, ask_simply, "BEGIN", "CREATE TABLE a (id int)")
        assert shards.databases[shard].execute(KILL) == [(True,)]
        try:
            answer = client.ask(query(then))
        except (Ended, OSError):
            answer = []  # it was the client's own server
        if shard:
            assert sqlstates(answer) == ["57P01"] or sqlstates(answer) == ["08006"], answer
            assert f"shard {shard}" in answer[0].fields["D"]
            assert answer[-1].body == (b"I" if then == "COMMIT" else b"E")
            ask_all(client, ask_simply, "ROLLBACK")
            ask_all(client, ask_simply, "BEGIN", "CREATE TABLE c (id int)", "COMMIT")
        wait_until("it is rolled back", lambda: not any(shards.has("a")))
        assert shards.has("c") == [bool(shard)] * SHARDS
    assert not any(shards.has("b"))
    assert shards.left() == 0


def test_many_transactions_and_commands_at_once_do_not_wait_in_a_circle(shards: Shards) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(shards.client()) for _ in range(4)]
        for number in range(8):
            change = query(f"ALTER TABLE items ALTER body SET DEFAULT '{number}'")
            for count, client in enumerate(clients):
                is_by_itself = count == number % len(clients)
                client.send(
                    change
                    if is_by_itself
                    else query("BEGIN")
                    + query("SELECT 1") * (count % 2)
                    + change
                    + query("COMMIT")
                )
            for count, client in enumerate(clients):
                is_by_itself = count == number % len(clients)
                for _ in range(1 if is_by_itself else 3 + count % 2):
                    assert not sqlstates(client.read_until("Z"))
    defaults = {
        database.execute("SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef")[0][0]
        for database in shards.databases
    }
    assert len(defaults) == 1
    assert shards.left() == 0


def test_its_end_is_told_though_a_deferred_constraint_fails_it(shards: Shards) -> None:
    with shards.client() as client:
        for ask in (ask_simply, ask_in_batches):
            ask_all(
                client,
                ask,
                "BEGIN",
                "CREATE TABLE a (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)",
                "INSERT INTO a VALUES (1), (1)",
            )
            answer = ask(client, "COMMIT")
            assert sqlstates(answer) == ["23505"]
            assert answer[-1].body == b"I"
            assert client.value("SELECT 1") == "1"
            wait_until("it is rolled back", lambda: not any(shards.has("a")))
    assert shards.left() == 0


@PROTOCOLS
def test_what_its_end_changes_about_settings_is_reported(
    shards: Shards, ask: Callable[[WireClient, str], list[Message]]
) -> None:
    with shards.client() as client:
        for end in ("COMMIT", "ROLLBACK"):
            before = client.value("SHOW TimeZone")
            ask_all(client, ask, "BEGIN", f"CREATE TABLE {end.lower()}_ (id int)")
            ask_all(client, ask, "SET LOCAL TimeZone TO 'Asia/Tokyo'")
            reports = [message.body for message in ask(client, end) if message.kind == "S"]
            assert f"TimeZone\0{before}\0".encode() in reports, end


@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "cancels"])
def test_who_stops_waiting_for_a_connection_gives_back_what_it_has(
    shards: Shards, leaves: bool
) -> None:
    def hold(shard: int) -> list[WireClient]:
        """All connections of a shard."""
        holders = [stack.enter_context(shards.client()) for _ in range(2)]
        for holder in holders:
            ask_all(holder, ask_simply, f"SET SHARD TO {shard}", "BEGIN", "SELECT 1")
        return holders

    def waiting() -> bool:
        return any(row["cl_waiting"] != "0" for row in shards.router.admin("SHOW POOLS"))

    with contextlib.ExitStack() as stack:
        holders = hold(SHARDS - 1)
        client = stack.enter_context(shards.client())
        ask_all(client, ask_simply, "BEGIN")
        client.send(query("CREATE TABLE a (id int)"))
        wait_until("it waits", waiting)
        if leaves:
            client.reset()
        else:
            cancel(shards.router.port, client.pid, client.secret)
            answer = client.read_until("Z")
            assert sqlstates(answer) == ["57014"]
            assert answer[-1].body == b"E"
            ask_all(client, ask_simply, "ROLLBACK")
        for shard in range(SHARDS - 1):
            hold(shard)
        for holder in holders:
            ask_all(holder, ask_simply, "ROLLBACK")
    assert not any(shards.has("a"))


@pytest.mark.parametrize("most", ["0", "20"])
def test_its_home_is_default_shard(
    most: str,
    private_primary: Callable[..., Server],
    start_router: Callable[..., RouterProcess],
) -> None:
    server = private_primary(max_prepared_transactions=most)
    databases = make_shards(server)
    options = f'{KEYED}\ndefault_shard = "shard_1"\nsharding_without_key = "refuse"'
    pool = pool_of([primary_of(server)] * SHARDS, databases, options)
    shards = Shards(databases, start_router({"items": pool}))
    unique = "id int UNIQUE DEFERRABLE INITIALLY DEFERRED"
    with shards.client() as client:
        for values, answer in (("(1), (1)", ["23505"]), ("(1), (2)", [])):
            ask_all(client, ask_simply, "BEGIN", f"CREATE TABLE a ({unique})")
            ask_all(client, ask_simply, f"INSERT INTO a VALUES {values}")
            assert sqlstates(client.ask(query("COMMIT"))) == answer
            wait_until("all are alike", lambda: len(set(shards.has("a"))) == 1)
            assert all(shards.has("a")) == (not answer)
        ask_all(client, ask_simply, "CREATE TABLE b (id int)")
        assert sqlstates(client.ask(query("DROP TABLE c"))) == ["42P01"]
    counts = [database.execute("SELECT count(*) FROM a") for database in databases]
    assert counts == [[(0,)], [(2,)], [(0,)]]
    assert shards.has("b") == [True] * SHARDS
    assert shards.left() == 0


LIMITS: Final = {
    "idle": ("idle_client_in_transaction_timeout = 300", "", "25P03"),
    "long": ("", "transaction_timeout = 300", "25P04"),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_a_time_limit_ends_it_on_all_shards(
    limit: str, server: Server, start_router: Callable[..., RouterProcess]
) -> None:
    general, options, sqlstate = LIMITS[limit]
    databases = make_shards(server)
    pool = pool_of([primary_of(server)] * SHARDS, databases, f"{KEYED}\n{options}")
    shards = Shards(databases, start_router({"items": pool}, general))
    with shards.client() as client:
        ask_all(client, ask_simply, "BEGIN", "CREATE TABLE a (id int)")
        assert client.read_until("E")[-1].sqlstate == sqlstate
    opened = (
        "SELECT count(*) FROM pg_stat_activity WHERE xact_start < now() AND datname ~ 'shard_'"
    )
    wait_until("it is rolled back", lambda: server.execute(opened) == [(0,)])
    assert not any(shards.has("a"))
    with shards.client() as client:
        assert kinds(client.ask(query("CREATE TABLE a (id int)"))) == "CZ"
