"""Carries while clients are far away, over a link that delays, loses and reorders packets."""

from __future__ import annotations

import socket
import threading

import pytest
from tests.engine.carrying import Scene, carry, dial, servers
from tests.waiting import PATIENCE

from segue.engine.carry import Carrier
from segue.lab.link import Conditions
from segue.lab.scenario import SERVER, distance

pytestmark = [pytest.mark.root, pytest.mark.kernel("6.9")]

CLIENTS, REQUESTS = 6, 25


class Asking(threading.Thread):
    """A client that asks again and again, and checks each answer."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number
        self.client = dial(SERVER)
        self.client.settimeout(2 * PATIENCE)
        self.answered = ""  # by which server
        self.carried = threading.Event()

    def run(self) -> None:
        for number in range(REQUESTS):
            request = b"GET %d-%d " % (self._number, number) * (1 + 20 * (number % 5))
            self.client.sendall(request)
            answer = b""
            while len(answer) <= len(request) and (piece := self.client.recv(4096)):
                answer += piece
            if answer[1:] != request:
                return
            self.answered += answer[:1].decode()
            if number % 5 == 0:
                self.carried.clear()
                assert self.carried.wait(PATIENCE)


def one_way(
    scene: Scene, carrier: Carrier, there: list[tuple[int, socket.socket]], way: int
) -> list[tuple[int, socket.socket]]:
    """What one server has goes to the other, as far as it may; who has what then."""
    old, new = scene.servers[way], scene.servers[1 - way]
    scene.steering.share({1 - way: 1.0})
    after = []
    for owner, connection in there:
        if owner == way and carry(carrier, connection, new.listener, old.process.pid).carried:
            connection.close()
            after.append((1 - way, new.accepted()))
        else:
            after.append((owner, connection))
    return after


@pytest.mark.parametrize(
    "conditions",
    [
        Conditions(delay_s=0.02),
        Conditions(delay_s=0.02, loss=0.05),
        Conditions(delay_s=0.01, jitter_s=0.01, loss=0.02),
    ],
    ids=["far", "with loss", "with loss and jitter"],
)
def test_far_clients_lose_nothing(conditions: Conditions) -> None:
    """To and fro while they ask; each is carried five times at least."""
    with (
        distance(conditions, seed=1) as lab,
        lab.server.inside(),
        servers("0.0.0.0") as scene,
        Carrier() as carrier,
    ):
        # Without notes, an ACK for an answer that came twice would look like that for the next.
        for one in scene.servers:
            assert carrier.watch(one.listener) is None
        with lab.client.inside():
            clients = [Asking(number) for number in range(CLIENTS)]
        there = [(0, scene.servers[0].accepted()) for _ in clients]
        for client in clients:
            client.start()
        way = 0
        while any(client.is_alive() for client in clients):
            before = there
            there = one_way(scene, carrier, before, way)
            for client, was, now in zip(clients, before, there, strict=True):
                if was is not now:
                    client.carried.set()
            way = 1 - way
        for client in clients:
            client.client.close()
        for _, connection in there:
            connection.close()
    assert [len(one.answered) for one in clients] == [REQUESTS] * CLIENTS
    # By chance all of them may have come to the same server.
    assert set("".join(one.answered for one in clients)) <= {"A", "B"}
