"""Where the series and today's Linux differ: each difference is a name with its reason.

``SERIES`` is the eight patches as they were posted in November 2020 (docs/SERIES.md goes through
them one by one); ``LINUX`` is what was measured on Linux 6.18, ``LINUX_7_3`` on 7.3.4.  The rest of
the model knows only these names.  So a profile of any other set can be made.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Difference(Enum):
    """What Linux does otherwise than the series.  The patch is named from which it departs."""

    # 2/8: a group remembers tcp_migrate_req from the moment it was made (reuseport_alloc).  Linux
    # reads the sysctl when a listener stops, and again when something is to move.
    SWITCH_IS_READ_AT_CLOSE = auto()
    # 2/8: tcp_migrate_req is the one switch.  Linux also migrates, whatever the sysctl says, when
    # the program was attached as SELECT_OR_MIGRATE (reuseport_migrate_sock; FACTS, program).
    PROGRAM_IS_A_SWITCH = auto()
    # 2/8: a listener that was shut down may only come back into its own group.  Linux lets it join
    # whatever group is there, and if there is none it begins a new one (reuseport_resurrect).
    LISTENS_AGAIN_ANYWHERE = auto()
    # 3/8: one listener gets the whole accept queue, at the head of its own, and the requests in it
    # go on referring to the one that has stopped.  Linux asks for a target for each child, clones
    # its request, and puts it at the tail (inet_csk_listen_stop).
    CHILD_BY_CHILD = auto()
    # 3/8: the queue is linked over, and nobody is told.  Linux 6.18 wakes whoever waits at the
    # target (FACTS, wake); kernels without the mend of CVE-2026-46015 do not.
    TARGET_IS_WOKEN = auto()
    # 4/8: the count of Fast Open slots goes along with the queue.  Linux clones the request
    # (inet_reqsk_clone) and counts the child down from a listener that never counted it up: each
    # migrated child leaves the target one slot above its limit (FACTS, slots).
    FAST_OPEN_SLOT_STAYS = auto()
    # 4/8: what a spoofer reset is held against the listener that follows.  Linux frees the list
    # with the listener (the end of inet_csk_listen_stop), so a restart wipes the defence out.
    FAST_OPEN_PENALTY_ENDS = auto()
    # 5/8: the hash is that of the closed listener, which is 0: all half-open requests go to the
    # first listener of the group.  Linux takes the hash of each request.
    HASH_IS_THE_REQUESTS = auto()
    # 5/8: a half-open request refers to its target before its ACK is judged.  In Linux it does so
    # once its child is in the target's queue: until then a request that is refused stays with the
    # old listener.  But one that is reset is counted out at the target (tcp_check_req hands
    # inet_csk_reqsk_queue_drop the target), which so has -1 half-open requests: compared without a
    # sign that is a full queue, and all that is new is dropped, or with tcp_syncookies 1 gets a
    # cookie.
    MOVES_WITH_ITS_CHILD = auto()
    # 7/8: every program of a group that migrates is asked.  Linux asks one that was attached as
    # SELECT_OR_MIGRATE: older programs expect a packet, and know nothing of migration.
    ASKED_BY_ATTACH_TYPE = auto()
    # 7/8: the program is told the closing listener's cookie and nothing else: ``data`` is NULL.
    # Linux tells it the state and the cookie of what migrates, and shows it the final ACK.
    TOLD_WHAT_MIGRATES = auto()
    # Series: no counters.  Linux has TCPMigrateReqSuccess and TCPMigrateReqFailure.
    MIGRATIONS_ARE_COUNTED = auto()


class PostedError(Enum):
    """Where the code of the series, as posted, does not do what its text says.

    The model does what the text says, and reports the instant (``events.Misstep``).
    """

    # 4/8 sets the head of the taker's list of penalties, but its tail only in the list that was
    # emptied.  Where the taker had none, the next penalty is linked to what its tail held: to NULL.
    PENALTIES_WITHOUT_TAIL = auto()
    # 7/8 gives back ERR_PTR(-ECONNREFUSED) for SK_DROP.  5/8 asks only whether that is NULL, and
    # then writes to it as to a listener, at the ACK and at the timer.
    CANCELLED_REQUEST_IS_A_LISTENER = auto()
    # 2/8 has reuseport_alloc do nothing where the listener has a group already.  One that listens
    # again while no other does so stays in the closed section: its program is not asked, and what
    # waits in it when it stops once more is lost.
    ALONE_AGAIN_STAYS_CLOSED = auto()


@dataclass(frozen=True, slots=True)
class Profile:
    """A name and the differences that are in force."""

    name: str
    differences: frozenset[Difference]

    def __contains__(self, difference: Difference) -> bool:
        return difference in self.differences


SERIES = Profile("series", frozenset())
LINUX = Profile("linux", frozenset(Difference))
# Seen on 7.3.4: a migrated Fast Open child is counted at its new listener.
LINUX_7_3 = Profile("linux-7.3", LINUX.differences - {Difference.FAST_OPEN_SLOT_STAYS})
