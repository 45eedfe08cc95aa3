"""What a peer can make the model keep has a bound, whatever it sends."""

from __future__ import annotations

import errno
import gc

import pytest
from tests.model.peers import Bench, Peer

from segue.errors import KernelError
from segue.model.connection import MOST_EARLY, Connection
from segue.model.listener import Listener
from segue.model.request import Request
from segue.model.states import State
from segue.wire.options import Options
from segue.wire.tcp import ACK, FIN, PSH


def talking(bench: Bench, listener: Listener) -> tuple[Peer, Connection]:
    """A client, and the accepted other end."""
    peer = Peer(bench).connect()
    (child,) = bench.accept_all(listener)
    peer.got()
    return peer, child


def until_time_wait(bench: Bench, listener: Listener) -> Connection:
    """The server ends first."""
    peer, child = talking(bench, listener)
    bench.close(child)
    (fin,) = peer.got()
    assert fin.flags & FIN
    peer.ack += 1
    peer.fin()
    return child


def test_one_connection_too_many_does_not_wait() -> None:
    """It is over at once, and counted; when one of those that wait is over, the next one waits."""
    bench = Bench()
    bench.host.sysctls.tcp_max_tw_buckets = 2
    listener = bench.listener()
    states = [until_time_wait(bench, listener).state for _ in range(3)]
    assert states == [State.TIME_WAIT, State.TIME_WAIT, State.CLOSE]
    assert bench.host.counts["TCPTimeWaitOverflow"] == 1
    assert bench.host.connections() == 2
    bench.wait(61)
    assert bench.host.connections() == 0
    assert until_time_wait(bench, listener).state is State.TIME_WAIT


def test_what_is_over_is_in_no_cycle() -> None:
    """Whichever way it ended, it is gone at once, so that nobody need look for cycles."""
    bench = Bench()
    bench.host.sysctls.tcp_migrate_req = 1
    gc.collect()
    gc.disable()
    try:
        _end_in_many_ways(bench)
        left = [one for one in gc.get_objects() if isinstance(one, Connection | Request | Listener)]
        assert not left
    finally:
        gc.enable()


def _end_in_many_ways(bench: Bench) -> None:
    old = bench.listener()
    until_time_wait(bench, old)
    for unanswered in (Peer(bench), Peer(bench)):
        unanswered.syn()
    peer, child = talking(bench, old)
    peer.rst()
    bench.close(child)
    peer, child = talking(bench, old)
    bench.host.write(bench.now, child, b"never acknowledged")
    waiting = Peer(bench).connect()
    new = bench.listener()
    bench.close(old)
    unanswered.final_ack()
    for moved in bench.accept_all(new):
        bench.close(moved)
    waiting.fin()
    bench.wait(3600)
    bench.close(child)
    bench.close(new)
    assert not bench.host.connections()
    assert not bench.host.half_open()


def test_one_orphan_too_many_is_reset() -> None:
    """A peer that acknowledges nothing would else be kept for minutes."""
    bench = Bench()
    bench.host.sysctls.tcp_max_orphans = 1
    listener = bench.listener()
    said = []
    for _ in range(2):
        peer, child = talking(bench, listener)
        bench.close(child)
        said.append(peer.said())
    assert said == [["FIN ACK"], ["FIN ACK", "RST ACK"]]
    assert bench.host.counts["TCPAbortOnMemory"] == 1
    assert bench.host.connections() == 1


def test_an_orphan_counts_no_more_once_it_only_waits() -> None:
    """Both limits are at one, and nobody is in the other's way."""
    bench = Bench()
    bench.host.sysctls.tcp_max_orphans = bench.host.sysctls.tcp_max_tw_buckets = 1
    listener = bench.listener()
    until_time_wait(bench, listener)
    peer, child = talking(bench, listener)
    bench.close(child)
    assert peer.said() == ["FIN ACK"]


def test_crumbs_before_their_turn_are_kept_in_so_many_pieces() -> None:
    """Every second byte, and what is more is dropped; what fills the gaps is read."""
    bench = Bench()
    peer, child = talking(bench, bench.listener())
    for number in range(MOST_EARLY + 100):
        peer.send(ACK | PSH, b"b", seq=peer.seq + 1 + 2 * number)
    assert len(child.early) == MOST_EARLY
    for _ in range(MOST_EARLY):
        peer.data(b"a")
        peer.seq += 1
    assert bench.host.read(bench.now, child) == b"ab" * MOST_EARLY
    with pytest.raises(KernelError) as refused:
        bench.host.read(bench.now, child)
    assert refused.value.errno == errno.EAGAIN
    assert child.early == []


@pytest.mark.parametrize(("stamps", "size"), [(None, 48), ((1, 0), 36)])
def test_a_peer_that_wants_crumbs_gets_segments_all_the_same(
    stamps: tuple[int, int] | None, size: int
) -> None:
    """A size of one would cost forty bytes of header for each byte (measured on 6.18)."""
    bench = Bench()
    listener = bench.listener()
    peer = Peer(bench, offer=Options(mss=1, stamps=stamps)).connect()
    (child,) = bench.accept_all(listener)
    peer.got()
    bench.host.write(bench.now, child, b"x" * 10 * size)
    bench.collect()
    assert [len(one.payload) for one in peer.got()] == [size] * 10
