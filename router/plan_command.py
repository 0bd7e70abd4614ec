"""`pgcat plan`: what a reload from one configuration to another would do."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .config import loader
from .errors import ConfigError
from .pool.planning import Action, plan_reload
from .printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .pool.planning import ReloadPlan

EXIT_SAME: Final = 0
EXIT_UNUSABLE: Final = 1
EXIT_DIFFERENT: Final = 3

_EPILOG: Final = """\
examples:
  pgcat plan /etc/pgcat.toml new.toml           what would happen if the one became the other
  pgcat plan --json old.toml new.toml | jq '.pools[] | select(.action == "replaced")'

In the admin database, RELOAD DRY RUN compares the file with what the router runs by.

exit status: 0 if nothing would change, 3 if something would, 1 if a file cannot be used.
"""


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(
        prog="pgcat plan",
        description="Tell what a reload would open, change, replace and drop.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("old", metavar="OLD", type=Path, help="what the router runs by")
    found.add_argument("new", metavar="NEW", type=Path, help="what is to be loaded")
    found.add_argument("--json", action="store_true", help="JSON instead of text")
    return found


def run(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(words)
    try:
        old, new = loader.load(options.old).config, loader.load(options.new).config
    except ConfigError as error:
        print(f"pgcat: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_UNUSABLE
    plan = plan_reload(old, new)
    print(_json(plan) if options.json else _text(plan))  # noqa: T201
    is_same = not plan.restart and not plan.general and not plan.peers
    is_same = is_same and all(pool.action is Action.KEEP for pool in plan.pools)
    return EXIT_SAME if is_same else EXIT_DIFFERENT


def _json(plan: ReloadPlan) -> str:
    pools = [
        {
            "database": pool.key[0],
            "user": pool.key[1],
            "action": pool.action.value,
            "changes": pool.changes,
        }
        for pool in plan.pools
    ]
    told = {
        "restart": plan.restart,
        "general": plan.general,
        "peers": [{"peer_id": name, "change": change} for name, change in plan.peers],
        "pools": pools,
    }
    return json.dumps(told, indent=2, ensure_ascii=False)


def _text(plan: ReloadPlan) -> str:
    lines = [f"general.{name}: needs a restart" for name in plan.restart]
    lines += [f"general.{printable(change)}" for change in plan.general]
    lines += [f"peers.{name}: {printable(change)}" for name, change in plan.peers]
    for pool in plan.pools:
        lines.append(f"{printable(pool.name)}: {pool.action.value}")
        lines += [f"  {printable(change)}" for change in pool.changes]
    return "\n".join(lines)
