"""Fixtures for all tests, running the `async def` ones under trio, and what is under test."""

from __future__ import annotations

import inspect
import os

import pytest
from hypothesis import HealthCheck, settings
from trio.testing import MockClock, trio_test

from tests.support import builds

pytest_plugins = [
    "tests.support.postgres",
    "tests.support.router",
    "tests.support.network",
    "tests.support.certificates",
]

# How long an example takes says something about the machine.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

# mutmut runs the tests several times in one process, and slowly.
settings.register_profile(
    "mutmut", suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow]
)


def pytest_configure() -> None:
    """Test what is meant to be tested, or nothing: `./run` says which build it has made."""
    wanted = os.environ.get("PGCAT_TEST_BUILD")
    if wanted is not None and (complaint := builds.complaint(wanted)):
        raise pytest.UsageError(complaint)
    builds.lead_processes_here()


def pytest_report_header() -> str:
    """Say what is tested."""
    return f"router: {builds.build().value} build in {builds.PACKAGE}"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Give each coroutine test a trio of its own."""
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = trio_test(pyfuncitem.obj)


@pytest.fixture
def autojump_clock() -> MockClock:
    """A clock that leaps to the next deadline whenever every task is waiting."""
    return MockClock(autojump_threshold=0)
