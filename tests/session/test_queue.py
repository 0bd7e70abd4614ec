"""Five hundred clients and five connections: first come, first served."""

from __future__ import annotations

from collections import deque

from tests.support.harness import FakeClient, Harness
from tests.support.wire import query

ROUNDS = 6


def test_nobody_overtakes_and_nobody_starves() -> None:
    """Each asks again as soon as it has its answer, and waits behind all the others."""
    harness = Harness(pool_size=5, connect_timeout=1e6)
    clients = [harness.connect() for _ in range(500)]
    expected: deque[FakeClient] = deque(clients)
    order: list[FakeClient] = []
    for client in clients:
        client.send(query("SLEEP"))
    while harness.opening:
        harness.accept()
    waits: list[float] = []
    since = dict.fromkeys(clients, harness.engine.now)
    while len(order) < ROUNDS * len(clients):
        for server in list(harness.live_servers()):
            server.work()
        harness.engine.advance(0.01)
        busy = [part for part in harness.part.active if part.client is not None]
        assert len(busy) == 5
        for server in harness.servers:
            client = next(each for each in clients if each.session is server.connection.client)
            order.append(client)
            waits.append(harness.engine.now - since[client])
            server.model.wake()
            server.answer()
            since[client] = harness.engine.now
            client.send(query("SLEEP"))
    while order:
        turn, order = order[:5], order[5:]
        assert set(turn) == {expected.popleft() for _ in range(5)}
        expected.extend(turn)
    waits = sorted(waits[len(clients) :])
    mean = sum(waits) / len(waits)
    assert waits[int(len(waits) * 0.99)] < 3 * mean
