"""A connection without a handshake, and one that is forgotten without a word: the two of a carry.

That both are as on Linux, ``segue.lab.carry_stories`` tells; here is what no story can say.
"""

from __future__ import annotations

import pytest
from tests.model.peers import CLIENT, PORT, SERVER, Bench

from segue.address import Address
from segue.errors import KernelError
from segue.model.assigned import Attributes
from segue.model.client import Client
from segue.wire import options, tcp
from segue.wire.tcp import ACK, PSH

SAID = Attributes(
    mss=1000, scale_in=3, scale_out=2, scaling=True, sack=True, stamps=True,
    peer_stamp=900, own_stamp=123_456,
)  # fmt: skip
NEXT = 5000  # our number


def client(number: int = 0) -> Client:
    return Client(Address(CLIENT, 40_000 + number), Address(SERVER, PORT))


def segment(one: Client, data: bytes = b"") -> bytes:
    """With numbers of which nobody has heard."""
    one.claim = NEXT
    return one.segment(ACK | PSH, data)


def test_it_goes_on_with_what_is_said_to_be_agreed() -> None:
    """Numbers, clocks, sizes and scales; and what the segment brings is read."""
    bench = Bench()
    listener = bench.listener()
    bench.host.receive_assigned(bench.now, segment(client(), b"POST"), SAID)
    child = bench.host.accept(listener)
    assert bench.host.read(bench.now, child) == b"POST"
    assert bench.host.attributes(bench.now, child) == Attributes(
        mss=1000, scale_in=3, scale_out=2, scaling=True, sack=True, stamps=True,
        peer_stamp=1000, own_stamp=123_456,
    )  # fmt: skip
    bench.host.take()
    bench.host.write(bench.now, child, b"x" * 989)
    first, second = (tcp.segment_in(one) for one in bench.host.take())
    assert first is not None
    assert second is not None
    assert (first.seq, len(first.payload), len(second.payload)) == (NEXT, 988, 1)
    assert options.parse(first.options).stamps == (123_456, 1000)


def test_it_finds_no_room() -> None:
    """Dropped and counted; the same segment makes it once there is room."""
    bench = Bench()
    listener = bench.listener(backlog=0)
    one, other = client(), client(1)
    bench.host.receive_assigned(bench.now, segment(one), SAID)
    late = segment(other)
    bench.host.receive_assigned(bench.now, late, SAID)
    assert bench.host.counts["ListenOverflows"] == bench.host.counts["ListenDrops"] == 1
    bench.host.accept(listener)
    assert bench.host.connections() == 1
    bench.host.receive_assigned(bench.now, late, SAID)
    assert bench.host.connections() == 2
    assert not bench.host.take()


def test_it_finds_nobody_or_somebody() -> None:
    """Without a listener it is reset; where its addresses are a connection's it is that one's."""
    bench = Bench()
    one = client()
    bench.host.receive_assigned(bench.now, segment(one), SAID)
    (reset,) = bench.host.take()
    assert tcp.segment_in(reset)
    listener = bench.listener()
    bench.host.receive_assigned(bench.now, segment(one), SAID)
    bench.host.receive_assigned(bench.now, segment(one, b"POST"), SAID)
    assert bench.host.connections() == 1
    assert bench.host.read(bench.now, bench.host.accept(listener)) == b"POST"
    before = bench.host.counts["InErrs"]
    bench.host.receive_assigned(bench.now, b"no packet", SAID)
    assert bench.host.counts["InErrs"] == before + 1


def test_what_is_forgotten_says_nothing() -> None:
    """Its program reads an end, whatever waited, and its timers are over."""
    bench = Bench()
    listener = bench.listener()
    bench.host.receive_assigned(bench.now, segment(client(), b"POST"), SAID)
    child = bench.host.accept(listener)
    bench.host.write(bench.now, child, b"answer")
    bench.host.take()
    bench.host.forget(bench.now, child)
    assert bench.host.read(bench.now, child) == b""
    with pytest.raises(KernelError, match="Broken pipe"):
        bench.host.write(bench.now, child, b"more")
    bench.host.close(bench.now, child)
    assert bench.host.deadline() is None
    assert bench.host.connections() == 0
    assert not bench.host.take()
