"""The TCP sockets of a network namespace, asked of the kernel: sock_diag(7), net/ipv4/inet_diag.c.

Needs no privilege.  Port filters run in the kernel.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence

from segue.errors import KernelError, NotSupported
from segue.linux.closing import Closing
from segue.linux.inet_diag import (
    EXT_INFO,
    EXT_SKMEMINFO,
    REQ_BYTECODE,
    Connected,
    Entry,
    State,
    TcpInfo,
    decode_connected,
    decode_entry,
    encode_port_filter,
    encode_request,
)
from segue.linux.netlink import Netlink, encode_attribute

__all__ = ["CONNECTED", "Connected", "Entry", "SockDiag", "State", "TcpInfo"]

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_SOCK_DESTROY = 21
_ANY_STATE = 0xFFFFFFFF
_WITH_INFO = 1 << (EXT_INFO - 1)
_LOOKING_UP = "looking up a TCP socket"

# Family, local and peer's end, and the interface that it is bound to, or 0.
Ends = tuple[int, tuple[str, int], tuple[str, int], int]

# Every state in which a process may have, or an accept queue may hold, a full socket; SYN_RECV is
# a Fast Open child's.
CONNECTED = (
    State.ESTABLISHED,
    State.SYN_RECV,
    State.FIN_WAIT1,
    State.FIN_WAIT2,
    State.CLOSE_WAIT,
    State.CLOSING,
)


class SockDiag(Closing):
    """Asks about the TCP sockets of the network namespace that it was made in.

    Every method raises KernelError when the kernel refuses, and those that list raise NotSupported
    where the kernel has no tcp_diag.
    """

    def __init__(self) -> None:
        self._netlink = Netlink(_NETLINK_SOCK_DIAG)

    def dump(
        self,
        states: Iterable[State] | int,
        *,
        family: int,
        sport: int | None = None,
        dport: int | None = None,
        info: bool = False,
        memory: bool = False,
    ) -> list[Entry]:
        """Sockets of a family in these states, or in those of a mask of ``1 << state``.

        ``sport`` is the local and ``dport`` the peer's port; given both, both must match.
        ``info`` and ``memory`` fill ``info`` and ``drops``.  Asking for SYN_RECV brings requests
        too, which have the state NEW_SYN_RECV here; asking for that brings only them.
        """
        mask = states if isinstance(states, int) else sum(1 << state for state in set(states))
        extensions = (info << (EXT_INFO - 1)) | (memory << (EXT_SKMEMINFO - 1))
        found = self._list(family, mask, extensions, sport, dport)
        return [decode_entry(one) for one in found]

    def _list(
        self, family: int, mask: int, extensions: int, sport: int | None, dport: int | None = None
    ) -> list[memoryview]:
        payload = encode_request(family, mask, extensions)
        code = encode_port_filter(sport, dport)
        if code:
            payload += encode_attribute(REQ_BYTECODE, code)
        try:
            return self._netlink.dump(_SOCK_DIAG_BY_FAMILY, payload, "listing TCP sockets")
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            # The kernel loads its module by itself where there is one and it may.
            needs = "the kernel module tcp_diag (CONFIG_INET_TCP_DIAG): install it, or modprobe it"
            raise NotSupported("listing TCP sockets", needs, f"none ({error.name})") from error

    def listeners(self, port: int | None, family: int) -> list[Entry]:
        """Sockets in TCP_LISTEN, with their drops; about 0.1 ms."""
        return self.dump([State.LISTEN], family=family, sport=port, memory=True)

    def half_open(self, port: int | None, family: int) -> list[Entry]:
        """Requests whose final ACK, or first data under TCP_DEFER_ACCEPT, has not come.

        They name no listener.  One that came by IPv4 to an IPv6 listener has the family AF_INET6
        and mapped addresses.
        """
        return self.dump([State.NEW_SYN_RECV], family=family, sport=port)

    def connections(self, port: int | None, family: int) -> list[Connected]:
        """Full sockets, queued and accepted, with their tcp_info; no requests."""
        mask = sum(1 << state for state in CONNECTED)
        return decode_connected(self._list(family, mask, _WITH_INFO, port))

    def each(self, ends: Sequence[Ends]) -> list[Connected | None]:
        """The same of the very connections between these ends, in their order; None for one that is
        no more.  Look-ups, not a dump.
        """
        asked = [
            encode_request(
                family, _ANY_STATE, _WITH_INFO, local=local, peer=peer, interface=interface
            )
            for family, local, peer, interface in ends
        ]
        answers = self._netlink.look_up(_SOCK_DIAG_BY_FAMILY, asked, _LOOKING_UP)
        found: list[Connected | None] = []
        for (_, _, peer, _), answer in zip(ends, answers, strict=True):
            # Where there is none, it is the listener that is found.
            there = [] if answer is None else decode_connected([answer])
            found.append(there[0] if there and there[0].peer_port == peer[1] else None)
        return found

    def one(
        self, family: int, local: tuple[str, int], peer: tuple[str, int], interface: int = 0
    ) -> Entry | None:
        """The very socket between these two ends, or None: a look-up, not a dump.

        A socket bound to an interface, as those of link-local addresses are, is only found with
        its ``interface``.
        """
        found = self.by_hash(family, local, peer, interface)
        return None if found is None or found.peer_port != peer[1] else found

    def destroy(self, family: int, local: tuple[str, int], peer: tuple[str, int]) -> bool:
        """End the connection between these two ends, whatever its state: a request, one that waits
        in TIME-WAIT and one that no process has too (tcp_abort).  Of a listener that this finds in
        its place, see ``by_hash``, it is the end as well.  False if there was nothing.

        Needs CAP_NET_ADMIN, and CONFIG_INET_DIAG_DESTROY.
        """
        payload = encode_request(family, _ANY_STATE, local=local, peer=peer)
        try:
            self._netlink.request(
                _SOCK_DESTROY, payload, "destroying a TCP socket", acknowledged=True
            )
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return True

    def by_hash(
        self, family: int, local: tuple[str, int], peer: tuple[str, int], interface: int = 0
    ) -> Entry | None:
        """The same; where there is no such socket, the listener that the kernel's hash would choose
        for a connection between these two: no program is asked without a packet (inet_lookup).
        """
        answer = self._look_up(family, local, peer, interface)
        return None if answer is None else decode_entry(answer)

    def _look_up(
        self,
        family: int,
        local: tuple[str, int],
        peer: tuple[str, int],
        interface: int,
        extensions: int = 0,
    ) -> memoryview | None:
        payload = encode_request(
            family, _ANY_STATE, extensions, local=local, peer=peer, interface=interface
        )
        try:
            return self._netlink.request(_SOCK_DIAG_BY_FAMILY, payload, _LOOKING_UP)
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return None
            raise

    def close(self) -> None:
        """Close the netlink socket; twice is no error."""
        self._netlink.close()
