"""A reuseport group: which listener gets a new connection, and which one gets what moves.

Stands for ``struct sock_reuseport`` (net/core/sock_reuseport.c).  Its listeners are in two
sections: the live ones, and the *closed section* of those that no longer listen but to which
requests still refer.  Pure choice: nothing is moved here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from segue.model.arrival import Arrival
from segue.model.events import Choice
from segue.model.listener import Endpoint, Listener
from segue.model.profile import Difference, Profile
from segue.model.program import Program, Question, SkAction

NEVER = float("-inf")


@dataclass(slots=True, eq=False)
class Group:
    """``live`` is in the kernel's order: the last fills the hole that one leaves (FACTS, index)."""

    endpoint: Endpoint
    uid: int
    shared: bool  # SO_REUSEPORT; without it there is one member and nothing migrates
    switch: bool  # tcp_migrate_req when the group was made
    live: list[Listener] = field(default_factory=list)
    closed: list[Listener] = field(default_factory=list)
    program: Program | None = None
    overflowed_at: float = NEVER  # the last SYN cookie sent, by any member

    def join(self, listener: Listener) -> None:
        """It listens from now on; if it is in the closed section, it leaves that."""
        if listener in self.closed:
            self.closed.remove(listener)
        self.live.append(listener)
        listener.group = self

    def stop(self, listener: Listener, *, keep: bool) -> Listener | None:
        """It listens no more.  With ``keep`` it goes to the closed section, else it is no member
        any more (reuseport_stop_listen_sock).

        Returns its neighbour: the one that has its place now, or, if it was the last, the one
        before it; None if it was alone.
        """
        at = self.live.index(listener)
        last = self.live.pop()
        if at < len(self.live):
            self.live[at] = last
        if keep:
            self.closed.append(listener)
        else:
            listener.group = None
        return self.live[min(at, len(self.live) - 1)] if self.live else None

    def forget(self, listener: Listener) -> None:
        """Nothing refers to a closed listener any more."""
        if listener in self.closed:
            self.closed.remove(listener)
            listener.group = None

    def migrates(self, profile: Profile, switch: int) -> bool:
        """Something may move at this instant; ``switch`` is tcp_migrate_req."""
        on = bool(switch)
        if on is not self.switch and Difference.SWITCH_IS_READ_AT_CLOSE not in profile:
            on = self.switch
        if on or Difference.PROGRAM_IS_A_SWITCH not in profile:
            return on
        return self.program is not None and self.program.migrates

    def select(self, number: int, arrival: Arrival) -> Listener | None:
        """Who gets a new connection, by the hash of its flow; None when the program refuses it
        (reuseport_select_sock).
        """
        if self.program is None:
            return self._by_hash(number)
        asked_for, length, flags = self.live[0].cookie, arrival.length, arrival.flags
        question = Question(number, arrival.path, asked_for, length=length, flags=flags)
        return self._ask(self.program, question, None)[0]

    def select_for_migration(
        self, question: Question, profile: Profile, neighbour: Listener | None = None
    ) -> tuple[Listener | None, Choice]:
        """The listener that gets what moves, and what decided it; None if none listens or the
        program cancels it.

        A program that is not asked about migrations has no say in them: the hash decides
        (reuseport_migrate_sock), or for a whole queue the ``neighbour`` gets it.
        """
        if not self.live:
            return None, Choice.NOBODY_LISTENS
        program = self.program
        if program is not None and not program.migrates:
            program = None if Difference.ASKED_BY_ATTACH_TYPE in profile else program
        if program is not None:
            return self._ask(program, question, neighbour)
        return self._without(question, neighbour)

    def _ask(
        self, program: Program, question: Question, neighbour: Listener | None
    ) -> tuple[Listener | None, Choice]:
        answer = program.decide(question)
        if answer is SkAction.DROP:
            return None, Choice.CANCELLED
        for one in self.live:
            if one.cookie == answer:
                return one, Choice.PROGRAM
        return self._without(question, neighbour)

    def _without(self, question: Question, neighbour: Listener | None) -> tuple[Listener, Choice]:
        """No program has chosen."""
        if neighbour is not None:
            return neighbour, Choice.NEIGHBOUR
        return self._by_hash(question.hash), Choice.HASH

    def _by_hash(self, number: int) -> Listener:
        return self.live[number * len(self.live) >> 32]  # reciprocal_scale
