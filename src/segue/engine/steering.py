"""What the supervisor may ask of an engine, for one group.

An engine steers new connections by weights and says what happens to the waiting ones when a
listener leaves.  ``migrate`` does both in the kernel; ``hash`` and ``drain`` do what is left where
that is not to be had.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from segue.policy.counts import Counts

# The slot of ``counts`` for connections that no share decided, but the kernel's own hash.
NO_SLOT = -1


class Steering(Protocol):
    """How one group's new connections are shared, and what moves when a listener leaves.

    A slot is a number the caller gives a listener for as long as it is in the group.  No method
    but ``leave`` takes ownership of a listener.  Every method that talks to the kernel raises
    KernelError when it refuses.
    """

    name: str  # "migrate" | "hash" | "drain"
    migrates: bool  # what a listener holds moves to others when it closes or is cycled
    by_index: bool  # members are named by place: leave only with the last descriptor of a listener
    weighs: bool  # shares follow weights; else each above zero is the same share

    def join(self, slot: int, listener: socket.socket) -> None:
        """Get a listening socket into the group under this slot, with no share.

        Raises UsageError when the slot is taken.
        """

    def share(self, weights: Mapping[int, float]) -> None:
        """The flip: from its return new connections go by these weights and nowhere else.

        A weight is a proportion, of whatever sum; a slot not named has none.  Raises UsageError,
        and changes nothing, when a weight is negative, none is above zero, or a slot with one has
        not joined.
        """

    def pin(self, port: int, slot: int) -> None:
        """The next SYN from this source port goes to the slot, whatever its share."""

    def unpin(self, port: int) -> None:
        """Forget the pin of this source port; one that is not pinned is no error."""

    def rejoin(self, slot: int, listener: socket.socket) -> None:
        """Put back a listener that was cycled: shutdown() then listen() took it out."""

    def leave(self, slot: int, listener: socket.socket) -> None:
        """The slot gets nothing any more, and this descriptor of its listener is closed."""

    def counts(self) -> dict[int, Counts]:
        """What each slot has got since it joined; NO_SLOT is what the kernel's hash decided."""

    def variables(self) -> dict[str, int]:
        """What the program of an object file keeps in its own variables, by their names."""

    def descriptors(self) -> dict[str, int]:
        """What to hand over in a re-exec, by name; they stay this object's own.

        With none the successor begins anew, and every listener joins again.
        """

    def order(self) -> list[int]:
        """The kernel's order of members by cookie as far as known; [] where it does not matter."""

    def adopt_order(self, order: Sequence[int]) -> None:
        """Start from the order that a predecessor knew."""

    def check(self, cookies: Collection[int]) -> list[str]:
        """Compare with the members that listen now; what follows from it, in sentences."""

    def close(self) -> None:
        """Give back what this object holds; what is in force in the kernel stays in force."""
