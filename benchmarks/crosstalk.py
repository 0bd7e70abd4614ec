"""Whether any client is ever answered what is another's, while everything goes wrong at once.

Hundreds of clients ask for what only they can be answered, in every protocol. Meanwhile servers
are killed, clients leave in the middle of an answer, statements are cancelled, pools are
reloaded, and bytes come one by one, from some of the clients and from the servers of one pool.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import psycopg

from router.demo.server import HOST, SUPERUSER
from tests.support.router import PoolText, RouterProcess, config_text, start

from . import chopper
from .askers import Spec, Tally, work
from .questions import TABLES, templates
from .targets import BenchmarkError, raise_file_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.cluster.server import Server

# So long a process may take to come to its end after the time is over, in seconds.
_GRACE: Final = 120.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is played.

    Attributes:
        length: how many questions a client asks before it begins anew.
        kill_every, reload_every: seconds on average; 0: never.
        options: more lines for the section of each pool.
    """

    seconds: float = 60.0
    seed: int = 1
    clients: int = 300
    pool_size: int = 8
    processes: int = 2
    length: int = 60
    kill_every: float = 0.2
    reload_every: float = 1.0
    options: str = ""


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        tally: of all clients.
        seconds: how long it took.
        kills: server connections that were killed.
        shared: statements that went behind those of other clients, as far as that was `counted`
            before the pools were replaced.
    """

    tally: Tally = field(default_factory=Tally)
    seconds: float = 0.0
    kills: int = 0
    reloads: int = 0
    shared: int = 0
    counted: dict[str, int] = field(default_factory=dict)

    @property
    def is_right(self) -> bool:
        """Whether something was compared, and all of it was right."""
        tally = self.tally
        return tally.messages > 0 and not tally.wrong and not tally.unanswered


def play(
    server: Server,
    database: str,
    directory: Path,
    plan: Plan,
    progress: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Start a router before a database of the server's, and play.

    Raises:
        BenchmarkError: a process of the harness has ended.
    """
    raise_file_limit()
    for statement in TABLES:
        server.execute(statement, database=database)
    outcome = Outcome()
    with _chopped(server.port) as chopped_port:

        def text(port: int, size: int = plan.pool_size) -> str:
            pools = {
                name: PoolText(
                    [[(HOST, server_port, "primary")]],
                    database=database,
                    pool_size=size,
                    options=f'pool_mode = "transaction"\n{plan.options}',
                )
                for name, server_port in (("steady", server.port), ("chopped", chopped_port))
            }
            return config_text(port, pools, "log_client_connections = false\n")

        router = start(directory, text)
        try:
            _play(server, database, router, text, plan, outcome, progress)
        finally:
            router.stop()
    return outcome


def _play(
    server: Server,
    database: str,
    router: RouterProcess,
    text: Callable[..., str],
    plan: Plan,
    outcome: Outcome,
    progress: Callable[[str], None],
) -> None:
    asked = templates(server.port, database)
    specs = [
        Spec(
            router.port,
            ("steady", "steady", "steady", "chopped"),
            list(range(number, plan.clients, plan.processes)),
            plan.seed,
            plan.seconds,
            plan.length,
            plan.kill_every > 0,
            asked,
        )
        for number in range(plan.processes)
    ]
    is_over = threading.Event()
    troubles = [
        threading.Thread(target=_kill, args=(server, database, plan, outcome, is_over)),
        threading.Thread(target=_reload, args=(router, text, plan, outcome, is_over)),
    ]
    started = time.monotonic()
    with _processes(specs) as pipes:
        for trouble in troubles:
            trouble.start()
        try:
            deadline = started + plan.seconds + _GRACE
            for pipe in pipes:
                while not pipe.poll(0.5):
                    progress(f"{time.monotonic() - started:.0f} of {plan.seconds:.0f} s")
                    if time.monotonic() > deadline:
                        raise BenchmarkError("the clients do not come to their end")
                outcome.tally.add(pipe.recv())
        except EOFError:
            raise BenchmarkError("a process of clients has ended") from None
        finally:
            is_over.set()
            for trouble in troubles:
                trouble.join()
    _count_shared(router, outcome)
    outcome.seconds = time.monotonic() - started


@contextlib.contextmanager
def _processes(specs: list[Spec]) -> Iterator[list[multiprocessing.connection.Connection]]:
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    try:
        for spec in specs:
            near, far = context.Pipe(duplex=False)
            process = context.Process(target=work, args=(spec, far), daemon=True)
            process.start()
            far.close()
            pipes.append(near)
            processes.append(process)
        yield pipes
    finally:
        for process in processes:
            process.join(1)
            process.kill()
            process.join()


@contextlib.contextmanager
def _chopped(port: int) -> Iterator[int]:
    """A relay that cuts what the server at this port and its clients send; yields its port."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe(duplex=False)
    process = context.Process(target=chopper.chop, args=((HOST, port), far), daemon=True)
    process.start()
    far.close()
    try:
        yield near.recv()
    finally:
        process.kill()
        process.join()


def _kill(
    server: Server, database: str, plan: Plan, outcome: Outcome, is_over: threading.Event
) -> None:
    """Kill one of the servers that are at work, again and again."""
    rng = random.Random(plan.seed)
    sql = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = %s AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1"
    )
    if not plan.kill_every:
        return
    with psycopg.connect(
        f"host={HOST} port={server.port} dbname=postgres user={SUPERUSER}", autocommit=True
    ) as connection:
        while not is_over.wait(rng.uniform(0.5, 1.5) * plan.kill_every):
            outcome.kills += len(connection.execute(sql, (database,)).fetchall())


def _reload(
    router: RouterProcess,
    text: Callable[..., str],
    plan: Plan,
    outcome: Outcome,
    is_over: threading.Event,
) -> None:
    """Change the configuration of the pools, again and again."""
    rng = random.Random(plan.seed + 1)
    if not plan.reload_every:
        return
    while not is_over.wait(rng.uniform(0.5, 1.5) * plan.reload_every):
        outcome.reloads += 1
        _count_shared(router, outcome)
        router.reload(text(router.port, plan.pool_size - outcome.reloads % 2))


def _count_shared(router: RouterProcess, outcome: Outcome) -> None:
    """Count what has been shared since the last time; pools that a reload makes begin anew."""
    for row in router.admin("SHOW MULTIPLEXING"):
        shared, before = int(row["shared"]), outcome.counted.get(row["database"], 0)
        outcome.shared += shared - before if shared >= before else shared
        outcome.counted[row["database"]] = shared


def processors() -> int:
    """How many processes of clients are worth it."""
    return max(1, min(4, os.cpu_count() or 1))
