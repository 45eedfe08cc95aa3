"""What is looked at once a second: strangers, listeners that were shut down, programs that went.

None of it has a descriptor that would announce it.
"""

from __future__ import annotations

import functools
from dataclasses import replace

from segue.engine.steering import IndexAddressed
from segue.group import Group, Listener
from segue.linux import proc
from segue.supervisor.front import Front
from segue.supervisor.inherited import end_left
from segue.supervisor.lifecycle.seats import later
from segue.supervisor.lifecycle.stages import Phase, Stage
from segue.supervisor.run.service import Service
from segue.supervisor.workers.survey import describe, unheld


class Upkeep:
    """The looks of one service, and what they have said already."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._strangers: dict[int, frozenset[int]] = {}  # at the last look, by front
        self._left: dict[int, set[int]] = {}  # as ``Front.left`` was at the last look, by front
        self._gone: set[int] = set()  # fronts whose program was not in force at the last look

    def look(self) -> None:
        """Everything once.  Each look may be refused, and the others are made all the same."""
        attempt, partial = self.service.loop.attempt, functools.partial
        for front in self.service.fronts:
            where = front.bind.address
            attempt(f"looking at the listeners at {where}", partial(self._look_at, front))
            attempt(f"looking for the program at {where}", partial(self._look_after, front))

    def _look_at(self, front: Front) -> None:
        service = self.service
        group = service.observer.snapshot(front.bind.address)
        finding = f"looking for other listeners at {front.bind.address}"
        service.loop.attempt(finding, functools.partial(self._find_strangers, front, group))
        cookies = frozenset(one.cookie for one in group.listeners)
        front.left = {one: name for one, name in front.left.items() if one in cookies}
        if front.left.keys() != self._left.get(front.number, set()):
            # A next supervisor must know whose they are, and they came after the last record.
            self._left[front.number] = set(front.left)
            service.write_down()
        if isinstance(front.steering, IndexAddressed):
            for said in front.steering.check(cookies):
                service.warn(said)
        if service.settings.bind_by == "supervisor":
            self._find_shut(front, cookies)

    def _look_after(self, front: Front) -> None:
        """A worker may take the group's program off, and one of our own user may exchange it."""
        member = front.borrow() if front.shared else None
        if member is None:
            return
        with member:
            if self.service.tracing.traces(front.number):
                # Who watches would be told of our own connection every second.
                front.steering.attach(member)
                return
            if not front.look_after(member):
                self._gone.discard(front.number)
                return
        if front.number not in self._gone:
            self._gone.add(front.number)
            self.service.warn(
                f"the program that steers {front.bind.address} was gone or exchanged, most likely"
                f" by a worker: it is back (time {front.restored}; segue status counts on)"
            )

    def _find_strangers(self, front: Front, group: Group) -> None:
        """Say once of each listener at our address that is not ours; end what workers left."""
        found = unheld(group, front, self.service.processes)
        before = self._strangers.get(front.number, frozenset())
        for one in found:
            cookie = one.cookie
            if cookie in front.left:
                doing = f"shutting down a listener that {front.left[cookie]} left"
                self.service.loop.attempt(doing, functools.partial(self._end_left, front, one))
            elif cookie not in before:
                self.service.warn(
                    f"{front.bind.address} has a listener of {describe(one)} too, which is not"
                    " this instance's: it is left alone"
                )
        self._strangers[front.number] = frozenset(one.cookie for one in found)

    def _end_left(self, front: Front, listener: Listener) -> None:
        """Nobody listens any more with what an ended worker's helpers have inherited.

        At the end of the instance ``Front.end`` does that.
        """
        instance, name = self.service.instance, front.left[listener.cookie]
        if instance.phase is Phase.STOPPING or any(one.name == name for one in instance.living):
            return
        owners = proc.owners({listener.inode}).get(listener.inode, ())
        words = proc.describe(owners)
        if owners and end_left(replace(listener, owners=owners), moves=front.moves):
            self.service.warn(
                f"{name} left its listener at {front.bind.address} open in {words}: it is shut down"
            )

    def _find_shut(self, front: Front, listening: frozenset[int]) -> None:
        """We held a descriptor of each listener, so only shutdown(2) ends its listening."""
        instance = self.service.instance
        ours = instance.of(instance.working, Stage.STANDBY, Stage.SERVING)
        for worker in (*ours, *later(instance)):
            holds = [held for held in worker.listeners if held.bind == front.number]
            if not worker.fault and any(held.cookie not in listening for held in holds):
                worker.fault = f"has shut down its listener at {front.bind.address}"
                self.service.warn(f"{worker.name} {worker.fault}: it is replaced")
