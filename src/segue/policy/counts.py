"""What became of the connections at one slot, as counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counts:
    """How many selections of each kind a slot has had since counting began.

    ``new``, ``request``, ``child`` and ``fastopen`` exclude each other: a SYN, and a half-open
    request, a child or a Fast Open child that migrates.  ``cancelled`` counts refused ones, and
    ``fell_back`` those, of any kind, whose first choice was gone.  What a listener with a full
    queue then drops, a SYN or the last ACK of a request that migrates, counts again when it is
    repeated.
    """

    new: int = 0
    request: int = 0
    child: int = 0
    fastopen: int = 0
    cancelled: int = 0
    fell_back: int = 0

    @property
    def migrated(self) -> int:
        """Connections that came from another listener, whichever way they stood."""
        return self.request + self.child + self.fastopen

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.new + other.new,
            self.request + other.request,
            self.child + other.child,
            self.fastopen + other.fastopen,
            self.cancelled + other.cancelled,
            self.fell_back + other.fell_back,
        )

    def __sub__(self, earlier: Counts) -> Counts:
        return Counts(
            self.new - earlier.new,
            self.request - earlier.request,
            self.child - earlier.child,
            self.fastopen - earlier.fastopen,
            self.cancelled - earlier.cancelled,
            self.fell_back - earlier.fell_back,
        )

    def __bool__(self) -> bool:
        """Anything at all was counted."""
        return self != Counts()
