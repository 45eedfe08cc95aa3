"""Packet sockets of this network namespace, packet(7): /proc/net/packet (proc_pid_net(5))."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from segue.errors import KernelError, WireError

# The thread's own, which may be in another network namespace than the rest of its process.
_FILE = "/proc/thread-self/net/packet"
IP = frozenset({0x0800, 0x86DD})  # ETH_P_IP, ETH_P_IPV6


@dataclass(frozen=True, slots=True)
class PacketSocket:
    """One that gets packets."""

    protocol: int  # ETH_P_...; 3 is ETH_P_ALL
    interface: int  # its number; 0 for all

    def takes(self, protocols: frozenset[int], interface: int) -> bool:
        """It has asked for one of these protocols by name, and gets what comes by the interface."""
        return self.protocol in protocols and self.interface in {0, interface}


def parse(text: str) -> Iterator[PacketSocket]:
    """Those that run.  Raises WireError."""
    for line in text.splitlines()[1:]:
        words = line.split()
        try:
            protocol, interface, running = int(words[3], 16), int(words[4]), words[5] == "1"
        except (IndexError, ValueError):
            raise WireError("packet sockets", f"no such line is known: {line[:60]!r}") from None
        if running:
            yield PacketSocket(protocol, interface)


def read() -> list[PacketSocket]:
    """Those of the calling thread's network namespace.  Raises KernelError.

    Without any where the kernel has no packet sockets (CONFIG_PACKET), or does not list them.
    """
    try:
        with open(_FILE, encoding="ascii") as file:
            return list(parse(file.read()))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise KernelError("open", error.errno or 0, f"listing packet sockets in {_FILE}") from error
