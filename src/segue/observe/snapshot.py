"""One look at a group: its listeners, half-open requests and connections, as values."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import TypeVar

from segue.address import Address
from segue.group import Connection, Group, Listener
from segue.linux import proc
from segue.linux.closing import Closing
from segue.linux.sock_diag import Connected, Entry, SockDiag, State

# Before accept() a child can be in no other state: these with inode 0 have no owner any more, and
# the kernel finishes them alone.
_CLOSED = {State.FIN_WAIT1, State.FIN_WAIT2, State.CLOSING}
_HALF_CLOSED = {State.CLOSE_WAIT, State.LAST_ACK, State.CLOSING}
_Seen = TypeVar("_Seen", Entry, Connected)


class Part(Enum):
    """What a look can include besides the listeners; it costs more, the more of it there is."""

    OWNERS = auto()  # the processes that have each socket, of all on this host: milliseconds
    REQUESTS = auto()  # half-open requests: a dump by port
    CONNECTIONS = auto()  # full sockets with their idle times, queued or accepted: a dump by port


class Observer(Closing):
    """Looks at groups of the network namespace that it was made in; owns a SockDiag.

    Every method raises KernelError when the kernel refuses.
    """

    def __init__(self) -> None:
        self.diag = SockDiag()

    def snapshot(
        self,
        address: Address,
        *parts: Part,
        pids: frozenset[int] = frozenset(),
    ) -> Group:
        """The group at exactly this address; a wildcard's is another than a host's.

        ``parts`` are added to the listeners.  If ``pids`` are given, owners are looked for among
        these processes only, without Part.OWNERS.

        Things are looked at in the order in which a connection goes through them, so that one
        that moves on meanwhile is seen twice rather than not at all.
        """
        wanted = _Match(address)
        half_open: list[Entry] = []
        full: list[Connected] = []
        if Part.REQUESTS in parts:
            half_open = wanted.local(self.diag.half_open(address.port, address.family))
        listening = wanted.listeners(self.diag.listeners(address.port, address.family))
        if Part.CONNECTIONS in parts:
            full = wanted.local(self.diag.connections(address.port, address.family))
        inodes = {one.inode for one in listening} | {one.inode for one in full}
        inodes.discard(0)
        whose = _owners(inodes, pids, everywhere=Part.OWNERS in parts and not pids)
        return Group(
            address,
            tuple(_listener(one, address, whose) for one in listening),
            frozenset(one.cookie for one in half_open),
            tuple(_connection(one) for one in full if one.inode or one.state not in _CLOSED),
            {inode: holders[0] for inode, holders in whose.items()},
        )

    def serving(self, address: Address) -> Address:
        """The address at which those listen who serve this one: mostly the very same.

        If no process listens there, but one does with an IPv6 socket that takes what comes to this
        IPv4 address, it is that socket's.
        """
        there = address.in_ipv6
        if there is None:
            return address
        return serving(
            address,
            self.diag.listeners(address.port, address.family),
            self.diag.listeners(there.port, there.family),
        )

    def reached(self, address: Address) -> Address | None:
        """Where those listen who get what comes to this host and port; None if none do."""
        port = address.port
        ipv4 = self.diag.listeners(port, socket.AF_INET) if address.in_ipv6 else []
        return reached(address, ipv4, self.diag.listeners(port, socket.AF_INET6))

    def again(self, those: Sequence[Connection]) -> list[Connection | None]:
        """The same connections as they are now, None for one that is no more: look-ups."""
        seen = self.diag.each([(one.family, one.local, one.peer, one.interface) for one in those])
        return [
            None if found is None or found.cookie != one.cookie else _connection(found)
            for one, found in zip(those, seen, strict=True)
        ]

    def overlapping(self, address: Address) -> list[Address]:
        """Other addresses of the same port, listened at, to which its connections could go.

        A host's and the wildcard's, and an IPv6 wildcard that takes IPv4 too.
        """
        hosts = {
            entry.host
            for family in (socket.AF_INET, socket.AF_INET6)
            for entry in self.diag.listeners(address.port, family)
            # A dual-stack wildcard gets what comes by IPv4 too.
            if family == address.family or (entry.host == "::" and not entry.v6only)
        }
        others = [Address(host, address.port) for host in sorted(hosts)]
        return [one for one in others if one != address and (one.wildcard or address.wildcard)]

    def everywhere(self) -> list[tuple[int, int, Address, bool]]:
        """Inode, cookie and address of every TCP listener in this network namespace.

        And whether it is at an address of IPv6 and takes no IPv4 (IPV6_V6ONLY).
        """
        return [
            (entry.inode, entry.cookie, Address(entry.host, entry.port), bool(entry.v6only))
            for family in (socket.AF_INET, socket.AF_INET6)
            for entry in self.diag.listeners(None, family)
        ]

    def queued(self, address: Address) -> dict[int, int]:
        """Children in the accept queue of every listener at exactly this address, by cookie.

        The cheapest look there is: one dump of listeners, less than 0.1 ms.
        """
        found = self.diag.dump([State.LISTEN], family=address.family, sport=address.port)
        return {one.cookie: one.rqueue for one in _Match(address).listeners(found)}

    def accepted(self, address: Address, host: str, port: int) -> bool:
        """Whether a connection to this address, which got through, waits in no queue any more.

        ``host`` and ``port`` are the client's, on this machine, and ``host`` the server's as well.
        Ask about one that nobody but its server will have closed: what is gone was accepted.
        """
        there = (host, address.port)
        interface = _interface(address.zone) if address.zone else 0
        seen = self.diag.one(address.family, there, (host, port), interface=interface)
        return seen is None or seen.inode != 0

    def close(self) -> None:
        """Close the netlink socket; twice is no error."""
        self.diag.close()


def serving(address: Address, by_ipv4: Iterable[Entry], by_ipv6: Iterable[Entry]) -> Address:
    """Where those listen who serve this address, among the listeners of its port by family."""
    there = address.in_ipv6
    if there is None or any(one.host == address.host for one in by_ipv4):
        return address
    taken = any(one.host == there.host and not one.v6only for one in by_ipv6)
    return there if taken else address


def reached(address: Address, by_ipv4: Iterable[Entry], by_ipv6: Iterable[Entry]) -> Address | None:
    """Where those listen who get what comes to a host, among the listeners of its port by family.

    The kernel prefers a listener at the host to one at the wildcard, and for what comes by IPv4 a
    listener of that family to one of IPv6.
    """
    there = address.in_ipv6
    ipv4, ipv6 = {one.host for one in by_ipv4}, {one.host for one in by_ipv6}
    if there is None:
        found = [host for host in (address.host, "::") if host in ipv6]
    else:
        dual = {one.host for one in by_ipv6 if not one.v6only}
        own = [host for host in (address.host, "0.0.0.0") if host in ipv4]
        mapped = [host for host in (there.host, "::") if host in dual]
        found = [*own[:1], *mapped[:1]]
        if own == ["0.0.0.0"] and mapped[:1] == [there.host]:
            found = mapped
    return replace(address, host=found[0]) if found else None


class _Match:
    """Which sockets of a port belong to an address."""

    def __init__(self, address: Address) -> None:
        # As the kernel's text has it: an IPv6 address can be written in several ways.
        packed = socket.inet_pton(address.family, address.host)
        self._host = socket.inet_ntop(address.family, packed)
        self._wildcard = address.wildcard
        self._interface = _interface(address.zone) if address.zone else None

    def listeners(self, entries: Iterable[_Seen]) -> list[_Seen]:
        """Those bound to exactly this address."""
        return [one for one in entries if self._bound(one)]

    def local(self, entries: Iterable[_Seen]) -> list[_Seen]:
        """Those that came to it: to a wildcard at any host, by IPv4 too on a dual-stack one.

        Requests and children name no listener.  Where a wildcard and a host are both listened
        at, the wildcard's are too many rather than too few.
        """
        return [one for one in entries if self._wildcard or self._bound(one)]

    def _bound(self, entry: Entry | Connected) -> bool:
        if entry.host != self._host:
            return False
        return self._interface is None or entry.interface == self._interface


def _interface(zone: str) -> int:
    try:
        return socket.if_nametoindex(zone)
    except OSError:
        return -1


def _owners(
    inodes: set[int], pids: frozenset[int], *, everywhere: bool
) -> dict[int, tuple[int, ...]]:
    if everywhere:
        return proc.owners(inodes)
    found: dict[int, tuple[int, ...]] = {}
    for pid in sorted(pids):
        for inode in inodes & proc.sockets(pid).keys():
            found[inode] = (*found.get(inode, ()), pid)
    return found


def _listener(
    entry: Entry,
    address: Address,
    whose: Mapping[int, tuple[int, ...]],
) -> Listener:
    return Listener(
        entry.cookie,
        address,
        entry.inode,
        entry.uid,
        queue=entry.rqueue,
        backlog=entry.wqueue,
        drops=entry.drops or 0,
        owners=whose.get(entry.inode, ()),
        interface=entry.interface,
        v6only=entry.v6only,
    )


def _connection(entry: Connected) -> Connection:
    (
        family, state, cookie, inode, host, port, peer_host, peer_port, interface,
        unread, unsent, sent_ms, received_ms, received, sent,
    ) = entry  # fmt: skip
    if state in _HALF_CLOSED:
        # The peer's FIN takes a sequence number and so counts as a byte, but is no request.
        unread, received = max(0, unread - 1), max(0, received - 1)
    return Connection(
        cookie, inode, (peer_host, peer_port), state, unread, unsent, received_ms, sent_ms,
        received, sent != 0, (host, port), interface, family,
    )  # fmt: skip
