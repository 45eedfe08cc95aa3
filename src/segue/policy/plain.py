"""A policy as plain Python: the function, and the connection and group that a test gives it.

    @policy
    def newest(conn, group):
        return group.table.select(conn.hash)

A policy is written in a small part of Python (docs/POLICY.md), which ``segue.policy.compile`` makes
an eBPF program of.  Called as it is, with a ``Conn`` and a ``PlainGroup``, it runs as plain Python
and decides the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from segue.policy import common
from segue.policy.builtin import UNSELECTED
from segue.policy.integers import u32, u64
from segue.policy.language import Migrating, Selection, Verdict


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
        """Nanoseconds since the machine started, without the time in which it slept."""
        return u64(self.clock())

    def random(self) -> u32:
        """32 random bits, different each time."""
        return u32(self.chance())


@dataclass(slots=True)
class PlainGroup:
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

    group: PlainGroup
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

    group: PlainGroup

    def select(self, number: int) -> Selection:
        """Try the slot that this number, mostly ``conn.hash``, has in the table; then others."""
        answer: Selection = common.by_table(self.group, u32(number))
        return answer


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy decided: the verdict, and the slot; UNSELECTED when none, and for DROP."""

    verdict: Verdict
    slot: int

    def __str__(self) -> str:
        if self.verdict is Verdict.DROP:
            return "DROP"
        if self.slot == UNSELECTED:
            return "PASS, by the kernel's own hash"
        return f"PASS to slot {self.slot}"


class Policy:
    """A function of ``conn`` and ``group``: callable, and to be compiled."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__

    def __call__(self, conn: Conn, group: PlainGroup) -> Verdict | Selection:
        """What the function returns, as plain Python."""
        answer: Verdict | Selection = self.function(conn, group)
        return answer

    def decide(self, conn: Conn, group: PlainGroup) -> Decision:
        """Run as plain Python, after the pins as in the kernel, and say what it comes to."""
        answer: Verdict | Selection = common.pinned(conn, group) or self(conn, group)
        verdict = Verdict.PASS if isinstance(answer, Selection) else Verdict(answer)
        verdict = common.without_reset(conn, verdict)
        return Decision(verdict, group.selected if verdict is Verdict.PASS else UNSELECTED)
