"""The small web behind the model, without an interface."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from typing import cast

import pytest
from tests.model.peers import PORT, SERVER, Bench, Peer

from segue.address import Address
from segue.lab.serving import Serving
from segue.linux.tun import Tun
from segue.model.connection import Connection
from segue.wire.tcp import ACK


class Cable:
    """Stands for the interface: nothing comes from it, and what is sent is kept."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self._fd = os.eventfd(0)

    def fileno(self) -> int:
        return self._fd

    def read(self) -> None:
        return None

    def write(self, packet: bytes) -> None:
        self.sent.append(packet)

    def close(self) -> None:
        os.close(self._fd)


class Web:
    """The server, and clients that speak to its host directly."""

    def __init__(self) -> None:
        self.cable = Cable()
        self.serving = Serving(cast(Tun, self.cable), Address(SERVER, PORT))
        self.bench = Bench(now=time.monotonic())
        self.bench.host = self.serving.host

    def turn(self) -> bytes:
        """One round of its loop; what it has sent."""
        rounds = iter([False, True])
        self.serving.run(lambda: next(rounds))
        sent, self.cable.sent = self.cable.sent, []
        return b"".join(sent)


@pytest.fixture
def web() -> Iterator[Web]:
    """Closed at the end."""
    made = Web()
    yield made
    made.cable.close()


@pytest.mark.parametrize("end", [b"", b"Connection: close\r\n"])
def test_what_was_asked_before_the_accept_is_answered(web: Web, end: bytes) -> None:
    """Nothing tells of it a second time."""
    peer = Peer(web.bench).connect()
    peer.data(b"GET /10 HTTP/1.1\r\n%s\r\n" % end)
    assert b"HTTP/1.1 200 OK" in web.turn()
    assert web.serving.served == 1


def test_what_is_asked_after_the_accept_is_answered(web: Web) -> None:
    """It is told of."""
    peer = Peer(web.bench).connect()
    assert web.turn() == b""
    peer.data(b"GET /10 HTTP/1.1\r\n\r\n")
    assert b"segue segu" in web.turn()


@pytest.mark.parametrize("how", [Peer.rst, Peer.fin])
def test_who_went_before_the_accept_is_not_kept(web: Web, how: Callable[[Peer], None]) -> None:
    """By a reset nothing is left; by an end the server's own end follows."""
    peer = Peer(web.bench).connect()
    how(peer)
    web.turn()
    if web.serving.host.connections():
        peer.send(ACK, ack=peer.ack + 1)
    web.turn()
    gc.collect()
    assert not [one for one in gc.get_objects() if isinstance(one, Connection)]
