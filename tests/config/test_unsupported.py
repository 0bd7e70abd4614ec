"""What a configuration asks for in vain."""

from __future__ import annotations

from pathlib import Path

from router.config.loader import load, parse
from router.config.unsupported import unsupported

MINIMAL = """
[general]
admin_username = "a"
admin_password = "b"
{general}
[pools.db]
query_parser_enabled = true
{pool}
[pools.db.users.0]
username = "u"
password = "p"
pool_size = 1
[pools.db.shards.0]
database = "d"
servers = [["localhost", 5432, "primary"]]
{rest}
"""


def warnings(*, general: str = "", pool: str = "", rest: str = "") -> list[str]:
    """What is said of a file with these lines."""
    text = MINIMAL.format(general=general, pool=pool, rest=rest)
    return list(unsupported(parse(text, "test").config))


def test_a_file_that_asks_for_nothing_in_vain_has_no_warning() -> None:
    assert warnings() == []
    assert list(unsupported(load(Path(__file__).parents[2] / "pgcat.toml").config)) == []


def test_plugins_are_not_told() -> None:
    sections = ["query_logger", "intercept", "table_access", "prewarmer"]
    rest = "".join(f"[plugins.{name}]\nenabled = true\n" for name in sections)
    assert warnings(rest=rest) == []


def test_mirrors_and_the_dns_cache_are_told() -> None:
    found = warnings(
        general="dns_cache_enabled = true",
        rest='mirrors = [["localhost", 5433, 0]]',
    )
    paths = [line.split(":")[0] for line in found]
    assert paths == [
        "general.dns_cache_enabled",
        "pools.db.shards.0.mirrors",
    ]
