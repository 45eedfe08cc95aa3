"""What the supervisor may ask of an engine, for one group.

An engine steers new connections by weights and says what happens to the waiting ones when a
listener leaves.  ``migrate`` does both in the kernel; ``hash`` and ``drain`` do what is left where
that is not to be had.  Every engine is a ``Steering``; what only some can do is a protocol of its
own, so that a caller asks the engine and neither its name nor its class.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

from segue.engine.own_member import OwnMember
from segue.linux.bpf import Program
from segue.linux.bpf_maps import Map
from segue.policy.counts import Counts


class Steering(Protocol):
    """How one group's new connections are shared, and what moves when a listener leaves.

    A slot is a number the caller gives a listener for as long as it is in the group.  No method
    but ``leave`` takes ownership of a listener.  Every method that talks to the kernel raises
    KernelError when it refuses.
    """

    name: str  # "migrate" | "hash" | "drain"
    migrates: bool  # what a listener holds moves to others when it closes or is cycled
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

    def leave(self, slot: int, listener: socket.socket, *, end: bool = False) -> None:
        """The slot gets nothing any more, and this descriptor of its listener is closed.

        With ``end`` nobody listens with it any more, whichever processes have it open.
        """

    def attach(self, listener: socket.socket) -> None:
        """Our program decides for this listener's group, whatever did before; again is no error."""

    @property
    def own_port(self) -> int:
        """The port from which ``look_after`` wants its connection; 0 for any."""

    def look_after(self, own: OwnMember) -> bool | None:
        """Whether our program decided for the group of this member, which has not joined; None when
        that cannot be told.  Else it is attached again.
        """

    def close(self) -> None:
        """Give back what this object holds; what is in force in the kernel stays in force."""


@runtime_checkable
class Counting(Protocol):
    """Its program counts what each slot gets."""

    def counts(self) -> dict[int | None, Counts]:
        """What each slot has got since it joined; None has what the kernel's own hash decided.

        Empty when the program of an object has no counters.
        """

    def counted(self, slot: int) -> Counts:
        """What this slot has got since one joined there last, whether or not it is there still."""


@runtime_checkable
class IndexAddressed(Protocol):
    """It names a listener by its index in the kernel's array of members.

    An index stays valid only while ours is the last descriptor of the listener, so ``leave`` must
    wait until its worker has ended.
    """

    def order(self) -> list[int]:
        """The kernel's order of members by cookie, as far as it is known."""

    def adopt_order(self, order: Sequence[int]) -> None:
        """Start from the order that a predecessor knew."""

    def check(self, cookies: Collection[int]) -> list[str]:
        """Compare with the members that listen now; what follows from it, in sentences."""


@runtime_checkable
class KeepingVariables(Protocol):
    """Its program comes from an object file, which may have variables of its own."""

    def variables(self) -> dict[str, int]:
        """Those of 1, 2, 4 and 8 bytes, unsigned, by name."""


@runtime_checkable
class Refusing(Protocol):
    """It can keep new connections away from a group that is to end."""

    def refuse(self, listeners: Sequence[socket.socket]) -> bool:
        """No SYN is accepted any more; what came before is finished.  False if it may not be so.

        ``listeners`` are the group's members, all of which are ours.  With eBPF the client is
        refused; else it hears nothing, and is refused when it asks again and no listener is left.
        For good: nothing takes it back.  Raises KernelError, VerifierError.
        """


@runtime_checkable
class HandingOver(Protocol):
    """It can go on in a re-exec from its descriptors; else every listener joins again."""

    def descriptors(self) -> dict[str, int]:
        """What to hand over, by name; they stay this object's own.  Empty to begin anew."""


@runtime_checkable
class Exchangeable(Protocol):
    """Its program is over maps that another program can be loaded over, and exchanged for it."""

    @property
    def maps(self) -> dict[str, Map]:
        """Every map of its program, by name; they stay this object's own."""

    def exchange(self, program: Program | None, listener: socket.socket | None) -> None:
        """Attach this program from now on, or with None the steering's own again."""


def counts_of(steering: Steering) -> dict[int | None, Counts]:
    """As in Counting; empty for an engine that cannot count."""
    return steering.counts() if isinstance(steering, Counting) else {}


def counted_of(steering: Steering, slot: int) -> Counts:
    """As in Counting; zeros for an engine that cannot count."""
    return steering.counted(slot) if isinstance(steering, Counting) else Counts()


def order_of(steering: Steering) -> list[int]:
    """As in IndexAddressed; empty where the order does not matter."""
    return steering.order() if isinstance(steering, IndexAddressed) else []


def descriptors_of(steering: Steering) -> dict[str, int]:
    """As in HandingOver; empty for an engine that begins anew."""
    return steering.descriptors() if isinstance(steering, HandingOver) else {}


def variables_of(steering: Steering) -> dict[str, int]:
    """As in KeepingVariables; empty for an engine without a program from an object file."""
    return steering.variables() if isinstance(steering, KeepingVariables) else {}


def moves_at_close(steering: Steering) -> bool:
    """What a listener holds migrates when it is closed, and no index is lost by that."""
    return steering.migrates and not isinstance(steering, IndexAddressed)
