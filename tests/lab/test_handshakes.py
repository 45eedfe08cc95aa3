"""Which packets are a handshake's, by packets that a kernel sent."""

from __future__ import annotations

import pytest
from tests.lab.handshakes import AfterSyn, is_syn_ack
from tests.wire import packets


def other_port(packet: bytes) -> bytes:
    """The same from another connection."""
    return packet[:20] + b"\xaf\x09" + packet[22:]


def test_all_after_a_syn_matches() -> None:
    """The final ACK, the data that would do its work, and both again; a repeated SYN does not."""
    after = AfterSyn()
    assert not after(packets.SYN)
    assert not after(packets.SYN)
    assert after(packets.FINAL_ACK)
    assert after(packets.HELLO)
    assert after(packets.FINAL_ACK)


def test_other_connections_pass() -> None:
    """One whose SYN was not seen, the other direction, and what is no TCP."""
    after = AfterSyn()
    assert not after(packets.FINAL_ACK)
    assert not after(packets.SYN)
    assert not after(other_port(packets.HELLO))
    assert not after(packets.SERVERS_FIN)
    assert not after(packets.UDP)


@pytest.mark.parametrize(
    ("packet", "is_one"),
    [
        (packets.SYN, False),
        (packets.SYN_ACK, True),
        (packets.FINAL_ACK, False),
        (packets.UDP, False),
    ],
)
def test_the_second_of_a_handshake(packet: bytes, is_one: bool) -> None:
    """It is told from the first, the third and the rest."""
    assert is_syn_ack(packet) is is_one
