"""The router, for which one name leads where a file says: `python -m tests.support.named ...`.

The file has the name and its addresses, and is read anew at each look-up. Without addresses no
name server answers.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

from router.cli import main


def _use(path: Path) -> None:
    system = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *rest: Any, **more: Any) -> list[Any]:  # noqa: ANN401
        name, *addresses = path.read_text().split()
        if not addresses and host in (name, name.encode()):
            raise socket.gaierror(socket.EAI_AGAIN, "no name server answers")
        if host not in (name, name.encode()):
            return list(system(host, port, *rest, **more))
        kind = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, ""
        return [(*kind, (address, port or 0)) for address in addresses]

    socket.getaddrinfo = getaddrinfo


if __name__ == "__main__":
    _use(Path(sys.argv.pop(1)))
    sys.exit(main())
