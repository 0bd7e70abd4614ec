"""What is known of the hosts of servers, and what Patroni tells of them, as snapshots."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - the compiled class looks for it
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PatroniSnapshot:
    """A row of SHOW PATRONI: a member of a cluster, or a cluster of which none is known.

    Attributes:
        lag: in bytes; -1 if it is not known, as of the seconds.
        is_used: it is a server of the shard now.
        url: of the API that has told.
        error: why there was no answer when it was asked last.
    """

    pool: str
    shard: int
    name: str
    host: str
    port: int
    role: str
    state: str
    lag: int
    is_used: bool
    url: str
    answered_seconds: int
    asked_seconds: int
    error: str


@dataclass(frozen=True, slots=True)
class HostSnapshot:
    """A row of SHOW DNS_HOSTS: a host that servers have by its name.

    Attributes:
        addresses: what the resolver has told last.
        failed: those of them that get no connections while others do.
        connections: how many there are to which.
    """

    host: str
    addresses: tuple[str, ...]
    failed: tuple[str, ...]
    connections: Mapping[str, int]
