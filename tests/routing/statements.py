"""Statements whose verdict is known, and the objects that they use."""

from __future__ import annotations

from typing import Final

SCHEMA: Final = """
CREATE TABLE t (id bigint PRIMARY KEY, name text, j jsonb, a int[], ts timestamptz);
CREATE TABLE u (id bigint PRIMARY KEY, t_id bigint, "update" int, "delete" int, "insert" int);
CREATE TABLE "Mixed" (id int, "select" int);
CREATE SCHEMA app;
CREATE TABLE app.v (id int, name text);
CREATE SEQUENCE s;
CREATE FUNCTION plain(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION app.lower(text) RETURNS text LANGUAGE sql VOLATILE
  AS 'SELECT nextval(''s'')::text';
CREATE FUNCTION rows_of() RETURNS SETOF t LANGUAGE sql STABLE AS 'SELECT * FROM t';
CREATE PROCEDURE proc() LANGUAGE sql AS 'SELECT 1';
INSERT INTO t VALUES (1, 'one', '{"k": 1}', '{1,2}', now()), (2, 'two', '{}', '{}', now());
INSERT INTO u VALUES (1, 1, 1, 1, 1);
"""

READS: Final = r"""
SELECT 1
select 1;
SELECT 1;;
SELECT
SELECT * FROM t
SELECT id, name FROM t WHERE id = 1
SELECT t.* FROM t AS t WHERE name = 'it''s' ORDER BY id DESC LIMIT 1 OFFSET 0
(SELECT 1)
((SELECT 1))
(SELECT 1) UNION ALL (SELECT 2)
SELECT 1 UNION SELECT 2 EXCEPT SELECT 3 INTERSECT SELECT 4
SELECT DISTINCT name FROM t
SELECT DISTINCT ON (name) name, id FROM t ORDER BY name
SELECT count(*), sum(id), avg(id) FILTER (WHERE id > 1) FROM t
SELECT name, count(*) FROM t GROUP BY name HAVING count(*) > 0
SELECT name, id, count(*) FROM t GROUP BY GROUPING SETS ((name), (id), ())
SELECT name, count(*) FROM t GROUP BY ROLLUP (name)
SELECT name, count(*) FROM t GROUP BY CUBE (name)
SELECT row_number() OVER (PARTITION BY name ORDER BY id) FROM t
SELECT sum(id) OVER w FROM t WINDOW w AS (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
SELECT lag(id, 1) OVER (ORDER BY id) FROM t
SELECT * FROM t JOIN u ON u.t_id = t.id
SELECT * FROM t LEFT JOIN u USING (id)
SELECT * FROM t NATURAL JOIN u
SELECT * FROM t CROSS JOIN u
SELECT * FROM t, u WHERE t.id = u.t_id
SELECT * FROM t, LATERAL (SELECT * FROM u WHERE u.t_id = t.id) x
SELECT * FROM (SELECT id FROM t) AS x(y) WHERE y = 1
SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS v(id, name)
SELECT * FROM (VALUES (1, 'a'), (2, 'b')) v(id, name)
SELECT * FROM app.v
SELECT "Mixed"."select" FROM "Mixed"
SELECT * FROM ONLY t
SELECT * FROM t TABLESAMPLE SYSTEM (100)
SELECT * FROM t TABLESAMPLE bernoulli (100) REPEATABLE (1)
SELECT * FROM t WHERE id IN (1, 2, 3)
SELECT * FROM t WHERE id IN (SELECT t_id FROM u)
SELECT * FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.t_id = t.id)
SELECT * FROM t WHERE id = ANY (ARRAY[1, 2])
SELECT * FROM t WHERE id > ALL (SELECT 0)
SELECT * FROM t WHERE id BETWEEN 1 AND 2 AND name LIKE 'o%' AND NOT name ILIKE 'T%'
SELECT * FROM t WHERE name SIMILAR TO 'o%' OR name ~ '^o' OR name IS NULL
SELECT * FROM t WHERE name IS DISTINCT FROM 'one'
SELECT * FROM t WHERE (id, name) = (1, 'one')
SELECT a[1], a[1:2], array_length(a, 1) FROM t
SELECT j -> 'k', j ->> 'k', j #> '{k}', j @> '{}', jsonb_typeof(j) FROM t
SELECT unnest(a) FROM t
SELECT * FROM unnest(ARRAY[1, 2]) WITH ORDINALITY AS x(v, n)
SELECT * FROM unnest(ARRAY[1, 2]) WITH ORDINALITY x(v, n)
SELECT * FROM t x(a, b, c), u JOIN u y (d, e) ON true
SELECT interval '1 2:03' day to second(2), interval '1.5' second(1)
SELECT * FROM generate_series(1, 3) AS g
SELECT * FROM generate_series(1, 3) AS g(n)
SELECT * FROM jsonb_to_recordset('[{"a": 1}]') AS x(a int)
SELECT CASE WHEN id = 1 THEN 'a' ELSE 'b' END FROM t
SELECT CAST(id AS text), id::numeric(10, 2), name::varchar(5) FROM t
SELECT COALESCE(name, ''), NULLIF(name, ''), GREATEST(1, 2), LEAST(1, 2) FROM t
SELECT EXTRACT(year FROM ts), date_trunc('day', ts), ts AT TIME ZONE 'UTC' FROM t
SELECT now(), current_timestamp, current_date, localtime, clock_timestamp(), timeofday()
SELECT current_user, session_user, current_database(), current_schema(), version()
SELECT random(), gen_random_uuid(), pg_backend_pid()
SELECT pg_sleep(0)
SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn(), pg_last_xact_replay_timestamp()
SELECT current_setting('application_name')
SELECT pg_size_pretty(pg_total_relation_size('t'))
SELECT substring(name FROM 1 FOR 2), position('o' IN name), trim(both 'o' FROM name) FROM t
SELECT overlay(name PLACING 'x' FROM 1 FOR 1), left(name, 1), right(name, 1) FROM t
SELECT upper(name), lower(name), length(name), md5(name), replace(name, 'a', 'b') FROM t
SELECT pg_catalog.lower(name) FROM t
SELECT string_agg(name, ',' ORDER BY id), array_agg(id), json_agg(t) FROM t
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY id) FROM t
SELECT to_char(ts, 'YYYY'), to_timestamp(0), age(ts), make_date(2020, 1, 1) FROM t
SELECT interval '1 day', date '2020-01-01', timestamp '2020-01-01 00:00:00'
SELECT date'2020-01-01' + 1
SELECT E'a\'b', U&'d\0061t', B'101', X'1F', $$dollar$$, $x$ nested $$ $x$
SELECT 'INSERT INTO t VALUES (1)'
SELECT 'a' -- INSERT INTO t
/* DELETE FROM t */ SELECT 1
/* outer /* inner */ still */ SELECT 1
-- leading\nSELECT 1
SELECT 1 AS "delete", 2 AS "FOR UPDATE"
SELECT "update", "delete", "insert" FROM u
SELECT u.update FROM u
SELECT update FROM u
SELECT count(DISTINCT name) FROM t
SELECT ROW(1, 2), (1, 2), ARRAY[1, 2], ARRAY(SELECT id FROM t)
SELECT 1 FETCH FIRST 1 ROW ONLY
SELECT * FROM t ORDER BY id NULLS LAST FETCH FIRST (1) ROWS WITH TIES
SELECT obj_description('t'::regclass), format_type(23, NULL), pg_get_userbyid(10)
SELECT c.relname FROM pg_catalog.pg_class c WHERE pg_catalog.pg_table_is_visible(c.oid)
SELECT n.nspname FROM pg_namespace n WHERE n.nspname OPERATOR(pg_catalog.~) '^pg'
SELECT * FROM information_schema.tables LIMIT 1
SELECT * FROM pg_stat_activity
SELECT has_table_privilege('t', 'SELECT')
TABLE t
TABLE app.v
VALUES (1), (2)
VALUES (1, 'a') ORDER BY 1
WITH x AS (SELECT 1) SELECT * FROM x
WITH x(a, b) AS (SELECT 1, 2), y(c) AS (VALUES (3)) SELECT * FROM x, y
WITH x AS MATERIALIZED (SELECT 1) SELECT * FROM x
WITH x AS NOT MATERIALIZED (SELECT 1) SELECT * FROM x
WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT * FROM r
WITH x AS (WITH y AS (SELECT 1) SELECT * FROM y) SELECT * FROM x
SELECT * FROM (WITH x AS (SELECT 1 AS n) SELECT * FROM x) y
SHOW server_version
SHOW ALL
SHOW transaction_read_only
EXPLAIN SELECT * FROM t
EXPLAIN (COSTS OFF) SELECT * FROM t
EXPLAIN ANALYZE SELECT * FROM t
EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM t
EXPLAIN VERBOSE SELECT * FROM t
EXPLAIN INSERT INTO t (id) VALUES (99)
EXPLAIN (ANALYZE false) DELETE FROM t
EXPLAIN UPDATE t SET name = 'x'
EXPLAIN SELECT nextval('s')
EXPLAIN (VERBOSE) WITH x AS (SELECT 1) SELECT * FROM x
COPY t TO STDOUT
COPY t (id, name) TO STDOUT WITH (FORMAT csv)
COPY app.v TO STDOUT
COPY (SELECT * FROM t) TO STDOUT
COPY (SELECT count(*) FROM t) TO STDOUT (FORMAT csv, HEADER)
BEGIN READ ONLY
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY
BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY
START TRANSACTION READ ONLY
START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY, DEFERRABLE
BEGIN READ ONLY; SELECT * FROM t; COMMIT
BEGIN TRANSACTION READ ONLY; SELECT 1; END
BEGIN READ ONLY; SELECT 1; ROLLBACK
SELECT 1; SELECT 2
SELECT 1; SHOW server_version; VALUES (1)
"""

WRITES: Final = r"""
SELECT 1 OPERATOR(pg_catalog.+) nextval('s')
INSERT INTO t (id) VALUES (10)
insert into t select 11
INSERT INTO t (id, name) SELECT id + 100, name FROM t RETURNING id
INSERT INTO t (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = 'x'
INSERT INTO app.v (id) VALUES (1)
UPDATE t SET name = 'x' WHERE id = 1
UPDATE t SET (name, a) = ('x', '{}') FROM u WHERE u.t_id = t.id
DELETE FROM t WHERE id = 1
DELETE FROM t USING u WHERE u.t_id = t.id
MERGE INTO t USING u ON t.id = u.t_id WHEN MATCHED THEN DELETE
MERGE INTO t USING u ON t.id = u.t_id WHEN NOT MATCHED THEN INSERT (id) VALUES (u.id)
TRUNCATE t
WITH x AS (INSERT INTO t (id) VALUES (12) RETURNING *) SELECT * FROM x
WITH x AS (UPDATE t SET name = 'x' RETURNING *) SELECT * FROM x
WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x
WITH y AS (SELECT 1), x AS (DELETE FROM t RETURNING *) SELECT * FROM x, y
WITH x AS MATERIALIZED (DELETE FROM t RETURNING *) SELECT * FROM x
WITH x AS (SELECT 13 AS id) INSERT INTO t (id) SELECT id FROM x
WITH x AS (SELECT 1) UPDATE t SET name = 'x'
WITH x AS (SELECT 1) DELETE FROM t
WITH w AS (WITH x AS (SELECT 1) DELETE FROM t RETURNING *) SELECT * FROM w
/* SELECT */ DELETE FROM t
-- SELECT 1\nDELETE FROM t
SELECT * FROM t FOR UPDATE
SELECT * FROM t FOR SHARE
SELECT * FROM t FOR NO KEY UPDATE
SELECT * FROM t FOR KEY SHARE
SELECT * FROM t FOR UPDATE OF t NOWAIT
SELECT * FROM t FOR UPDATE SKIP LOCKED
(SELECT * FROM t FOR UPDATE)
SELECT * FROM (SELECT * FROM t FOR UPDATE) x
SELECT * FROM u WHERE t_id IN (SELECT id FROM t FOR SHARE)
WITH x AS (SELECT * FROM t FOR UPDATE) SELECT * FROM x
SELECT 1 INTO made
SELECT * INTO TEMP made FROM t
SELECT nextval('s')
SELECT NEXTVAL('s')
SELECT "nextval"('s')
SELECT pg_catalog.nextval('s')
SELECT pg_catalog . nextval ('s')
SELECT nextval/* */('s')
SELECT nextval\n('s')
SELECT 1 FROM (SELECT nextval('s')) x
SELECT * FROM nextval('s')
SELECT * FROM t WHERE id = nextval('s')
SELECT CASE WHEN true THEN nextval('s') END
SELECT DISTINCT ON (id) nextval('s') FROM t
SELECT name FROM t ORDER BY nextval('s')
SELECT 1 LIMIT nextval('s')
VALUES (nextval('s'))
SELECT setval('s', 5)
SELECT lastval()
SELECT set_config('work_mem', '1MB', false)
SELECT pg_advisory_lock(1)
SELECT pg_try_advisory_lock(1)
SELECT pg_advisory_xact_lock(1)
SELECT pg_advisory_unlock_all()
SELECT pg_notify('c', 'x')
SELECT txid_current()
SELECT pg_current_xact_id()
SELECT lo_create(0)
SELECT lo_unlink(1)
SELECT lo_from_bytea(0, 'x')
SELECT setseed(0.5)
SELECT pg_current_wal_lsn()
SELECT pg_switch_wal()
SELECT pg_create_restore_point('x')
SELECT pg_logical_emit_message(false, 'a', 'b')
SELECT pg_export_snapshot()
SELECT pg_terminate_backend(0)
SELECT query_to_xml('select 1', true, true, '')
SELECT plain(1)
SELECT app.lower('X')
SELECT app . "lower"('X')
SELECT "Lower"('X')
SELECT unknown_function(1)
SELECT * FROM rows_of()
EXPLAIN ANALYZE INSERT INTO t (id) VALUES (20)
EXPLAIN (ANALYZE) DELETE FROM t
EXPLAIN (ANALYZE true) DELETE FROM t
EXPLAIN (COSTS OFF, ANALYZE on) DELETE FROM t
EXPLAIN (ANALYZE 1) DELETE FROM t
EXPLAIN ANALYZE VERBOSE UPDATE t SET name = 'x'
EXPLAIN ANALYZE SELECT nextval('s')
EXPLAIN ANALYZE SELECT * FROM t FOR UPDATE
EXPLAIN ANALYZE CREATE TABLE made AS SELECT 1
EXPLAIN EXECUTE p
COPY t FROM STDIN
COPY t (id) FROM STDIN
COPY t TO PROGRAM 'cat > /dev/null'
COPY (SELECT nextval('s')) TO STDOUT
COPY (DELETE FROM t RETURNING *) TO STDOUT
BEGIN
BEGIN READ WRITE
START TRANSACTION
BEGIN; SELECT 1; COMMIT
COMMIT
ROLLBACK
SAVEPOINT a
SET work_mem = '1MB'
SET LOCAL work_mem = '1MB'
SET TRANSACTION READ ONLY
RESET ALL
DISCARD ALL
LISTEN c
NOTIFY c
UNLISTEN *
LOCK TABLE t
VACUUM t
ANALYZE t
REINDEX TABLE t
CLUSTER t
CHECKPOINT
CALL proc()
DO $$BEGIN PERFORM 1; END$$
PREPARE p AS SELECT 1
EXECUTE p
DEALLOCATE ALL
DECLARE c CURSOR WITH HOLD FOR SELECT 1
FETCH 1 FROM c
CLOSE ALL
CREATE TABLE made (id int)
CREATE TEMP TABLE made (id int)
CREATE TABLE made AS SELECT 1
CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC; SELECT 1; END
CREATE INDEX ON t (name)
CREATE VIEW made AS SELECT 1
CREATE MATERIALIZED VIEW made AS SELECT 1
REFRESH MATERIALIZED VIEW made
ALTER TABLE t ADD x int
DROP TABLE IF EXISTS made
COMMENT ON TABLE t IS 'x'
GRANT SELECT ON t TO PUBLIC
SECURITY LABEL ON TABLE t IS 'x'
IMPORT FOREIGN SCHEMA x FROM SERVER y INTO z
PREPARE TRANSACTION 'x'
COMMIT PREPARED 'x'
SELECT 1; DELETE FROM t
SELECT 1; SELECT nextval('s')
BEGIN READ ONLY; SELECT 1; COMMIT; DELETE FROM t
BEGIN READ ONLY; COMMIT; COMMIT
SELEC 1
SELECT FROM WHERE
SELECT (1
SELECT 1)
SELECT 'open
SELECT "open
SELECT $$open
SELECT 1 /* open
foo
12
;
"""


def lines(table: str) -> list[str]:
    r"""Return the statements of a table, in which \n stands for a new line."""
    return [line.replace(r"\n", "\n") for line in table.splitlines() if line]
