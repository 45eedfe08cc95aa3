"""The address a server listens at: what sockets must share to share a port.

A group is the sockets with one address, port, family, V6ONLY and uid (FACTS, group).  Pure: nothing
is resolved here, names other than ``localhost`` are refused, because a name may mean two addresses.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass

from segue.errors import UsageError

PORT = re.compile("[0-9]{1,9}")  # of what range is said later; int() takes digits of any script
SHAPES = "HOST:PORT, [IPV6]:PORT, :PORT or PORT"


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """``host`` is numeric and has no brackets; ``zone`` is a link-local address's interface."""

    host: str
    port: int
    zone: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read one of HOST:PORT, [IPV6]:PORT, [IPV6%ZONE]:PORT, :PORT and PORT.

        A missing host is every IPv4 address.  Raises UsageError with what to write instead.
        """
        host, colon, port_text = text.strip().rpartition(":")
        if not colon:
            host, port_text = "", text.strip()
        if host.startswith("[") != host.endswith("]") or (":" in host and host[:1] != "["):
            raise UsageError(
                f"{text!r} is not an address: an IPv6 host goes in brackets ({SHAPES})"
            )
        if not PORT.fullmatch(port_text):
            raise UsageError(f"{text!r} is not an address: {port_text!r} is not a port ({SHAPES})")
        numeric, zone = cls._host(host.strip("[]"), text)
        return cls(numeric, 1, zone).at(int(port_text), text)

    @staticmethod
    def _host(host: str, text: str) -> tuple[str, str]:
        bare, percent, zone = host.partition("%")
        bare = {"": "0.0.0.0", "*": "0.0.0.0", "localhost": "127.0.0.1"}.get(bare, bare)
        try:
            ip = ipaddress.ip_address(bare)
        except ValueError:
            raise UsageError(
                f"{text!r} is not an address: {bare!r} is neither IPv4 nor IPv6;"
                " write the number, a name may mean several"
            ) from None
        if percent and not (ip.version == 6 and ip.is_link_local and zone):
            raise UsageError(
                f"{text!r} is not an address: only a link-local IPv6 address has a zone"
                " (such as [fe80::1%eth0]:8080)"
            )
        if not percent and ip.version == 6 and ip.is_link_local:
            raise UsageError(
                f"{text!r} needs a zone: a link-local address is one on each interface"
                f" (write [{ip}%eth0]:PORT with your interface)"
            )
        # As the kernel's text has it, and not in hexadecimal.
        mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
        return (f"::ffff:{mapped}" if mapped else str(ip)), zone

    def at(self, port: int, text: str = "") -> Address:
        """The same host at another port.  Raises UsageError unless 0 < port < 65536."""
        if port == 0:
            raise UsageError(
                f"{text or self} asks for port 0: the kernel would choose another port for each"
                " generation, and clients could not find it; name the port"
            )
        if port > 65535:
            raise UsageError(f"{text or self} is not an address: port {port} is above 65535")
        return Address(self.host, port, self.zone)

    @property
    def family(self) -> socket.AddressFamily:
        """AF_INET or AF_INET6."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    @property
    def wildcard(self) -> bool:
        """Every address of the host, of this family."""
        return ipaddress.ip_address(self.host).is_unspecified

    @property
    def in_ipv6(self) -> Address | None:
        """Where a server listens with an IPv6 socket for what comes to this IPv4 address.

        Java, Go, gRPC and node do so.  None if this is an IPv6 address.
        """
        if self.family == socket.AF_INET6:
            return None
        return Address("::" if self.wildcard else f"::ffff:{self.host}", self.port)

    @property
    def near(self) -> str:
        """A host by which this machine itself reaches the address, if it has that family."""
        if not self.wildcard:
            return self.host
        return "::1" if self.family == socket.AF_INET6 else "127.0.0.1"

    def __str__(self) -> str:
        zone = f"%{self.zone}" if self.zone else ""
        if self.family == socket.AF_INET6:
            return f"[{self.host}{zone}]:{self.port}"
        return f"{self.host}:{self.port}"
