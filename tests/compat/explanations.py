"""Why tests that pass directly do not pass through the router, as far as that is known."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from .places import SESSION, TRANSACTION

UNEXPLAINED: Final = "not explained"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A reason for the failure of all tests whose names match, in some places."""

    suites: str
    tests: str
    reason: str
    places: tuple[str, ...] = (SESSION, TRANSACTION)


EXPLANATIONS: Final[tuple[Explanation, ...]] = ()


def explain(place: str, suite: str, test: str) -> str:
    """Return the reason why a test does not pass in a place."""
    for one in EXPLANATIONS:
        if (
            place in one.places
            and re.fullmatch(one.suites, suite)
            and re.search(one.tests, test)
        ):
            return one.reason
    return UNEXPLAINED
