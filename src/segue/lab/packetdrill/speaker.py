"""The peer of a script: its segments with live numbers, and what it hears in the script's.

In segments with a SYN the script says where each side begins; in all others it counts from there.
Where the side under test begins is known once its SYN-ACK has come.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace

from segue.lab.packetdrill import options
from segue.lab.packetdrill.script import Option, Segment
from segue.lab.packetdrill.side import Sent
from segue.wire import icmp, ipv4, ipv6, tcp
from segue.wire.tcp import ACK, CWR, ECE, FIN, PSH, RST, SYN, URG

_MASK = 0xFFFFFFFF
_FIRST_PORT = 40000
SERVER_PORT = 8080
_WINDOW = 0xFFFF  # of a segment for which the script says none
_LETTERS = ((FIN, "F"), (SYN, "S"), (RST, "R"), (PSH, "P"), (URG, "U"), (ECE, "E"), (CWR, "W"))


@dataclass(frozen=True, slots=True)
class Heard:
    """A segment of the side under test, in the script's numbers, sent between ``since`` and ``at``.

    ``whole`` is whether it is one segment as it was sent, and not several in a row.
    """

    since: float
    at: float
    flags: int
    seq: int
    size: int
    ack: int
    window: int
    options: tuple[Option, ...]
    ecn: int
    whole: bool = True

    def __str__(self) -> str:
        end = (self.seq + self.size) & _MASK
        acked = f" ack {self.ack}" if self.flags & ACK else ""
        said = f" {options.tell(self.options)}" if self.options else ""
        ecn = ("", "[ect1] ", "[ect0] ", "[ce] ")[self.ecn]
        told = f"> {ecn}{flag_letters(self.flags)} {self.seq}:{end}({self.size}){acked}"
        return f"{told} win {self.window}{said}"


def flag_letters(flags: int) -> str:
    """As packetdrill writes them."""
    told = "".join(letter for bit, letter in _LETTERS if flags & bit)
    return (told + ("." if flags & ACK else "")) or "-"


class Speaker:
    """One connection at a time, each from a port of its own."""

    def __init__(self, peer: str, server: str) -> None:
        self._addresses = ipaddress.ip_address(peer).packed + ipaddress.ip_address(server).packed
        self._port = _FIRST_PORT - 1
        self._ours = 0  # where we begin
        self._theirs = 0  # where the other side begins
        self._theirs_told = 0  # the same in the script
        self._said_synack = False
        self._stamps: dict[int, int] = {}  # of the other side: the script's, and the live one
        self._fresh = True

    def listens(self) -> None:
        """The next segment begins a new connection."""
        self._fresh = True

    @property
    def is_ipv6(self) -> bool:
        """By its addresses."""
        return len(self._addresses) == 32

    @property
    def _ports(self) -> bytes:
        return self._port.to_bytes(2, "big") + SERVER_PORT.to_bytes(2, "big")

    def says(self, segment: Segment) -> bytes:
        """The packet.  Raises KeyError when it echoes a stamp that nobody sent."""
        if self._fresh:
            self._fresh, self._said_synack = False, False
            self._port += 1
            self._theirs = self._theirs_told = 0
            self._ours = segment.seq if segment.flags & SYN else 0
            self._stamps = {}
        said = tuple(self._live(one, segment) for one in segment.options or ())
        syn = segment.flags & SYN
        seq = segment.seq if syn else segment.seq + self._ours
        ack = (segment.ack or 0) + self._theirs - (self._theirs_told if syn else 0)
        ack = ack if segment.flags & ACK else 0
        ports = self._ports
        if segment.ports is not None:
            ports = b"".join(port.to_bytes(2, "big") for port in segment.ports)
        made = tcp.emit(
            self._addresses, ports, seq & _MASK, ack & _MASK, segment.flags,
            _WINDOW if segment.window is None else segment.window, options.emit(said),
            bytes(segment.size),
        )  # fmt: skip
        emit = ipv4.emit if len(self._addresses) == 8 else ipv6.emit
        return emit(self._addresses, ipv4.TCP, made, tos=segment.ecn or 0)

    def _live(self, option: Option, segment: Segment) -> Option:
        if option.name == "sack":
            edges = tuple((edge + self._theirs) & _MASK for edge in option.numbers)
            return Option("sack", edges)
        if option.name == "TS" and segment.flags & ACK:
            value, echo = option.numbers
            return Option("TS", (value, self._echo(echo)))
        return option

    def _echo(self, echo: int) -> int:
        if echo in self._stamps:
            return self._stamps[echo]
        if not self._stamps:
            raise KeyError(echo)
        # As if the other side's clock had gone on as the script's does.
        first, live = next(iter(self._stamps.items()))
        return (live + echo - first) & _MASK

    def hears(self, sent: Sent) -> Heard | None:
        """None when it is for another connection, or no TCP."""
        found = tcp.segment_in(sent.packet)
        if found is None or found.dport != self._port or found.sport != SERVER_PORT:
            return None
        return Heard(
            sent.since, sent.at, found.flags, found.seq, len(found.payload), found.ack,
            found.window,
            options.parse(bytes(found.options)), _ecn(sent.packet),
        )  # fmt: skip

    def scripted(self, heard: Heard, expected: Segment) -> Heard:
        """In the script's numbers, which begin with the first SYN-ACK."""
        if heard.flags & SYN and not self._said_synack:
            self._said_synack = True
            self._theirs, self._theirs_told = heard.seq, expected.seq
        syn = heard.flags & SYN
        bare = heard.flags & RST and not heard.seq  # it answers what had no number of theirs
        seq = heard.seq if bare else heard.seq - self._theirs + (self._theirs_told if syn else 0)
        said = tuple(self._scripted(one, expected) for one in heard.options)
        ack = heard.ack - (0 if syn else self._ours) if heard.flags & ACK else 0
        return replace(heard, seq=seq & _MASK, ack=ack & _MASK, options=said)

    def _scripted(self, option: Option, expected: Segment) -> Option:
        if option.name == "sack":
            return Option("sack", tuple((edge - self._ours) & _MASK for edge in option.numbers))
        if option.name != "TS" or len(option.numbers) != 2:
            return option
        value, echo = option.numbers
        first = next(iter(self._stamps.items()), None)
        for one in expected.options or ():
            if one.name == "TS":
                self._stamps.setdefault(one.numbers[0], value)
                first = first or (one.numbers[0], value)
        if first is None:
            return option
        return Option("TS", ((value - first[1] + first[0]) & _MASK, echo))

    def complains(self, kind: int, code: int, rest: int, seq: int, size: int) -> bytes:
        """An ICMP message about a segment of the other side, from its peer's address."""
        ports = self._ports[2:] + self._ports[:2]
        live = (seq + self._theirs) & _MASK
        return icmp.about(self._addresses, ports, kind, code, rest, live, size)


def _ecn(packet: bytes) -> int:
    return (packet[1] >> 4 if packet[0] >> 4 == 6 else packet[1]) & 3


def joined(first: Heard, second: Heard) -> Heard | None:
    """Two that follow one another as one; None where they do not."""
    follows = (first.seq + first.size) & _MASK == second.seq and not first.flags & (SYN | FIN | RST)
    alike = (first.flags ^ second.flags) & ~(PSH | FIN) == 0
    if not (follows and alike and first.size and second.size):
        return None
    return replace(
        second, since=first.since, seq=first.seq, size=first.size + second.size, whole=False
    )
