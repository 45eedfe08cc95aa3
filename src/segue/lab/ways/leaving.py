"""What a way may do with the workers that leave, and what it needs.

A way is steps over ``Leaving``: a generator that yields how many seconds pass before it goes on.
So the same steps run on Linux by the clock and on the model in virtual time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

LOOK_S = 0.005  # between two looks at what is left
GUARD_S = 1.0  # a SYN-ACK that was lost is sent again after one second, so a guess begins there
LIMIT_S = 5.0  # no way waits longer: the rest is let go of, and counted


class Steering(Enum):
    """Who decides which listener a SYN gets, and what migrates."""

    HASH = "the kernel's hash"
    CLASSIC = "classic BPF"
    COUNTING = "a policy that counts, asked about SYNs alone"
    MIGRATING = "a policy that is asked about migrations too"


class Leaving(Protocol):
    """The workers that leave, all of them at once; their successors listen already.

    They go on accepting at their pace until ``close``, ``give`` or ``hand_over``.
    """

    @property
    def now(self) -> float:
        """Seconds since any instant."""

    def steer_away(self) -> None:
        """From here on SYNs go to the successors alone.  Not with Steering.HASH."""

    def half_open(self) -> frozenset[int]:
        """The half-open requests of the whole group, whoever has them, each by a number."""

    def queued(self) -> int:
        """Connections in the accept queues of those that leave."""

    def set_backlog(self, backlog: int) -> None:
        """Call listen(2) again with another backlog."""

    def selected(self) -> int:
        """SYNs that the policy has sent to those that leave.  Only with Steering.COUNTING."""

    def accepted(self) -> int:
        """Connections that they have accepted since the beginning."""

    def hand_over(self) -> None:
        """Accept all that is queued now, and pass each socket on to a successor."""

    def give(self) -> None:
        """Their listeners are the successors' from here on; nothing is closed."""

    def carry(self) -> int:
        """Carry accepted connections that are between two requests; how many they still have."""

    def close(self) -> None:
        """Close their listeners."""


Steps = Iterator[float]


@dataclass(frozen=True, slots=True)
class Way:
    """One way.  ``privilege`` and ``kernel`` say in words what its owner needs for it."""

    name: str
    about: str
    steps: Callable[[Leaving], Steps]
    privilege: str = "none"
    kernel: str = "3.9"  # SO_REUSEPORT
    steering: Steering = Steering.HASH
    sysctls: Mapping[str, str] = field(default_factory=dict)
    inherits: bool = False  # the successors open no listener of their own
    carries: bool = False


def until(leaving: Leaving, over: Callable[[], bool], limit_s: float = LIMIT_S) -> Steps:
    """Look again and again until it is over, or the time is."""
    end = leaving.now + limit_s
    while not over() and leaving.now < end:
        yield LOOK_S
