"""PostgreSQL's programs and the migrations of frameworks, as they are run in deployments."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from .conftest import SESSION, SINGLE, TRANSACTION, run_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import Proxied

POOLS = pytest.mark.parametrize("pool", [SESSION, TRANSACTION, SINGLE])

SCHEMA = """
CREATE SCHEMA dumped;
CREATE TYPE dumped.mood AS ENUM ('low', 'high');
CREATE SEQUENCE dumped.numbers START 7;
CREATE TABLE dumped.parents (id int PRIMARY KEY, how dumped.mood, body bytea, said text);
CREATE TABLE dumped.children (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent int NOT NULL REFERENCES dumped.parents ON DELETE CASCADE,
    CHECK (parent > 0)
);
CREATE INDEX ON dumped.children (parent);
CREATE VIEW dumped.both AS SELECT p.said, c.id FROM dumped.parents p JOIN dumped.children c
    ON c.parent = p.id;
CREATE FUNCTION dumped.noted() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN NEW.said := coalesce(NEW.said, 'nothing'); RETURN NEW; END $$;
CREATE TRIGGER noted BEFORE INSERT ON dumped.parents
    FOR EACH ROW EXECUTE FUNCTION dumped.noted();
INSERT INTO dumped.parents SELECT i, 'low', decode(md5(i::text), 'hex'), repeat('x', i)
    FROM generate_series(1, 500) i;
INSERT INTO dumped.children (parent) SELECT i FROM generate_series(1, 500) i;
SELECT nextval('dumped.numbers'), lo_from_bytea(0, 'a large object');
"""
CONTENTS = """
SELECT (SELECT count(*) FROM dumped.parents), (SELECT sum(id) FROM dumped.both),
    (SELECT md5(string_agg(p::text, '' ORDER BY id)) FROM dumped.parents p),
    (SELECT last_value FROM dumped.numbers),
    (SELECT count(*) FROM pg_constraint WHERE connamespace = 'dumped'::regnamespace)
"""


@pytest.fixture
def dumped(proxied: Proxied) -> Iterator[tuple[object, ...]]:
    """A schema to dump; returns what is in it."""
    with proxied.direct() as directly:
        directly.execute("DROP SCHEMA IF EXISTS dumped CASCADE")
        directly.execute(SCHEMA)
        contents = directly.execute(CONTENTS).fetchone()
        assert contents is not None
        yield contents
        directly.execute("DROP SCHEMA IF EXISTS dumped CASCADE")


@POOLS
@pytest.mark.parametrize("form", ["plain", "inserts", "custom", "directory", "jobs"])
def test_a_dump_is_restored(
    proxied: Proxied,
    dumped: tuple[object, ...],
    tmp_path: Path,
    pool: str,
    form: str,
) -> None:
    if form == "jobs" and pool == SINGLE:
        pytest.skip("several jobs hold a transaction each, and there is one server")
    jobs = ["--jobs=3"] if form == "jobs" else []
    options = {
        "plain": ["--format=plain"],
        "inserts": ["--format=plain", "--column-inserts"],
        "custom": ["--format=custom"],
    }.get(form, ["--format=directory", *jobs])
    path = tmp_path / "dump"
    environment = proxied.environment(pool)
    program = proxied.program("pg_dump")
    command = [program, "--schema=dumped", f"--file={path}", *options]
    done = run_program(command, environment)
    assert (done.returncode, done.stderr) == (0, "")
    with proxied.direct() as directly:
        directly.execute("DROP SCHEMA dumped CASCADE")
        if form in ("plain", "inserts"):
            psql = [proxied.program("psql"), "--no-psqlrc", "-q", "-v", "ON_ERROR_STOP=1"]
            done = run_program([*psql, f"--file={path}"], environment)
        else:
            restore = [proxied.program("pg_restore"), f"--dbname={pool}", *jobs, str(path)]
            done = run_program(restore, environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert directly.execute(CONTENTS).fetchone() == dumped


@POOLS
def test_a_statement_is_watched_and_bound(proxied: Proxied, pool: str) -> None:
    command = [proxied.program("psql"), "--no-psqlrc", "--quiet", "-At"]
    # \watch ends with an error, here that of its third round.
    script = """
CREATE SEQUENCE rounds;
SELECT 1 / (3 - nextval('rounds')) \\watch 0.01
DROP SEQUENCE rounds;
SELECT 'goes on';
SELECT $1::int * 2 \\bind 21 \\g
"""
    done = run_program(command, proxied.environment(pool), script)
    lines = [line for line in done.stdout.splitlines() if line and "every" not in line]
    assert "division by zero" in done.stderr
    if "invalid command" in done.stderr:
        assert lines[:3] == ["0", "1", "goes on"]  # a psql without \bind
    else:
        assert lines == ["0", "1", "goes on", "42"]


@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
@pytest.mark.parametrize("builtin", ["tpcb-like", "simple-update", "select-only"])
@pytest.mark.parametrize("pool", [TRANSACTION, SINGLE])
def test_every_script_of_pgbench_runs_in_every_protocol(
    proxied: Proxied, pool: str, builtin: str, protocol: str
) -> None:
    program, environment = proxied.program("pgbench"), proxied.environment(pool)
    with proxied.direct() as directly:
        is_there = directly.execute("SELECT to_regclass('pgbench_history')").fetchone()
    if is_there == (None,):
        done = run_program([program, "--initialize", "--quiet", "--scale=1"], environment)
        assert done.returncode == 0, done.stderr
    options = [f"--builtin={builtin}", f"--protocol={protocol}", "--client=4", "-t20"]
    for each in ([], ["--connect"], ["--skip-some-updates"] if builtin == "tpcb-like" else []):
        done = run_program([program, "--no-vacuum", *options, *each], environment)
        assert done.returncode == 0, done.stderr
        assert "actually processed: 80/80" in done.stdout
        assert "number of failed transactions: 0 (0.000%)" in done.stdout


def ran(script: str, *arguments: str, directory: Path) -> str:
    """What a script of Python's has printed, in a process of its own."""
    path = directory / "script.py"
    path.write_text(textwrap.dedent(script))
    done = subprocess.run(
        [sys.executable, str(path), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=directory,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


DJANGO = """
import sys
from pathlib import Path
import django
from django.conf import settings
host, port, pool = sys.argv[1:]
package = Path("shop")
(package / "migrations").mkdir(parents=True, exist_ok=True)
(package / "__init__.py").touch()
(package / "migrations" / "__init__.py").touch()
models = package / "models.py"
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "shop"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
    DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql", "NAME": pool, "USER": "postgres",
        "HOST": host, "PORT": port,
    }},
)
models.write_text('''
from django.db import models
class Thing(models.Model):
    name = models.CharField(max_length=20, unique=True)
    kind = models.IntegerField(default=1, db_index=True)
''')
django.setup()
from django.core.management import call_command
call_command("makemigrations", "shop", verbosity=0)
call_command("migrate", verbosity=0)
from shop.models import Thing
from django.db import connection, transaction
Thing.objects.bulk_create([Thing(name=str(n)) for n in range(100)])
(package / "migrations" / "0002_more.py").write_text('''
from django.db import migrations, models
def fill(apps, schema_editor):
    for thing in apps.get_model("shop", "Thing").objects.all().iterator(chunk_size=10):
        thing.note = "n" + thing.name
        thing.save()
class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [
        migrations.AddField("thing", "note", models.TextField(null=True)),
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.AlterField("thing", "kind", models.BigIntegerField(default=1)),
        migrations.RenameField("thing", "kind", "sort"),
        migrations.AddIndex("thing", models.Index(fields=["note"], name="by_note")),
    ]
''')
import importlib
importlib.invalidate_caches()
call_command("migrate", "shop", "0002", verbosity=0)
with connection.cursor() as cursor:
    cursor.execute("SELECT count(*), count(note), min(sort) FROM shop_thing")
    print(cursor.fetchone())
call_command("migrate", "shop", "zero", verbosity=0)
call_command("migrate", "auth", "zero", verbosity=0)
call_command("migrate", "contenttypes", "zero", verbosity=0)
print("shop_thing" in connection.introspection.table_names())
"""

SQLALCHEMY = """
    import sys
    import sqlalchemy as sa
    host, port, pool, driver = sys.argv[1:]
    engine = sa.create_engine(f"postgresql+{driver}://postgres@{host}:{port}/{pool}")
    data = sa.MetaData()
    kinds = sa.Enum("a", "b", name="sa_kind")
    users = sa.Table("sa_users", data, sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(20), index=True), sa.Column("kind", kinds))
    notes = sa.Table("sa_notes", data, sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("owner", sa.ForeignKey("sa_users.id")), sa.Column("extra", sa.JSON))
    data.drop_all(engine)
    data.create_all(engine)
    with engine.begin() as connection:
        connection.execute(users.insert(), [{"name": str(n), "kind": "a"} for n in range(50)])
        connection.execute(notes.insert(), [{"owner": 1, "extra": {"n": n}} for n in range(50)])
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE sa_users ADD COLUMN seen int"))
        connection.execute(sa.text("UPDATE sa_users SET seen = id"))
        connection.execute(sa.text("ALTER TABLE sa_users ALTER seen TYPE bigint"))
        connection.execute(sa.text("ALTER TABLE sa_users ALTER seen SET NOT NULL"))
    try:
        with engine.begin() as connection:
            connection.execute(sa.text("ALTER TABLE sa_users DROP COLUMN seen"))
            connection.execute(sa.text("ALTER TABLE sa_users DROP COLUMN nothing"))
    except sa.exc.ProgrammingError:
        pass
    found = sa.MetaData()
    found.reflect(engine, only=["sa_users", "sa_notes"])
    with engine.connect() as connection:
        row = connection.execute(sa.select(sa.func.sum(found.tables["sa_users"].c.seen))).one()
    print(row[0], sorted(found.tables["sa_users"].c.keys()))
    data.drop_all(engine)
    print(sa.inspect(engine).get_table_names(schema="public").count("sa_users"))
"""


@POOLS
@pytest.mark.skipif(importlib.util.find_spec("django") is None, reason="Django is missing")
def test_djangos_migrations_run_forwards_and_backwards(
    proxied: Proxied, tmp_path: Path, pool: str
) -> None:
    said = ran(DJANGO, proxied.router.host, str(proxied.port), pool, directory=tmp_path)
    assert said.splitlines() == ["(100, 100, 1)", "False"]


@POOLS
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pg8000"])
@pytest.mark.skipif(
    importlib.util.find_spec("sqlalchemy") is None, reason="SQLAlchemy is missing"
)
def test_sqlalchemy_makes_changes_and_reflects_a_schema(
    proxied: Proxied, tmp_path: Path, pool: str, driver: str
) -> None:
    pytest.importorskip(driver)
    arguments = (proxied.router.host, str(proxied.port), pool, driver)
    said = ran(SQLALCHEMY, *arguments, directory=tmp_path)
    assert said.splitlines() == ["1275 ['id', 'kind', 'name', 'seen']", "0"]
