"""A [peers.ID] section: another process of the group that this one is in."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from .keys import Host, Key, Port, Reload, Section

MOST_PEERS: Final = 16383
"""The largest id of a peer, as in PgBouncer."""

PeerId = Annotated[int, Field(strict=True, ge=0, le=MOST_PEERS)]
PeerSize = Annotated[int, Field(strict=True, ge=1, le=10_000)]


def peer_number(name: str) -> int | None:
    """The id that a key of the table of peers is; None if it is none."""
    is_number = name.isascii() and name.isdecimal() and not name.startswith("0")
    return int(name) if is_number and len(name) < 6 and int(name) <= MOST_PEERS else None


class Peer(Section):
    """Another process, to which cancel requests for its clients are passed on."""

    host: Annotated[
        Host,
        Key(
            "Where it is: a host, or the `unix_socket_dir` of that process, from / on.",
            Reload.AT_ONCE,
        ),
    ]
    port: Annotated[
        Port | None, Key("Its port.", Reload.AT_ONCE, unset="that of this process")
    ] = None
    pool_size: Annotated[
        PeerSize,
        Key("Cancel requests that may be on their way to it at a time.", Reload.AT_ONCE),
    ] = 20
