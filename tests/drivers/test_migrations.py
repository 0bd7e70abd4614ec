"""Migrations of frameworks, unchanged, on a pool with several shards: all of them are alike."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
from typing import TYPE_CHECKING, Final

import asyncpg
import psycopg
import pytest

from tests.support.shards import (
    SHARDS,
    Shards,
    start_shards,
)

from .test_tools import ran

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.cluster.server import Server
    from tests.support.router import RouterProcess

pytestmark = pytest.mark.postgres

KEYS: Final = (
    "query_parser_enabled = true\n"
    'automatic_sharding_key = ["items.id", "events.owner", "shop_event.owner"]'
)
COLUMNS: Final = """
SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns
WHERE table_schema = 'public' ORDER BY 1, 2
"""
INDEXES: Final = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"


@pytest.fixture
def shards(
    private_primary: Callable[..., Server], start_router: Callable[..., RouterProcess]
) -> Shards:
    """Three shards, whose transactions are ended in two phases."""
    server = private_primary(max_prepared_transactions="20")
    return start_shards(server, start_router, KEYS)


def schema(shards: Shards) -> list[tuple[object, ...]]:
    """What there is on each shard, which is the same."""
    first, *others = (
        [*database.execute(COLUMNS), *database.execute(INDEXES)]
        for database in shards.databases
    )
    assert all(other == first for other in others)
    return first


def counts(shards: Shards, table: str) -> list[int]:
    """How many rows of a table there are on each shard."""
    return [
        int(database.execute(f"SELECT count(*) FROM {table}")[0][0])
        for database in shards.databases
    ]


def test_psycopg_defines_and_fills_tables_by_default(shards: Shards) -> None:
    router = shards.router
    with psycopg.connect(
        host=router.host, port=router.port, user="postgres", dbname="items"
    ) as connection:
        connection.execute("CREATE TABLE events (owner bigint, body text)")
        with connection.transaction():
            connection.execute("CREATE INDEX ON events (owner)")
        connection.commit()
        connection.execute("CREATE TABLE nothing (id int)")
        with pytest.raises(psycopg.errors.UndefinedColumn, match="shard 1"):
            connection.execute("CREATE INDEX ON events (nothing)")
        connection.rollback()
        connection.execute("COMMENT ON TABLE events IS 'of all'")
        connection.commit()
        for owner in range(30):
            connection.execute("INSERT INTO events VALUES (%s, 'x')", (owner,))
            connection.commit()
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("DROP TABLE nothing")
        connection.rollback()
    schema(shards)
    assert shards.has("nothing") == [False] * SHARDS
    assert sum(counts(shards, "events")) == 30
    assert 0 not in counts(shards, "events")
    assert shards.left() == 0


SQLALCHEMY: Final = """
    import sys
    import sqlalchemy as sa
    from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
    engine = sa.create_engine(f"postgresql+{sys.argv[3]}://postgres@{sys.argv[1]}:{sys.argv[2]}/items")
    # The driver sends the oid of such a type, which is another one on each shard.
    kinds = sa.Enum("a", "b", name="event_kind", native_enum=sys.argv[3] != "pg8000")
    class Base(DeclarativeBase):
        pass
    class Kind(Base):
        __tablename__ = "kinds"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(20), unique=True)
    class Event(Base):
        __tablename__ = "events"
        owner: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
        kind: Mapped[str] = mapped_column(kinds, index=True)
    Base.metadata.create_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all([Kind(name=name) for name in "ab"])
    for owner in range(30):
        with Session(engine) as session, session.begin():
            session.add(Event(owner=owner, kind="a"))
        with Session(engine) as session:
            print(session.get(Event, owner).kind, end="")
    with Session(engine) as session:
        print(session.scalar(sa.select(sa.func.count()).select_from(Kind)))
    print(sorted(sa.inspect(engine).get_table_names()))
    if sys.argv[4] == "drop":
        Base.metadata.drop_all(engine)
"""


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pg8000"])
@pytest.mark.skipif(
    importlib.util.find_spec("sqlalchemy") is None, reason="SQLAlchemy is missing"
)
def test_sqlalchemy_creates_and_drops_all(shards: Shards, tmp_path: Path, driver: str) -> None:
    pytest.importorskip(driver)
    before = schema(shards)
    place = (shards.router.host, str(shards.router.port), driver)
    said = ran(SQLALCHEMY, *place, "keep", directory=tmp_path)
    assert said.splitlines() == ["a" * 30 + "2", "['events', 'items', 'kinds']"]
    assert schema(shards) != before
    assert counts(shards, "kinds") == [2, 0, 0]
    assert sum(counts(shards, "events")) == 30
    assert 0 not in counts(shards, "events")
    for database in shards.databases:
        database.execute("DELETE FROM events; DELETE FROM kinds")
    ran(SQLALCHEMY, *place, "drop", directory=tmp_path)
    assert schema(shards) == before
    assert shards.left() == 0


ALEMBIC: Final = """
import sys
from pathlib import Path
from alembic import command
from alembic.config import Config
from sqlalchemy.exc import DBAPIError
Path("versions").mkdir(exist_ok=True)
Path("env.py").write_text('''
from alembic import context
from sqlalchemy import create_engine
engine = create_engine(context.config.get_main_option("sqlalchemy.url"))
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()
''')
HEAD = '''
from alembic import op
import sqlalchemy as sa
revision, down_revision, branch_labels, depends_on = {0!r}, {1!r}, None, None
'''
def revision(number, before, up, down="pass"):
    text = HEAD.format(number, before)
    text += f"def upgrade():\\n    {up}\\ndef downgrade():\\n    {down}\\n"
    Path(f"versions/{number}.py").write_text(text)
revision("one", None,
    "op.create_table('events', sa.Column('owner', sa.BigInteger, primary_key=True,"
    " autoincrement=False), sa.Column('body', sa.Text))", "op.drop_table('events')")
revision("two", "one", "op.add_column('events', sa.Column('kind', sa.Enum('a', 'b',"
    " name='kind').with_variant(sa.String(1), 'postgresql')));"
    " op.create_index('by_kind', 'events', ['kind'])",
    "op.drop_index('by_kind'); op.drop_column('events', 'kind')")
config = Config()
config.set_main_option("script_location", ".")
config.set_main_option(
    "sqlalchemy.url", f"postgresql+psycopg://postgres@{sys.argv[1]}:{sys.argv[2]}/items")
command.upgrade(config, "head")
revision("three", "two",
    "op.add_column('events', sa.Column('more', sa.Text)); op.drop_column('events', 'none')")
try:
    command.upgrade(config, "head")
except DBAPIError as error:
    print(error.orig.sqlstate)
if sys.argv[3] == "down":
    command.downgrade(config, "base")
"""


@pytest.mark.skipif(importlib.util.find_spec("alembic") is None, reason="Alembic is missing")
def test_alembic_goes_up_and_down(shards: Shards, tmp_path: Path) -> None:
    before = schema(shards)
    place = (shards.router.host, str(shards.router.port))
    assert ran(ALEMBIC, *place, "stay", directory=tmp_path) == "42703\n"
    columns = {row[1] for row in schema(shards) if row[0] == "events"}
    assert columns == {"owner", "body", "kind"}
    assert shards.has("by_kind") == [True] * SHARDS
    versions = [
        each.execute("SELECT version_num FROM alembic_version") for each in shards.databases
    ]
    assert versions == [[("two",)], [], []]
    (tmp_path / "versions" / "three.py").unlink()
    ran(ALEMBIC, *place, "down", directory=tmp_path)
    assert shards.has("events") == [False] * SHARDS
    assert len(schema(shards)) == len(before) + 2  # alembic_version, and its key
    assert shards.left() == 0


DJANGO: Final = """
import sys
from pathlib import Path
import django
from django.conf import settings
host, port = sys.argv[1:]
package = Path("shop")
(package / "migrations").mkdir(parents=True, exist_ok=True)
(package / "__init__.py").touch()
(package / "migrations" / "__init__.py").touch()
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "shop"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
    DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql", "NAME": "items", "USER": "postgres",
        "HOST": host, "PORT": port,
    }},
)
(package / "models.py").write_text('''
from django.db import models
class Kind(models.Model):
    name = models.CharField(max_length=20, unique=True)
class Event(models.Model):
    owner = models.BigIntegerField(primary_key=True)
    kind = models.IntegerField(default=1, db_index=True)
''')
django.setup()
from django.core.management import call_command
call_command("makemigrations", "shop", verbosity=0)
call_command("migrate", verbosity=0)
from shop.models import Event, Kind
from django.db import DatabaseError, connection, transaction
Kind.objects.bulk_create([Kind(name=str(n)) for n in range(10)])
for owner in range(30):
    with transaction.atomic():
        Event.objects.create(owner=owner)
        Event.objects.filter(owner=owner).update(kind=owner)
HEAD = '''
from django.db import migrations, models
def fill(apps, schema_editor):
    for kind in apps.get_model("shop", "Kind").objects.all().iterator(chunk_size=3):
        kind.note = "n" + kind.name
        kind.save()
class Migration(migrations.Migration):
    dependencies = [("shop", "%s")]
    operations = [%s]
'''
(package / "migrations" / "0002_more.py").write_text(HEAD % ("0001_initial", '''
        migrations.AddField("kind", "note", models.TextField(null=True)),
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.AlterField("event", "kind", models.BigIntegerField(default=1)),
        migrations.RenameField("event", "kind", "sort"),
        migrations.AddIndex("event", models.Index(fields=["sort"], name="by_sort")),
'''))
(package / "migrations" / "0003_wrong.py").write_text(HEAD % ("0002_more", '''
        migrations.AddField("event", "wrong", models.TextField(null=True)),
        migrations.RunSQL("ALTER TABLE shop_event DROP COLUMN nothing"),
'''))
import importlib
importlib.invalidate_caches()
call_command("migrate", "shop", "0002", verbosity=0)
try:
    call_command("migrate", "shop", "0003", verbosity=0)
except DatabaseError as error:
    print(error.__cause__.sqlstate)
with connection.cursor() as cursor:
    cursor.execute("SELECT count(*), count(note) FROM shop_kind")
    print(cursor.fetchone())
    cursor.execute("SELECT sort FROM shop_event WHERE owner = 7")
    print(cursor.fetchone())
call_command("migrate", "shop", "0001", verbosity=0)
"""


@pytest.mark.skipif(importlib.util.find_spec("django") is None, reason="Django is missing")
def test_django_migrates_forwards_and_backwards(shards: Shards, tmp_path: Path) -> None:
    place = (shards.router.host, str(shards.router.port))
    said = ran(DJANGO, *place, directory=tmp_path)
    assert said.splitlines() == ["42703", "(10, 10)", "(7,)"]
    columns = {row[1] for row in schema(shards) if row[0] == "shop_event"}
    assert columns == {"owner", "kind"}
    assert sum(counts(shards, "shop_event")) == 30
    assert 0 not in counts(shards, "shop_event")
    applied = counts(shards, "django_migrations")
    assert applied[0] > 0
    assert applied[1:] == [0, 0]
    assert shards.left() == 0


async def _with_asyncpg(port: int) -> list[object]:
    connection = await asyncpg.connect(
        host="127.0.0.1", port=port, user="postgres", database="items"
    )
    async with connection.transaction():
        await connection.execute("CREATE TABLE events (owner bigint, body text)")
        await connection.fetch("CREATE INDEX by_owner ON events (owner)")
        async with connection.transaction():
            await connection.execute("COMMENT ON TABLE events IS 'of all'")
        with contextlib.suppress(asyncpg.UndefinedTableError):
            async with connection.transaction():
                await connection.execute("DROP TABLE nothing")
        exists = "SELECT count(*) FROM pg_class WHERE relname = $1"
        found = [await connection.fetchval(exists, "by_owner")]
    for owner in range(20):
        async with connection.transaction():
            await connection.execute("INSERT INTO events (owner) VALUES ($1)", owner)
    await connection.close()
    return found


def test_asyncpg_defines_in_nested_transactions(shards: Shards) -> None:
    assert asyncio.run(_with_asyncpg(shards.router.port)) == [1]
    schema(shards)
    assert shards.has("by_owner") == [True] * SHARDS
    assert sum(counts(shards, "events")) == 20
    assert shards.left() == 0


def test_psycopg_defines_in_a_pipeline(shards: Shards) -> None:
    router = shards.router
    with psycopg.connect(
        host=router.host, port=router.port, user="postgres", dbname="items"
    ) as connection:
        with connection.pipeline() as pipeline:
            connection.execute("CREATE TABLE events (owner bigint)")
            connection.execute("CREATE INDEX by_owner ON events (owner)")
            pipeline.sync()
            row = connection.execute("SELECT count(*) FROM pg_class WHERE relname = 'events'")
            connection.execute("ALTER TABLE events ADD body text")
        assert row.fetchone() == (1,)
        connection.commit()
    schema(shards)
    assert shards.has("by_owner") == [True] * SHARDS
    assert shards.left() == 0
