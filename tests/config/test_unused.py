"""What a configuration asks for in vain."""

from __future__ import annotations

from router.config.loader import parse

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


NO_LOGIN = "has no effect: users without a password cannot log in yet"


def warnings(*, general: str = "", pool: str = "", rest: str = "") -> list[str]:
    """What is said of a file with these lines."""
    text = MINIMAL.format(general=general, pool=pool, rest=rest)
    return list(parse(text, "test").warnings)


def test_a_file_that_asks_for_nothing_in_vain_has_no_warning() -> None:
    assert warnings() == []


def test_plugins_are_not_told() -> None:
    sections = ["query_logger", "intercept", "table_access", "prewarmer"]
    rest = "".join(f"[plugins.{name}]\nenabled = true\n" for name in sections)
    assert warnings(rest=rest) == []


def test_each_is_told_with_its_place_in_the_file_and_why() -> None:
    found = warnings(
        general="""
            worker_threads = 8
        """,
        pool="""
            auth_query = "SELECT 1"
            auth_query_user = "u"
            auth_query_password = "tell nobody"
        """,
        rest='mirrors = [["localhost", 5433, 0]]',
    )
    # Defaults are told as well, because a default that is written down is asked for.
    assert found == [
        "general.worker_threads: has no effect: there is one thread",
        f"pools.db.auth_query: {NO_LOGIN}",
        f"pools.db.auth_query_user: {NO_LOGIN}",
        f"pools.db.auth_query_password: {NO_LOGIN}",
        "pools.db.shards.0.mirrors: has no effect: nothing is mirrored yet",
    ]


def test_to_turn_off_what_is_not_there_is_no_promise() -> None:
    assert warnings(rest="mirrors = []") == []
