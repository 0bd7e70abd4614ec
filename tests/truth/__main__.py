"""Run programs on shards and on one plain PostgreSQL, as many as wanted, and compare them."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.support.cluster.cluster import Cluster
from tests.support.router import config_text, start

from .runner import SETTINGS, Tally, Untrue, World

SHARDS = (1, 3, 4)
PROGRAMS = 30


def main() -> int:
    """Run them; the exit status is 1 if one of them was untrue."""
    parser = argparse.ArgumentParser(prog="python -m tests.truth", description=__doc__)
    parser.add_argument("--statements", type=int, default=20_000, help="how many (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (%(default)s)")
    parser.add_argument(
        "--shards", type=int, nargs="+", default=SHARDS, help="how many of them"
    )
    parser.add_argument("--programs", type=int, default=PROGRAMS, help="of each schema")
    arguments = parser.parse_args()
    tallies = {shards: Tally() for shards in arguments.shards}
    wrong = 0
    seed = arguments.seed
    with (
        tempfile.TemporaryDirectory() as directory,
        Cluster(shards=1, replicas=0, settings=SETTINGS) as cluster,
    ):
        while sum(tally.total for tally in tallies.values()) < arguments.statements:
            for shards, tally in tallies.items():
                with World(
                    cluster.primary,
                    lambda pools: start(Path(directory), lambda port: config_text(port, pools)),
                    seed,
                    shards,
                ) as world:
                    try:
                        world.run(arguments.programs, tally)
                    except Untrue as error:
                        wrong += 1
                        sys.stdout.write(f"UNTRUE {error}\n\n")
            seed += 1
    for shards, tally in tallies.items():
        sys.stdout.write(f"{shards} shards: " + "\n".join(tally.lines()) + "\n")
    sys.stdout.write(f"{wrong} untrue\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
