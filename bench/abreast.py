"""Stories told to Linux side by side in one process: while one waits, others go on."""

from __future__ import annotations

import heapq
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from segue.lab.replay import Telling, answer, counted, speakers
from segue.lab.sides import PORT, KernelSide, unlike_until
from segue.lab.stage import Programs, Stage
from segue.linux import netns

STAGES = 128  # at once: a story mostly waits, for half a second
_DISTURBED_S = 0.002  # half a tick of Linux's timers


@dataclass(frozen=True, slots=True)
class Told:
    """A story by its number, and how Linux and the model tell it.

    ``disturbed`` is that this process was kept from doing a line when the one before it was over,
    so that what the two make of a timer says nothing.
    """

    number: int
    story: str
    seen: list[str]
    ours: list[str]
    disturbed: bool

    @property
    def is_alike(self) -> bool:
        """They tell the same."""
        return self.seen == self.ours


class _Course:
    """A story on its stage.  ``quiet`` is when its step is over, if nothing comes before."""

    def __init__(self, number: int, story: str, stage: Stage) -> None:
        self.number, self.story, self.stage = number, story, stage
        stage.enter()
        self.side = KernelSide(stage)
        self._telling = Telling(story, self.side)
        self._lines = iter(self._telling.lines)
        self._line: list[str] = []
        self._found: list[bytes] = []
        self._seen: list[str] = []
        self._looked = 0.0  # when it was seen that a line was over
        self._disturbed = False
        self.quiet = 0.0

    def begin(self) -> bool:
        """The next line; False if there is none."""
        line = next(self._lines, None)
        if line is None:
            return False
        self.stage.enter()
        self._line = line
        pause = self._telling.say(line)
        self._disturbed |= 0 < self._looked < time.monotonic() - _DISTURBED_S
        self._found = self.side.come()
        self.quiet = self.side.quiet(pause)
        return True

    def come(self) -> bool:
        """Something has come."""
        self._looked = time.monotonic()
        found = self.side.come()
        if found:
            self._found += found
            self.quiet = max(self.quiet, self.side.quiet())
        return bool(found)

    def over(self) -> None:
        """The line has been told."""
        self.side.passed()
        self._seen += self._telling.hear(self._line, self._found).lines

    def end(self) -> Told:
        """Compare, and leave the stage to the next."""
        self.stage.enter()
        seen = [*self._seen, f"counted {counted(self.story, self.side)}"]
        self.side.end()
        ports = [(PORT, there) for there in speakers(self.story).values()]
        self.stage.clear(self.side.version, ports)
        ours = answer(self.story, seen, self.side.steps, self.side.began)
        return Told(self.number, self.story, seen, ours, self._disturbed)


class _Stages:
    """Those that are free, and one epoll instance for all."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._free: list[Stage] = []
        self._all: set[Stage] = set()
        self._programs = Programs()
        self.epoll = select.epoll()

    def take(self) -> Stage | None:
        if self._free:
            return self._free.pop()
        if len(self._all) == self._most:
            return None
        made = Stage(self._programs)
        self._all.add(made)
        self.epoll.register(made.tun, select.EPOLLIN)
        return made

    def give(self, stage: Stage) -> None:
        if not stage.is_worn:
            self._free.append(stage)
            return
        self._remove(stage)

    def _remove(self, stage: Stage) -> None:
        self._all.discard(stage)
        self.epoll.unregister(stage.tun)
        stage.close()

    def close(self) -> None:
        for one in list(self._all):
            self._remove(one)
        self._programs.close()
        self.epoll.close()


def abreast(stories: Iterator[tuple[int, str]], stages: int = STAGES) -> Iterator[Told]:
    """Tell them all, each by its number, so many at once; in the order in which they end.

    Needs root.  The calling thread is in other network namespaces meanwhile.
    """
    time.sleep(unlike_until(time.monotonic()))
    free = _Stages(stages)
    with netns.kept():
        try:
            yield from _tell(stories, free)
        finally:
            free.close()


def _tell(stories: Iterator[tuple[int, str]], free: _Stages) -> Iterator[Told]:
    ties = count()
    waiting: list[tuple[float, int, _Course]] = []
    on: dict[int, _Course] = {}  # by the descriptor of the interface
    more = True
    while True:
        while more and (stage := free.take()) is not None:
            number, story = next(stories, (0, ""))
            more = bool(story)
            if not more:
                free.give(stage)
                break
            course = _Course(number, story, stage)
            on[stage.tun.fileno()] = course
            course.begin()
            heapq.heappush(waiting, (course.quiet, next(ties), course))
        if not waiting:
            return
        for descriptor, _ in free.epoll.poll(max(0.0, waiting[0][0] - time.monotonic())):
            if descriptor in on:
                on[descriptor].come()
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, course = heapq.heappop(waiting)
            if course.quiet <= time.monotonic() and not course.come():
                course.over()
                if not course.begin():
                    del on[course.stage.tun.fileno()]
                    told = course.end()
                    free.give(course.stage)
                    yield told
                    continue
            heapq.heappush(waiting, (course.quiet, next(ties), course))
