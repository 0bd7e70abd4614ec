"""What a real hot standby says to a statement."""

from __future__ import annotations

import psycopg

from router.routing.classify import classify

READ_ONLY_TRANSACTION = "25006"


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
