"""A running router whose file changes: what the log and the administrator are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.router import PoolText, config_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.router import RouterProcess

pytestmark = pytest.mark.slow

# Nobody listens there, and nobody asks.
POOLS = {"db": PoolText([[("127.0.0.1", 1, "primary")]])}
QUIET = "validate_config = false\n"


def test_keys_without_effect_are_named_at_the_start_and_at_a_reload(
    start_router: Callable[..., RouterProcess],
) -> None:
    router = start_router(POOLS, QUIET + "healthcheck_delay = 1000")
    line = "configuration: general.{}: has no effect: there are no health checks yet"
    assert line.format("healthcheck_delay") in router.log()
    assert line.format("healthcheck_timeout") not in router.log()
    router.reload(config_text(router.port, POOLS, QUIET + "healthcheck_timeout = 1000"))
    assert router.log().count(line.format("healthcheck_delay")) == 1
    assert line.format("healthcheck_timeout") in router.log()
