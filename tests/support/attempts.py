"""Clients that come without a pause, while processes of the router come and go."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

from .router import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .router import RouterProcess


@contextmanager
def attempting(
    router: RouterProcess, database: str, count: int
) -> Iterator[Callable[[int], None]]:
    """Have so many threads connect, ask and leave, over and over; none may ever fail.

    The function that is given waits until each has done so some more times.
    """
    is_over = threading.Event()
    failed: list[psycopg.Error] = []
    done = [0] * count

    def attempt(number: int) -> None:
        while not is_over.is_set():
            try:
                with router.connect(database) as connection:
                    assert connection.execute("SELECT 1").fetchone() == (1,)
            except psycopg.Error as error:
                failed.append(error)
            done[number] += 1

    def wait_for_more(times: int) -> None:
        goal = [each + times for each in done]

        def is_reached() -> bool:
            return all(now >= then for now, then in zip(done, goal, strict=True))

        wait_until("everybody has come in again", is_reached)

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield wait_for_more
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert failed == []
