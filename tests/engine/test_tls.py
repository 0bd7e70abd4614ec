"""TLS: the handshake in trio, the link after it."""

from __future__ import annotations

import os
import pty
import signal
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from router.engine.link import HIGH_WATER
from router.engine.tls import client_context, server_context
from router.engine.wire import Wire, WireClosed
from router.errors import ClientProtocolError

from .peers import PATIENCE, Recorder, Sharing, running_engine, socket_pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from router.engine.link import Link

FILES = Path(__file__).parent.parent / "config" / "tls"


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The context of the server, and of a client that trusts anyone."""
    server = server_context(FILES / "certificate.pem", FILES / "key.pem")
    return server, client_context(verify=False, ca_file=None)


@asynccontextmanager
async def linked(
    handler: Recorder | None = None, *, patient: bool = False
) -> AsyncIterator[tuple[Link, Recorder, trio.SSLStream[trio.SocketStream]]]:
    """A link that has shaken hands as the server, its handler, and its peer."""
    server, client = contexts()
    sock, other = socket_pair(buffer=8192)
    stream = trio.SSLStream(trio.SocketStream(other), client, https_compatible=True)
    wire = Wire(sock, "peer")
    async with running_engine() as engine:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.do_handshake)
                await wire.start_tls(server, server_side=True)
        recorder = handler or Recorder()
        yield wire.into_link(engine, recorder, patient=patient), recorder, stream
        other.close()


async def receive(stream: trio.SSLStream[trio.SocketStream], size: int) -> bytes:
    """Read so many bytes."""
    data = b""
    with trio.fail_after(PATIENCE):
        while len(data) < size:
            piece = await stream.receive_some()
            if not piece:
                break
            data += piece
    return data


async def test_bytes_go_both_ways() -> None:
    async with linked() as (link, recorder, stream):
        await stream.send_all(b"question")
        await recorder.wait_until(lambda r: r.data == b"question")
        link.write(b"ans")
        link.write(b"wer")
        assert await receive(stream, 6) == b"answer"


async def test_a_link_under_tls_is_congested_and_drained_too() -> None:
    async with linked() as (link, recorder, stream):
        size = 0
        while not link.congested:
            link.write(b"y" * 50_000)
            size += 50_000
        assert size >= HIGH_WATER
        assert await receive(stream, size) == b"y" * size
        await recorder.wait_until(lambda r: r.drained == 1)


async def test_closing_says_so_under_tls() -> None:
    async with linked() as (link, recorder, stream):
        link.write(b"goodbye")
        link.close()
        assert await receive(stream, 100) == b"goodbye"
        assert recorder.reasons == []


async def test_the_end_of_the_peers_stream_ends_the_link() -> None:
    async with linked() as (link, recorder, stream):
        await stream.send_all(b"last words")
        with trio.fail_after(PATIENCE):
            await stream.aclose()
        await recorder.wait_until(lambda r: bool(r.reasons))
        assert recorder.data == b"last words"
        assert link.closed


@pytest.mark.parametrize("has_turns", [False, True])
async def test_a_peer_that_sends_no_more_may_be_answered_under_tls(has_turns: bool) -> None:
    handler = Sharing("a", []) if has_turns else Recorder()
    handler.stays = True
    async with linked(handler) as (link, recorder, stream):
        if isinstance(handler, Sharing):
            handler.link = link
        await stream.send_all(b"question")
        await stream.transport_stream.send_eof()
        await recorder.wait_until(lambda r: r.ends == 1)
        assert recorder.data == b"question"
        link.write(b"answer")
        link.close()
        assert await receive(stream, 100) == b"answer"
        assert recorder.reasons == []


async def test_a_patient_link_under_tls_keeps_what_the_peer_sent_before_it_left() -> None:
    async with linked(patient=True) as (link, recorder, stream):
        link.pause()
        await stream.send_all(b"last words")
        await stream.transport_stream.send_eof()
        await trio.testing.wait_all_tasks_blocked()
        assert not link.closed
        link.resume()
        await recorder.wait_until(lambda r: bool(r.reasons))
        assert recorder.data == b"last words"


async def test_what_came_before_the_end_of_the_stream_has_its_turns() -> None:
    handler = Sharing("a", [])
    async with linked(handler) as (link, recorder, stream):
        handler.link = link
        await stream.send_all(b"last words")
        with trio.fail_after(PATIENCE):
            await stream.aclose()
        await recorder.wait_until(lambda r: bool(r.reasons))
        assert recorder.data == b"last words"
        assert link.closed


async def test_a_record_that_was_tampered_with_ends_the_link() -> None:
    async with linked() as (link, recorder, stream):
        await stream.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
        await recorder.wait_until(lambda r: bool(r.reasons))
        assert recorder.data == b""
        assert link.closed


async def test_what_comes_with_the_end_of_the_handshake_is_not_lost() -> None:
    server, client = contexts()
    sock, other = socket_pair()
    stream = trio.SSLStream(trio.SocketStream(other), client)
    wire = Wire(sock, "peer")

    async def log_in() -> None:
        await stream.send_all(b"at once")

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log_in)
            await wire.start_tls(server, server_side=True)
            assert await wire.read_exactly(7) == b"at once"
    wire.close()
    other.close()


async def test_what_is_sent_at_once_is_sent_by_tls() -> None:
    server, client = contexts()
    sock, other = socket_pair()
    stream = trio.SSLStream(trio.SocketStream(other), client, https_compatible=True)
    wire = Wire(sock, "peer")
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.do_handshake)
            await wire.start_tls(server, server_side=True)
        wire.send_at_once(b"farewell")
        assert await receive(stream, 8) == b"farewell"
    wire.close()
    other.close()


async def test_plain_text_behind_the_request_for_tls_is_refused() -> None:
    server, _ = contexts()
    sock, other = socket_pair()
    wire = Wire(sock, "peer")
    with trio.fail_after(PATIENCE):
        await other.send(b"1234injected")
        await wire.read_exactly(4)
        with pytest.raises(ClientProtocolError, match="unencrypted"):
            await wire.start_tls(server, server_side=True)
    wire.close()
    other.close()


async def test_a_handshake_that_fails_raises_and_sends_the_alert() -> None:
    server, _ = contexts()
    sock, other = socket_pair()
    wire = Wire(sock, "peer")
    with trio.fail_after(PATIENCE):
        await other.send(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ssl.SSLError):
            await wire.start_tls(server, server_side=True)
    wire.close()
    other.close()


async def test_a_peer_that_leaves_during_the_handshake_is_noticed() -> None:
    server, _ = contexts()
    sock, other = socket_pair()
    wire = Wire(sock, "peer")
    other.close()
    with trio.fail_after(PATIENCE), pytest.raises(WireClosed):
        await wire.start_tls(server, server_side=True)
    wire.close()


@pytest.mark.parametrize(
    ("trusted", "complaint"),
    [(None, "self-signed certificate"), (FILES / "certificate.pem", "Hostname mismatch")],
    ids=["nobody", "another"],
)
async def test_a_certificate_that_nobody_trusts_or_that_is_for_another_host_is_refused(
    trusted: Path | None, complaint: str
) -> None:
    server, _ = contexts()
    sock, other = socket_pair()
    stream = trio.SSLStream(trio.SocketStream(other), server, server_side=True)
    wire = Wire(sock, "peer")
    async with trio.open_nursery() as nursery:

        async def shake_hands() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await stream.do_handshake()

        nursery.start_soon(shake_hands)
        context = client_context(verify=True, ca_file=trusted)
        with trio.fail_after(PATIENCE):
            with pytest.raises(ssl.SSLCertVerificationError, match=complaint):
                await wire.start_tls(context, server_side=False, server_hostname="elsewhere")
        wire.close()
    other.close()


PROGRAMS = {
    "clients": "tls.server_context(chain, key)",
    "servers": "tls.client_context("
    "verify=False, ca_file=None, certificate=chain, private_key=key)",
    "check": "runpy.run_module('router', run_name='__main__')",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_nobody_is_asked_on_the_terminal_for_the_password_of_a_key(
    tmp_path: Path, program: str
) -> None:
    """It would wait for the answer, and with it all clients."""
    chain, key, config = FILES / "certificate.pem", tmp_path / "locked.pem", tmp_path / "toml"
    locked = ("openssl", "pkey", "-in", str(FILES / "key.pem"), "-aes256", "-out", str(key))
    subprocess.run([*locked, "-passout", "pass:secret"], check=True, capture_output=True)
    files = f'tls_certificate = "{chain}"\ntls_private_key = "{key}"\n'
    config.write_text(f'[general]\n{files}admin_username = "a"\nadmin_password = "b"\n')
    start = (
        "import runpy, sys; from pathlib import Path; from router.engine import tls\n"
        "chain, key = map(Path, sys.argv[2:]); sys.argv[2:] = [str(key.parent / 'toml')]\n"
    )
    pid, terminal = pty.fork()  # with a terminal of its own
    if pid == 0:
        arguments = (start + program, "check", str(chain), str(key))
        os.execv(sys.executable, [sys.executable, "-c", *arguments])
    said = b""
    with suppress(OSError):  # that is the end
        while b"pass phrase" not in said and (more := os.read(terminal, 1000)):
            said += more
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(terminal)
    assert b"pass phrase" not in said
    assert b"SSLError" in said or b"are not a certificate chain and its key" in said
