"""`python -m benchmarks [compare | routing | memory | fairness | stalls | crosstalk | ...]`."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from router.errors import RouterError

from . import copies, crosstalk, fairness, pgbench, suite_command, warm
from .compare import Comparison, compare
from .hostile import KINDS
from .memory import measure
from .pgbench import SCRIPTS, TEXTS, Load
from .processes import processors
from .report import (
    comparison_table,
    copies_table,
    crosstalk_table,
    fairness_table,
    memory_table,
    routing_table,
    warm_table,
    write_json,
)
from .stalls import SIZES, differences, is_compiled, measure_build, stalls_table
from .targets import (
    DATABASE,
    BenchmarkError,
    Options,
    all_targets,
    find_pgbouncer,
    postgres,
    with_and_without_routing,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.cluster.server import Server

    from .targets import Target

PROTOCOLS = ("simple", "extended", "prepared")


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and say whether that went well."""
    given = sys.argv[1:] if arguments is None else arguments
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help")):
        given = ["compare", *given]
    options = _parser().parse_args(given)
    console = Console(width=None if sys.stdout.isatty() else 180)
    try:
        options.run(options, console)
    except (BenchmarkError, RouterError) as error:
        Console(stderr=True).print(f"[red]{error}", markup=True, highlight=False)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def run_compare(options: argparse.Namespace, console: Console) -> None:
    """Compare throughput, latency and processor time."""
    most = max(options.clients)
    proxies = _proxies(options, most + 10)
    with postgres(most + 2 * options.pool + 20, options.bin_dir) as server:
        pgbench.initialise(server.installation, server.port, options.scale)
        with all_targets(server, proxies) as targets:
            results = _compare_all(server, targets, options, console)
    parser = "on" if options.parser else "off"
    title = (
        f"pgbench {options.script}, pool of {options.pool}, {options.rounds} rounds of "
        f"{options.seconds} s, query parser {parser}, multiplexing {options.multiplexing}"
    )
    console.print(comparison_table(results, title))
    console.print(", ".join(target.version for target in targets), highlight=False)
    if options.json is not None:
        write_json(options.json, options=_given(options), targets=targets, results=results)


def _compare_all(
    server: Server, targets: Sequence[Target], options: argparse.Namespace, console: Console
) -> list[Comparison]:
    results: list[Comparison] = []
    with console.status("") as status:
        for protocol in options.protocols:
            for clients in options.clients:
                threads = options.threads or min(clients, processors())
                load = Load(options.script, protocol, clients, options.seconds, threads)
                results.append(
                    compare(
                        server.installation,
                        targets,
                        load,
                        rounds=options.rounds,
                        progress=status.update,
                    )
                )
    return results


def run_routing(options: argparse.Namespace, console: Console) -> None:
    """Compare the router with itself: what it costs to find the shard of each query."""
    most = max(options.clients)
    proxies = replace(_proxies(options, most + 10), shards=2)
    with postgres(most + 4 * options.pool + 20, options.bin_dir) as server:
        pgbench.initialise(server.installation, server.port, options.scale)
        with with_and_without_routing(server, proxies) as targets:
            results = _compare_all(server, targets, options, console)
    title = (
        f"pgbench {options.script}, pool of {options.pool} a shard, {options.rounds} rounds "
        f"of {options.seconds} s: parser, splitting and automatic sharding key off and on"
    )
    console.print(routing_table(results, title))
    if options.json is not None:
        write_json(options.json, options=_given(options), targets=targets, results=results)


def run_memory(options: argparse.Namespace, console: Console) -> None:
    """Compare the memory that idle clients take."""
    proxies = _proxies(options, options.clients + 10)
    with (
        postgres(2 * options.pool + 20, options.bin_dir) as server,
        all_targets(server, proxies) as targets,
        console.status("") as status,
    ):
        results = [
            measure(target, target.pid, options.clients, status.update)
            for target in targets
            if target.pid is not None
        ]
    console.print(memory_table(results))
    if options.json is not None:
        write_json(options.json, options=_given(options), targets=targets, results=results)


def run_fairness(options: argparse.Namespace, console: Console) -> None:
    """Compare what others wait while one client sends without waiting."""
    proxies = _proxies(options, 100)
    with (
        postgres(2 * options.pool + 40, options.bin_dir) as server,
        all_targets(server, proxies) as targets,
        console.status("") as status,
    ):
        waits = fairness.measure(targets, options.seconds, status.update)
    title = f"{fairness.OTHERS} others, one query at a time, for {options.seconds} s each"
    console.print(fairness_table(waits, title))
    if options.json is not None:
        write_json(options.json, options=_given(options), targets=targets, results=waits)


def run_crosstalk(options: argparse.Namespace, console: Console) -> None:
    """Look for answers that are another client's, while everything goes wrong at once."""
    plan = crosstalk.Plan(
        seconds=options.seconds,
        seed=options.seed,
        clients=options.clients,
        pool_size=options.pool,
        processes=crosstalk.processors(),
        options=f'multiplexing = "{options.multiplexing}"',
    )
    with (
        postgres(4 * plan.pool_size + 20, options.bin_dir) as server,
        console.status("") as status,
    ):
        directory = server.installation.cwd
        outcome = crosstalk.play(server, DATABASE, directory, plan, status.update)
    console.print(crosstalk_table(outcome))
    for line in (*outcome.tally.mismatches, *outcome.tally.unanswered):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if not outcome.is_right:
        raise BenchmarkError("clients were not answered as they had to be")


def run_stalls(options: argparse.Namespace, console: Console) -> None:
    """Measure how long everybody waits while one text is analysed."""
    given = options.build or [f"{'compiled' if is_compiled() else 'plain'}=."]
    kinds = [kind for kind in KINDS if options.kind in kind]
    builds = {}
    with console.status("") as status:
        for build in given:
            name, _, path = build.partition("=")
            status.update(name)
            builds[name] = measure_build(path, options.sizes, kinds)
    console.print(stalls_table(builds, least=options.least))
    different = differences(builds)
    if different:
        raise BenchmarkError(f"verdicts differ: {'; '.join(different)}")


def run_warm(options: argparse.Namespace, console: Console) -> None:
    """Measure what a warm statement costs without sockets, and what its statistics do."""
    console.print(warm_table(warm.measure(options.count), is_compiled=is_compiled()))


def run_copies(options: argparse.Namespace, console: Console) -> None:
    """Measure COPY that is split over three shards, beside COPY into one of them."""
    kinds = [kind for kind in copies.KINDS if options.kind in kind]
    with console.status("") as status:
        measured = []
        for copied in copies.measure(
            kinds, options.rows, options.rounds, _proxies(options, 10), options.bin_dir
        ):
            measured.append(copied)
            status.update(copied.kind)
    console.print(copies_table(measured))


def _proxies(options: argparse.Namespace, max_clients: int) -> Options:
    return Options(
        pool_size=options.pool,
        max_clients=max_clients,
        is_parser_on=options.parser,
        router_command=tuple(shlex.split(options.router)),
        pgbouncer=None if options.no_pgbouncer else find_pgbouncer(),
        multiplexing=options.multiplexing,
    )


def _given(options: argparse.Namespace) -> dict[str, object]:
    return {name: value for name, value in vars(options).items() if name != "run"}


def _parser() -> argparse.ArgumentParser:
    setting = argparse.ArgumentParser(add_help=False)
    setting.add_argument(
        "--router",
        default=f"{shlex.quote(sys.executable)} -m router",
        metavar="COMMAND",
        help="starts the router, given the path of a pgcat.toml",
    )
    setting.add_argument("--no-pgbouncer", action="store_true", help="leave PgBouncer out")
    setting.add_argument("--bin-dir", type=Path, help="PostgreSQL's programs (embedded ones)")
    common = argparse.ArgumentParser(add_help=False, parents=[setting])
    common.add_argument("--pool", type=int, default=20, help="server connections (20)")
    common.add_argument("--parser", action="store_true", help="parse queries and split reads")
    common.add_argument("--json", type=Path, metavar="FILE", help="write every run here")
    common.add_argument("--multiplexing", choices=("off", "reads"), default="off")
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True)
    compared = commands.add_parser("compare", parents=[common], help=run_compare.__doc__)
    _add_load(compared, (1, 8, 32), PROTOCOLS)
    compared.set_defaults(run=run_compare)
    routing = commands.add_parser("routing", parents=[common], help=run_routing.__doc__)
    _add_load(routing, (8, 32), ("simple",))
    routing.set_defaults(run=run_routing)
    suite_command.add_to(commands, setting)
    memory = commands.add_parser("memory", parents=[common], help=run_memory.__doc__)
    memory.add_argument("--clients", type=int, default=1000, help="idle clients (1000)")
    memory.set_defaults(run=run_memory)
    fair = commands.add_parser("fairness", parents=[common], help=run_fairness.__doc__)
    fair.add_argument("--seconds", type=int, default=5, help="length of a run (5)")
    fair.set_defaults(run=run_fairness)
    crossed = commands.add_parser("crosstalk", help=run_crosstalk.__doc__)
    crossed.add_argument("--seconds", type=float, default=60.0, help="how long (60)")
    crossed.add_argument("--seed", type=int, default=1, help="of all that is drawn (1)")
    crossed.add_argument("--clients", type=int, default=300, help="how many (300)")
    crossed.add_argument("--pool", type=int, default=8, help="server connections (8)")
    crossed.add_argument("--multiplexing", choices=("off", "reads"), default="off")
    crossed.add_argument("--bin-dir", type=Path, help="PostgreSQL's programs (embedded ones)")
    crossed.set_defaults(run=run_crosstalk)
    warmed = commands.add_parser("warm", help=run_warm.__doc__)
    warmed.add_argument("--count", type=int, default=20_000, help="statements a run (20,000)")
    warmed.set_defaults(run=run_warm)
    copied = commands.add_parser("copies", parents=[common], help=run_copies.__doc__)
    copied.add_argument("--rows", type=int, default=300_000, help="of a COPY (300,000)")
    copied.add_argument("--rounds", type=int, default=5, help="of each (5)")
    copied.add_argument("--kind", default="", help="only rows with this in their name")
    copied.set_defaults(run=run_copies)
    stalls = commands.add_parser("stalls", help=run_stalls.__doc__)
    stalls.add_argument(
        "--build",
        action="append",
        metavar="NAME=FOLDER",
        help="a folder with a router, such as an unpacked wheel; several are compared",
    )
    stalls.add_argument(
        "--sizes", type=_integers, default=SIZES, help="KiB (2,3,4,16,64,95,127,255)"
    )
    stalls.add_argument("--kind", default="", help="only kinds of text with this in their name")
    stalls.add_argument("--least", type=float, default=0.0, help="leave out what takes less ms")
    stalls.set_defaults(run=run_stalls)
    return parser


def _add_load(
    parser: argparse.ArgumentParser, clients: tuple[int, ...], protocols: tuple[str, ...]
) -> None:
    numbers = ",".join(map(str, clients))
    parser.add_argument("--clients", type=_integers, default=clients, help=numbers)
    parser.add_argument(
        "--protocols", type=_protocols, default=protocols, help=",".join(protocols)
    )
    parser.add_argument("--script", choices=[*SCRIPTS, *TEXTS], default="select-only")
    parser.add_argument("--scale", type=int, default=10, help="of pgbench's tables (10)")
    parser.add_argument("--seconds", type=int, default=5, help="length of a run (5)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each target (3)")
    parser.add_argument("--threads", type=int, help="of pgbench (one per processor)")


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _protocols(text: str) -> tuple[str, ...]:
    protocols = tuple(text.split(","))
    if not set(protocols) <= set(PROTOCOLS):
        raise argparse.ArgumentTypeError(f"choose from {','.join(PROTOCOLS)}")
    return protocols


if __name__ == "__main__":
    sys.exit(main())
