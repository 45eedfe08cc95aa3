"""The whole model as one value: packets, calls and the time go in; packets and events come out.

No clock, socket, thread or chance is inside.  Whoever drives it hands packets to ``receive``, calls
to the methods named as system calls are, and the time to ``advance`` when ``deadline`` is reached;
after each of them it takes what ``take`` and ``events`` have.
"""

from __future__ import annotations

import ipaddress
from collections import Counter

from segue.address import Address
from segue.errors import WireError
from segue.model import (
    assigned,
    calls,
    complaints,
    handshake,
    info,
    picture,
    readiness,
    retransmission,
    segment_arrives,
    socket_options,
    stream,
    syn,
    time_wait,
)
from segue.model.arrival import Arrival, read
from segue.model.assigned import Attributes
from segue.model.connection import Connection
from segue.model.events import Event
from segue.model.group import Group
from segue.model.info import TcpInfo
from segue.model.listener import Listener
from segue.model.net import Chance, Net
from segue.model.picture import FlowPicture, ListenerPicture
from segue.model.profile import LINUX, Profile
from segue.model.program import Program
from segue.model.readiness import Ready
from segue.model.request import Request
from segue.model.sysctls import Sysctls
from segue.model.timing import EXACT, Timing
from segue.wire import icmp
from segue.wire.seq import Seq
from segue.wire.tcp import ACK, FIN, RST, SYN

_ANY = {4: bytes(4), 16: bytes(16)}


class Host:
    """A host that listens.  ``secret`` is all the chance there is: 16 to 32 bytes.

    ``now`` is in seconds since any instant, and never goes back.  A packet for an address that is
    not among ``addresses`` is dropped.  ``mtu`` is of the way to the clients, the largest packet.
    ``timing`` says when timers fire, at the very instant if it is not given.
    """

    def __init__(
        self,
        *addresses: str,
        secret: bytes,
        profile: Profile = LINUX,
        sysctls: Sysctls | None = None,
        mtu: int = 1500,
        timing: Timing = EXACT,
    ) -> None:
        self._addresses = {ipaddress.ip_address(one).packed for one in addresses}
        self._net = Net(profile, sysctls or Sysctls(), secret, mtu, timing)

    @property
    def sysctls(self) -> Sysctls:
        """May be changed at any time."""
        return self._net.sysctls

    @property
    def mtu(self) -> int:
        """The largest packet on the way to the clients; a change is for handshakes to come."""
        return self._net.mtu

    @mtu.setter
    def mtu(self, size: int) -> None:
        self._net.mtu = size

    @property
    def counts(self) -> Counter[str]:
        """Since the beginning, under the kernel's names (snmp.c) where it has one."""
        return self._net.counts

    def listener_picture(self, listener: Listener) -> ListenerPicture:
        """How it stands now: its queue, what refers to it, its slots."""
        return picture.of_listener(self._net, listener)

    def flow_pictures(self) -> tuple[FlowPicture, ...]:
        """All half-open requests and connections, in the order in which they began."""
        return picture.of_flows(self._net)

    def half_open(self) -> int:
        """How many requests wait for their final ACK."""
        return sum(isinstance(one, Request) for one in self._net.flows.values())

    def connections(self) -> int:
        """How many full sockets there are, TIME_WAIT included."""
        return len(self._net.flows) - self.half_open()

    # Packets and time.

    def receive(self, now: float, packet: bytes) -> None:
        """A packet arrives.  Whatever it is, nothing is raised; nonsense is counted."""
        net = self._net
        net.now = now
        try:
            arrival = read(packet)
        except WireError:
            self._no_segment(packet)
            return
        there = net.flows.get(arrival.flow)
        if there is None and arrival.path.local[0] not in self._addresses:
            net.counts["InAddrErrors"] += 1
            return
        net.counts["InSegs"] += 1
        reused: Seq | None = None
        if isinstance(there, Request):
            if handshake.arrived(net, there, arrival):
                return
        elif there is not None:
            if not there.waiting:
                segment_arrives.arrived(net, there, arrival)
                return
            reused = time_wait.arrived(net, there, arrival)
            if reused is None:
                return
        self._to_listener(arrival, reused)

    def _no_segment(self, packet: bytes) -> None:
        net = self._net
        told = icmp.read(packet)
        if told is None:
            net.counts["InErrs"] += 1
        else:
            complaints.arrived(net, told)

    def receive_assigned(self, now: float, packet: bytes, said: Attributes) -> None:
        """An ACK arrives, and makes a connection with these attributes: there was no handshake.

        The connection waits in the queue of the listener that the group selects, unless it is full.
        Where one with these addresses is there, or nobody listens, it is a packet as any other.
        """
        net = self._net
        net.now = now
        try:
            arrival = read(packet)
        except WireError:
            self.receive(now, packet)
            return
        listener, chance = self._selected(arrival)
        if listener is None or arrival.flow in net.flows:
            self.receive(now, packet)
        else:
            net.counts["InSegs"] += 1
            assigned.arrived(net, listener, arrival, said, chance.hash)

    def _to_listener(self, arrival: Arrival, reused: Seq | None) -> None:
        net = self._net
        listener, chance = self._selected(arrival)
        if listener is None:
            net.reset(arrival)
        elif arrival.flags & ACK:
            self._unexpected_ack(listener, arrival, chance)
        elif arrival.flags & (SYN | FIN | RST) == SYN:
            syn.arrived(net, listener, arrival, chance, reused)

    def _selected(self, arrival: Arrival) -> tuple[Listener | None, Chance]:
        """Who is asked about a segment that no connection has."""
        group = self._group(arrival)
        chance = self._net.chance(arrival.flow)
        return None if group is None else group.select(chance.hash, arrival), chance

    def _unexpected_ack(self, listener: Listener, arrival: Arrival, chance: Chance) -> None:
        if not handshake.with_cookie(self._net, listener, arrival, chance):
            self._net.reset(arrival)

    def _group(self, arrival: Arrival) -> Group | None:
        """Those that listen at this very address come before those that listen at any."""
        address, port = arrival.path.local
        groups = self._net.groups
        return groups.get((address, port)) or groups.get((_ANY[len(address)], port))

    def deadline(self) -> float | None:
        """When ``advance`` is to be called, at the latest; None: only input changes anything."""
        return self._net.timers.deadline()

    def advance(self, now: float) -> None:
        """Do all that is due."""
        net = self._net
        net.now = now
        while (owner := net.timers.pop(now)) is not None:
            if isinstance(owner, Request):
                handshake.timer(net, owner)
            else:
                retransmission.timer(net, owner)

    def take(self) -> list[bytes]:
        """The packets that go out, in order; they are the caller's from now on."""
        out, self._net.out = self._net.out, []
        return out

    def events(self) -> list[Event]:
        """What has happened since the last time, in order."""
        events, self._net.events = self._net.events, []
        return events

    # Calls on listeners.

    def socket(self, *, uid: int = 0) -> Listener:
        """A socket that can be made to listen."""
        return Listener(next(self._net.cookies), uid)

    def bind(self, listener: Listener, address: Address) -> None:
        """Raises KernelError: EADDRINUSE, EINVAL."""
        packed = ipaddress.ip_address(address.host).packed
        calls.bind(self._net, listener, (packed, address.port))

    def listen(self, listener: Listener, backlog: int) -> None:
        """Raises KernelError: EADDRINUSE, EINVAL."""
        calls.listen(self._net, listener, backlog)

    def attach(self, listener: Listener, program: Program | None) -> None:
        """Let a program decide for the listener's group, or None.  Raises KernelError."""
        calls.attach(self._net, listener, program)

    def accept(self, listener: Listener) -> Connection:
        """The oldest connection that waits.  Raises KernelError: EAGAIN, EINVAL."""
        return calls.accept(listener)

    # Calls on either.

    def setsockopt(
        self, sock: Listener | Connection, name: str, value: int, now: float | None = None
    ) -> None:
        """By the name of the option's constant; SO_LINGER's value is its seconds, -1 for off.

        What a connection was told may send something, so that it needs the time.  Raises
        KernelError.
        """
        if now is not None:
            self._net.now = now
        socket_options.set_to(self._net, sock, name, value)

    def getsockopt(self, sock: Listener | Connection, name: str) -> int:
        """By the name of the option's constant.  Raises KernelError."""
        return socket_options.get(self._net, sock, name)

    def set_fast_open_keys(self, listener: Listener, keys: bytes) -> None:
        """TCP_FASTOPEN_KEY: one key or two of 16 bytes.  Raises KernelError: EINVAL."""
        socket_options.set_fast_open_keys(listener, keys)

    def ready(self, sock: Listener | Connection) -> Ready:
        """What poll(2) says of it."""
        return readiness.of(self._net, sock)

    def tcp_info(self, sock: Listener | Connection) -> TcpInfo:
        """What getsockopt(TCP_INFO) tells."""
        return info.of(self._net, sock)

    def shutdown(
        self, now: float, sock: Listener | Connection, *, receive: bool = True, send: bool = True
    ) -> None:
        """Of a listener only ``receive`` counts (FACTS, sending-side).  Raises KernelError."""
        self._net.now = now
        if isinstance(sock, Connection):
            stream.shut(self._net, sock, receive=receive, send=send)
        elif receive:
            calls.shutdown(self._net, sock)

    def close(self, now: float, sock: Listener | Connection) -> None:
        """Twice is no error."""
        self._net.now = now
        if isinstance(sock, Connection):
            stream.close(self._net, sock)
        else:
            calls.close(self._net, sock)

    # Calls on connections.

    def attributes(self, now: float, connection: Connection) -> Attributes:
        """With which ``receive_assigned`` makes it again."""
        self._net.now = now
        return assigned.attributes(self._net, connection)

    def forget(self, now: float, connection: Connection) -> None:
        """Its peer hears nothing of that, and its program reads an end (TCP_REPAIR, and a
        disconnect).
        """
        self._net.now = now
        assigned.forget(self._net, connection)

    def read(self, now: float, connection: Connection, most: int = 65536) -> bytes:
        """Up to so many bytes; b"" at the end.  Raises KernelError: EAGAIN, ECONNRESET, ..."""
        self._net.now = now
        return stream.read(self._net, connection, most)

    def unread(self, connection: Connection) -> int:
        """Bytes that a read would give (SIOCINQ)."""
        return readiness.unread(connection)

    def unacknowledged(self, connection: Connection) -> int:
        """Bytes that the peer has not acknowledged (SIOCOUTQ)."""
        return len(connection.outgoing)

    def more(self, connection: Connection) -> int:
        """What TCP_INQ tells with a read."""
        return readiness.more(connection)

    def write(self, now: float, connection: Connection, data: bytes, *, more: bool = False) -> int:
        """How many bytes were taken; ``more`` is MSG_MORE.

        Raises KernelError: EAGAIN, EPIPE, ECONNRESET, ...
        """
        self._net.now = now
        return stream.write(self._net, connection, data, more=more)
