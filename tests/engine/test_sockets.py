"""Where clients come from: a Unix socket, IPv4 and IPv6."""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from router.engine import listener, unix

if TYPE_CHECKING:
    from pathlib import Path


def path_in(directory: Path) -> Path:
    return directory / ".s.PGSQL.6432"


def test_the_socket_has_the_name_that_clients_look_for_and_is_removed(tmp_path: Path) -> None:
    with unix.listening(str(tmp_path), 6432, 8, 0o770) as sock:
        found = path_in(tmp_path).stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o770
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path_in(tmp_path)))
            accepted, address = sock.accept()
            assert listener.peer(address) == "unix"
            accepted.close()
    assert not path_in(tmp_path).exists()


def test_the_mask_of_the_process_is_left_as_it_was(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with unix.listening(str(tmp_path), 6432, 8, 0o777):
            assert stat.S_IMODE(path_in(tmp_path).stat().st_mode) == 0o777
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_a_socket_that_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path_in(tmp_path)))
    with unix.listening(str(tmp_path), 6432, 8, 0o777):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path_in(tmp_path)))


@pytest.mark.parametrize("is_busy", [False, True])
def test_a_socket_that_somebody_listens_on_is_left_alone(tmp_path: Path, is_busy: bool) -> None:
    clients = []
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path_in(tmp_path)))
        other.listen(0)
        if is_busy:
            for _ in range(3):  # until its backlog is full
                client = socket.socket(socket.AF_UNIX)
                client.setblocking(False)
                client.connect_ex(str(path_in(tmp_path)))
                clients.append(client)
        with pytest.raises(OSError, match="another process listens there"):
            with unix.listening(str(tmp_path), 6432, 8, 0o777):
                pass
        assert path_in(tmp_path).exists()
    for client in clients:
        client.close()


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path_in(tmp_path).write_text("mine")
    with pytest.raises(OSError, match="is not a socket"):
        with unix.listening(str(tmp_path), 6432, 8, 0o777):
            pass
    assert path_in(tmp_path).read_text() == "mine"


def test_the_socket_of_a_successor_is_not_removed(tmp_path: Path) -> None:
    with unix.listening(str(tmp_path), 6432, 8, 0o777):
        path_in(tmp_path).unlink()
        successor = socket.socket(socket.AF_UNIX)
        successor.bind(str(path_in(tmp_path)))
    assert path_in(tmp_path).exists()
    successor.close()


def test_an_asterisk_is_both_families() -> None:
    port = free_port()
    socks = listener.listen_all("*", port, 8)
    assert {sock.family for sock in socks} == {socket.AF_INET, socket.AF_INET6}
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as client:
            client.connect((host, port))
    for sock in socks:
        sock.close()


def test_two_colons_are_ipv6_alone() -> None:
    port = free_port()
    [sock] = listener.listen_all("::", port, 8)
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) != 0
    with socket.socket(socket.AF_INET6) as client:
        client.connect(("::1", port))
        accepted, address = sock.accept()
        accepted.close()
        assert listener.peer(address).startswith("[::1]:")
    sock.close()


def test_a_port_that_one_family_has_already_is_an_error() -> None:
    port = free_port()
    with listener.listen("127.0.0.1", port, 8):
        with pytest.raises(OSError, match="in use"):
            listener.listen_all("*", port, 8)
    for sock in listener.listen_all("*", port, 8):
        sock.close()  # so nothing was left open


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
