"""The peer's window and the sizes of segments, where a live comparison would take too long."""

from __future__ import annotations

import pytest
from tests.model.peers import Bench, Peer

from segue.errors import KernelError
from segue.model.connection import Connection
from segue.model.durations import RTO_MAX
from segue.wire.tcp import ACK, PSH

MTU, HEADERS = 1500, 40


def pair() -> tuple[Bench, Peer, Connection]:
    bench = Bench()
    listener = bench.listener()
    peer = Peer(bench).connect()
    (child,) = bench.accept_all(listener)
    peer.got()
    return bench, peer, child


def until_heard(bench: Bench, peer: Peer) -> int:
    """Let time pass until the model says something; how many segments that are."""
    while not bench.sent.get(peer.port):
        due = bench.host.deadline()
        if due is None:
            return 0
        bench.wait(due - bench.now)
    return len(peer.got())


def test_a_peer_that_answers_may_keep_its_window_shut() -> None:
    """For ever (RFC 9293, 3.8.6.1); more often than tcp_retries2, at RTO_MAX in the end."""
    bench, peer, child = pair()
    peer.send(ACK, window=0)
    bench.host.write(bench.now, child, b"hello")
    asked = []
    for _ in range(40):
        until_heard(bench, peer)
        asked.append(bench.now)
        bench.wait(0.01)
        peer.send(ACK, window=0)
    assert round(asked[-1] - asked[-2]) == RTO_MAX
    peer.send(ACK, window=500)
    assert [bytes(one.payload) for one in peer.got()] == [b"hello"]


def test_a_peer_that_does_not_answer_is_given_up() -> None:
    """After tcp_retries2 questions."""
    bench, peer, child = pair()
    bench.host.sysctls.tcp_retries2 = 6
    peer.send(ACK, window=0)
    bench.host.write(bench.now, child, b"hello")
    asked = sum(until_heard(bench, peer) for _ in range(6))
    bench.wait(130.0)
    assert (asked, peer.got()) == (6, [])
    with pytest.raises(KernelError, match="ETIMEDOUT"):
        bench.host.read(bench.now, child)


def test_an_answer_begins_the_count_anew() -> None:
    """Five without an answer, one with it, five more."""
    bench, peer, child = pair()
    bench.host.sysctls.tcp_retries2 = 6
    peer.send(ACK, window=0)
    bench.host.write(bench.now, child, b"hello")
    for _ in range(3):
        for _ in range(5):
            until_heard(bench, peer)
        peer.send(ACK, window=0)
    peer.send(ACK, window=500)
    assert [bytes(one.payload) for one in peer.got()] == [b"hello"]


def test_an_orphan_does_not_wait_for_ever() -> None:
    """Nobody can be told: it ends once the time between two questions has reached RTO_MAX."""
    bench, peer, child = pair()
    peer.send(ACK, window=0)
    bench.host.write(bench.now, child, b"hello")
    bench.close(child)
    answered = 0
    while bench.host.connections():
        until_heard(bench, peer)
        if bench.host.connections():
            answered += 1
            peer.send(ACK, window=0)
    assert 8 <= answered <= 12


def test_no_packet_is_larger_than_the_path() -> None:
    """Whatever SACK ranges go along."""
    bench, peer, child = pair()
    base = peer.seq
    for number in range(1, 6):
        peer.send(ACK | PSH, b"x", seq=base + 2 * number)
        bench.host.write(bench.now, child, bytes(1448 * 2))
    sizes = [HEADERS + len(one.options) + len(one.payload) for one in peer.got()]
    assert max(sizes) == MTU
    assert len(sizes) > 5


@pytest.mark.parametrize("size", [1449, 2000, 4000, 10_000])
def test_an_answer_of_several_segments_is_sent_at_once(size: int) -> None:
    """Its end does not wait for an ACK, which might be delayed (tcp_minshall_check)."""
    bench, peer, child = pair()
    bench.host.write(bench.now, child, bytes(size))
    bench.collect()
    assert sum(len(one.payload) for one in peer.got()) == size
    bench.host.write(bench.now, child, b"one more")
    bench.collect()
    assert peer.got() == []
