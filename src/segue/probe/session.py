"""A whole run: the load, the command beside it, and the kernel's side, in one report."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from segue.errors import UsageError
from segue.probe.client import Client
from segue.probe.during import Command, During
from segue.probe.instance_report import Ask, InstanceReport, InstanceWatch
from segue.probe.kernel import Kernel, Watch
from segue.probe.result import Result, Tally
from segue.probe.settings import Settings
from segue.probe.target import Target
from segue.probe.timeline import Span, Timeline, timeline_of

# A line on a terminal is read at this pace; the kernel's buffer holds 16,000 resets meanwhile.
BEAT_S = 0.25


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of the run, for a line on a terminal."""

    seconds: float
    begun: int
    answered: int
    lost: int
    state: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was found."""

    target: str
    result: Result
    timeline: Timeline
    kernel: Kernel
    command: Command | None = None
    notes: tuple[str, ...] = ()
    interrupted: bool = False
    instance: InstanceReport | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the result's own keys, and the rest beside them."""
        command = self.command
        return self.result.as_dict() | {
            "url": self.target,
            "timeline": self.timeline.as_dict(),
            "kernel": self.kernel.as_dict(),
            "segue": self.instance and self.instance.as_dict(),
            "interrupted": self.interrupted,
            "notes": list(self.notes),
            "during": command
            and {
                "command": command.text,
                "begin_s": command.begin_s,
                "end_s": command.end_s,
                "exit": command.exit,
                "failed": command.failed,
                "output": command.output,
            },
        }


@dataclass(slots=True)
class Session:
    """Runs once.  ``settle_s`` is how long after the command its effects are counted to it.

    ``ask`` gives the status of the instance that serves the target, if there is one.

    Raises UsageError when the command would begin after the load.
    """

    target: Target
    settings: Settings
    during: During | None = None
    settle_s: float = 5.0
    show: Callable[[Progress], None] = field(default=lambda _: None)
    ask: Ask = field(default=lambda: None)
    interrupted: bool = False
    _client: Client = field(init=False)

    def __post_init__(self) -> None:
        duration = self.settings.duration_s
        if self.during and duration is not None and duration <= self.during.after_s:
            raise UsageError(
                f"the command would begin after {self.during.after_s:g} s, but the load lasts"
                f" {duration:g} s; give a longer --duration or a shorter --steady"
            )
        self._client = Client(self.settings)

    def interrupt(self) -> None:
        """End the load now, and report what was found so far."""
        self.interrupted = True
        if self.during:
            self.during.cancel()
        self._client.stop()

    def run(self) -> Report:
        """Run to the end."""
        allow_descriptors(self.settings.max_open + 64)
        over = threading.Event()
        watch = Watch(self.target)
        instance_watch = InstanceWatch(self.ask)
        beat = threading.Thread(target=self._beat, args=(watch, over), name="beat", daemon=True)
        try:
            instance_watch.start()
            if self.during:
                self.during.start()
            beat.start()
            result = self._client.run()
            if self.during:
                self.during.cancel()
            over.set()
            beat.join()
            tally = self._client.tally
            assert tally
            command = self.during.join(tally.start) if self.during else None
            kernel, instance = watch.finish(tally.reset_from), instance_watch.finish(tally.start)
            return self._report(result, tally, command, kernel, instance)
        finally:
            over.set()
            instance_watch.stop()
            watch.close()

    def _beat(self, watch: Watch, over: threading.Event) -> None:
        endless = self.settings.duration_s is None and self.settings.count is None
        while not over.wait(BEAT_S):
            watch.drain()
            tally = self._client.tally
            if tally is not None:
                self.show(self._progress(tally))
            ended = self.during.over_at if self.during else None
            if endless and self.during and ended is not None:
                # As long after as before, or the two could not be compared.
                until = ended + self.settle_s + self.during.after_s
                if time.monotonic() >= until:
                    self._client.stop()

    def _progress(self, tally: Tally) -> Progress:
        counts = dict(tally.counts)
        return Progress(
            time.monotonic() - tally.start,
            tally.begun,
            sum(count for fate, count in counts.items() if fate.attempt and not fate.lost),
            sum(count for fate, count in counts.items() if fate.lost),
            self.during.state if self.during else "",
        )

    def _report(
        self,
        result: Result,
        tally: Tally,
        command: Command | None,
        kernel: Kernel,
        instance: InstanceReport | None,
    ) -> Report:
        span = None
        if command and command.begin_s is not None and command.end_s is not None:
            span = Span(command.begin_s, command.end_s, command.end_s + self.settle_s)
        return Report(
            self.target.text,
            result,
            timeline_of(tally.rows(), result.seconds, span),
            kernel,
            command,
            tuple(self._notes(result, command)),
            self.interrupted,
            instance,
        )

    def _notes(self, result: Result, command: Command | None) -> list[str]:
        found = []
        if self.target.others:
            found.append(
                f"{self.target.name} has {self.target.others} more address(es);"
                f" {self.target.address} was probed"
            )
        if command and command.end_s is not None and command.end_s > result.seconds:
            found.append("the load ended before the command did: give it a longer --duration")
        if self.interrupted:
            found.append("interrupted: the load ended before its time")
        return found


def allow_descriptors(number: int) -> None:
    """Raise the soft limit of open files to at least this, as far as the hard one allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < number:
        wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
