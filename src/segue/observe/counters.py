"""What became of connections, as the kernel counts it: whole network namespace, all ports.

Others' connections are counted too, so a difference above zero is a reason to look, and zero is
proof.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

from segue.linux import snmp


@dataclass(frozen=True, slots=True)
class Counters:
    """The counters that tell a lost connection; 0 where this kernel does not count it."""

    out_rsts: int = 0  # resets sent
    estab_resets: int = 0  # connections that were established and were reset
    listen_drops: int = 0  # SYNs and final ACKs dropped at a listener, for whatever reason
    listen_overflows: int = 0  # of these: because its accept queue was full
    migrated: int = 0  # requests and children that went to another listener
    not_migrated: int = 0  # those for which no other listener was found

    @classmethod
    def read(cls) -> Self:
        """The counters of the calling thread's network namespace, now.  Raises KernelError."""
        now = snmp.read()
        return cls(
            now.get("Tcp.OutRsts", 0),
            now.get("Tcp.EstabResets", 0),
            now.get("TcpExt.ListenDrops", 0),
            now.get("TcpExt.ListenOverflows", 0),
            now.get("TcpExt.TCPMigrateReqSuccess", 0),
            now.get("TcpExt.TCPMigrateReqFailure", 0),
        )

    def __sub__(self, earlier: Self) -> Self:
        return type(self)(
            *(getattr(self, one.name) - getattr(earlier, one.name) for one in fields(self))
        )

    def __bool__(self) -> bool:
        """Anything at all was counted."""
        return any(getattr(self, one.name) for one in fields(self))
