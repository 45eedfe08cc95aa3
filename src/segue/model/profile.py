"""Where the series and today's Linux differ: each difference is a name with its reason.

``SERIES`` is the mechanism as its eight patches describe it; ``LINUX`` is what was measured on
Linux 6.18.  The rest of the model knows only these names.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Flag, auto


class Difference(Flag):
    """What Linux does otherwise than the series."""

    # Series: a migrated Fast Open child takes its place in the limit along.  Linux clones the
    # request (inet_reqsk_clone) and counts the child down from a listener that never counted it
    # up: each migrated child leaves the target one slot above its limit (FACTS, slots).
    FAST_OPEN_SLOT_STAYS = auto()
    # Series: what a spoofer reset is held against the listener that follows.  Linux frees the list
    # with the listener (the end of inet_csk_listen_stop), so a restart wipes the defence out.
    FAST_OPEN_PENALTY_ENDS = auto()
    # Series: tcp_migrate_req is the one switch.  Linux also migrates, whatever the sysctl says,
    # when the program was attached as SELECT_OR_MIGRATE (reuseport_migrate_sock; FACTS, program).
    PROGRAM_IS_A_SWITCH = auto()
    # Series: a request that is reset while it would migrate is counted out where it was counted.
    # Linux counts it out at its target (tcp_check_req hands inet_csk_reqsk_queue_drop the target),
    # which so has -1 half-open requests: compared without a sign that is a full queue, and all
    # that is new is dropped, or with tcp_syncookies 1 gets a cookie.
    RESET_IS_COUNTED_AT_TARGET = auto()


@dataclass(frozen=True, slots=True)
class Profile:
    """A name and the differences that are in force."""

    name: str
    differences: Difference

    def __contains__(self, difference: Difference) -> bool:
        return difference in self.differences


SERIES = Profile("series", Difference(0))
LINUX = Profile("linux", ~Difference(0))
