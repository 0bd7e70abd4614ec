"""Compiles the data plane with mypyc where that is possible; it works the same without.

PGCAT_COMPILE=1 insists on compiling, PGCAT_COMPILE=0 leaves it; by default an ordinary build
compiles if it can, and an editable one does not, since the compiled modules would hide later
edits.
"""

import os
import sys
from multiprocessing.pool import ThreadPool

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# What runs for every message, and what runs for every statement that is looked at.
MODULES = [
    "router/protocol/codes.py",
    "router/protocol/framing.py",
    "router/protocol/messages.py",
    "router/protocol/columns.py",
    "router/protocol/steps.py",
    "router/protocol/segments.py",
    "router/protocol/hooks.py",
    "router/protocol/backend.py",
    "router/protocol/frontend.py",
    "router/protocol/prepared.py",
    "router/protocol/binds.py",
    "router/protocol/portals.py",
    "router/protocol/features.py",
    "router/protocol/marks.py",
    "router/protocol/naming.py",
    "router/routing/limits.py",
    "router/routing/tally.py",
    "router/routing/types.py",
    "router/routing/tokens.py",
    "router/routing/lists.py",
    "router/routing/fingerprint.py",
    "router/routing/tags.py",
    "router/routing/literals.py",
    "router/routing/arrays.py",
    "router/routing/writes.py",
    "router/routing/modules.py",
    "router/routing/bodies.py",
    "router/routing/learned.py",
    "router/routing/verdicts.py",
    "router/routing/classify.py",
    "router/routing/inner.py",
    "router/routing/tallies.py",
    "router/routing/execution.py",
    "router/routing/everywhere.py",
    "router/routing/refusals.py",
    "router/routing/obstacles.py",
    "router/routing/omnisharded.py",
    "router/routing/decisions.py",
    "router/routing/sharding.py",
    "router/routing/copy_text.py",
    "router/routing/copy_keys.py",
    "router/routing/copy_lines.py",
    "router/routing/copy_scan.py",
    "router/routing/copy_rows.py",
    "router/routing/copy_csv.py",
    "router/routing/copy_binary.py",
    "router/routing/copy_formats.py",
    "router/routing/copy_times.py",
    "router/routing/hashing.py",
    "router/routing/keyvalues.py",
    "router/routing/constants.py",
    "router/routing/shardmaps.py",
    "router/routing/derived.py",
    "router/routing/columns.py",
    "router/routing/sql/graph.py",
    "router/routing/sql/relations.py",
    "router/routing/sql/scopes.py",
    "router/routing/sql/conditions.py",
    "router/routing/sql/joins.py",
    "router/routing/sql/sources.py",
    "router/routing/sql/ctes.py",
    "router/routing/sql/outputs.py",
    "router/routing/sql/queries.py",
    "router/routing/sql/changes.py",
    "router/routing/sql/keys.py",
    "router/routing/sql/values.py",
    "router/routing/sql/trees.py",
    "router/routing/sql/clauses.py",
    "router/routing/sql/normalise.py",
    "router/routing/sql/reader.py",
    "router/routing/positions.py",
    "router/routing/commands.py",
    "router/routing/state.py",
    "router/routing/generations.py",
    "router/routing/cache.py",
    "router/routing/learning.py",
    "router/routing/keyplan.py",
    "router/routing/placement.py",
    "router/routing/transactions.py",
    "router/routing/router.py",
    "router/faults.py",
    "router/histograms.py",
    "router/escapes.py",
    "router/firstwords.py",
    "router/turns.py",
    "router/queries.py",
    "router/listeners.py",
    "router/stats.py",
    "router/traces.py",
    "router/figures.py",
    "router/engine/link.py",
    "router/engine/loop.py",
    "router/engine/gate.py",
    "router/engine/listener.py",
    "router/pool/contracts.py",
    "router/pool/calls.py",
    "router/pool/answer.py",
    "router/pool/leftovers.py",
    "router/pool/states.py",
    "router/pool/server.py",
    "router/pool/inquiry.py",
    "router/pool/address_pool.py",
    "router/pool/retry.py",
    "router/pool/cleaning.py",
    "router/pool/balancer.py",
    "router/pool/instances.py",
    "router/pool/replay.py",
    "router/pool/upkeep.py",
    "router/multiplexing.py",
    "router/pool/moving.py",
    "router/pool/sharing.py",
    "router/pool/quotas.py",
    "router/pool/expiry.py",
    "router/pool/reserve.py",
    "router/pool/stopwatch.py",
    "router/pool/participant.py",
    "router/pool/line.py",
    "router/pool/hub.py",
    "router/pool/hubs.py",
    "router/pool/readiness.py",
    "router/pool/session_pool.py",
    "router/pool/replication.py",
    "router/pool/lobbies.py",
    "router/pool/pool.py",
    "router/session/copy_in.py",
    "router/session/copy_split.py",
    "router/session/copy_same.py",
    "router/session/client.py",
    "router/session/client_settings.py",
    "router/session/mistakes.py",
    "router/session/writes.py",
    "router/session/causality.py",
    "router/session/pins.py",
    "router/session/listening.py",
    "router/session/transaction.py",
    "router/session/states.py",
    "router/session/lease.py",
    "router/session/keeping.py",
    "router/session/failures.py",
    "router/session/timeouts.py",
    "router/session/bound_keys.py",
    "router/session/client_routing.py",
    "router/session/entrance.py",
    "router/session/inspection.py",
    "router/session/answered.py",
    "router/session/controls.py",
    "router/session/operation.py",
    "router/session/everywhere.py",
    "router/session/following.py",
    "router/session/all_shards.py",
    "router/session/batch_for_all.py",
    "router/session/names.py",
    "router/session/reader.py",
    "router/session/deferral.py",
    "router/session/batch_route.py",
    "router/session/provisions.py",
    "router/session/script.py",
    "router/session/batch.py",
    "router/session/whole_batch.py",
    "router/session/long.py",
    "router/session/for_all.py",
    "router/session/simple.py",
    "router/session/resend.py",
    "router/session/shared.py",
    "router/session/slow.py",
    "router/session/session.py",
    "router/session/replication.py",
    "router/session/arrival.py",
    "router/session/login.py",
]


class ParallelBuild(build_ext):
    """Compiles as many files at a time as there are processors."""

    def finalize_options(self) -> None:
        """Read the options."""
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self) -> None:
        """Build the extensions; one of them has nearly all the files."""
        compile_all = self.compiler.compile

        def compile_each(sources: list[str], *args: object, **options: object) -> list[str]:
            with ThreadPool(self.parallel) as threads:
                made = threads.map(lambda one: compile_all([one], *args, **options), sources)
            return [file for files in made for file in files]

        self.compiler.compile = compile_each
        super().build_extensions()


def extensions() -> list[Extension]:
    """The compiled modules, or none."""
    wanted = os.environ.get("PGCAT_COMPILE", "")
    # Build front ends also run this file to ask what it needs, or to install it as editable.
    is_build = any(word in sys.argv for word in ("bdist_wheel", "build_ext", "build"))
    if wanted == "0" or not is_build:
        return []
    try:
        from mypyc.build import mypycify

        # What the package depends on is not there in an isolated build, and need not be.
        flags = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
        # In one file for each module, the C takes half as long to compile, and two processors
        # share that; the code is as fast if its parts see each other without detours.
        found: list[Extension] = mypycify([*flags, *MODULES], opt_level="3", multi_file=True)
    except (ImportError, SystemExit):
        if wanted:
            raise
        return []
    for extension in found:
        extension.extra_compile_args.append("-fvisibility=hidden")
        # Without a C compiler the plain modules serve.
        extension.optional = not wanted
    return found


setup(ext_modules=extensions(), cmdclass={"build_ext": ParallelBuild})
