"""An application that knows nothing of shards, with each driver; its statements have keys.

It begins and ends transactions as the driver does by itself, unchanged, on a pool with shards.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg
import psycopg
import pytest

from router.routing.sharding import pg_bigint_hash
from tests.support.router import HOST
from tests.support.shards import (
    SHARDS,
    Shards,
    start_shards,
)

from .conftest import run_program
from .test_node import node_environment
from .test_tools import ran

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster.server import Server
    from tests.support.router import RouterProcess

pytestmark = pytest.mark.postgres
__all__ = ["node_environment"]

OWNERS: Final = range(1, 13)  # of all shards
KEYS: Final = (
    'query_parser_enabled = true\nautomatic_sharding_key = ["accounts.owner", "entries.owner"]'
)
TABLES: Final = (
    "CREATE TABLE accounts (owner bigint PRIMARY KEY, balance int NOT NULL);"
    "CREATE TABLE entries (owner bigint REFERENCES accounts, id int, amount int NOT NULL,"
    " PRIMARY KEY (owner, id))"
)
OPEN: Final = "INSERT INTO accounts (owner, balance) VALUES ({}, 100)"
ENTER: Final = "INSERT INTO entries (owner, id, amount) VALUES ({}, 1, -30)"
PAY: Final = "UPDATE accounts SET balance = balance - 30 WHERE owner = {}"
FORGET: Final = "DELETE FROM entries WHERE owner = {}"
READ: Final = "SELECT balance, amount FROM accounts JOIN entries USING (owner) WHERE owner = {}"
FOUND: Final = (70, -30)


@pytest.fixture
def shards(
    private_primary: Callable[..., Server], start_router: Callable[..., RouterProcess]
) -> Shards:
    """Three shards with the tables."""
    server = private_primary(max_prepared_transactions="20")
    return start_shards(server, start_router, KEYS, lambda each: each.execute(TABLES))


def check(shards: Shards) -> None:
    """See that all rows are there, and where they belong."""
    for number, database in enumerate(shards.databases):
        rows = database.execute(
            "SELECT owner, balance, amount FROM accounts JOIN entries USING (owner)"
        )
        own = [owner for owner in OWNERS if pg_bigint_hash(owner, SHARDS) == number]
        assert sorted(rows) == [(owner, *FOUND) for owner in own]


@pytest.mark.parametrize("is_pipelined", [False, True])
def test_psycopg_by_default(shards: Shards, *, is_pipelined: bool) -> None:
    with psycopg.connect(shards.router.dsn("items")) as connection:
        for owner in OWNERS:
            if is_pipelined:
                with connection.pipeline():
                    for sql in (OPEN, ENTER, PAY):
                        connection.execute(sql.format("%s"), (owner,))
                    connection.commit()
            else:
                for sql in (OPEN, ENTER, PAY):
                    connection.execute(sql.format("%s"), (owner,))
                connection.commit()
            connection.execute(FORGET.format("%s"), (owner,))
            connection.rollback()
            with connection.cursor(name="few") as cursor:
                cursor.execute(READ.format("%s"), (owner,))
                assert cursor.fetchall() == [FOUND]
            connection.commit()
    check(shards)


def test_psycopg_with_autocommit(shards: Shards) -> None:
    with psycopg.connect(shards.router.dsn("items"), autocommit=True) as connection:
        for owner in OWNERS:
            with connection.transaction():
                connection.execute(OPEN.format("%s"), (owner,))
                with connection.transaction():
                    connection.execute(ENTER.format("%s"), (owner,))
            connection.execute(PAY.format("%s"), (owner,))
            with connection.transaction(force_rollback=True):
                connection.execute(FORGET.format("%s"), (owner,))
            assert connection.execute(READ.format("%s"), (owner,)).fetchall() == [FOUND]
    check(shards)


@pytest.mark.parametrize("cache", [100, 0])
def test_asyncpg(shards: Shards, cache: int) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(
            host=HOST,
            port=shards.router.port,
            user="postgres",
            database="items",
            statement_cache_size=cache,
        )
        for owner in OWNERS:
            async with connection.transaction():
                for sql in (OPEN, ENTER, PAY):
                    await connection.execute(sql.format("$1"), owner)
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(FORGET.format("$1"), owner)
            await transaction.rollback()
            async with connection.transaction():
                found = [
                    tuple(row) async for row in connection.cursor(READ.format("$1"), owner)
                ]
            assert found == [FOUND]
            assert tuple(await connection.fetchrow(READ.format("$1"), owner)) == FOUND
        await connection.close()

    asyncio.run(run())
    check(shards)


SQLALCHEMY: Final = """
import sys
from sqlalchemy import BigInteger, ForeignKey, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

class Base(DeclarativeBase):
    pass

class Account(Base):
    __tablename__ = "accounts"
    owner: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    balance: Mapped[int]
    entries: Mapped[list["Entry"]] = relationship(cascade="all, delete-orphan")

class Entry(Base):
    __tablename__ = "entries"
    owner: Mapped[int] = mapped_column(ForeignKey("accounts.owner"), primary_key=True)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    amount: Mapped[int]

host, port, *owners = sys.argv[1:]
engine = create_engine(f"postgresql+psycopg://postgres@{host}:{port}/items")
for owner in map(int, owners):
    with Session(engine) as session:
        account = Account(owner=owner, balance=100)
        account.entries.append(Entry(id=1, amount=-30))
        session.add(account)
        session.flush()
        account.balance -= 30
        session.commit()
        session.delete(account)
        session.flush()
        session.rollback()
        found = session.get(Account, owner)
        assert [(found.balance, entry.amount) for entry in found.entries] == [(70, -30)]
        many = select(Account).join(Entry).where(Account.owner == owner, Entry.owner == owner)
        assert session.scalars(many).one() is found
"""

DJANGO: Final = """
import sys
import types
import django
from django.conf import settings
host, port, *owners = sys.argv[1:]
settings.configure(
    INSTALLED_APPS=[],
    USE_TZ=True,
    DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql", "NAME": "items", "USER": "postgres",
        "HOST": host, "PORT": port, "ATOMIC_REQUESTS": True,
    }},
)
django.setup()
from django.db import models, transaction
class Account(models.Model):
    owner = models.BigIntegerField(primary_key=True)
    balance = models.IntegerField()
    class Meta:
        app_label, db_table, managed = "bank", "accounts", False
class Entry(models.Model):
    pk = models.CompositePrimaryKey("owner", "id")
    owner = models.BigIntegerField()
    id = models.IntegerField()
    amount = models.IntegerField()
    class Meta:
        app_label, db_table, managed = "bank", "entries", False
for owner in map(int, owners):
    with transaction.atomic():
        account = Account.objects.create(owner=owner, balance=100)
        with transaction.atomic():
            Entry.objects.create(owner=owner, id=1, amount=-30)
        Account.objects.filter(owner=owner).update(balance=models.F("balance") - 30)
    try:
        with transaction.atomic():
            Entry.objects.filter(owner=owner).delete()
            raise RuntimeError
    except RuntimeError:
        pass
    assert Account.objects.get(owner=owner).balance == 70
    assert list(Entry.objects.filter(owner=owner).values_list("amount", flat=True)) == [-30]
"""


@pytest.mark.parametrize(("module", "script"), [("sqlalchemy", SQLALCHEMY), ("django", DJANGO)])
def test_object_relational_mappers(
    shards: Shards, tmp_path: Path, module: str, script: str
) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is missing")
    ran(script, HOST, str(shards.router.port), *map(str, OWNERS), directory=tmp_path)
    check(shards)


def test_node_postgres(shards: Shards, node_environment: dict[str, str]) -> None:
    script = Path(__file__).with_name("sharded_client.mjs")
    command = ["node", str(script), HOST, str(shards.router.port), *map(str, OWNERS)]
    done = run_program(command, node_environment)
    assert done.returncode == 0, done.stderr
    check(shards)


def test_jdbc(shards: Shards) -> None:
    places = Path.home() / ".m2/repository/org/postgresql/postgresql"
    jars = sorted(
        [*places.glob("*/postgresql-*.jar"), *Path("/usr/share/java").glob("postgresql.jar")]
    )
    if shutil.which("java") is None or not jars:
        pytest.skip("Java or its driver is missing")
    program = Path(__file__).with_name("Sharded.java")
    command = ["java", "-cp", str(jars[-1]), str(program), HOST, str(shards.router.port)]
    done = run_program([*command, *map(str, OWNERS)], dict(os.environ))
    assert done.returncode == 0, done.stderr
    check(shards)
