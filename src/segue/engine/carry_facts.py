"""What is known before a connection is carried: of the host, the targets, the connection."""

from __future__ import annotations

import ipaddress
import math
import socket
from dataclasses import dataclass

from segue.bpf.btf import Btf
from segue.errors import KernelError, NotSupported
from segue.linux import conntrack, packet_sockets, sockopt, sysctl, tcp_queue, tcp_repair
from segue.observe.carrying import Held, Host, Outside, Target
from segue.wire import ipv4, ipv6, tcp
from segue.wire.options import aligned_stamps

_TYPES = "/sys/kernel/btf/vmlinux"
_MAPPED = bytes(10) + b"\xff\xff"
_WIDEST = 65_535
_LOOPBACK = 1  # the number of lo in every network namespace (LOOPBACK_IFINDEX)
_SETTINGS = {
    "syncookies": "net.ipv4.tcp_syncookies",
    "timestamps": "net.ipv4.tcp_timestamps",
    "sack": "net.ipv4.tcp_sack",
    "window_scaling": "net.ipv4.tcp_window_scaling",
}


@dataclass(frozen=True, slots=True)
class Pair:
    """The two ends as they are in a packet: the client's first."""

    addresses: bytes
    ports: bytes
    here: str

    @property
    def version(self) -> int:
        """Of IP: 4 or 6."""
        return 4 if len(self.addresses) == 8 else 6

    @property
    def ends(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """Ours and the client's, as the kernel lists them."""
        host = len(self.addresses) // 2
        peer = str(ipaddress.ip_address(self.addresses[:host]))
        theirs, ours = (int.from_bytes(self.ports[at : at + 2], "big") for at in (0, 2))
        return (self.here, ours), (peer, theirs)

    @classmethod
    def of(cls, connection: socket.socket) -> Pair:
        """Those of a connection, which its owner has accepted.  Raises KernelError."""
        try:
            peer, here = connection.getpeername(), connection.getsockname()
        except OSError as error:
            doing = "asking for the ends of a connection"
            raise KernelError("getpeername", error.errno or 0, doing) from error
        packed = [ipaddress.ip_address(end[0].partition("%")[0]).packed for end in (peer, here)]
        if packed[1].startswith(_MAPPED):  # IPv4 at a dual-stack listener
            packed = [one[12:] for one in packed]
        ports = b"".join(end[1].to_bytes(2, "big") for end in (peer, here))
        return cls(b"".join(packed), ports, str(ipaddress.ip_address(packed[1])))

    def packet(self, held: Held, payload: bytes, tos: int, echo: int = 0) -> bytes:
        """The client's last segment: what is unread, or an acknowledgement alone.

        ``echo`` is what it echoes of our clock, where the connection has timestamps: as long ago
        as a round trip takes (``echo``).  0 tells nothing.
        """
        window = min(_WIDEST, held.snd_wnd >> held.snd_wscale)
        flags = tcp.ACK | (tcp.PSH if payload else 0)
        segment = tcp.emit(
            self.addresses,
            self.ports,
            held.copied_seq,
            held.snd_nxt,
            flags,
            window,
            aligned_stamps(held.ts_recent, echo) if held.tstamp_ok and echo else b"",
            payload,
        )
        emit = ipv4.emit if self.version == 4 else ipv6.emit
        return emit(self.addresses, socket.IPPROTO_TCP, segment, tos=tos)


def echo(clock: int, round_trip: float) -> int:
    """The timestamp that came back just now, if a round trip still takes so many seconds; or 0.

    A connection that has measured nothing (0) asks again for a lost tail only after 1 s, and sends
    it again only after 3 s (RFC 6298, 5.7).  One that is made from a segment with a stamp measures
    by it (tcp_ack_update_rtt).  Its clock goes on from this one's, so it finds the same, in whole
    milliseconds, and up to a batch's time more.
    """
    return (clock - max(1, math.ceil(1000 * round_trip))) % (1 << 32) if round_trip else 0


def types() -> Btf:
    """The running kernel's.  Raises NotSupported."""
    try:
        with open(_TYPES, "rb") as file:
            return Btf(file.read())
    except OSError as error:
        raise NotSupported(
            "carrying connections",
            "a kernel that describes its own types (CONFIG_DEBUG_INFO_BTF)",
            f"{_TYPES} cannot be read ({error.strerror})",
        ) from None


def host() -> Host:
    """The settings of this network namespace.  Raises KernelError, NotSupported.

    A packet socket for one protocol may get a packet after IP has it, and IP then takes a copy
    (skb_share_check).  The copy has lost the request that the classifier gave to the packet.
    """
    taps = packet_sockets.read()
    return Host(
        **{name: int(sysctl.read(setting)) for name, setting in _SETTINGS.items()},
        tapped=any(one.takes(packet_sockets.IP, _LOOPBACK) for one in taps),
    )


def target(listener: socket.socket) -> Target:
    """A listener as one that a connection may come to."""
    queue, backlog = tcp_queue.accepting(listener)
    return Target(
        queue=queue,
        backlog=backlog,
        receive_buffer=listener.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
        bound=sockopt.bound(listener),
        plain=tcp_queue.plain(listener),
    )


def outside(connection: socket.socket) -> Outside:
    """What can be read of a connection by anybody who has it.  Raises KernelError."""
    try:
        original = conntrack.original_target(connection)
        return Outside(
            connected=tcp_repair.connected(connection),
            plain=tcp_queue.plain(connection),
            bound=sockopt.bound(connection),
            translated=original is not None and original != connection.getsockname()[:2],
        )
    except OSError as error:
        raise KernelError("getsockopt", error.errno or 0, "looking at a connection") from error
