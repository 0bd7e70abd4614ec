"""Scripts of COPY, function calls and long messages, as those in `scripts`."""

from __future__ import annotations

from tests.support.wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    bind,
    close,
    copy_data,
    copy_fail,
    describe,
    execute,
    function_call,
    parse,
    query,
    run,
)

from .scripts import INSERT, Script

COPY_IN = "COPY t FROM STDIN"
COPY_OUT = "COPY (SELECT g FROM generate_series(1, 3) g) TO STDOUT"
ROWS = copy_data(b"2\tb\n" * 1000)
INT4PL = 177  # pg_proc's oid of int4pl
INT4DIV = 154

COPY: dict[str, Script] = {
    "out": (query(COPY_OUT), "Z"),
    "out extended": (run(COPY_OUT) + SYNC, "Z"),
    "in": (
        query(COPY_IN),
        "G",
        copy_data(b"1\ta\n2\tb\n"),
        COPY_DONE,
        "Z",
        query("TABLE t"),
        "Z",
    ),
    "in at once": (query(COPY_IN) + copy_data(b"1\ta\n") + COPY_DONE + query("TABLE t"), "ZZ"),
    "in, fail": (
        query(COPY_IN),
        "G",
        copy_data(b"1\ta\n") + copy_fail(),
        "Z",
        query("TABLE t"),
        "Z",
    ),
    "in, bad row": (
        *(query(COPY_IN), "G", copy_data(b"nonsense\n"), copy_data(b"2\tb\n") * 3),
        *(COPY_DONE, "Z", query("TABLE t"), "Z"),
    ),
    "in, error early and client goes on": (
        *(query(COPY_IN), "G", copy_data(b"nonsense\n") * 2, "Z", copy_data(b"2\tb\n") * 50),
        *(COPY_DONE, query("TABLE t"), "Z"),
    ),
    "in a failed statement": (query("COPY nowhere FROM STDIN"), "Z", query("SELECT 1"), "Z"),
    "in, two in one query": (
        *(query(f"{COPY_IN}; {COPY_IN}; SELECT 5"), "G", copy_data(b"1\ta\n") + COPY_DONE, "G"),
        *(copy_data(b"2\ta\n") + COPY_DONE, "Z", query("TABLE t"), "Z"),
    ),
    "in extended, sync before done": (
        *(run(COPY_IN) + SYNC, "G", copy_data(b"1\ta\n") + COPY_DONE + SYNC, "Z"),
        *(query("TABLE t"), "Z"),
    ),
    "in extended, sync after done": (
        *(run(COPY_IN) + FLUSH, "G", copy_data(b"1\ta\n") + COPY_DONE + SYNC, "Z"),
        *(query("TABLE t"), "Z"),
    ),
    "in extended, syncs and flushes inside": (
        *(
            run(COPY_IN) + FLUSH,
            "G",
            copy_data(b"1\ta\n") + FLUSH + SYNC + copy_data(b"2\tb\n"),
        ),
        *(COPY_DONE + SYNC, "Z", query("TABLE t"), "Z"),
    ),
    "in extended at once": (
        *(run(COPY_IN) + copy_data(b"1\ta\n") + COPY_DONE + SYNC + run("TABLE t") + SYNC, "ZZ"),
    ),
    "in extended, fail": (
        *(run(COPY_IN) + FLUSH, "G", copy_data(b"1\ta\n") + copy_fail() + SYNC, "Z"),
        *(run("TABLE t") + SYNC, "Z"),
    ),
    "in extended, bad row": (
        *(run(COPY_IN) + FLUSH, "G", copy_data(b"nonsense\n") * 2, copy_data(b"2\tb\n")),
        *(COPY_DONE + SYNC, "Z", query("TABLE t"), "Z"),
    ),
    "in extended, error early and client goes on": (
        *(run(COPY_IN) + FLUSH, "G", copy_data(b"nonsense\n") * 2, FLUSH, "E"),
        *(copy_data(b"2\tb\n") * 50, COPY_DONE + SYNC, "Z", query("TABLE t"), "Z"),
    ),
    "in, error early and a row is cut in two": (
        *(query(COPY_IN), "G", copy_data(b"nonsense\n") + ROWS[:2000], "Z", ROWS[2000:]),
        *(COPY_DONE, query("TABLE t"), "Z"),
    ),
    "in extended, error early and a row is cut in two": (
        *(run(COPY_IN) + FLUSH, "G", copy_data(b"nonsense\n") + ROWS[:2000], "E"),
        *(ROWS[2000:], COPY_DONE + SYNC, "Z", query("TABLE t"), "Z"),
    ),
    "in, prepared": (
        *(parse(COPY_IN, "c") + SYNC, "Z", bind(name="c") + execute() + SYNC, "G"),
        *(copy_data(b"1\ta\n") + COPY_DONE + SYNC, "Z"),
        *(
            bind(name="c") + execute() + FLUSH,
            "G",
            copy_data(b"2\tb\n") + COPY_DONE + SYNC,
            "Z",
        ),
        *(query("TABLE t"), "Z"),
    ),
    "in, query instead of data": (*(query(COPY_IN), "G", query("SELECT 1"), "$"),),
    "in, a long row": (
        *(query(COPY_IN), "G", copy_data(b"1\t" + b"x" * 3_000_000 + b"\n"), COPY_DONE, "Z"),
        *(query("SELECT length(v) FROM t"), "Z"),
    ),
    "data without a copy": (
        *(copy_data(b"1\n") + COPY_DONE + copy_fail() + query("SELECT 1"), "Z"),
        *(
            run("SELECT 1") + SYNC,
            "Z",
            copy_data(b"x") * 20 + COPY_DONE + run("SELECT 2") + SYNC,
            "Z",
        ),
    ),
}
FUNCTIONS: dict[str, Script] = {
    "call": (function_call(INT4PL, b"40", b"2"), "Z"),
    "call fails": (function_call(INT4DIV, b"1", b"0"), "Z", query("SELECT 1"), "Z"),
    "no such function": (function_call(1, b"1"), "Z", query("SELECT 1"), "Z"),
    "call in a transaction": (
        *(query("BEGIN"), "Z", function_call(INT4PL, b"40", b"2"), "Z"),
        *(function_call(INT4DIV, b"1", b"0"), "Z", function_call(INT4PL, b"1", b"2"), "Z"),
        *(query("ROLLBACK"), "Z"),
    ),
    "call in the midst of a pipeline": (
        *(query("SELECT 1") + function_call(INT4PL, b"40", b"2") + query("SELECT 2"), "ZZZ"),
    ),
    "call behind a failed batch": (
        *(run("SELECT 1/0") + function_call(INT4PL, b"40", b"2") + SYNC, "Z"),
    ),
}
LONG: dict[str, Script] = {
    "query": (query(f"SELECT length('{'x' * 1_000_000}')"), "Z"),
    "parse": (run(f"SELECT length('{'x' * 1_000_000}')") + SYNC, "Z"),
    "bind": (run("SELECT length($1)", b"x" * 1_000_000) + SYNC, "Z"),
    "bind to a known statement": (
        *(parse("SELECT length($1)", "s") + SYNC, "Z"),
        *((bind(b"x" * 500_000, name="s") + execute() + SYNC) * 3, "ZZZ"),
    ),
    "bind to an unknown statement": (bind(b"x" * 500_000, name="s") + execute() + SYNC, "Z"),
    "row": (query("SELECT repeat('x', 3000000)"), "Z"),
    "error": (query(f"SELECT '{'x' * 300_000}'::int"), "Z"),
    "notice": (query("DO $$ BEGIN RAISE NOTICE '%', repeat('x', 200000); END $$"), "Z"),
    "in a failed transaction": (
        *(query("BEGIN; SELECT 1/0"), "Z", query(f"SELECT '{'x' * 600_000}'"), "Z"),
        *(run("SELECT length($1)", b"x" * 600_000) + SYNC, "Z", query("ROLLBACK"), "Z"),
    ),
    "65535 parameters": (
        parse(f"SELECT {'+'.join(f'${n}::int' for n in range(1, 1001))}"),
        *(bind(*[b"1"] * 1000) + execute() + SYNC, "Z"),
        parse(
            "SELECT cardinality(ARRAY["
            + ",".join(f"${n}" for n in range(1, 65536))
            + "]::int[])"
        ),
        *(bind(*[b"1"] * 65535) + execute() + SYNC, "Z"),
    ),
    "65536 parameters": (*(parse("SELECT $65536::int") + SYNC, "Z", query("SELECT 1"), "Z"),),
    "long names": (
        parse("SELECT 1", "n" * 9_000) + bind(name="n" * 9_000, portal="p" * 9_000),
        *(describe("P", "p" * 9_000) + SYNC, "Z", close("S", "n" * 9_000) + SYNC, "Z"),
    ),
    "queries in one write": (query(f"SELECT length('{'x' * 300_000}')") * 8, "Z" * 8),
    "parses in one write": ((run(f"SELECT length('{'x' * 300_000}')") + SYNC) * 8, "Z" * 8),
    "binds in one write": ((run("SELECT length($1)", b"x" * 300_000) + SYNC) * 8, "Z" * 8),
    "bind behind an error": (
        run("SELECT 1/0") + run("SELECT length($1)", b"x" * 300_000) + SYNC,
        "Z",
        *(parse("SELECT length($1)") + bind(b"x") + execute() + SYNC, "Z"),
    ),
    "query behind an Execute": (run(INSERT) + query(f"SELECT '{'x' * 300_000}'") + SYNC, "ZZ"),
    "query behind a known failure": (
        *(run("SELECT 1/0") + FLUSH, "E", query(f"SELECT '{'x' * 300_000}'") + SYNC, "Z"),
    ),
    "copy at once": (
        run(COPY_IN) + copy_data(b"1\t" + b"x" * 300_000 + b"\n") + COPY_DONE + SYNC,
        *("Z", query("SELECT length(v) FROM t"), "Z"),
    ),
}
