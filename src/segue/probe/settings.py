"""What a run is asked to do, checked before anything is opened."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from segue.address import Address
from segue.errors import UsageError
from segue.probe import sources
from segue.probe.exchange import Exchange
from segue.probe.schedule import KeepAlive, Pace
from segue.probe.tls import Tls


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One run.  Times are in seconds.

    It ends ``duration_s`` after it began or after ``count`` attempts, whichever comes first, or
    when it is told to; attempts under way are waited for.  ``pause_s`` passes between connecting
    and sending: the connection waits, as one does behind a slow client, and what becomes of it is
    seen.  ``version_field`` names a header field of the answers (such as x-generation) whose
    values are counted, or is ":body".  ``sources`` are addresses of this machine to connect from,
    in turn; without any ``probe.sources`` chooses for a target on the loopback, else the kernel.

    Raises UsageError for limits that make no sense together.
    """

    target: Address
    pace: Pace
    exchange: Exchange
    duration_s: float | None = None
    count: int | None = None
    # One SYN is repeated after 1 s and again after 3 s: a limit of 3 s forgives one lost packet.
    connect_timeout_s: float = 3.0
    response_timeout_s: float = 5.0
    pause_s: float = 0.0
    # With what else a process has open it fits under the customary limit of 1,024 descriptors.
    max_open: int = 1000
    sources: tuple[str, ...] = ()
    version_field: str = ""
    keep_events: bool = False
    tls: Tls | None = None

    def __post_init__(self) -> None:
        for name in ("duration_s", "connect_timeout_s", "response_timeout_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1e9:
                raise UsageError(f"{name.removesuffix('_s')} must be above 0 s (got {value})")
        if not 0 <= self.pause_s < 1e9:
            raise UsageError(f"a pause must be 0 or more seconds (got {self.pause_s})")
        if self.count is not None and self.count < 1:
            raise UsageError(f"a count must be at least 1 (got {self.count})")
        if self.max_open < max(1, self.pace.connections):
            raise UsageError(
                f"{self.pace} need {self.pace.connections} connections open at once,"
                f" but at most {self.max_open} are allowed; raise max_open"
            )
        if self.exchange.keep_alive != isinstance(self.pace, KeepAlive):
            raise UsageError("keep-alive requests and kept connections go together")

    @property
    def peer(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """The target for connect().  Raises UsageError when its zone is no interface here."""
        target = self.target
        if target.family == socket.AF_INET:
            return target.near, target.port
        try:
            scope = socket.if_nametoindex(target.zone) if target.zone else 0
        except OSError:
            raise UsageError(f"{target}: this machine has no interface {target.zone}") from None
        return target.near, target.port, 0, scope

    @property
    def local(self) -> tuple[str, ...]:
        """Addresses to connect from; none when the kernel is to choose."""
        return self.sources or sources.loopback(self.target)
