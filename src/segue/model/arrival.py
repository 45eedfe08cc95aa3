"""A packet that arrived, as far as TCP uses it; and the way back to its sender."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from segue.errors import WireError
from segue.wire import ipv4, ipv6, options, tcp
from segue.wire.options import Options
from segue.wire.seq import Seq, add
from segue.wire.tcp import FIN, PSH, SYN, URG

_COUNTED = SYN | FIN
_PORTS = 4  # bytes of both


class Path(NamedTuple):
    """From us to the peer: addresses and ports as bytes, ours first."""

    addresses: bytes
    ports: bytes

    @property
    def is_ipv6(self) -> bool:
        """The addresses are of 16 bytes each."""
        return len(self.addresses) == 32

    @property
    def local(self) -> tuple[bytes, int]:
        """Our address and port."""
        half = len(self.addresses) // 2
        return self.addresses[:half], int.from_bytes(self.ports[:2], "big")

    @property
    def remote(self) -> tuple[bytes, int]:
        """The peer's address and port."""
        half = len(self.addresses) // 2
        return self.addresses[half:], int.from_bytes(self.ports[2:], "big")

    def packet(
        self,
        seq: int,
        ack: int,
        flags: int,
        window: int,
        said: bytes = b"",
        payload: bytes = b"",
        identification: int = 0,
        tos: int = 0,
    ) -> bytes:
        """A packet to the peer; ``said`` are options."""
        segment = tcp.emit(self.addresses, self.ports, seq, ack, flags, window, said, payload)
        if len(self.addresses) == 32:
            return ipv6.emit(self.addresses, ipv4.TCP, segment, tos=tos)
        return ipv4.emit(self.addresses, ipv4.TCP, segment, identification=identification, tos=tos)


@dataclass(slots=True)
class Arrival:
    """A segment whose checksum agrees.  ``flow`` names the connection it is for.

    ``length`` is of the sequence space that it takes, of which SYN and FIN count one each; ``end``
    is the number after its last.
    """

    packet: bytes
    flow: bytes
    seq: Seq
    ack: Seq
    flags: int
    window: int
    raw_options: bytes
    payload: bytes
    length: int
    end: Seq
    options: Options  # what the raw ones say
    _path: Path | None = field(default=None)

    @property
    def path(self) -> Path:
        """The way back, made when first asked for, since a connection has its own."""
        if self._path is None:
            addresses, ports = self.flow[:-_PORTS], self.flow[-_PORTS:]
            half = len(addresses) // 2
            self._path = Path(addresses[half:] + addresses[:half], ports[2:] + ports[:2])
        return self._path

    @property
    def is_ipv6(self) -> bool:
        """The packet is of IPv6."""
        return self.packet[0] >> 4 == 6

    @property
    def size(self) -> int:
        """Of the segment, with its header."""
        return len(self.packet) - (40 if self.is_ipv6 else 4 * (self.packet[0] & 0xF))

    @property
    def ecn(self) -> int:
        """The two bits of its IP header about congestion (RFC 3168, 5)."""
        return (self.packet[1] >> 4 if self.is_ipv6 else self.packet[1]) & 3

    @property
    def pushes(self) -> bool:
        """The sender has nothing more at the moment."""
        return bool(self.flags & PSH)

    @property
    def ends(self) -> bool:
        """It says that it is the end of something, and so may be small (TCP_REMNANT)."""
        return bool(self.flags & (SYN | FIN | PSH | URG))


def read(packet: bytes) -> Arrival:
    """The segment in a packet.

    Raises WireError for what is no whole TCP segment in IPv4 or IPv6, or has a wrong checksum.
    """
    if packet and packet[0] >> 4 == 6:
        addresses, protocol, body = ipv6.parse(packet)
    else:
        addresses, protocol, body = ipv4.parse(packet)
    if protocol != ipv4.TCP:
        raise WireError("IP packet", f"protocol {protocol} is not TCP", packet)
    ports, seq, ack, flags, window, said, payload = tcp.parse(addresses, body)
    length = len(payload)
    if flags & _COUNTED:
        length += bool(flags & SYN) + bool(flags & FIN)
    return Arrival(
        packet,
        addresses + ports,
        seq,
        ack,
        flags,
        window,
        said,
        payload,
        length,
        add(seq, length),
        options.parse(said),
    )
