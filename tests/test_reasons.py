"""What the system says, in words."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from router.config.files import check_files
from router.engine import listener, wire
from router.reasons import reason
from tests.config.builders import config

if TYPE_CHECKING:
    from collections.abc import Callable

TLS = Path(__file__).parent / "config" / "tls"
# Numbers of errors, tuples, names of classes and of OpenSSL's constants.
PYTHON = re.compile(r"\[Errno|\(\'|\'\)|Error|Exception|<class|[A-Z]{3,}_|object at 0x")


def closed_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def failure(action: Callable[[], object]) -> BaseException:
    """What it raises."""
    with pytest.raises((OSError, ExceptionGroup)) as caught:
        action()
    return caught.value


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_server_that_is_not_there(host: str) -> None:
    port = closed_port()
    words = reason(failure(lambda: trio.run(wire.connect, host, port, None)))
    assert words in ("Connection refused", "Cannot assign requested address")


def test_a_socket_that_is_not_there(tmp_path: Path) -> None:
    error = failure(lambda: trio.run(wire.connect, str(tmp_path), 5432, None))
    assert reason(error) == "No such file or directory"


def test_a_name_that_does_not_exist() -> None:
    for action in (
        lambda: trio.run(wire.connect, "nobody.invalid", 1, None),
        lambda: listener.listen("nobody.invalid", 1, 1),
    ):
        words = reason(failure(action))
        assert words
        assert not PYTHON.search(words)


def test_an_address_that_is_taken() -> None:
    with listener.listen("127.0.0.1", 0, 1) as sock:
        error = failure(lambda: listener.listen("127.0.0.1", sock.getsockname()[1], 1))
    assert reason(error) == "Address already in use"


def test_openssls_words() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    error = failure(
        lambda: context.load_cert_chain(TLS / "certificate.pem", TLS / "other_key.pem")
    )
    assert reason(error) == "key values mismatch"
    error = failure(lambda: context.load_cert_chain("/nobody", "/nobody"))
    assert reason(error) == "No such file or directory"


def test_files_of_every_wrong_sort_are_told_in_words(tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.touch()
    binary.write_bytes(bytes(range(256)))
    wrong = [tmp_path, empty, binary, tmp_path / "none", TLS / "other_key.pem"]
    general = config().general
    for file in wrong:
        for key in (TLS / "key.pem", file):
            update = {
                "tls_certificate": file,
                "tls_private_key": key,
                "server_tls_ca_file": file,
                "patroni_certificate": file,
                "patroni_private_key": key,
                "patroni_ca_file": file,
            }
            found = [str(finding) for finding in check_files(general.model_copy(update=update))]
            assert found
            assert not any(PYTHON.search(line) for line in found), found


def test_groups_and_causes_are_looked_into() -> None:
    inner = OSError(errno.EHOSTUNREACH, "Error connecting to ('::1', 1): No route to host")
    outer = OSError("all attempts to connect to x:1 failed")
    outer.__cause__ = ExceptionGroup("several", [inner, inner])
    assert reason(outer) == "No route to host"
    assert reason(ExceptionGroup("several", [outer])) == "No route to host"
