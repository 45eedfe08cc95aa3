"""What the supervisor knows, as values that can be saved and loaded.

The plan reads an Instance and never changes it.  ``to_json`` and ``from_json`` preserve it over a
re-exec and, with the workers' start times, over a crash of the supervisor.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from segue.supervisor.lifecycle.stages import (
    INSTANCE,
    WORKER,
    InstanceInput,
    Phase,
    Stage,
    WorkerInput,
    step,
)

# The values that a field of a record may have, by its type; and a limit above all its numbers.
_PLAIN = {
    "int": (int,),
    "int | None": (int, type(None)),
    "float": (int, float),
    "str": (str,),
    "bool": (bool,),
}
_MOST = 2.0**64


@dataclass(frozen=True, slots=True)
class HeldListener:
    """One listener of a worker that the supervisor holds a descriptor of."""

    bind: int  # index into the settings' binds
    slot: int  # the listener's number in the steering of that address
    cookie: int


@dataclass(frozen=True, slots=True)
class Start:
    """What a generation runs: as its first worker was started."""

    directory: str  # by name
    resolved: str  # what the name led to
    program: str
    at: float

    def __str__(self) -> str:
        there = "" if self.resolved == self.directory else f" ({self.resolved})"
        return f"{self.program} in {self.directory}{there}"


@dataclass(slots=True)
class Worker:
    """One spawned command with its listeners."""

    id: int
    generation: int
    pid: int
    started: float
    start_ticks: int = 0  # start time in ticks, to detect a reused pid
    stage: Stage = Stage.STARTING
    stage_since: float = 0.0  # when the stage was entered
    draining_since: float = 0.0  # when it lost its share or was told to stop, whichever was first
    pipe: int = 0  # inode of the pipe that it prints into; 0 if that is not ours
    listeners: tuple[HeldListener, ...] = ()
    finisher: bool = False  # only finishes the queue of a dead worker's listener
    outcome: str = ""  # how it ended, once it has
    missing: str = ""  # the proof of readiness that it lacked at the last look
    fault: str = ""  # why it can never serve, although it runs
    outgoing: str = ""  # why it is to be replaced: it keeps its share until a successor is ready
    hangs: bool = False  # and then it is told to stop, because waiting for it is no use
    stop_requested: bool = False  # we told it to stop, so its end is not a crash
    directory: str = ""  # what the name of its directory led to at its start
    reason: str = ""  # more of its outcome: why, or its last words; told when it ended
    memory: int = 0  # bytes of its processes at the last look, if they are limited
    given: int = 0  # connections that it was given up to the last look, if they are limited
    over_since: float = 0.0  # when it had reached a limit at which it is recycled; 0 if it has not
    spent: bool = False  # it served, and exited with 0 unasked: its quota was used up

    def feed(self, given: WorkerInput, now: float) -> None:
        """Go one step of the table.  Raises IllegalInput and changes nothing without a row."""
        self.stage = step(WORKER, self.name, self.stage, given)
        self.stage_since = now
        if given in {WorkerInput.READY, WorkerInput.SHARE}:
            self.draining_since = 0.0
        elif not self.draining_since:
            self.draining_since = now
        if given in {WorkerInput.STOP, WorkerInput.KILL}:
            self.stop_requested = True

    @property
    def name(self) -> str:
        """Its name for sentences: generation, number, and the process if there is one."""
        return f"worker {self.generation}.{self.id}" + (f" (pid {self.pid})" if self.pid else "")

    @property
    def live(self) -> bool:
        """Its process has not ended."""
        return self.stage is not Stage.GONE


@dataclass(frozen=True, slots=True)
class Renewal:
    """The options of a restart, as one value, so that it is never half set."""

    percent: float = 100.0  # the part of the new generation; below 100 it is a canary
    keep: float = 0.0  # seconds for which the old generation is kept for a rollback
    at_once: bool = False  # move queued connections at the flip (--now)
    cut: bool = False  # also close accepted connections (--cut)
    step: int = 0  # so many workers are replaced at a time (--step); 0 for all at once

    def __str__(self) -> str:
        """The options by which it differs from an ordinary restart."""
        said = [
            (self.percent < 100, f"--canary {self.percent:g}"),
            (self.keep, f"--keep {self.keep:g}"),
            (self.step, f"--step {self.step}"),
            (self.at_once, "--now"),
            (self.cut, "--cut"),
        ]
        return " ".join(option for given, option in said if given)

    def check(self) -> None:
        """Raise ValueError for numbers that no restart can have been asked for with."""
        if self.step < 0:
            raise ValueError(f"a restart cannot replace {self.step} worker(s) at a time")
        if not 0 <= self.percent <= 100:
            raise ValueError(f"a canary cannot have {self.percent:g} percent")
        if self.keep < 0:
            raise ValueError(f"a generation cannot be kept for {self.keep:g} s")


@dataclass(frozen=True, slots=True)
class Recycling:
    """A worker that serves on until a successor has its share, and then drains."""

    worker: int
    why: str
    before: int  # the last worker that was started before
    waits: str = ""  # why this has not begun; "" if it has
    failing: bool = False  # that its successors fail was said


@dataclass(slots=True)
class Instance:
    """One ``segue run``: its phase, its generations and their workers."""

    size: int
    begun: float = 0.0  # when its first generation was started
    phase: Phase = Phase.STARTING
    working: int = 1  # the generation that gets new connections
    newcomer: int | None = None  # the generation that is starting or a canary
    last_generation: int = 1
    last_worker: int = 0
    renewal: Renewal = field(default_factory=Renewal)  # of the restart that is under way
    rolled_back: bool = False  # the working generation is not the last one that was started
    shared: tuple[tuple[int, float], ...] = ()  # the weights in force, by worker id
    factors: dict[int, float] = field(default_factory=dict)  # factors of the weights
    balance: dict[int, float] = field(default_factory=dict)  # more factors, by ``--balance queue``
    crashes: list[float] = field(default_factory=list)
    not_before: float = 0.0  # the back-off: no worker is respawned earlier
    replaced: float = 0.0  # when a worker was last told to be replaced
    refuse_at: float = 0.0  # once it is to stop: when it takes no new connections any more
    stop_by: float = 0.0  # and when whatever still runs is killed; 0 for never
    recycling: Recycling | None = None
    hasty: int = 0  # workers in a row that were recycled soon after they began to serve
    recycle_after: float = 0.0  # no recycling begins earlier
    workers: dict[int, Worker] = field(default_factory=dict)
    starts: dict[int, Start] = field(default_factory=dict)  # by generation
    queued: Renewal | None = None  # a restart that waits its turn (turn.py)

    def feed(self, given: InstanceInput) -> None:
        """Go one step of the table.  Raises IllegalInput and changes nothing without a row."""
        self.phase = step(INSTANCE, "this instance", self.phase, given)

    def leave(self, given: InstanceInput, now: float, *, delay: float, limit: float) -> None:
        """Begin to stop: take no new connections after ``delay``, and end by ``limit`` unless 0.

        Newcomers are given up, and the restart that waits.  Raises IllegalInput and changes
        nothing without a row.
        """
        self.feed(given)
        self.newcomer = self.queued = None
        self.refuse_at = now + delay
        if limit and not self.stop_by:
            self.stop_by = now + limit

    def of(self, generation: int, *stages: Stage) -> list[Worker]:
        """Live workers of a generation, oldest first, without finishers; only of these stages."""
        return [
            one
            for one in self.workers.values()
            if one.generation == generation
            and not one.finisher
            and one.live
            and (not stages or one.stage in stages)
        ]

    @property
    def living(self) -> list[Worker]:
        """Every worker whose process has not ended."""
        # As Worker.live, without a call for each: in every round this is asked for many times.
        return [one for one in self.workers.values() if one.stage is not Stage.GONE]

    @property
    def replacing(self) -> Worker | None:
        """The worker that keeps its share until its successor is ready, if there is one."""
        everyone = self.of(self.working, Stage.SERVING)
        return next((one for one in everyone if one.outgoing), None)

    @property
    def settled(self) -> bool:
        """True if no restart is under way and no worker of an earlier one is left."""
        return self.phase is Phase.SERVING and all(
            one.generation == self.working for one in self.living
        )

    @property
    def previous(self) -> int | None:
        """The youngest earlier generation to which a rollback is possible."""
        return max(
            (
                one.generation
                for one in self.living
                if one.generation < self.working
                and one.stage is Stage.DRAINING
                and not one.finisher
            ),
            default=None,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for json.dumps."""
        of_its_own = (self.renewal, self.queued, self.recycling)
        renewal, queued, recycling = (one and _fields(one) for one in of_its_own)
        return _fields(self) | {
            "phase": self.phase.name,
            "renewal": renewal,
            "queued": queued,
            "recycling": recycling,
            "workers": [_plain(one) for one in self.workers.values()],
            "factors": dict(self.factors),
            "balance": dict(self.balance),
            "crashes": list(self.crashes),
            "starts": {number: _fields(one) for number, one in self.starts.items()},
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Instance:
        """The instance that ``to_json`` saved, without fields that only another version has.

        Raises KeyError, TypeError, ValueError, AttributeError or OverflowError on foreign data.
        """
        workers = [
            Worker(
                **{
                    **known(Worker, one),
                    "stage": Stage[one["stage"]],
                    "listeners": tuple(
                        HeldListener(**known(HeldListener, held)) for held in one["listeners"]
                    ),
                }
            )
            for one in plain["workers"]
        ]
        return cls(
            **{
                **known(cls, plain),
                "phase": Phase[plain["phase"]],
                "renewal": Renewal(**known(Renewal, plain.get("renewal", {}))),
                "queued": _queued(plain.get("queued")),
                "shared": tuple(
                    (int(worker), _finite(weight)) for worker, weight in plain["shared"]
                ),
                "factors": _factors(plain.get("factors", {})),
                "balance": _factors(plain.get("balance", {})),
                "crashes": [_finite(one) for one in plain.get("crashes", ())],
                "workers": {one.id: one for one in workers},
                "recycling": (
                    Recycling(**known(Recycling, plain["recycling"]))
                    if plain.get("recycling")
                    else None
                ),
                "starts": {
                    int(number): Start(**known(Start, one))
                    for number, one in plain.get("starts", {}).items()
                },
            }
        )


def _plain(worker: Worker) -> dict[str, Any]:
    return _fields(worker) | {
        "stage": worker.stage.name,
        "listeners": [_fields(one) for one in worker.listeners],
    }


def _fields(made: Instance | Worker | HeldListener | Renewal | Recycling | Start) -> dict[str, Any]:
    """As asdict, which copies each value: too slow for what is written at each start of one."""
    return {name: getattr(made, name) for name in _NAMES[type(made).__name__]}


_NAMES = {
    kind.__name__: tuple(one.name for one in fields(kind))
    for kind in (Instance, Worker, HeldListener, Renewal, Recycling, Start)
}


def _queued(plain: dict[str, Any] | None) -> Renewal | None:
    return None if plain is None else Renewal(**known(Renewal, plain))


def _factors(plain: dict[str, Any]) -> dict[int, float]:
    return {int(one): _finite(by) for one, by in plain.items()}


def _finite(value: Any) -> float:
    found = float(value)
    if not abs(found) < _MOST:
        raise ValueError(f"no number in a record can be {found:g}")
    return found


def known(kind: type[Any], plain: dict[str, Any]) -> dict[str, Any]:
    """The values for which this version has a field.

    Raises TypeError for a value of the wrong type.
    """
    kinds = {one.name: str(one.type) for one in fields(kind)}
    for name, value in plain.items():
        wanted = _PLAIN.get(kinds.get(name, ""))
        if wanted is not None and not (
            isinstance(value, wanted)
            and isinstance(value, bool) == (bool in wanted)
            and (value is None or isinstance(value, str) or abs(value) < _MOST)
        ):
            raise TypeError(f"{name} cannot be {value!r:.40}")
    return {name: value for name, value in plain.items() if name in kinds}
