"""A running router whose file changes: what the log and the administrator are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
import trio
import trio.testing

from router.app import Router
from router.config.loader import load
from tests.config.builders import toml
from tests.support.router import (
    WATCHER,
    WATCHER_PASSWORD,
    PoolText,
    config_text,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.router import RouterProcess

pytestmark = pytest.mark.slow

# Nobody listens there, and nobody asks.
POOLS = {"db": PoolText([[("127.0.0.1", 1, "primary")]])}
QUIET = "validate_config = false\n"
AUTH_QUERY = 'auth_query = "SELECT 1"\nauth_query_user = "u"\nauth_query_password = "p"'


def test_keys_without_effect_are_named_at_the_start_and_at_a_reload(
    start_router: Callable[..., RouterProcess],
) -> None:
    router = start_router(POOLS, QUIET + "worker_threads = 8")
    line = "configuration: general.{}: has no effect: "
    log = router.log_with("listening on")
    assert line.format("worker_threads") in log
    assert line.format("auth_query") not in log
    router.reload(config_text(router.port, POOLS, QUIET + AUTH_QUERY))
    log = router.log_with("configuration reloaded")
    assert log.count(line.format("worker_threads")) == 1
    assert line.format("auth_query") in log


def test_what_needs_a_restart_is_told_until_it_is_set_back(
    start_router: Callable[..., RouterProcess],
) -> None:
    router = start_router(POOLS, QUIET)
    said = "general.{} has changed: restart the router to apply it"

    def reload(port: int, general: str = "") -> list[str]:
        """What the log says of it."""
        before = len(router.log())
        router.reload(config_text(port, POOLS, QUIET + general))
        log = router.log_with("configuration reloaded", since=before)
        return [key for key in ("port", "listen_backlog") if said.format(key) in log]

    assert reload(1) == ["port"]
    assert reload(1) == ["port"]
    assert reload(2, "listen_backlog = 7") == ["port", "listen_backlog"]
    # Nothing of it is in force, and none of it is shown as if it were.
    shown = {row["key"]: row["value"] for row in router.admin("SHOW CONFIG")}
    assert (shown["port"], shown["listen_backlog"]) == (str(router.port), "4096")
    assert reload(router.port) == []


def test_all_mistakes_of_a_reload_are_one_line_of_the_log_and_all_are_told(
    start_router: Callable[..., RouterProcess],
) -> None:
    router = start_router(POOLS, QUIET)
    bad = config_text(router.port, POOLS, "worker_threads = -1\nban_time = -1\nban_tme = 1")
    with pytest.raises(psycopg.Error) as caught:
        router.reload(bad)
    mistakes = [
        "general.ban_tme: unknown key, ignored, did you mean ban_time?",
        "general.worker_threads: must be an integer of 0 or more, got -1",
        "general.ban_time: must be an integer of 0 or more, got -1",
    ]
    assert caught.value.diag.message_detail == "\n".join(mistakes)
    log = router.log_with("reload failed")
    [line] = [line for line in log.splitlines() if "reload failed" in line]
    assert all(mistake in line for mistake in mistakes)


async def test_what_changes_while_the_files_are_read_is_seen_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    path = tmp_path / "pgcat.toml"
    path.write_text(toml({"general/autoreload": 1000}))
    loaded = load(path)
    async with trio.open_nursery() as nursery:
        router = Router(loaded.config, path, loaded.files, nursery)
        read: list[str] = []

        def reload() -> None:
            read.append(path.read_text())
            if len(read) == 1:
                path.write_text("# and again")

        monkeypatch.setattr(router, "reload", reload)
        nursery.start_soon(router.watch_config)
        await trio.sleep(5)
        assert read == []
        path.write_text("# another one")
        await trio.sleep(5)
        assert read == ["# another one", "# and again"]
        nursery.cancel_scope.cancel()
    router.close()


def test_autoreload_sees_a_secret_change_in_its_own_file(
    start_router: Callable[..., RouterProcess], tmp_path: Path
) -> None:
    secret = tmp_path / "watcher"
    secret.write_text("before")
    general = QUIET + "autoreload = 20\n"
    router = start_router(POOLS, general)
    text = config_text(router.port, POOLS, general)
    source = f'stats_password = {{ file = "{secret}" }}'
    router.reload(text.replace(f'stats_password = "{WATCHER_PASSWORD}"', source))
    router.log_with("configuration reloaded")

    def can_log_in(password: str) -> bool:
        try:
            psycopg.connect(router.dsn("pgcat", WATCHER, password), autocommit=True).close()
        except psycopg.OperationalError:
            return False
        return True

    wait_until("the first secret is known", lambda: can_log_in("before"))
    # Replaced as by those who rotate secrets: there is always a file.
    (tmp_path / "new").write_text("after!")
    (tmp_path / "new").rename(secret)
    wait_until("the second one is", lambda: can_log_in("after!"))
    assert not can_log_in("before")
    assert "before" not in router.log()
    assert "after!" not in router.log()
