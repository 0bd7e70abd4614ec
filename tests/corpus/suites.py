"""Runs the suites of ORMs against a primary, with a shadow on its standby."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Final

from . import fetch, shadow
from .records import Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.support.cluster.cluster import Shard

# Those that put many forms of queries together; none of them needs more than a database.
_DJANGO: Final = """
aggregation aggregation_regress annotations basic conditional_processing
custom_columns custom_lookups custom_managers custom_pk datatypes dates datetimes db_functions
defer delete distinct_on_fields expressions expressions_case expressions_window
extra_regress filtered_relation force_insert_update foreign_object from_db_value
generic_relations get_or_create introspection known_related_objects lookup
m2m_through many_to_many many_to_one model_fields model_inheritance
nested_foreign_keys null_queries one_to_one or_lookups order_with_respect_to
ordering pagination postgres_tests prefetch_related queries queryset_pickle raw_query
reverse_lookup select_for_update select_related select_related_regress timezones
update update_only_fields xor_lookups
"""
_SQLALCHEMY: Final = """
test/sql/test_query.py test/sql/test_select.py test/sql/test_functions.py test/sql/test_types.py
test/sql/test_returning.py test/sql/test_resultset.py test/sql/test_insert_exec.py
test/sql/test_update.py test/sql/test_delete.py test/sql/test_cte.py test/sql/test_lateral.py
test/sql/test_values.py test/sql/test_sequences.py test/sql/test_defaults.py
test/sql/test_type_expressions.py test/sql/test_quote.py test/sql/test_operators.py
test/sql/test_case_statement.py test/sql/test_computed.py test/sql/test_text.py
test/dialect/postgresql test/dialect/test_suite.py test/orm test/ext
"""
_SETTINGS: Final = """
DATABASES = {{
    name: {{
        "ENGINE": "django.db.backends.postgresql", "NAME": name, "USER": "postgres",
        "HOST": "127.0.0.1", "PORT": "{port}",
        "OPTIONS": {{"server_side_binding": {binding}}},
    }}
    for name in ("default", "other")
}}
SECRET_KEY = "corpus"
USE_TZ = False
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
"""
_EXTENSIONS: Final = ("citext", "hstore", "pg_trgm", "unaccent", "btree_gin", "btree_gist")


def django(directory: Path, shard: Shard, *, binding: bool) -> Iterator[Record]:
    """Run Django's suite; `binding`: with parameters, or with values in the text."""
    sources = fetch.sdist(directory, "django")
    settings = directory / "corpus_settings.py"
    settings.write_text(_SETTINGS.format(port=shard.primary.port, binding=binding))
    for extension in _EXTENSIONS:
        shard.primary.execute(
            f"CREATE EXTENSION IF NOT EXISTS {extension}", database="template1"
        )
    modules = [name for name in _DJANGO.split() if (sources / "tests" / name).is_dir()]
    script = [str(sources / "tests" / "runtests.py"), "--settings=corpus_settings"]
    path = [sources, directory]
    name = "Django, bound" if binding else "Django"
    command = [*script, "--parallel=1", "--noinput", "-v0", *modules]
    yield from _watched(name, directory, shard, command, path, sources / "tests")


def sqlalchemy(directory: Path, shard: Shard) -> Iterator[Record]:
    """Run SQLAlchemy's suite."""
    sources = fetch.sdist(directory, "sqlalchemy")
    database = "sqlalchemy"
    shard.primary.execute(f"CREATE DATABASE {database}")
    for sql in (
        "CREATE SCHEMA test_schema",
        "CREATE SCHEMA test_schema_2",
        "CREATE EXTENSION IF NOT EXISTS hstore",
        "CREATE EXTENSION IF NOT EXISTS citext",
    ):
        shard.primary.execute(sql, database=database)
    uri = f"postgresql+psycopg://postgres@127.0.0.1:{shard.primary.port}/{database}"
    command = ["pytest", "-q", "-p", "no:cacheprovider", "--dburi", uri, *_SQLALCHEMY.split()]
    yield from _watched("SQLAlchemy", directory, shard, command, [sources / "lib"], sources)


def _watched(
    source: str,
    directory: Path,
    shard: Shard,
    command: Sequence[str],
    path: Sequence[Path],
    place: Path,
) -> Iterator[Record]:
    """Run a suite under the shadow; what becomes of its tests is of no interest."""
    stem = source.lower().replace(", ", "-")
    log, output = directory / f"{stem}.log", directory / f"{stem}.out"
    log.write_text("")
    python = fetch.interpreter(directory)
    with output.open("w") as file:
        subprocess.run(
            [
                str(python),
                shadow.__file__,
                str(log),
                str(shard.replicas[0].port),
                *command,
            ],
            cwd=place,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    with log.open() as lines:
        for line in lines:
            yield Record(source, **json.loads(line))
