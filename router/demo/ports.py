"""Where the demo listens: chosen, and found to be free, before anything is started."""

from __future__ import annotations

import os
from dataclasses import dataclass

from .account import ClusterError
from .server import HOST, free_port, listen_errno

USUAL_PORT = 6432
HIGHEST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of the demo.

    Attributes:
        servers: the first of those of PostgreSQL, one after the other; any if it is None.
        remark: what to tell about the choice.
    """

    router: int
    metrics: int
    servers: int | None = None
    remark: str = ""


def choose_ports(base: int | None, *, servers: int, is_for_people: bool) -> Ports:
    """Choose ports: `base` and those after it, or the usual one, or any.

    Args:
        base: the router's; metrics and servers follow.
        servers: how many there will be.
        is_for_people: a person will type the port, so it should be the usual one.

    Raises:
        ClusterError: they are taken, or not ours to take.
    """
    if base is not None:
        return _consecutive(base, servers)
    if not is_for_people:
        return Ports(free_port(), free_port())
    errno = listen_errno(USUAL_PORT)
    if not errno:
        return Ports(USUAL_PORT, free_port())
    other = free_port()
    return Ports(
        other,
        free_port(),
        remark=f"port {USUAL_PORT}: {os.strerror(errno)}; the router takes {other} instead",
    )


def _consecutive(base: int, servers: int) -> Ports:
    wanted = range(base, base + 2 + servers)
    if wanted[0] < 1 or wanted[-1] > HIGHEST_PORT:
        raise ClusterError(
            f"--port {base} is out of range",
            hint=f"choose one from 1 to {HIGHEST_PORT - len(wanted) + 1}",
        )
    for port in wanted:
        errno = listen_errno(port)
        if errno:
            raise ClusterError(
                f"cannot listen on {HOST}:{port}: {os.strerror(errno)}",
                hint=f"--port {base} takes the ports {wanted[0]} to {wanted[-1]}: "
                "choose another, or leave it out",
            )
    return Ports(wanted[0], wanted[1], wanted[2])
