"""The demo: three PostgreSQL shards, the router in front, and a tour of what it does."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING

import trio

from .. import app
from ..config.loader import load
from ..errors import RouterError
from .cluster import Cluster
from .ports import Ports, choose_ports
from .progress import Progress
from .server import HOST
from .shards import DATABASE, HBA, PASSWORD, ROWS, TABLE, USER, config_text, fill
from .tour import Tour

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SHARDS = 3
REPLICAS = 1
# It only ends a tour that hangs: on a busy machine one may take minutes.
TOUR_SECONDS = 600.0
LOG_LINES = 20
# Also SIGINT that was ignored, as a shell does to what it starts in the background.
STOPPING = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = 128 + signal.SIGINT


async def run_demo(*, run_tour: bool, base_port: int | None = None) -> int:
    """Run the demo until Ctrl-C, or its tour and no longer; return the exit status.

    What keeps it from running is printed: then the status is 1.

    Args:
        run_tour: make the tour instead of printing it: 0 when every answer was right.
        base_port: the router's; metrics and servers follow. Free ports when not given.
    """
    progress = Progress()
    scope = trio.CancelScope()
    # What the receiver puts back in the end: then there is nothing left to be stopped.
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    with trio.open_signal_receiver(*STOPPING) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_at_signals, signals, scope, progress)
            status = await _run(progress, scope, run_tour=run_tour, base_port=base_port)
            nursery.cancel_scope.cancel()
    return status


async def _stop_at_signals(
    signals: AsyncIterator[int], scope: trio.CancelScope, progress: Progress
) -> None:
    """Stop at the first signal; there is nothing that another could hasten."""
    async for number in signals:
        again = " already" if scope.cancel_called else ""
        progress.line(f"{signal.Signals(number).name}: stopping{again}")
        scope.cancel()


async def _run(
    progress: Progress, scope: trio.CancelScope, *, run_tour: bool, base_port: int | None
) -> int:
    try:
        ports = choose_ports(
            base_port, servers=SHARDS * (1 + REPLICAS), is_for_people=not run_tour
        )
    except RouterError as error:
        _tell(error, progress)
        return 1
    if ports.remark:
        progress.line(ports.remark)
    cluster = Cluster(shards=SHARDS, replicas=REPLICAS, hba=HBA, base_port=ports.servers)
    status = INTERRUPTED if run_tour else 0
    try:
        with scope:
            await _start_cluster(cluster, progress)
            status = await _serve(cluster, ports, progress, run_tour=run_tour)
    except* RouterError as group:
        _tell(_first(group), progress)
        status = 1
    finally:
        with trio.CancelScope(shield=True), progress.step("everything stopped and removed"):
            await trio.to_thread.run_sync(cluster.close)
    return status


async def _start_cluster(cluster: Cluster, progress: Progress) -> None:
    with progress.step(f"PostgreSQL: {SHARDS} primaries, each with a streaming replica"):
        await trio.to_thread.run_sync(cluster.start)
    with progress.step(f"table {TABLE}: {ROWS:,} rows, partitioned by hash over the shards"):
        await trio.to_thread.run_sync(fill, cluster)


async def _serve(cluster: Cluster, ports: Ports, progress: Progress, *, run_tour: bool) -> int:
    """Run the router; return the exit status when the tour is over, or the router is."""
    config_path = cluster.root / "pgcat.toml"
    config_path.write_text(config_text(cluster, ports))
    log_path = cluster.root / "router.log"
    logging.basicConfig(filename=log_path, level=logging.INFO, force=True)
    tour = Tour(cluster, ports)
    status = 0
    async with trio.open_nursery() as nursery:
        with progress.step(f"router on {HOST}:{ports.router}"):
            await nursery.start(_serve_router, config_path)
        if run_tour:
            is_right = await _make_tour(tour, progress)
            status = 0 if is_right else 1
            nursery.cancel_scope.cancel()
        else:
            await trio.to_thread.run_sync(_invite, tour, config_path, progress)
    if status:
        _show_log(log_path, progress)
    return status


async def _serve_router(
    config_path: Path,
    *,
    task_status: trio.TaskStatus[app.ServeInfo] = trio.TASK_STATUS_IGNORED,
) -> None:
    await app.serve(load(config_path).config, config_path=config_path, task_status=task_status)


async def _make_tour(tour: Tour, progress: Progress) -> bool:
    with trio.move_on_after(TOUR_SECONDS) as scope:
        return await trio.to_thread.run_sync(tour.run, progress, abandon_on_cancel=True)
    assert scope.cancelled_caught
    progress.verdict(f"the tour took longer than {TOUR_SECONDS:g} s", is_right=False)
    return False


def _invite(tour: Tour, config_path: Path, progress: Progress) -> None:
    progress.heading("The router is ready. Paste into another terminal:")
    tour.show(progress)
    progress.line()
    progress.line(f"psql {tour.dsn(DATABASE)}   # user {USER}, password {PASSWORD}")
    progress.line(f"configuration: {config_path}")
    progress.line("Ctrl-C stops everything and leaves nothing behind.")


def _show_log(path: Path, progress: Progress) -> None:
    progress.heading("The end of the router's log")
    for line in path.read_text(errors="replace").splitlines()[-LOG_LINES:]:
        progress.line(line)


def _tell(error: RouterError, progress: Progress) -> None:
    progress.verdict(str(error), is_right=False)
    if error.hint:
        progress.line(f"  {error.hint}")


def _first(group: BaseExceptionGroup[RouterError]) -> RouterError:
    error: RouterError | BaseExceptionGroup[RouterError] = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
