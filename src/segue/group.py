"""A reuseport group and what waits in it, as values at one instant.

Stands for ``struct sock_reuseport`` and the sockets around it (net/core/sock_reuseport.c).  Pure:
``segue.observe`` fills these values from the kernel, everything else only reads them.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from segue.address import Address


# A client sends its request with the last packet of the handshake, or right behind it.
_YOUNG_MS = 200


@dataclass(frozen=True, slots=True)
class Listener:
    """One socket in TCP_LISTEN, named by its cookie."""

    cookie: int
    address: Address
    inode: int
    uid: int
    queue: int  # children in the accept queue (sk_ack_backlog)
    backlog: int  # the limit given to listen(2), capped by somaxconn; holds one more
    drops: int  # SYNs and final ACKs dropped at this socket
    owners: tuple[int, ...] = ()  # pids that have it open, in ascending order
    interface: int = 0  # SO_BINDTODEVICE, or a link-local address's zone; 0 for any
    v6only: bool | None = None  # of an IPv6 listener

    @property
    def full(self) -> bool:
        """No room for another child: sk_acceptq_is_full asks for more than the backlog."""
        return self.queue > self.backlog


class Connection(NamedTuple):
    """One full socket on the group's address; its ``inode`` is 0 until accepted (FACTS, inode).

    A tuple, since there may be many thousand.
    """

    cookie: int
    inode: int
    peer: tuple[str, int]
    state: int
    unread: int  # bytes received that the worker has not read
    unsent: int  # bytes written that the peer has not acknowledged
    received_ms: int  # since the last data segment came in
    sent_ms: int  # since the last data segment went out
    bytes_received: int = 0
    answered: bool = True  # any data segment has gone out
    local: tuple[str, int] = ("", 0)
    interface: int = 0  # as a Listener's
    family: int = socket.AF_INET  # AF_INET6 for one that came by IPv4 to an IPv6 listener

    @property
    def accepted(self) -> bool:
        """A process has it."""
        return self.inode != 0

    @property
    def untouched(self) -> bool:
        """Its process has read nothing of it, and will soon if it is asked for anything.

        A server that is told to stop finishes the requests that it has read, and closes the rest.
        """
        if self.unread:
            return self.unread == self.bytes_received
        return not self.bytes_received and min(self.received_ms, self.sent_ms) < _YOUNG_MS

    @property
    def idle_ms(self) -> int | None:
        """How long nothing has moved; None while an answer is owed or bytes are in flight.

        Data that came in after the last data went out is a request without its answer, however
        long the answer takes: only the drain limit may cut it.
        """
        if self.unread or self.unsent:
            return None
        # Before the first answer "last sent" counts from the socket's making: it ties or lies.
        if self.bytes_received and (not self.answered or self.received_ms < self.sent_ms):
            return None
        return min(self.received_ms, self.sent_ms)


@dataclass(frozen=True, slots=True)
class Group:
    """Every listener of one address, its half-open requests and its connections."""

    address: Address
    listeners: tuple[Listener, ...] = ()
    requests: frozenset[int] = frozenset()  # cookies of half-open requests (TCP_NEW_SYN_RECV)
    connections: tuple[Connection, ...] = ()
    owners: dict[int, int] = field(default_factory=dict)  # socket inode -> pid that has it

    def by_cookie(self, cookie: int) -> Listener | None:
        """The listener with this cookie, or None when it is gone."""
        return next((one for one in self.listeners if one.cookie == cookie), None)

    def siblings(self, listener: Listener) -> tuple[Listener, ...]:
        """The other members of its reuseport group: those its connections can migrate to.

        The kernel also wants uid, interface and V6ONLY to be equal (inet_reuseport_add_sock), so
        there may be listeners at the same address that are none.
        """
        return tuple(
            one
            for one in self.listeners
            if one.cookie != listener.cookie
            and (one.uid, one.interface, one.v6only)
            == (listener.uid, listener.interface, listener.v6only)
        )

    def strangers(self, ours: frozenset[int]) -> tuple[Listener, ...]:
        """Listeners whose cookie is not one of ours."""
        return tuple(one for one in self.listeners if one.cookie not in ours)

    @property
    def unowned(self) -> tuple[Connection, ...]:
        """Accepted connections of which no process that was looked at is the owner."""
        return tuple(
            one for one in self.connections if one.accepted and one.inode not in self.owners
        )

    def held_by(self, pids: frozenset[int]) -> tuple[Connection, ...]:
        """Accepted connections that one of these processes has open."""
        return tuple(one for one in self.connections if self.owners.get(one.inode) in pids)
