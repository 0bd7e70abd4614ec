"""A TCP relay before a server that passes on what comes in pieces of one byte.

Cancel requests, which come on connections of their own, take a moment.
"""

from __future__ import annotations

import select
import socket
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_PIECE: Final = 16 * 1024
# So many bytes of each piece go one by one, the rest at once.
_CHOPPED: Final = 300
_CANCEL: Final = bytes((0, 0, 0, 16, 4, 210, 22, 46))
# So many seconds.
_MOMENT: Final = 0.005


def chop(target: tuple[str, int], parent: Connection) -> None:
    """Relay until killed; what is sent to the parent first is the port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        parent.send(listening.getsockname()[1])
        _relay(listening, target)


def _relay(listening: socket.socket, target: tuple[str, int]) -> None:
    epoll = select.epoll()
    epoll.register(listening, select.EPOLLIN)
    peers: dict[int, tuple[socket.socket, socket.socket]] = {}
    while True:
        for number, _ in epoll.poll():
            if number == listening.fileno():
                near = listening.accept()[0]
                far = socket.create_connection(target)
                for one, other in ((near, far), (far, near)):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    peers[one.fileno()] = one, other
                    epoll.register(one, select.EPOLLIN)
            elif number in peers and not _pass_on(*peers[number]):
                for each in peers.pop(number):
                    peers.pop(each.fileno(), None)
                    epoll.unregister(each)
                    each.close()


def _pass_on(source: socket.socket, sink: socket.socket) -> bool:
    """Pass on what has come; False if that was the end.

    The sink takes it: both ends are the harness's own, and read as they go.
    """
    try:
        data = source.recv(_PIECE, socket.MSG_DONTWAIT)
        if data.startswith(_CANCEL):
            time.sleep(_MOMENT)
        for pos in range(min(_CHOPPED, len(data))):
            sink.send(data[pos : pos + 1])
        sink.sendall(data[_CHOPPED:])
    except BlockingIOError:
        return True  # the event was that of an earlier socket of the same number
    except OSError:
        return False
    return bool(data)
