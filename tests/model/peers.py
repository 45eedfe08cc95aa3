"""A client's side of a conversation with the model, one packet at a time, and a clock by hand."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from itertools import count

from segue.address import Address
from segue.errors import KernelError
from segue.model.connection import Connection
from segue.model.host import Host
from segue.model.listener import Listener
from segue.model.profile import LINUX, Profile
from segue.wire import ipv4, ipv6, options, tcp
from segue.wire.options import Options
from segue.wire.tcp import ACK, FIN, PSH, RST, SYN, Segment

SERVER, CLIENT = "10.77.0.2", "10.77.0.1"
SERVER6, CLIENT6 = "fd77::2", "fd77::1"
PORT = 80
OFFER = Options(mss=1460, window_scale=7, sack_permitted=True, stamps=(1000, 0))


@dataclass
class Bench:
    """A model, the time, and what it sent to whom."""

    profile: Profile = LINUX
    now: float = 100.0
    sent: dict[int, list[Segment]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.host = Host(SERVER, SERVER6, secret=b"0123456789abcdef", profile=self.profile)

    def listener(self, backlog: int = 8, *, v6: bool = False, **set_to: int) -> Listener:
        """One more at port 80, in the group of the others; the options by keyword."""
        made = self.host.socket()
        self.host.setsockopt(made, "SO_REUSEPORT", 1)
        for name, value in set_to.items():
            self.host.setsockopt(made, name, value)
        self.host.bind(made, Address(SERVER6 if v6 else SERVER, PORT))
        self.host.listen(made, backlog)
        return made

    def collect(self) -> None:
        """Sort what the model sent by the client's port."""
        for packet in self.host.take():
            carrier = ipv6.Packet(packet) if packet[0] >> 4 == 6 else ipv4.Packet(packet)
            segment = Segment(carrier.payload)
            self.sent.setdefault(segment.dport, []).append(segment)

    def wait(self, seconds: float) -> None:
        """Let time pass, with every timer at its instant."""
        until = self.now + seconds
        while (due := self.host.deadline()) is not None and due <= until:
            self.now = max(self.now, due)
            self.host.advance(self.now)
        self.now = until
        self.collect()

    def close(self, sock: Listener | Connection) -> None:
        self.host.close(self.now, sock)
        self.collect()

    def shutdown(self, sock: Listener | Connection) -> None:
        self.host.shutdown(self.now, sock)
        self.collect()

    def accept_all(self, listener: Listener) -> list[Connection]:
        """Until it would block."""
        found = []
        while True:
            try:
                found.append(self.host.accept(listener))
            except KernelError:
                return found

    def moved(self) -> tuple[int, int]:
        """TCPMigrateReqSuccess and TCPMigrateReqFailure."""
        counts = self.host.counts
        return counts["TCPMigrateReqSuccess"], counts["TCPMigrateReqFailure"]


_ports = count(40000)


class Peer:
    """One client connection; ``got`` is what came back since the last look."""

    def __init__(self, bench: Bench, *, v6: bool = False, offer: Options = OFFER) -> None:
        self.bench, self.port, self.v6, self.offer = bench, next(_ports), v6, offer
        self.seq, self.ack, self.stamp = 5000, 0, 1000

    def send(self, flags: int, payload: bytes = b"", **changed: int) -> None:
        """A segment with our present numbers, which stay as they are."""
        said = Options(stamps=(self.stamp, self.echo)) if self.offer.stamps else Options()
        self.raw(flags, payload, said, **changed)

    def raw(self, flags: int, payload: bytes, said: Options, **changed: int) -> None:
        pair = (CLIENT6, SERVER6) if self.v6 else (CLIENT, SERVER)
        addresses = b"".join(ipaddress.ip_address(one).packed for one in pair)
        ports = self.port.to_bytes(2, "big") + PORT.to_bytes(2, "big")
        seq, ack = changed.get("seq", self.seq), changed.get("ack", self.ack)
        window = changed.get("window", 500)
        segment = tcp.emit(
            addresses, ports, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, flags, window,
            options.emit(said), payload,
        )  # fmt: skip
        emit = ipv6.emit if self.v6 else ipv4.emit
        self.bench.host.receive(self.bench.now, emit(addresses, ipv4.TCP, segment))
        self.bench.collect()

    echo = 0

    def got(self) -> list[Segment]:
        """What came back since the last time."""
        found = self.bench.sent.pop(self.port, [])
        for one in found:
            stamps = options.parse(one.options).stamps
            if stamps:
                self.echo = stamps[0]
        return found

    def said(self) -> list[str]:
        """The same by the names of the flags."""
        return [str(one).split(" ", 3)[3].split(" seq")[0] for one in self.got()]

    def syn(self, payload: bytes = b"") -> Segment:
        """Begin; the answer, which must be one SYN-ACK."""
        self.raw(SYN, payload, self.offer, ack=0)
        (answer,) = self.got()
        assert answer.flags == SYN | ACK
        self.ack = (answer.seq + 1) & 0xFFFFFFFF
        self.seq = answer.ack
        return answer

    def final_ack(self) -> None:
        self.send(ACK)

    def connect(self) -> Peer:
        self.syn()
        self.final_ack()
        return self

    def data(self, payload: bytes) -> None:
        self.send(ACK | PSH, payload)
        self.seq += len(payload)

    def fin(self) -> None:
        self.send(ACK | FIN)
        self.seq += 1

    def rst(self) -> None:
        self.send(RST)
