"""One listener: its accept queue, its half-open requests by number, and its Fast Open slots.

Stands for ``struct inet_connection_sock`` and ``struct request_sock_queue``.  Which listener
something moves to is the group's business (group.py); what moving does is migration.py's.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from segue.model.states import CLOSE, LISTEN, State

if TYPE_CHECKING:
    from segue.model.connection import Connection
    from segue.model.group import Group

Endpoint = tuple[bytes, int]  # an address, all zeros for any, and a port


@dataclass(slots=True)
class FastOpen:
    """The slots for children whose handshake is not over (struct fastopen_queue)."""

    limit: int = 0  # TCP_FASTOPEN
    keys: bytes = b""  # TCP_FASTOPEN_KEY: one or two of 16 bytes, or the sysctl's
    used: int = 0  # may go below zero: profile.Difference.FAST_OPEN_SLOT_STAYS
    penalties: deque[float] = field(default_factory=deque)  # when each may be forgotten

    def has_room(self, now: float) -> bool:
        """One more may come; an old penalty makes way (tcp_fastopen_queue_check)."""
        if not self.limit:
            return False
        if self.used < self.limit:
            return True
        if self.penalties and self.penalties[0] <= now:
            self.penalties.popleft()
            self.used -= 1
            return True
        return False


@dataclass(slots=True, eq=False)
class Listener:
    """A socket that was made to listen; ``state`` is CLOSE before and after."""

    cookie: int
    uid: int = 0
    endpoint: Endpoint | None = None
    state: State = CLOSE
    backlog: int = 0
    closed: bool = False  # the program has let go of it
    options: dict[str, int] = field(default_factory=dict)
    queue: deque[Connection] = field(default_factory=deque)
    requests: int = 0  # half-open ones that refer to it
    young: int = 0  # those of them that have seen no timeout
    references: int = 0  # requests and Fast Open children that refer to it
    fast_open: FastOpen = field(default_factory=FastOpen)
    defer_accept: int = 0  # in SYN-ACKs: see durations.retransmits_in
    group: Group | None = None

    @property
    def listening(self) -> bool:
        """In TCP_LISTEN."""
        return self.state is LISTEN

    @property
    def full(self) -> bool:
        """No room for another child: a backlog of N holds N + 1 (sk_acceptq_is_full)."""
        return len(self.queue) > self.backlog

    @property
    def requests_full(self) -> bool:
        """No room for another half-open request (inet_csk_reqsk_queue_is_full)."""
        # More than the backlog, as in the accept queue: N + 1 are kept (measured on 6.18).  Below
        # zero is full too: see profile.Difference.MOVES_WITH_ITS_CHILD.
        return not 0 <= self.requests <= self.backlog
