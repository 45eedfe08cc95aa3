"""Handshakes that really are under way: a client, a server, and a distance between them."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests import leaks
from tests.lab.handshakes import AfterSyn, is_syn_ack
from tests.policy.clients import taken
from tests.waiting import PATIENCE

from segue.address import Address
from segue.engine.migrate import Migrate
from segue.lab.link import Conditions
from segue.lab.scenario import SERVER, Scenario, distance
from segue.linux import sysctl
from segue.linux.sock_diag import SockDiag
from segue.linux.sockopt import open_listener
from segue.policy.counts import Counts
from segue.wire.tcp import RST, segment_in

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]

WEB = Address(SERVER, 80)
DELAY_S = 0.005


@pytest.fixture
def lab() -> Iterator[Scenario]:
    """Ten milliseconds of round trip; the kernel of the server migrates nothing by itself."""
    with distance(Conditions(DELAY_S)) as made:
        with made.server.inside():
            sysctl.write("net.ipv4.tcp_migrate_req", "0")
        yield made


def listen(lab: Scenario) -> socket.socket:
    with lab.server.inside():
        made = open_listener(WEB, backlog=1024)
    made.settimeout(PATIENCE)
    return made


def connect(lab: Scenario) -> socket.socket:
    with lab.client.inside():
        return socket.create_connection((WEB.host, WEB.port), timeout=PATIENCE)


def half_open(lab: Scenario) -> int:
    with lab.server.inside(), SockDiag() as diag:
        return len(diag.half_open(WEB.port, socket.AF_INET))


def test_a_connect_takes_one_round_trip(lab: Scenario) -> None:
    """One packet has come back when it is over, and both delays have passed: at least."""
    with listen(lab):
        before = time.monotonic()
        with connect(lab):
            assert time.monotonic() - before >= 2 * DELAY_S
            forth, back = lab.cable.counts()
    assert (forth.sent - forth.under_way - forth.arrived, back.arrived) == (0, 1)
    assert forth.arrived in {1, 2}  # the final ACK sets out as connect() returns


def test_a_held_final_ack_keeps_a_request_half_open(lab: Scenario) -> None:
    """The client is connected and its data sent; the server has a request and no child."""
    with listen(lab) as listener:
        held = lab.cable.hold(AfterSyn())
        with connect(lab) as client:
            client.sendall(b"hello")
            held.wait(2)
            assert half_open(lab) == 1
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()
            held.release()
            listener.settimeout(PATIENCE)
            accepted = listener.accept()[0]
            with accepted:
                assert accepted.recv(100) == b"hello"
            assert half_open(lab) == 0


def test_a_held_syn_ack_keeps_a_client_connecting(lab: Scenario) -> None:
    """It is connected by the release, and by no packet before."""
    with listen(lab) as listener:
        held = lab.cable.hold(is_syn_ack, back=True)
        connecting = lab.client.run(socket.create_connection, (WEB.host, WEB.port), PATIENCE)
        held.wait(1)
        assert not connecting.done()
        held.release()
        connecting.result(PATIENCE).close()
        listener.accept()[0].close()


def test_other_connections_go_on_beside_a_hold(lab: Scenario) -> None:
    """Those whose handshake was over when it began."""
    with listen(lab) as listener, connect(lab) as old:
        accepted = listener.accept()[0]
        held = lab.cable.hold(AfterSyn())
        with accepted, connect(lab):
            held.wait(1)
            old.sendall(b"ping")
            assert accepted.recv(100) == b"ping"
            accepted.sendall(b"pong")
            assert old.recv(100) == b"pong"
        held.discard()


@pytest.mark.parametrize("number", [1, 100])
def test_handshakes_under_way_survive_their_listener(lab: Scenario, number: int) -> None:
    """With the engine: all of them are accepted by the other listener, with their data."""
    with ExitStack() as stack:
        engine = stack.enter_context(Migrate())
        old, new = listen(lab), stack.enter_context(listen(lab))
        engine.join(0, old)
        engine.join(1, new)
        engine.share({0: 1})
        held = lab.cable.hold(AfterSyn())
        clients = [stack.enter_context(connect(lab)) for _ in range(number)]
        for client in clients:
            client.sendall(b"hello")
        held.wait(2 * number)
        assert half_open(lab) == number
        engine.share({1: 1})
        engine.leave(0, old)
        held.release()
        for _ in clients:
            accepted = stack.enter_context(new.accept()[0])
            accepted.settimeout(PATIENCE)
            assert accepted.recv(100) == b"hello"
        assert taken({1: new}, 0) == {1: 0}
        assert half_open(lab) == 0
        assert engine.counts()[1] == Counts(request=number)


def test_without_the_engine_a_listener_takes_its_handshakes_along(lab: Scenario) -> None:
    """There is another listener of the same address, and the client sees a reset all the same."""
    old = listen(lab)
    held = lab.cable.hold(AfterSyn())
    with connect(lab) as client:
        held.wait(1)
        with listen(lab) as new:
            old.close()
            resets = lab.cable.hold(is_reset, back=True)
            held.release()
            resets.wait(1)
            assert half_open(lab) == 0
            resets.release()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            assert taken({1: new}, 0) == {1: 0}


def is_reset(packet: bytes) -> bool:
    segment = segment_in(packet)
    return segment is not None and bool(segment.flags & RST)


def test_a_client_may_have_many_addresses() -> None:
    """Each can be connected from, and the answers find it."""
    with distance(Conditions(), sources=502) as lab, listen(lab) as listener:
        for address in ("10.77.0.1", "10.77.1.1", "10.77.1.250", "10.77.2.250", "10.77.3.1"):
            with lab.client.inside():
                client = socket.create_connection(
                    (WEB.host, WEB.port), PATIENCE, source_address=(address, 0)
                )
            accepted, peer = listener.accept()
            assert peer[0] == address
            accepted.close()
            client.close()


def test_much_data_comes_through_loss_and_jitter() -> None:
    """Whole: the hosts' TCP repeats what the link lost, and the link did lose."""
    with distance(Conditions(0.001, 0.001, 0.02), seed=5) as lab, listen(lab) as listener:
        sent = os.urandom(1 << 18)
        got = bytearray()
        with connect(lab) as client:
            accepted = listener.accept()[0]
            sending = lab.client.run(client.sendall, sent)
            with accepted:
                accepted.settimeout(PATIENCE)
                while len(got) < len(sent):
                    got += accepted.recv(1 << 16)
            sending.result(PATIENCE)
        assert bytes(got) == sent
        assert lab.cable.counts()[0].lost > 0
        assert lab.client.dropped() == lab.server.dropped() == 0


def test_nothing_is_left_of_it() -> None:
    """No descriptor and no thread."""
    threads, descriptors = set(threading.enumerate()), leaks.descriptors()
    with distance(Conditions()) as lab:
        lab.client.spawn(["sleep", "600"])
        lab.server.run(int)
    assert set(threading.enumerate()) <= threads
    assert leaks.descriptors() == descriptors
