"""The program of a group: which listener gets a connection (BPF_PROG_TYPE_SK_REUSEPORT)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from segue.model.arrival import Path
from segue.model.states import State


class SkAction(Enum):
    """An answer that names no listener (enum sk_action in include/uapi/linux/bpf.h)."""

    PASS = auto()  # let the hash decide
    DROP = auto()  # refuse a new connection; cancel a migration


class Question(NamedTuple):
    """What the program sees (struct sk_reuseport_md).

    ``cookie`` is of the listener that is asked for: when something migrates, the one that is
    closing.  ``migrating`` is the state of what migrates, None for a new connection;
    ``migrating_cookie`` is its cookie, the one that the accepted socket will have.  ``length`` is
    that of the segment, 0 when no segment is the occasion.

    In the profile SERIES a program that is asked about a migration sees ``cookie`` alone, and no
    packet: ``path`` is None (profile.Difference.TOLD_WHAT_MIGRATES).
    """

    hash: int
    path: Path | None
    cookie: int
    migrating: State | None = None
    migrating_cookie: int = 0
    length: int = 0
    flags: int = 0


# A listener by its cookie, or a verdict.  One that is not a live member counts as PASS: that is
# what a failed bpf_sk_select_reuseport with SK_PASS comes to (FACTS, program).
Decide = Callable[[Question], int | SkAction]


@dataclass(frozen=True, slots=True)
class Program:
    """A decision and how it was attached: as SELECT_OR_MIGRATE it is asked about migrations."""

    decide: Decide
    migrates: bool = True
