"""Scripts of the query protocols, to be played to PostgreSQL and to the router.

Bytes are sent; a string is the types of the messages to wait for, or $ for the end.
"""

from __future__ import annotations

from tests.support.wire import (
    FLUSH,
    SYNC,
    bind,
    close,
    describe,
    execute,
    parse,
    query,
    run,
)

Script = tuple[bytes | str, ...]

SERIES = "SELECT g FROM generate_series(1, 5) g"
INSERT = "INSERT INTO t VALUES (1, 'one')"

SIMPLE: dict[str, Script] = {
    "select": (query("SELECT 1 AS one, NULL, 'x'"), "Z"),
    "empty": (query(""), "Z", query("  ;; "), "Z", query("-- nothing"), "Z"),
    "several statements": (query("SELECT 1; SELECT 2; INSERT INTO t VALUES (3)"), "Z"),
    "error": (query("SELECT * FROM nowhere"), "Z", query("SELECT 1"), "Z"),
    "syntax error": (query("SELEC 1"), "Z"),
    "error in the middle": (
        query("SELECT 1; SELECT 1/0; SELECT 2"),
        "Z",
        query("SELECT 3"),
        "Z",
    ),
    "transaction": (
        *(query("BEGIN"), "Z", query(INSERT), "Z", query("SELECT * FROM t"), "Z"),
        *(query("COMMIT"), "Z", query("SELECT count(*) FROM t"), "Z"),
    ),
    "failed transaction": (
        *(query("BEGIN"), "Z", query("SELECT 1/0"), "Z", query("SELECT 1"), "Z"),
        *(query("COMMIT"), "Z", query("SELECT 1"), "Z"),
    ),
    "savepoints and chains": (
        *(query("BEGIN; SAVEPOINT a; SELECT 1/0"), "Z", query("ROLLBACK TO a"), "Z"),
        *(query("COMMIT AND CHAIN"), "Z", query("ROLLBACK"), "Z"),
    ),
    "begin and commit inside": (
        *(query("SELECT 1; BEGIN; SELECT 2"), "Z", query("SELECT 3; COMMIT; SELECT 4"), "Z"),
    ),
    "begin in a comment and a string": (query("/* BEGIN */ SELECT 'BEGIN; '"), "Z"),
    "commit without begin": (query("COMMIT"), "Z"),
    "notice": (query("DO $$ BEGIN RAISE NOTICE 'a'; RAISE WARNING 'b'; END $$"), "Z"),
    "parameter status": (
        *(query("SET DateStyle TO 'German'"), "Z", query("SELECT date '2020-02-01'"), "Z"),
        *(query("SET application_name TO 'me'"), "Z"),
    ),
    "parameter status undone": (
        query("BEGIN; SET TimeZone TO 'UTC'"),
        "Z",
        query("ROLLBACK"),
        "Z",
    ),
    "50 in one write": (query("SELECT 1") * 50, "Z" * 50),
    "1000 in one write": (query("SELECT 1") * 1000, "Z" * 1000),
    "queries behind an error": (query("SELECT 1/0") + query("SELECT 2") * 3, "ZZZZ"),
    "transaction in one write": (
        query("BEGIN") + query(INSERT) + query("SELECT * FROM t") + query("ROLLBACK"),
        "ZZZZ",
    ),
    "invalid encoding": (query(b"SELECT '\xff'"), "Z"),
    "cursors": (
        *(query("BEGIN; DECLARE c CURSOR FOR " + SERIES), "Z"),
        *(query("FETCH 2 FROM c"), "Z", query("FETCH ALL FROM c; CLOSE c; COMMIT"), "Z"),
    ),
    "prepare and execute": (
        *(query("BEGIN; PREPARE p AS SELECT $1::int + 1"), "Z", query("EXECUTE p(41)"), "Z"),
        *(query("DEALLOCATE p; COMMIT"), "Z", query("EXECUTE p(1)"), "Z"),
    ),
    "deallocate of the unknown": (
        query("DEALLOCATE nobody"),
        "Z",
        query("DEALLOCATE ALL"),
        "Z",
    ),
    "discard": (
        query("DISCARD ALL"),
        "Z",
        query("BEGIN; DISCARD ALL"),
        "Z",
        query("ROLLBACK"),
        "Z",
    ),
}
EXTENDED: dict[str, Script] = {
    "select": (run("SELECT $1::int + 1, $2", b"41", None) + SYNC, "Z"),
    "binary result": (parse("SELECT 5") + bind(formats=[1]) + execute() + SYNC, "Z"),
    "mixed formats": (
        parse("SELECT 5, 6") + bind(formats=[1, 0]) + describe() + execute() + SYNC,
        "Z",
    ),
    "parameter types": (parse("SELECT $1", oids=[23]) + describe("S") + SYNC, "Z"),
    "empty": (run("") + SYNC, "Z"),
    "statement kept": (
        *(parse("SELECT $1::text", "s") + SYNC, "Z"),
        *((bind(b"a", name="s") + execute() + SYNC) * 2, "ZZ"),
        *(close("S", "s") + SYNC, "Z", bind(b"b", name="s") + execute() + SYNC, "Z"),
    ),
    "unnamed statement kept": (
        *(parse("SELECT $1::text") + SYNC, "Z", bind(b"a") + execute() + SYNC, "Z"),
        *(bind(b"b") + execute() + SYNC, "Z", describe("S") + SYNC, "Z"),
    ),
    "unnamed statement replaced": (
        *(parse("SELECT 1") + SYNC, "Z", parse("SELECT 'x'::text") + SYNC, "Z"),
        *(bind() + execute() + SYNC, "Z"),
    ),
    "statement parsed, closed and parsed anew": (
        parse("SELECT 1", "s") + close("S", "s") + parse("SELECT 'x'::text", "s"),
        bind(name="s") + execute() + SYNC,
        "Z",
    ),
    "duplicate statement": (
        *(
            parse("SELECT 1", "s") + SYNC,
            "Z",
            parse("SELECT 2", "s") + bind(name="s") + SYNC,
            "Z",
        ),
        *(bind(name="s") + execute() + SYNC, "Z"),
    ),
    "unknown statement": (
        *(bind(name="nobody") + execute() + SYNC, "Z", describe("S", "nobody") + SYNC, "Z"),
        *(close("S", "nobody") + SYNC, "Z"),
    ),
    "unknown portal": (
        *(execute("nobody") + SYNC, "Z", describe("P", "nobody") + SYNC, "Z"),
        *(close("P", "nobody") + SYNC, "Z"),
    ),
    "no unnamed statement": (bind() + execute() + SYNC, "Z"),
    "wrong number of parameters": (parse("SELECT $1::int") + bind() + execute() + SYNC, "Z"),
    "syntax error": (run("SELEC 1") + SYNC, "Z", run("SELECT 1") + SYNC, "Z"),
    "several statements in a Parse": (run("SELECT 1; SELECT 2") + SYNC, "Z"),
    "error in the middle": (
        run("SELECT 1") + run("SELECT 1/0") + run("SELECT 2") + SYNC + run("SELECT 3") + SYNC,
        "ZZ",
    ),
    "skipped statements do not exist": (
        parse("SELECT 1/0", "a") + bind(name="a") + execute() + parse("SELECT 2", "b") + SYNC,
        *("Z", bind(name="b") + execute() + SYNC, "Z"),
        *(bind(name="a") + execute() + SYNC, "Z"),
    ),
    "skipped close": (
        *(parse("SELECT 1", "s") + SYNC, "Z"),
        *(run("SELECT 1/0") + close("S", "s") + SYNC, "Z"),
        *(bind(name="s") + execute() + SYNC, "Z"),
    ),
    "syncs alone": (SYNC, "Z", SYNC * 5, "ZZZZZ"),
    "syncs after an error": (run("SELECT 1/0") + SYNC * 4, "ZZZZ"),
    "pipeline": ((run("SELECT 1") + SYNC) * 100, "Z" * 100),
    "pipeline of one statement": (
        parse("SELECT $1::int", "s") + (bind(b"7", name="s") + execute() + SYNC) * 100,
        "Z" * 100,
    ),
    "implicit transaction": (
        run(INSERT) + run(INSERT) + SYNC,
        "Z",
        query("SELECT * FROM t"),
        "Z",
    ),
    "transaction": (
        *(run("BEGIN") + run(INSERT) + SYNC, "Z", run("SELECT 1/0") + SYNC, "Z"),
        *(run("ROLLBACK") + run("SELECT count(*) FROM t") + SYNC, "Z"),
    ),
    "query between Parse and Sync": (
        *(parse("SELECT 1", "s") + query("SELECT 2") + SYNC, "ZZ"),
        *(bind(name="s") + execute() + SYNC, "Z"),
    ),
    "query behind a failed batch": (run("SELECT 1/0") + query("SELECT 2") + SYNC, "Z"),
    "query behind an Execute": (run(INSERT) + query("SELECT * FROM t") + SYNC, "ZZ"),
    "sync late": (run("SELECT 1/0") + FLUSH, "E", parse("SELECT 2") + FLUSH + SYNC, "Z"),
}
FLUSHED: dict[str, Script] = {
    "each step": (
        *(parse("SELECT $1::int") + FLUSH, "1", describe("S") + FLUSH, "tT"),
        *(bind(b"3") + FLUSH, "2", describe() + FLUSH, "T", execute() + FLUSH, "DC", SYNC, "Z"),
    ),
    "known statement": (
        *(parse("SELECT 1", "s") + SYNC, "Z", describe("S", "s") + FLUSH, "T"),
        *(bind(name="s") + execute() + FLUSH, "DC", close("S", "s") + FLUSH, "3", SYNC, "Z"),
    ),
    "parse of a known text": (
        *(parse("SELECT 1", "a") + SYNC, "Z", parse("SELECT 1", "b") + FLUSH, "1"),
        *(bind(name="b") + FLUSH, "2", parse("SELECT 1", "c") + FLUSH, "1", SYNC, "Z"),
    ),
    "error": (
        *(parse("SELECT 1") + bind(b"1") + FLUSH, "1E", execute() + FLUSH, SYNC, "Z"),
        *(run("SELECT 2") + SYNC, "Z"),
    ),
    "alone": (FLUSH * 3 + SYNC, "Z", FLUSH, SYNC, "Z"),
}
PORTALS: dict[str, Script] = {
    "row limit": (
        *(
            parse(SERIES) + bind() + execute(limit=2) + FLUSH,
            "s",
            execute(limit=2) + FLUSH,
            "s",
        ),
        *(execute(limit=2) + SYNC, "Z"),
    ),
    "two portals interleaved": (
        *(query("BEGIN"), "Z", parse(SERIES, "s") + bind(name="s", portal="a"), SYNC, "Z"),
        *(bind(name="s", portal="b") + execute("a", 2) + execute("b", 1) + SYNC, "Z"),
        *(execute("a", 2) + execute("b", 3) + execute("a") + execute("b") + SYNC, "Z"),
        *(close("P", "a") + execute("a") + SYNC, "Z", query("ROLLBACK"), "Z"),
    ),
    "gone with the transaction": (
        *(parse(SERIES) + bind(portal="a") + SYNC, "Z", execute("a") + SYNC, "Z"),
    ),
    "exhausted": (parse(SERIES) + bind() + execute() + execute() + SYNC, "Z"),
    "duplicate": (parse(SERIES) + bind(portal="a") + bind(portal="a") + SYNC, "Z"),
    "described": (parse(SERIES) + bind(portal="a") + describe("P", "a") + SYNC, "Z"),
    "no data": (parse("INSERT INTO t VALUES (5)") + bind() + describe() + SYNC, "Z"),
    "returning with limit": (
        *(
            parse("INSERT INTO t SELECT g FROM generate_series(1, 4) g RETURNING id") + bind(),
            "",
        ),
        *(execute(limit=1) + FLUSH, "s", execute(limit=9) + SYNC, "Z"),
    ),
}
