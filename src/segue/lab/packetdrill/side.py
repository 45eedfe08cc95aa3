"""What a script needs of a side: time, packets both ways, calls, settings and TCP_INFO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from segue.lab.packetdrill.calls import Ask


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call gave, and when it returned: ``error`` is an errno's name, or empty."""

    value: int
    error: str
    told: str
    at: float

    def __str__(self) -> str:
        told = f" told {self.told}" if self.told else ""
        return f"{self.value}{f' {self.error}' if self.error else ''}{told}"


@dataclass(frozen=True, slots=True)
class Sent:
    """A packet of the side under test: between ``since`` and ``at`` it was sent.

    They differ where nobody looked in between, as on a busy machine.
    """

    since: float
    at: float
    packet: bytes


class Side(Protocol):
    """Times are in seconds since the script began.  UsageError is for what a side does not do."""

    def now(self) -> float:
        """By its clock."""

    def pass_until(self, when: float) -> None:
        """Let the time go there; what is sent meanwhile is kept."""

    def next_packet(self, until: float) -> Sent | None:
        """The next that was sent; None when there is none until then."""

    def packet(self, packet: bytes) -> None:
        """It arrives now."""

    def set(self, name: str, value: str) -> None:
        """A setting of its network namespace, such as net.ipv4.tcp_sack."""

    def begin(self, ask: Ask) -> None:
        """Make a call; the one before is over."""

    def outcome(self, until: float) -> Outcome | None:
        """Of the call that was begun; None when it still waits then."""

    def tcp_info(self) -> dict[str, int]:
        """Of the connection that was accepted last, by the names of struct tcp_info."""
