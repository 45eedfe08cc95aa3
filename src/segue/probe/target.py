"""What is probed, from what the user wrote: a URL, or HOST:PORT for any TCP service.

A name is resolved once, before the run: a lookup for each connection would measure the resolver.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from segue.address import PORT, Address
from segue.errors import UsageError

# Scheme: its port, and whether TLS comes first.
SCHEMES = {"http": (80, False), "https": (443, True), "ws": (80, False), "wss": (443, True)}
Resolver = Callable[..., Sequence[tuple[Any, ...]]]


@dataclass(frozen=True, slots=True)
class Target:
    """``address`` is where to connect; ``name`` and ``path`` are what the server is told.

    ``scheme`` is empty for plain TCP.  ``others`` counts the addresses the name also has.
    """

    text: str
    address: Address
    scheme: str = ""
    name: str = ""
    path: str = "/"
    others: int = 0

    @property
    def tls(self) -> bool:
        """TLS comes first."""
        return bool(self.scheme) and SCHEMES[self.scheme][1]

    @property
    def http(self) -> bool:
        """HTTP is spoken, rather than bytes of the user's choice."""
        return bool(self.scheme)

    @property
    def host(self) -> str:
        """The Host field: the name, with the port unless it is the scheme's own."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        own = self.scheme and SCHEMES[self.scheme][0] == self.address.port
        return name if own else f"{name}:{self.address.port}"

    @property
    def local(self) -> bool:
        """The address is this machine's own: its kernel counts what happens there."""
        with socket.socket(self.address.family, socket.SOCK_DGRAM) as sock:
            try:
                sock.bind((self.address.near, 0))
            except OSError:
                return False
        return True


def parse(text: str, resolver: Resolver = socket.getaddrinfo) -> Target:
    """Read a URL or HOST:PORT and resolve its name.  Raises UsageError."""
    if "://" in text:
        return _url(text, resolver)
    host, colon, port = text.rpartition(":")
    if colon and host and not PORT.fullmatch(port):
        raise UsageError(f"{text!r} is neither a URL nor HOST:PORT: {port!r} is not a port")
    if colon and host and not _numeric(host.strip("[]").partition("%")[0]):
        address, others = resolve(host, int(port), resolver)
        return Target(text, address, name=host, others=others)
    return Target(text, Address.parse(text))


def _url(text: str, resolver: Resolver) -> Target:
    try:
        found = urlsplit(text)
        port = found.port
    except ValueError as error:
        raise UsageError(f"{text!r} is not a URL: {error}") from None
    if found.scheme not in SCHEMES:
        raise UsageError(
            f"{found.scheme!r} is not a scheme that the probe knows:"
            f" write one of {', '.join(SCHEMES)}, or HOST:PORT for any other TCP service"
        )
    if not found.hostname:
        raise UsageError(f"{text!r} names no host")
    if found.username is not None:
        raise UsageError(f"{text!r} has a user in it, and the probe signs in nowhere")
    own = SCHEMES[found.scheme][0]
    address, others = resolve(found.hostname, own if port is None else port, resolver)
    path = (found.path or "/") + (f"?{found.query}" if found.query else "")
    return Target(text, address, found.scheme, found.hostname, path, others)


def _numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host in {"", "*", "localhost"}
    return True


def resolve(host: str, port: int, resolver: Resolver = socket.getaddrinfo) -> tuple[Address, int]:
    """The first address of a name, in the system's order, and how many more it has.

    Raises UsageError, with the resolver's words, when there is none.
    """
    if _numeric(host.partition("%")[0]):
        return Address.parse(f"[{host}]:{port}" if ":" in host else f"{host}:{port}"), 0
    try:
        found = resolver(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"the name {host!r} does not resolve: {said}") from None
    known = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
    first = Address.parse(f"[{known[0]}]:{port}" if ":" in known[0] else f"{known[0]}:{port}")
    return first, len(known) - 1
