"""Whole IP packets sent from here to here (raw(7)): they come in by ``lo``.

What is sent so brings its own route, so that no reverse path filter looks at it, whatever address
it says that it is from.  Needs CAP_NET_RAW.
"""

from __future__ import annotations

import socket

from segue.errors import KernelError
from segue.linux.closing import Closing


class RawIp(Closing):
    """A sender for IPv4 and, where the kernel has it, IPv6, in the namespace it was made in."""

    def __init__(self) -> None:
        """Raises KernelError: EPERM without CAP_NET_RAW."""
        self._sockets: dict[int, socket.socket] = {}
        try:
            for family in (socket.AF_INET, socket.AF_INET6):
                kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
                # IPPROTO_RAW: the header comes with the packet, in both families.
                self._sockets[family] = socket.socket(family, kind, socket.IPPROTO_RAW)
        except OSError as error:
            if self._sockets:  # no IPv6 here
                return
            raise KernelError(
                "socket", error.errno or 0, "making a raw socket", "it needs CAP_NET_RAW"
            ) from error

    def send(self, packet: bytes, target: str) -> None:
        """A packet to an address of this host, the one that is in it.  Raises KernelError."""
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        try:
            self._sockets[family].sendto(packet, (target, 0))
        except OSError as error:
            raise KernelError(
                "sendto", error.errno or 0, f"sending a packet to {target}"
            ) from error

    def close(self) -> None:
        """Close the sockets; twice is no error."""
        for one in self._sockets.values():
            one.close()
