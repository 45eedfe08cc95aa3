"""Where the series and today's Linux differ: each difference is a name with its reason.

``SERIES`` is the eight patches as they were posted in November 2020 (docs/SERIES.md goes through
them one by one); ``LINUX`` is what was measured on Linux 6.18, ``LINUX_7_3`` on 7.3.4.  The rest of
the model knows only these names.  So a profile of any other set can be made.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Difference(Enum):
    """What Linux does otherwise than the series: the patch from which it departs (0: none of the
    eight), what the series does, and what Linux does, each in half a sentence.
    """

    def __init__(self, patch: int, series: str, linux: str) -> None:
        self.patch, self.series, self.linux = patch, series, linux

    # reuseport_alloc in the series.
    SWITCH_IS_READ_AT_CLOSE = (
        2,
        "the group remembers the switch as it was when the group was made",
        "it is read when a listener stops, and when something is to move",
    )
    # reuseport_migrate_sock; FACTS, program.
    PROGRAM_IS_A_SWITCH = (
        2,
        "only the sysctl switches migration on",
        "so does a program attached as SELECT_OR_MIGRATE",
    )
    # reuseport_resurrect.
    LISTENS_AGAIN_ANYWHERE = (
        2,
        "a listener may only come back into its own group",
        "it joins any, or begins another, without the program",
    )
    # inet_csk_listen_stop: in the series the requests of the children go on referring to the
    # listener that has stopped; Linux clones them.
    CHILD_BY_CHILD = (
        3,
        "one listener gets the whole queue, before its own",
        "each child goes by itself, to the tail",
    )
    # FACTS, wake; kernels without the mend of CVE-2026-46015 do not.
    TARGET_IS_WOKEN = (3, "nobody is told", "who waits at the target is woken")
    # inet_reqsk_clone; FACTS, slots.
    FAST_OPEN_SLOT_STAYS = (
        4,
        "the count of slots goes along with the queue",
        (
            "a migrated child is only subtracted at its new listener: each leaves one slot more"
            " than the limit"
        ),
    )
    # The end of inet_csk_listen_stop: a restart wipes the defence against spoofers out.
    FAST_OPEN_PENALTY_ENDS = (
        4,
        "penalties go to the new listener",
        "they end with the old one",
    )
    # A listener's sk_hash is 0.
    HASH_IS_THE_REQUESTS = (
        5,
        "half-open requests go by the closed listener's hash: all to one",
        "by their own",
    )
    # tcp_check_req hands inet_csk_reqsk_queue_drop the target, which then has -1 half-open
    # requests: compared without a sign that is a full queue, and all that is new is dropped, or
    # with tcp_syncookies 1 gets a cookie.
    MOVES_WITH_ITS_CHILD = (
        5,
        "a request is its target's before it is judged",
        (
            "once it has a child there; one that is reset before is subtracted at the target,"
            " which looks full from then on"
        ),
    )
    # Older programs expect a packet, and know nothing of migration.
    ASKED_BY_ATTACH_TYPE = (
        7,
        "every program is asked",
        "only one that was attached as SELECT_OR_MIGRATE",
    )
    TOLD_WHAT_MIGRATES = (
        7,
        "the program sees a cookie, and no packet",
        "the state, both cookies, and the final ACK",
    )
    MIGRATIONS_ARE_COUNTED = (
        0,
        "no counters",
        "`TCPMigrateReqSuccess`, `TCPMigrateReqFailure`",
    )


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
