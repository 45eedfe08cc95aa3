"""What has happened to an instance, as events that a history is made of.

``Chronicle`` follows the restarts of an instance.  It is told who asked for one, and why one was
given up.  It sees the rest by looking at the instance after each change.  What is over at once is
noted when it happens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

from segue.supervisor.lifecycle.ending import ENDING
from segue.supervisor.lifecycle.instance import Instance
from segue.supervisor.lifecycle.stages import Phase

RESTART, CRASH, STALL = "restart", "crash", "stall"
SERVED, FAILED, UNSEEN = "served", "failed", "not seen to its end"
# Characters.  An event is one line of a file that is bounded, and its words may be a worker's.
_LONGEST = 600
_NUMBERS = (int, float)
_MOST = 1e15  # above all that is counted here; of far more the C library makes no date
_WAITED = 0.2  # seconds; a restart that waited for less began at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that has happened.  Of two with one ``key`` the later one is true."""

    key: str
    kind: str
    at: float  # when it began, in seconds since 1970
    what: str
    generation: int = 0  # of a restart
    by: str = ""  # who asked for it
    result: str = ""  # what became of it; "" while it is under way
    why: str = ""
    stages: dict[str, float] = field(default_factory=dict)  # seconds by name, in their order
    counts: dict[str, int] = field(default_factory=dict)  # connections, by what became of them

    @property
    def failed(self) -> bool:
        """It came out badly."""
        return self.result == FAILED

    @property
    def took(self) -> float:
        """Seconds, as far as it has come."""
        return sum(self.stages.values())

    def to_json(self) -> dict[str, Any]:
        """Plain values, under the names of the fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Any) -> Self:
        """The event that ``to_json`` of this or another version made.  Raises ValueError."""
        if not isinstance(plain, dict):
            raise ValueError(f"an event is an object, and not {plain!r:.40}")  # noqa: TRY004  as all
        found: dict[str, Any] = {}
        for one in fields(cls):
            value = plain.get(one.name)
            if one.name in {"stages", "counts"}:
                value = _numbers(one.name, {} if value is None else value)
            elif one.name in {"at", "generation"}:
                value = 0 if value is None else value
                value = _numbers(one.name, {one.name: value})[one.name]
            else:
                value = "" if value is None else value
                if not isinstance(value, str):
                    raise ValueError(f"{one.name} of an event cannot be {value!r:.40}")
            found[one.name] = value
        return cls(**found)


def _numbers(name: str, plain: Any) -> dict[str, Any]:
    if not isinstance(plain, dict) or not all(
        isinstance(value, _NUMBERS) and not isinstance(value, bool) and abs(value) < _MOST
        for value in plain.values()
    ):
        raise ValueError(f"{name} of an event cannot be {plain!r:.40}")
    return {str(key): value for key, value in plain.items()}


@dataclass(slots=True)
class _Open:
    """A restart that is not over."""

    event: Event
    stage: str
    since: float  # when the stage began, on the clock of durations
    before: Mapping[str, int]  # the counts of the instance when it was asked for


class Chronicle:
    """Makes events of what it sees and is told, and passes each to ``record``.

    ``now`` is the clock of durations, ``clock`` tells the seconds since 1970, and ``counts`` what
    has become of connections up to now.
    """

    def __init__(
        self,
        record: Callable[[Event], object],
        now: Callable[[], float],
        clock: Callable[[], float],
        counts: Callable[[], Mapping[str, int]],
    ) -> None:
        self._record, self._now, self._clock, self._counts = record, now, clock, counts
        self._open: dict[int, _Open] = {}
        self._told: dict[int, tuple[str, str]] = {}  # results and reasons, before they are seen
        self._noted = 0
        self.totals: Counter[str] = Counter()  # of what is over: "crash", or "restart served"
        self.failure: Event | None = None  # the last one that no success has followed

    def note(self, kind: str, what: str, **more: Any) -> None:
        """Something that is over: fields of its event as keywords."""
        self._noted += 1
        at = self._clock()
        self._write(Event(key=_key(kind, at, self._noted), kind=kind, at=at, what=what, **more))

    def asked(self, generation: int, by: str, options: str = "") -> None:
        """A restart to this generation is asked for.  One of that number before is superseded."""
        if generation in self._open:
            self._end(generation, "superseded", "a later restart took its place")
        at, self._noted = self._clock(), self._noted + 1
        what = f"restart to generation {generation}{f' ({options})' if options else ''}"
        key = _key(RESTART, at, self._noted)
        event = Event(key=key, kind=RESTART, at=at, what=what, generation=generation, by=by)
        self._open[generation] = _Open(event, "waiting", self._now(), dict(self._counts()))

    def given_up(self, generation: int, why: str, result: str = FAILED) -> None:
        """The restart to this generation will not go on: the next look ends it so."""
        self._told.setdefault(generation, (result, "" if result in why else why))

    def look(self, instance: Instance) -> None:
        """The instance has changed, or may have."""
        for generation, one in list(self._open.items()):
            stage = _stage(instance, generation)
            if stage == one.stage and generation not in self._told:
                continue
            if stage and generation not in self._told:
                self._advance(one, stage)
                self._write(one.event)
                continue
            result, why = self._told.pop(generation, _outcome(instance, one.stage))
            self._end(generation, result, why)
        self._told.clear()

    def adopt(self, events: Iterable[Event], instance: Instance) -> None:
        """Go on after a supervisor of before, whose events these are, in their order."""
        for event in events:
            if event.kind != RESTART:
                continue
            generation = event.generation
            if event.result:
                self._remember(event)
            elif _stage(instance, generation) and generation not in self._open:
                # What was counted before belongs to it as well.
                before = {name: -count for name, count in event.counts.items()}
                passed = max(0.0, self._clock() - event.at - event.took)
                stage = _stage(instance, generation)
                self._open[generation] = _Open(event, stage, self._now() - passed, before)
            else:
                self._write(replace(event, result=UNSEEN, why="the supervisor ended meanwhile"))

    def _advance(self, one: _Open, stage: str) -> None:
        now = self._now()
        seconds, spent = dict(one.event.stages), max(0.0, now - one.since)
        if one.stage != "waiting" or spent >= _WAITED:
            seconds[one.stage] = round(seconds.get(one.stage, 0.0) + spent, 3)
        counts, before = self._counts(), one.before
        since = {name: count - before.get(name, 0) for name, count in counts.items()}
        one.event = replace(
            one.event,
            stages=seconds,
            counts={name: count for name, count in since.items() if count > 0},
        )
        one.stage, one.since = stage, now

    def _end(self, generation: int, result: str, why: str) -> None:
        one = self._open.pop(generation)
        self._advance(one, "")
        self._write(replace(one.event, result=result, why=why))

    def _write(self, event: Event) -> None:
        event = replace(event, why=_short(event.why), by=_short(event.by), what=_short(event.what))
        if event.result or event.kind != RESTART:
            self.totals[f"{event.kind} {event.result}".rstrip()] += 1
        self._remember(event)
        self._record(event)

    def _remember(self, event: Event) -> None:
        if event.failed:
            self.failure = event
        elif event.kind == RESTART and event.result == SERVED:
            self.failure = None


def _stage(instance: Instance, generation: int) -> str:
    """The stage of the restart to this generation; "" if it is at work no more."""
    if generation == instance.newcomer:
        return "canary" if instance.phase is Phase.CANARY else "starting"
    if instance.queued is not None and generation == instance.last_generation + 1:
        return "waiting"
    if generation == instance.working and instance.phase not in ENDING and not instance.settled:
        return "draining"
    return ""


def _outcome(instance: Instance, stage: str) -> tuple[str, str]:
    """What has become of one that left this stage, where nobody said so."""
    if stage == "draining":
        return SERVED, ""
    if instance.phase in ENDING:
        return "stopped", "the instance was stopped meanwhile"
    return (SERVED, "") if stage in {"starting", "canary"} else ("withdrawn", "")


def _key(kind: str, at: float, number: int) -> str:
    return f"{kind}-{at:.3f}-{number}"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
