"""What a policy may say: its verdicts, and what it is told of a connection that migrates.

A policy is a function of ``conn`` and ``group`` that returns a selection or a verdict
(docs/POLICY.md).
"""

from __future__ import annotations

from enum import Enum, IntEnum

from segue.policy.builtin import SLOTS
from segue.policy.maps import Kind, Map


class Verdict(IntEnum):
    """What becomes of the connection (enum sk_action in include/uapi/linux/bpf.h)."""

    DROP = 0  # refuse the SYN; cancel the migration
    PASS = 1  # to the listener selected, or, when none is, to the one of the kernel's own hash


class Selection(Enum):
    """What became of trying a slot: true when it has a listener of this group.

    Returned from a policy, either is PASS: to that listener, or to the kernel's own hash.
    """

    NONE = 0
    MADE = 1

    def __bool__(self) -> bool:
        return self is Selection.MADE


class Migrating(IntEnum):
    """What of a connection is there already; ``NO`` for a new one."""

    NO = 0
    REQUEST = 1  # half-open: its client owes the last ACK
    CHILD = 2  # in the accept queue of a listener that closes
    FASTOPEN = 3  # the same, with data, before its handshake is over


# The group's own listeners, by slot.
SOCKETS = Map("sockets", value="u64", size=SLOTS, kind=Kind.SOCKETS.value)
