"""One look at a group: its listeners, half-open requests and connections, as values."""

from __future__ import annotations

import socket
from typing import Self

from segue.address import Address
from segue.group import Connection, Group, Listener
from segue.linux import proc
from segue.linux.sock_diag import Entry, SockDiag


class Observer:
    """Looks at groups of the network namespace that it was made in."""

    def __init__(self) -> None:
        self.diag = SockDiag()

    def snapshot(
        self,
        address: Address,
        *,
        pids: frozenset[int] = frozenset(),
        requests: bool = False,
        connections: bool = False,
    ) -> Group:
        """The group at exactly this address; a wildcard's is another than a host's.

        Listeners' owners are looked for among ``pids`` only.  ``connections`` adds the full
        sockets and whose they are, ``requests`` the half-open ones; both are dumps by port, at
        a cost that grows with their number.  Raises KernelError.
        """
        owned: dict[int, list[int]] = {}
        for pid in sorted(pids):
            for inode in proc.sockets(pid):
                owned.setdefault(inode, []).append(pid)
        listeners = tuple(
            Listener(
                entry.cookie,
                address,
                entry.inode,
                entry.uid,
                entry.rqueue,
                entry.wqueue,
                entry.drops or 0,
                tuple(owned.get(entry.inode, ())),
            )
            for entry in self.diag.listeners(address.port, address.family)
            if _same(entry, address)
        )
        half_open: frozenset[int] = frozenset()
        full: tuple[Connection, ...] = ()
        if requests:
            half_open = frozenset(
                entry.cookie
                for entry in self.diag.half_open(address.port, address.family)
                if _reaches(entry, address)
            )
        if connections:
            full = tuple(
                _connection(entry)
                for entry in self.diag.connections(address.port, address.family)
                if _reaches(entry, address)
            )
        return Group(
            address, listeners, half_open, full, {inode: own[0] for inode, own in owned.items()}
        )

    def close(self) -> None:
        """Close the netlink socket."""
        self.diag.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _same(entry: Entry, address: Address) -> bool:
    if entry.host != address.host:
        return False
    return not address.zone or entry.interface in {0, _interface(address.zone)}


def _reaches(entry: Entry, address: Address) -> bool:
    """A connection's local host is the listener's, or any one when that is a wildcard."""
    return address.wildcard or _same(entry, address)


def _interface(zone: str) -> int:
    try:
        return socket.if_nametoindex(zone)
    except OSError:
        return -1


def _connection(entry: Entry) -> Connection:
    info = entry.info
    return Connection(
        entry.cookie,
        entry.inode,
        (entry.peer_host, entry.peer_port),
        entry.state,
        unread=entry.rqueue,
        unsent=entry.wqueue,
        received_ms=info.last_data_recv_ms if info else 0,
        sent_ms=info.last_data_sent_ms if info else 0,
        bytes_received=info.bytes_received if info else 0,
    )
