"""IPv4 TCP segments by hand, for a client at the far end of a TUN device."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

from segue.address import Address
from segue.linux.tun import Tun
from segue.wire import checksum

SYN, ACK, SYN_ACK = 0x02, 0x10, 0x12
ISS = 1000  # every client's first sequence number


def segment(source: Address, target: Address, seq: int, ack: int, flags: int) -> bytes:
    """A packet with a TCP header of twenty bytes and no data."""
    ends = socket.inet_aton(source.host) + socket.inet_aton(target.host)
    tcp = struct.pack("!HHIIBBHHH", source.port, target.port, seq, ack, 5 << 4, flags, 65535, 0, 0)
    tcp = tcp[:16] + struct.pack("!H", checksum.tcp(ends, tcp)) + tcp[18:]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, socket.IPPROTO_TCP, 0) + ends
    return head[:10] + struct.pack("!H", checksum.internet(head)) + head[12:] + tcp


def connect_all(tun: Tun, sources: Iterable[Address], target: Address) -> int:
    """Handshakes from all of these, to the end; how many SYNs were answered at once.

    A packet that is written has been dealt with, and answered, when write() returns.
    """
    answered = 0
    for source in sources:
        tun.write(segment(source, target, ISS, 0, SYN))
        while packet := tun.read():
            if packet[0] != 0x45 or packet[9] != socket.IPPROTO_TCP or packet[33] != SYN_ACK:
                continue
            (theirs,) = struct.unpack_from("!I", packet, 24)
            tun.write(segment(source, target, ISS + 1, theirs + 1, ACK))
            answered += 1
    return answered
