"""Options that are refused, and those whose time a story would have to wait for."""

from __future__ import annotations

import pytest
from tests.model.peers import Bench, Peer

from segue.errors import KernelError
from segue.model.connection import Connection


def pair(**options: int) -> tuple[Bench, Peer, Connection]:
    bench = Bench()
    listener = bench.listener(v6=False, **options)
    peer = Peer(bench).connect()
    (child,) = bench.accept_all(listener)
    return bench, peer, child


@pytest.mark.parametrize("name", ["TCP_CONGESTION", "SO_PRIORITY", "nonsense"])
def test_an_option_that_is_not_known_is_refused(name: str) -> None:
    """Set or read, of either; nothing has changed."""
    bench, _, child = pair()
    for sock in (child, bench.listener()):
        before = dict(sock.options)
        with pytest.raises(KernelError, match="ENOPROTOOPT"):
            bench.host.setsockopt(sock, name, 1, bench.now)
        with pytest.raises(KernelError, match="ENOPROTOOPT"):
            bench.host.getsockopt(sock, name)
        assert sock.options == before


@pytest.mark.parametrize("name", ["TCP_FASTOPEN", "TCP_DEFER_ACCEPT", "TCP_MAXSEG"])
def test_an_option_of_listeners_is_none_of_connections(name: str) -> None:
    """In the model: it has settled what they mean with the handshake."""
    bench, _, child = pair()
    with pytest.raises(KernelError, match="ENOPROTOOPT"):
        bench.host.setsockopt(child, name, 1000, bench.now)


def test_what_is_set_of_one_is_set_of_no_other() -> None:
    """A connection has what its listener had when it was made."""
    bench = Bench()
    listener = bench.listener(TCP_NODELAY=1)
    for _ in range(2):
        Peer(bench).connect()
    changed, left = bench.accept_all(listener)
    bench.host.setsockopt(changed, "TCP_NODELAY", 0, bench.now)
    bench.host.setsockopt(listener, "SO_KEEPALIVE", 1)
    read = [bench.host.getsockopt(sock, "TCP_NODELAY") for sock in (changed, left, listener)]
    assert read == [0, 1, 1]
    assert bench.host.getsockopt(left, "SO_KEEPALIVE") == 0


def test_an_ack_that_waits_for_the_answer() -> None:
    """With TCP_QUICKACK 0 at a listener that listens; else it goes at once."""
    bench = Bench()
    listener = bench.listener(TCP_QUICKACK=0)
    assert bench.host.getsockopt(listener, "TCP_QUICKACK") == 1  # listen() forgets it
    peer = Peer(bench).connect()
    peer.got()
    peer.data(b"asked")
    assert peer.said() == ["ACK"]
    bench.host.setsockopt(listener, "TCP_QUICKACK", 0)
    peer = Peer(bench).connect()
    peer.got()
    peer.data(b"asked")
    assert peer.said() == []
    child = bench.accept_all(listener)[-1]
    assert bench.host.getsockopt(child, "TCP_QUICKACK") == 0
    bench.host.read(bench.now, child)
    bench.host.write(bench.now, child, b"answered")
    bench.collect()
    (answer,) = peer.got()
    assert (answer.ack, bytes(answer.payload)) == (peer.seq, b"answered")


def test_keepalive_as_it_is_by_itself() -> None:
    """After two hours, nine times, every 75 s; then a reset."""
    bench, peer, child = pair(SO_KEEPALIVE=1)
    peer.got()
    bench.wait(7199.0)
    assert peer.got() == []
    bench.wait(1.1)
    assert peer.said() == ["ACK"]
    bench.wait(8 * 75.0)
    assert peer.said() == ["ACK"] * 8
    bench.wait(75.0)
    assert peer.said() == ["RST ACK"]
    assert bench.host.getsockopt(child, "SO_ERROR") == 110
    assert bench.host.connections() == 0


def test_keepalive_that_is_turned_off_asks_nothing() -> None:
    """And leaves no timer behind."""
    bench, peer, child = pair(SO_KEEPALIVE=1, TCP_KEEPIDLE=1)
    peer.got()
    bench.host.setsockopt(child, "SO_KEEPALIVE", 0, bench.now)
    bench.wait(10.0)
    assert peer.got() == []
    assert bench.host.deadline() is None


def test_tcp_info_tells_of_the_round_trip_and_of_congestion() -> None:
    """What no story can compare, since it depends on the very time."""
    bench = Bench()
    listener = bench.listener()
    peer = Peer(bench)
    peer.syn()
    bench.wait(0.1)
    peer.final_ack()
    (child,) = bench.accept_all(listener)
    told = bench.host.tcp_info(child)
    assert told.rtt == pytest.approx(0.1)
    assert told.rto == pytest.approx(0.3)
    assert told.snd_cwnd == 10
    bench.host.write(bench.now, child, bytes(5 * 1448))
    bench.wait(1.0)
    told = bench.host.tcp_info(child)
    assert (told.snd_cwnd, told.snd_ssthresh, told.retransmits) == (1, 5, 1)
    assert (told.unacked, told.notsent_bytes) == (5, 0)
