"""The window and the memory behind it: what stories show on Linux, as rules that need no Linux."""

from __future__ import annotations

import pytest
from tests.model.peers import Bench, Peer

from segue.model.connection import Connection
from segue.model.receive_memory import ReceiveBuffer, memory_of
from segue.wire.seq import Seq

FULL = 1448


def pair() -> tuple[Bench, Peer, Connection]:
    bench = Bench()
    listener = bench.listener()
    peer = Peer(bench).connect()
    (child,) = bench.accept_all(listener)
    peer.got()
    return bench, peer, child


def windows(peer: Peer) -> list[int]:
    """What the peer was told, in bytes."""
    return [segment.window << 7 for segment in peer.got()]


@pytest.mark.parametrize(
    ("packet", "memory"),
    [(60, 832), (192, 832), (193, 1280), (640, 1280), (641, 2304), (1500, 2304), (4052, 8448)],
)
def test_a_packet_waits_in_memory_of_a_few_sizes(packet: int, memory: int) -> None:
    """As SO_MEMINFO tells it on Linux."""
    assert memory_of(packet) == memory


def test_what_is_small_is_put_into_the_last_buffer_and_freed_with_it() -> None:
    """Only when nothing of it is left."""
    buffer = ReceiveBuffer(131072, False, FULL, 65536, 65160, 536, 14480, Seq(0), 0.0)
    for _ in range(8):
        buffer.queue(20, 72)
    assert (len(buffer.buffers), buffer.memory) == (2, 2 * 832)
    buffer.free(139)
    assert buffer.memory == 2 * 832
    buffer.free(140)
    assert buffer.memory == 832
    buffer.collapse(20)
    assert (buffer.memory, buffer.queued) == (832, 160)


def test_small_segments_take_less_when_they_are_put_together() -> None:
    """From the first that has more memory than its share."""
    buffer = ReceiveBuffer(131072, True, FULL, 65536, 65160, 536, 14480, Seq(0), 0.0, share=160)
    buffer.queue(FULL, 1500)
    for _ in range(20):
        buffer.queue(300, 352)
    assert buffer.memory == 2304 + 20 * 1280
    buffer.collapse(FULL + 6000)
    assert buffer.memory == 2304 + 2 * (4096 + 256)


def test_each_full_segment_opens_the_window_by_two() -> None:
    """Until the memory that is left has no room for more."""
    _, peer, _ = pair()
    told = []
    for _ in range(6):
        peer.data(bytes(FULL))
        told += windows(peer)
    assert told == [one << 7 for one in (532, 555, 577, 595, 584, 573)]


def test_the_right_edge_never_goes_back() -> None:
    """Whatever is done to the memory (RFC 9293, 3.8.6.2.2)."""
    bench, peer, child = pair()
    edge, taken = 0, 0
    for number in range(200):
        if number == 20:
            bench.host.setsockopt(child, "SO_RCVBUF", 2000, bench.now)
        if number == 60:
            bench.host.setsockopt(child, "SO_RCVBUF", 100000, bench.now)
        peer.data(bytes(300))
        taken += 300
        bench.wait(0.3)
        for segment in peer.got():
            new = taken + (segment.window << 7)
            assert new >= edge
            edge = new
        if number % 7 == 0:
            bench.host.read(bench.now, child, 1000)


def test_a_reader_that_keeps_up_is_given_more_memory() -> None:
    """Twice of what it reads within a round trip, and more as that becomes more."""
    bench, peer, child = pair()
    bench.host.write(bench.now, child, b"k")
    bench.collect()
    peer.got()  # the stamp of that is echoed
    peer.ack += 1
    bench.wait(0.15)
    for _ in range(2):
        for _ in range(20):
            peer.data(bytes(FULL))
        bench.host.read(bench.now, child, 1 << 20)
        bench.wait(0.01)
    assert bench.host.getsockopt(child, "SO_RCVBUF") == 131072
    bench.wait(1.5)
    peer.data(b"a")
    bench.host.read(bench.now, child, 1 << 20)
    assert bench.host.getsockopt(child, "SO_RCVBUF") > 4 * 131072


def test_a_delay_learns_from_the_pauses() -> None:
    """But it never is a fifth of a second or longer (RFC 9293, 3.8.6.3: half a second)."""
    bench, peer, child = pair()
    bench.host.setsockopt(child, "SO_RCVBUF", 4000, bench.now)
    for _ in range(40):
        peer.data(bytes(100))
        begun = bench.now
        while not peer.got():
            bench.wait(0.001)
        assert bench.now - begun < 0.2
        if child.incoming:
            bench.host.read(bench.now, child, 1000)
        bench.wait(0.15)
