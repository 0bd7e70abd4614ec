"""Fixtures for all tests, and running the `async def` ones under trio."""

from __future__ import annotations

import inspect

import pytest
from trio.testing import MockClock, trio_test

pytest_plugins = [
    "tests.support.postgres",
    "tests.support.router",
    "tests.support.network",
]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Give each coroutine test a trio of its own."""
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = trio_test(pyfuncitem.obj)


@pytest.fixture
def autojump_clock() -> MockClock:
    """A clock that leaps to the next deadline whenever every task is waiting."""
    return MockClock(autojump_threshold=0)
