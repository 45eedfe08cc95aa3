"""A packet that was kept while its connection was carried, as it may be sent again."""

from __future__ import annotations

import ipaddress

import pytest

from segue.engine.carry_back import packet
from segue.wire import ipv4, ipv6, tcp

PORTS = (4000).to_bytes(2, "big") + (8080).to_bytes(2, "big")
FOUR = b"".join(ipaddress.ip_address(one).packed for one in ("10.9.0.2", "10.9.0.1"))
SIX = b"".join(ipaddress.ip_address(one).packed for one in ("fd09::2", "fd09::1"))
_CHECKSUM = slice(16, 18)


def made(addresses: bytes, checksum: bytes | None = None, payload: bytes = b"two") -> bytes:
    """A packet, with another checksum if one is given."""
    segment = bytearray(tcp.emit(addresses, PORTS, 1, 2, tcp.ACK, 100, b"", payload))
    if checksum is not None:
        segment[_CHECKSUM] = checksum
    emit = ipv4.emit if len(addresses) == 8 else ipv6.emit
    return emit(addresses, ipv4.TCP, bytes(segment))


def kept(whole: bytes) -> bytes:
    """As the filter keeps it: its length, itself, and what was there before."""
    size = 20 if whole[0] >> 4 == 4 else 40
    segment = whole[size:]
    return len(segment).to_bytes(8, "little") + whole[:size].ljust(40, b"-") + segment + b"rest"


def begun(addresses: bytes, size: int) -> bytes:
    """The sum of the pseudo-header, as Linux leaves it to an interface (tcp_v4_send_check)."""
    data = addresses + bytes((0, ipv4.TCP)) + size.to_bytes(2, "big")
    total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total.to_bytes(2, "big")


@pytest.mark.parametrize("payload", [b"", b"two", b"four"])
@pytest.mark.parametrize(("addresses", "target"), [(FOUR, "10.9.0.1"), (SIX, "fd09::1")])
def test_it_is_sent_as_it_came(addresses: bytes, target: str, payload: bytes) -> None:
    """With the checksum of its client, or with the one that was to come."""
    whole = made(addresses, payload=payload)
    assert packet(kept(whole)) == (whole, target)
    to_come = made(addresses, begun(addresses, tcp.SHORTEST + len(payload)), payload)
    assert packet(kept(to_come)) == (whole, target)


@pytest.mark.parametrize("addresses", [FOUR, SIX])
def test_what_came_damaged_is_not_made_whole(addresses: bytes) -> None:
    """Its client sends it again."""
    assert packet(kept(made(addresses, b"\1\2"))) is None
