"""The demo's ports are chosen before anything is started."""

from __future__ import annotations

import contextlib
import socket

import pytest

from router.demo.account import ClusterError
from router.demo.ports import USUAL_PORT, choose_ports
from router.demo.server import HOST, free_port, is_free


def test_a_tour_takes_any_ports() -> None:
    ports = choose_ports(None, servers=6, is_for_people=False)
    assert len({USUAL_PORT, ports.router, ports.metrics}) == 3
    assert ports.servers is None
    assert ports.remark == ""


def test_people_are_told_if_it_is_not_the_usual_port() -> None:
    with contextlib.suppress(OSError), socket.create_server((HOST, USUAL_PORT)):
        ports = choose_ports(None, servers=6, is_for_people=True)
        assert ports.router != USUAL_PORT
        assert ports.remark == (
            f"port {USUAL_PORT}: Address already in use;"
            f" the router takes {ports.router} instead"
        )


@pytest.mark.parametrize("port", [-1, 0, 65_529, 70_000, 10**20])
def test_a_port_that_is_none_is_refused_with_the_range(port: int) -> None:
    with pytest.raises(ClusterError, match=f"--port {port} is out of range") as caught:
        choose_ports(port, servers=6, is_for_people=True)
    assert "1 to 65528" in str(caught.value.hint)


@pytest.mark.parametrize("offset", range(4))
def test_each_of_the_ports_must_be_free(offset: int) -> None:
    taken = free_port()
    with socket.create_server((HOST, taken)):
        with pytest.raises(ClusterError) as caught:
            choose_ports(taken - offset, servers=2, is_for_people=True)
    assert f"--port {taken - offset}" in str(caught.value.hint)


def test_ports_that_follow_each_other_are_taken_as_they_are() -> None:
    while not all(map(is_free, range(base := free_port(), base + 8))):
        pass
    ports = choose_ports(base, servers=6, is_for_people=True)
    assert (ports.router, ports.metrics, ports.servers) == (base, base + 1, base + 2)
    assert ports.remark == ""
