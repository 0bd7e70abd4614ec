"""Tests that are coroutines run under trio."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from trio.testing import MockClock


async def test_a_coroutine_is_run_by_trio() -> None:
    await trio.lowlevel.checkpoint()
    assert trio.lowlevel.current_task().name.endswith("is_run_by_trio")


async def test_the_autojump_clock_makes_hours_pass_at_once(autojump_clock: MockClock) -> None:
    begun = time.monotonic()
    await trio.sleep(3600)
    assert trio.current_time() >= 3600
    assert time.monotonic() - begun < 5
    assert autojump_clock.autojump_threshold == 0
