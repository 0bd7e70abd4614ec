"""The tables of what passed where, and the lists of what did not."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from .explanations import UNEXPLAINED, explain
from .outcomes import FAILED, PASSED, SKIPPED
from .places import DIRECT, PGBOUNCER, PLACES, TITLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .outcomes import Outcomes

    Results = Mapping[str, Mapping[str, Outcomes]]

_LONGEST_LIST: Final = 60


def table(results: Results) -> Iterator[str]:
    """Yield a Markdown table: for each suite and place passed, failed, skipped, and lost.

    Lost are the tests that pass directly and do not pass there.
    """
    heads = [TITLES[DIRECT], *(TITLES[place] for place in PLACES[1:])]
    yield "| suite | " + " | ".join(heads) + " |"
    yield "|---|" + "---|" * len(heads)
    for suite, places in results.items():
        yield f"| {suite} | " + " | ".join(_cells(places)) + " |"


def _cells(places: Mapping[str, Outcomes]) -> Iterator[str]:
    direct = places.get(DIRECT)
    for place in PLACES:
        found = places.get(place)
        if found is None:
            yield ""
            continue
        counts = " / ".join(str(found.count(verdict)) for verdict in (PASSED, FAILED, SKIPPED))
        if direct is None or place == DIRECT:
            yield counts
        else:
            yield f"{counts}, **{len(found.lost(direct))}** lost"


def losses(results: Results) -> Iterator[str]:
    """Yield what passes directly and not elsewhere, by suite, place and reason."""
    for suite, places in results.items():
        if DIRECT not in places:
            continue
        for place in PLACES[1:]:
            if place not in places:
                continue
            lost = places[place].lost(places[DIRECT])
            if lost:
                yield f"\n{suite}, {TITLES[place]}: {len(lost)} lost"
                yield from _by_reason(suite, place, places[place], lost)


def _by_reason(suite: str, place: str, found: Outcomes, lost: list[str]) -> Iterator[str]:
    reasons: dict[str, list[str]] = defaultdict(list)
    for test in lost:
        reasons[explain(place, suite, test)].append(test)
    for reason, tests in sorted(reasons.items()):
        yield f"  {len(tests)} {reason}"
        longest = 5 if place == PGBOUNCER else _LONGEST_LIST
        yield from (f"    {test}: {found.why(test)[:160]}" for test in tests[:longest])
        if len(tests) > longest:
            yield f"    and {len(tests) - longest} more"


def unexplained(results: Results) -> int:
    """Count what the router loses without a reason that is known."""
    return sum(
        explain(place, suite, test) == UNEXPLAINED
        for suite, places in results.items()
        if DIRECT in places
        for place, found in places.items()
        if place not in (DIRECT, PGBOUNCER)
        for test in found.lost(places[DIRECT])
    )
