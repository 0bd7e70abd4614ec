"""The Unix socket that clients may use, under PostgreSQL's name for it."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def path_of(directory: str, port: int) -> str:
    """Where clients look for the socket of a port."""
    return f"{directory}/.s.PGSQL.{port}"


@contextmanager
def listening(directory: str, port: int, backlog: int, mode: int) -> Iterator[socket.socket]:
    """Listen on a Unix socket, which is removed at the end.

    One that was left behind by a process that has died is replaced.

    Raises:
        OSError: somebody listens there, or the directory cannot be written.
    """
    path = path_of(directory, port)
    _clear(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        # Nobody may connect before the permissions are what they should be.
        before = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        with removed(sock):
            os.chmod(path, mode)
            sock.listen(backlog)
            sock.setblocking(False)
            yield sock


@contextmanager
def removed(sock: socket.socket) -> Iterator[None]:
    """Remove the path of a socket at the end.

    If the socket has been closed before, another process has got it, and the path.
    """
    path = sock.getsockname()
    own = os.stat(path)
    try:
        yield
    finally:
        if sock.fileno() != -1:
            _remove(path, own)


def _clear(path: str) -> None:
    """Remove what a process has left behind that does not listen any more."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, "is there and is not a socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        code = probe.connect_ex(path)
    if code == errno.ECONNREFUSED:
        os.unlink(path)
    elif code != errno.ENOENT:  # EAGAIN: its backlog is full
        raise OSError(errno.EADDRINUSE, "another process listens there", path)


def _remove(path: str, own: os.stat_result) -> None:
    """Remove the socket, unless it is another process's by now."""
    with contextlib.suppress(OSError):
        if os.path.samestat(os.lstat(path), own):
            os.unlink(path)
