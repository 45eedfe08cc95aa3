"""What a policy may say, and the values it sees when it is run as plain Python.

    @policy
    def newest(conn, group):
        return group.table.select(conn.hash)

A policy is a function of ``conn`` and ``group`` that returns a selection or a verdict.  It is
written in a small part of Python (docs/POLICY.md), which ``segue.policy.compile`` makes an eBPF
program of.  Called as it is, with a ``Conn`` and a ``Group``, it runs as plain Python and decides
the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any

from segue.policy.builtin import SLOTS, UNSELECTED
from segue.policy.integers import u32, u64
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


@dataclass(slots=True)
class Conn:
    """The connection in hand, as plain values; numbers in host order, 0 for what is not known.

    ``segue.policy.connection`` says how each is got in the kernel and what is known when.
    """

    hash: u32 = field(default_factory=u32)
    remote_ip4: u32 = field(default_factory=u32)
    local_ip4: u32 = field(default_factory=u32)
    remote_ip6: tuple[u32, u32, u32, u32] = (u32(), u32(), u32(), u32())
    local_ip6: tuple[u32, u32, u32, u32] = (u32(), u32(), u32(), u32())
    remote_port: u32 = field(default_factory=u32)
    local_port: u32 = field(default_factory=u32)
    ipv6: bool = False
    protocol: u32 = field(default_factory=lambda: u32(6))
    flow_label: u32 = field(default_factory=u32)
    tcp_flags: u32 = field(default_factory=u32)
    options_length: u32 = field(default_factory=u32)
    migrating: Migrating = Migrating.NO
    cookie: u64 = field(default_factory=u64)
    child_cookie: u64 = field(default_factory=u64)
    bind_inany: bool = False
    cpu: u32 = field(default_factory=u32)
    clock: Callable[[], int] = lambda: 0
    chance: Callable[[], int] = lambda: 0

    def now_ns(self) -> u64:
        """Nanoseconds since the machine started, without those asleep."""
        return u64(self.clock())

    def random(self) -> u32:
        """32 bits by chance, others each time."""
        return u32(self.chance())


@dataclass(slots=True)
class Group:
    """The group in plain Python: which slots have a listener, and what the policy has tried."""

    listening: Collection[int] = ()
    selected: int = UNSELECTED  # the slot tried last with success
    missed: bool = False  # some slot that was tried has no listener

    @property
    def table(self) -> Table:
        """The table of shares that the control plane fills."""
        return Table(self)

    def slot(self, number: int) -> Slot:
        """The listener with this number."""
        return Slot(self, int(u32(number)))


@dataclass(frozen=True, slots=True)
class Slot:
    """One place for a listener."""

    group: Group
    number: int

    def select(self) -> Selection:
        """Try to give the connection to the listener here."""
        if self.number not in self.group.listening:
            self.group.missed = True
            return Selection.NONE
        self.group.selected = self.number
        return Selection.MADE

    @property
    def listening(self) -> bool:
        """A listener is here.

        The kernel can only be asked by selecting it, so from then on PASS means this one.
        """
        return bool(self.select())


@dataclass(frozen=True, slots=True)
class Table:
    """The table of shares."""

    group: Group

    def select(self, number: int) -> Selection:
        """Try the slot that this number, mostly ``conn.hash``, has in the table; then others."""
        from segue.policy import steering  # noqa: PLC0415  it is written in this language

        answer: Selection = steering.by_table(self.group, u32(number))
        return answer


# The group's own listeners, by slot.
SOCKETS = Map("sockets", value="u64", size=SLOTS, kind=Kind.SOCKETS.value)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy decided: the verdict, and the slot; UNSELECTED when none, and for DROP."""

    verdict: Verdict
    slot: int


class Policy:
    """A function of ``conn`` and ``group``: callable, and to be compiled."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__

    def __call__(self, conn: Conn, group: Group) -> Verdict | Selection:
        """What the function returns, as plain Python."""
        answer: Verdict | Selection = self.function(conn, group)
        return answer

    def decide(self, conn: Conn, group: Group) -> Decision:
        """Run as plain Python, after the pins as in the kernel, and say what it comes to."""
        from segue.policy import steering  # noqa: PLC0415  it is written in this language

        answer: Verdict | Selection = steering.pinned(conn, group) or self(conn, group)
        verdict = Verdict.PASS if isinstance(answer, Selection) else Verdict(answer)
        verdict = steering.spared(conn, verdict)
        return Decision(verdict, group.selected if verdict is Verdict.PASS else UNSELECTED)
