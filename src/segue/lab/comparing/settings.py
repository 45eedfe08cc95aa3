"""What one comparison is about, and when its clients come: the same for Linux and for the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite, log

from segue.errors import UsageError
from segue.lab.link import Chance

PORT = 80
PATIENCE_S = 3.0  # a client that has waited so long for an answer gives up
AFTER_S = 2.0  # clients come for so long after the restart begins
SETTLED_S = 1.0  # and for so long, and two round trips, before it
_OPENING_MOST_S = 120.0
THINK_S = 0.4  # a kept connection asks after so long on average
FIRST_PORT = 1025  # of the clients, each of whose connections has one of its own
_MOST = 40_000  # connections in one run: ports, with room for those that come again


@dataclass(frozen=True, slots=True)
class Settings:
    """``busy`` is the part of its time that a worker takes to accept, which is what makes queues;
    each accept takes ``accept_s``.  Raises UsageError for what cannot be.
    """

    rate: float = 400.0  # new connections a second
    rtt_s: float = 0.04
    workers: int = 2  # of each generation, with a listener each
    backlog: int = 128
    kept: int = 20  # clients that keep their connection and think
    busy: float = 0.7
    seed: int = 1

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("rate", self.rate, 1, _MOST),
            ("rtt in ms", 1000 * self.rtt_s, 0, 2000),
            ("workers", self.workers, 1, 64),
            ("backlog", self.backlog, 1, 65535),
            ("kept", self.kept, 0, 5000),
            ("busy", self.busy, 0, 0.95),
        ):
            if not (isfinite(value) and least <= value <= most):
                raise UsageError(f"{name} must be from {least} to {most} (got {value:g})")
        if self.opening_s > _OPENING_MOST_S:
            raise UsageError(
                f"{self.kept} connections to keep take {self.opening_s:g} s at {self.rate:g} a"
                " second: raise --rate, or lower --kept"
            )
        if self.rate * self.length_s > _MOST:
            raise UsageError(
                f"{self.rate:g} connections a second for {self.length_s:g} s are more than"
                f" {_MOST:,}: lower --rate"
            )

    @property
    def opening_s(self) -> float:
        """So long only clients come that keep their connection, at the rate of the others.

        Faster, they would wait in the queues when the restart begins, as nobody's do who came long
        before it.
        """
        return self.kept / self.rate

    @property
    def restart_s(self) -> float:
        """When the restart begins, after the first client."""
        return self.opening_s + SETTLED_S + 2 * self.rtt_s

    @property
    def length_s(self) -> float:
        """When the last client comes."""
        return self.restart_s + AFTER_S

    @property
    def accept_s(self) -> float:
        """For a worker to accept one connection."""
        return self.busy * self.workers / self.rate

    def arrivals(self, chance: Chance) -> Iterator[float]:
        """When clients come that ask once: at random, as of many who do not know each other."""
        at = self.opening_s
        while (at := at - log(1 - chance()) / self.rate) < self.length_s:
            yield at
