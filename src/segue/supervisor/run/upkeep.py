"""What is looked at once a second: strangers, listeners that were shut down, files that are gone.

None of it has a descriptor that would announce it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.engine.steering import IndexAddressed
from segue.supervisor.front import Front
from segue.supervisor.lifecycle.stages import Stage
from segue.supervisor.workers.survey import describe, strangers

if TYPE_CHECKING:
    from segue.supervisor.run.runner import Runner


class Audit:
    """The looks of one runner, and what they have said already."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._strangers: frozenset[int] = frozenset()
        self._gone: set[int] = set()  # fronts whose program was not in force at the last look

    def look(self) -> None:
        """Everything once.  Raises KernelError or OSError when something cannot be looked at."""
        runner = self.runner
        self._find_strangers()
        for front in runner.fronts:
            listening = runner.observer.snapshot(front.bind.address).listeners
            cookies = frozenset(one.cookie for one in listening)
            if isinstance(front.steering, IndexAddressed):
                for said in front.steering.check(cookies):
                    runner.say(said)
            if runner.settings.bind_by == "supervisor":
                self._find_shut(front, cookies)
            self._look_after(front)
        self.keep_paths()

    def _look_after(self, front: Front) -> None:
        """A worker may take the group's program off, and one of our own user may exchange it."""
        member = front.borrow() if front.shared else None
        if member is None:
            return
        with member:
            if self.runner.tracing.traces(front.number):
                # Who watches would be told of our own connection every second.
                front.steering.attach(member)
                return
            if not front.look_after(member):
                self._gone.discard(front.number)
                return
        if front.number not in self._gone:
            self._gone.add(front.number)
            self.runner.say(
                f"the program that steers {front.bind.address} was gone or exchanged, most likely"
                f" by a worker: it is back (time {front.restored}; segue status counts on)"
            )

    def _find_strangers(self) -> None:
        """Count listeners at our addresses that are not ours; say so once for each."""
        crew = self.runner.crew
        seen = {
            one.cookie: (front, one)
            for front in self.runner.fronts
            for one in strangers(front, crew)
        }
        for cookie in set(seen) - self._strangers:
            front, one = seen[cookie]
            self.runner.say(
                f"{describe(one)} listens at {front.bind.address} too and is not this instance's:"
                " it is left alone"
            )
        self._strangers = frozenset(seen)

    def _find_shut(self, front: Front, listening: frozenset[int]) -> None:
        """We hold a descriptor of each listener, so only shutdown(2) ends its listening."""
        instance = self.runner.instance
        for worker in instance.of(instance.working, Stage.STANDBY, Stage.SERVING):
            holds = [hold for hold in worker.holds if hold.bind == front.number]
            if not worker.fault and any(hold.cookie not in listening for hold in holds):
                worker.fault = f"has shut down its listener at {front.bind.address}"
                self.runner.say(f"{worker.name} {worker.fault}: it is replaced")

    def keep_paths(self) -> None:
        """Make anew what somebody removed, such as a cleaner of /tmp.

        Raises SegueError or OSError when it cannot be; serving goes on, and it is tried again.
        """
        runner = self.runner
        if runner.doors.keep():
            runner.say(f"{runner.paths.control} had been removed: it is there again")
            runner.write_down()
