"""What a real hot standby says to a statement."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import psycopg

from router.routing.classify import classify

from .statements import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cluster.cluster import Shard
    from tests.support.postgres import Database

READ_ONLY_TRANSACTION = "25006"


@contextlib.contextmanager
def a_standby(
    replicated: Shard, make_database: Callable[..., Database]
) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A connection to a replica, with the tables that the statements are about."""
    database = make_database(replicated.primary)
    database.execute(SCHEMA)
    replicated.wait_for_replication()
    with contextlib.closing(replicated.replicas[0].connect(database.name)) as standby:
        yield standby


def refusal_of(
    standby: psycopg.Connection[tuple[object, ...]], sql: str
) -> psycopg.Error | None:
    """Run a statement and everything that it begins; return the server's objection."""
    try:
        if classify(sql).kinds == ("COPY",):
            with standby.cursor().copy(sql.encode()) as copy:
                for _ in copy if "STDOUT" in sql else ():
                    pass
        else:
            standby.execute(sql.encode(), prepare=False)
    except psycopg.Error as error:
        return error
    finally:
        standby.execute("ROLLBACK", prepare=False)
        standby.execute("DISCARD ALL", prepare=False)
    return None
