"""Connections that carry data: order, loss, ends of every kind, and nonsense."""

from __future__ import annotations

import ipaddress
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.model.peers import CLIENT, PORT, SERVER, Bench, Peer

from segue.errors import IllegalInput, KernelError
from segue.model.connection import Connection
from segue.model.states import TRANSITIONS, Input, State, after
from segue.wire import ipv4, options, tcp
from segue.wire.tcp import ACK, FIN, PSH, RST, SYN, URG


def stands(connection: Connection) -> State:
    return connection.state


def pair() -> tuple[Bench, Peer, Connection]:
    bench = Bench()
    listener = bench.listener()
    peer = Peer(bench).connect()
    (child,) = bench.accept_all(listener)
    peer.got()
    return bench, peer, child


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("given_input", Input)
def test_every_state_and_input_is_decided_by_the_table(state: State, given_input: Input) -> None:
    """A pair with a row follows it, a pair without one raises."""
    if (state, given_input) in TRANSITIONS:
        assert after(state, given_input) is TRANSITIONS[state, given_input]
    else:
        with pytest.raises(IllegalInput, match=given_input.name):
            after(state, given_input)


def test_data_in_any_order_is_read_in_order() -> None:
    """The gaps are told in SACK blocks, the latest first (RFC 2018)."""
    bench, peer, child = pair()
    base = peer.seq
    peer.send(ACK | PSH, b"cc", seq=base + 4)
    (told,) = peer.got()
    assert told.ack == base
    assert options.parse(told.options).sack == ((base + 4, base + 6),)
    peer.send(ACK | PSH, b"ee", seq=base + 8)
    (told,) = peer.got()
    assert options.parse(told.options).sack == ((base + 8, base + 10), (base + 4, base + 6))
    peer.send(ACK | PSH, b"aabbccdd")
    bench.wait(0.1)
    assert peer.got()[-1].ack == base + 10
    assert bench.host.read(bench.now, child) == b"aabbccddee"


def test_an_early_fin_is_told_with_the_data_before_it() -> None:
    """As one range, one number longer than the data."""
    bench, peer, child = pair()
    base = peer.seq
    peer.send(ACK | FIN, b"def", seq=base + 3)
    (told,) = peer.got()
    assert options.parse(told.options).sack == ((base + 3, base + 7),)
    peer.send(ACK | PSH, b"abc")
    assert bench.host.read(bench.now, child) == b"abcdef"
    assert bench.host.read(bench.now, child) == b""


@given(st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_any_cut_order_and_repetition_gives_the_same_bytes(chance: random.Random) -> None:
    """Segments overlap, come twice and upside down; the program reads what was sent."""
    bench, peer, child = pair()
    data = bytes(chance.randrange(256) for _ in range(200))
    base = peer.seq
    cuts = [(at, at + chance.randrange(1, 30)) for at in range(0, 200, 10)] * 2
    chance.shuffle(cuts)
    for start, end in [*cuts, (0, 200)]:
        peer.send(ACK | PSH, data[start:end], seq=base + start)
    assert bench.host.read(bench.now, child) == data
    assert child.early == []


def test_what_is_written_is_sent_and_sent_again() -> None:
    """After 0.2 s, and then after ever longer; an acknowledgement ends it."""
    bench, peer, child = pair()
    bench.host.write(bench.now, child, b"hello")
    bench.collect()
    (first,) = peer.got()
    assert (first.flags, bytes(first.payload)) == (ACK | PSH, b"hello")
    bench.wait(1.5)
    again = peer.got()
    assert 2 <= len(again) <= 5
    assert {(one.seq, bytes(one.payload)) for one in again} == {(first.seq, b"hello")}
    peer.ack = first.seq + 5
    peer.send(ACK)
    bench.wait(5.0)
    assert peer.got() == []
    assert not child.outgoing


def test_much_data_goes_out_as_it_is_acknowledged() -> None:
    """No more than the peer's window and ten segments at first; all in the end, in order."""
    bench, peer, child = pair()
    data = random.Random(1).randbytes(300_000)
    assert bench.host.write(bench.now, child, data) == len(data)
    bench.collect()
    got = bytearray()
    rounds = 0
    while len(got) < len(data):
        segments = peer.got()
        assert segments, "the model stopped sending"
        assert rounds or len(segments) == 10
        got += b"".join(bytes(one.payload) for one in segments)
        peer.ack = segments[-1].seq + len(segments[-1].payload)
        peer.send(ACK)
        rounds += 1
    assert bytes(got) == data


def test_a_shut_window_is_asked_about() -> None:
    """By a segment before the window, until it opens (RFC 9293, 3.8.6.1)."""
    bench, peer, child = pair()
    peer.send(ACK, window=0)
    bench.host.write(bench.now, child, b"later")
    bench.wait(1.0)
    asked = peer.got()
    assert asked
    assert {(one.seq, len(one.payload)) for one in asked} == {(peer.ack - 1, 0)}
    peer.send(ACK)
    assert [bytes(one.payload) for one in peer.got()] == [b"later"]


def test_the_server_ends_first() -> None:
    """FIN_WAIT1, FIN_WAIT2, TIME_WAIT for a minute, and nothing."""
    bench, peer, child = pair()
    bench.close(child)
    assert peer.said() == ["FIN ACK"]
    assert stands(child) is State.FIN_WAIT1
    peer.ack += 1
    peer.send(ACK)
    assert stands(child) is State.FIN_WAIT2
    peer.fin()
    assert peer.said() == ["ACK"]
    assert stands(child) is State.TIME_WAIT
    bench.wait(59.0)
    assert bench.host.connections() == 1
    bench.wait(2.0)
    assert bench.host.connections() == 0


def test_the_client_ends_first() -> None:
    """CLOSE_WAIT, LAST_ACK, and nothing; the program reads the end."""
    bench, peer, child = pair()
    peer.fin()
    bench.wait(0.1)
    assert peer.said() == ["ACK"]
    assert bench.host.read(bench.now, child) == b""
    bench.close(child)
    assert peer.said() == ["FIN ACK"]
    assert stands(child) is State.LAST_ACK
    peer.ack += 1
    peer.send(ACK)
    assert bench.host.connections() == 0


def test_both_end_at_once() -> None:
    """CLOSING, then TIME_WAIT."""
    bench, peer, child = pair()
    bench.close(child)
    peer.got()
    peer.fin()
    assert stands(child) is State.CLOSING
    peer.ack += 1
    peer.send(ACK)
    assert stands(child) is State.TIME_WAIT


def test_a_new_connection_may_follow_at_once() -> None:
    """A SYN with later numbers ends a TIME_WAIT of the same flow."""
    bench, peer, child = pair()
    bench.close(child)
    peer.got()
    peer.ack += 1
    peer.fin()
    assert stands(child) is State.TIME_WAIT
    peer.got()
    peer.seq += 100_000
    peer.connect()
    assert bench.host.connections() == 1


def test_closing_over_unread_data_resets() -> None:
    """RFC 2525, 2.17: the peer must not believe that somebody has it."""
    bench, peer, child = pair()
    peer.data(b"unread")
    peer.got()
    bench.close(child)
    assert peer.said() == ["RST ACK"]
    assert bench.host.connections() == 0


def test_only_the_exact_reset_is_believed() -> None:
    """RFC 5961, 3.2: another in the window is asked about, one outside is nothing."""
    bench, peer, child = pair()
    peer.send(RST, seq=peer.seq + 10)
    assert peer.said() == ["ACK"]
    peer.send(RST, seq=peer.seq - 100)
    assert peer.said() == []
    assert stands(child) is State.ESTABLISHED
    peer.rst()
    with pytest.raises(KernelError, match="ECONNRESET"):
        bench.host.read(bench.now, child)


@pytest.mark.parametrize(("flags", "answer"), [(SYN, "RST ACK"), (ACK, "RST"), (RST, None)])
def test_a_segment_for_nobody_is_reset(flags: int, answer: str | None) -> None:
    """With the number it acknowledges, or an acknowledgement of its own; a reset gets none."""
    bench = Bench()
    peer = Peer(bench)
    peer.send(flags)
    assert peer.said() == ([answer] if answer else [])


def test_a_syn_ack_is_repeated_five_times() -> None:
    """After 1, 2, 4, 8 and 16 seconds; then the request is forgotten."""
    bench = Bench()
    bench.listener()
    peer = Peer(bench)
    peer.syn()
    for after_s in (1, 2, 4, 8, 16):
        bench.wait(after_s - 0.1)
        assert peer.said() == []
        bench.wait(0.1)
        assert peer.said() == ["SYN ACK"]
    bench.wait(31.0)
    assert bench.host.half_open() == 1
    bench.wait(2.0)
    assert bench.host.half_open() == 0
    assert bench.host.deadline() is None


FLAGS = (0, SYN, ACK, RST, FIN, SYN | ACK, ACK | PSH, ACK | FIN, ACK | URG, SYN | FIN, 0xFF)
SEGMENT = st.tuples(
    st.sampled_from(FLAGS),
    st.integers(-70_000, 70_000),
    st.integers(-70_000, 70_000),
    st.binary(max_size=40),
    st.binary(max_size=10).map(lambda data: data * 4),
    st.floats(0, 70),
)


@given(st.lists(SEGMENT, max_size=30), st.lists(st.binary(max_size=90), max_size=5))
@settings(max_examples=200, deadline=None)
def test_nonsense_raises_nothing_and_leaves_nothing(
    segments: list[tuple[int, int, int, bytes, bytes, float]], rubbish: list[bytes]
) -> None:
    """Any segments, near and far from the window, and any bytes; in the end all is forgotten."""
    bench, peer, child = pair()
    port = peer.port
    for data in rubbish:
        bench.host.receive(bench.now, data)
    for flags, seq, ack, payload, said, pause in segments:
        peer.port = port if seq & 1 else port + 1
        raw(bench, peer, flags, (peer.seq + seq, peer.ack + ack), payload, said)
        assert len(child.incoming) + sum(len(one) for _, one in child.early) <= 1 << 16
        bench.wait(pause)
    bench.close(child)
    bench.wait(4000)
    bench.host.events()
    assert bench.host.half_open() == 0
    assert len(bench.host._net.timers) <= 64


def raw(
    bench: Bench, peer: Peer, flags: int, numbers: tuple[int, int], payload: bytes, said: bytes
) -> None:
    """A segment with any bytes for options, and the right checksum."""
    addresses = b"".join(ipaddress.ip_address(one).packed for one in (CLIENT, SERVER))
    ports = peer.port.to_bytes(2, "big") + PORT.to_bytes(2, "big")
    seq, ack = (number & 0xFFFFFFFF for number in numbers)
    segment = tcp.emit(addresses, ports, seq, ack, flags, 500, said, payload)
    bench.host.receive(bench.now, ipv4.emit(addresses, ipv4.TCP, segment))
    bench.collect()
