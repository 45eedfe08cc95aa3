"""The status of an instance, which ``segue status`` shows and ``--json`` prints.

``segue run`` and ``segue attach`` fill the same classes, and the command line reads them.  Times
are in seconds and shares in percent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from functools import cache
from itertools import zip_longest
from types import UnionType
from typing import Any, Self, TypeAlias, get_args, get_origin, get_type_hints

from segue.errors import SegueError
from segue.supervisor.control.requests import shown


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """One worker, or one listener of an attached group."""

    generation: int
    id: int  # of an attached group, the slot
    pid: int
    stage: str
    age: float
    share: float
    command: str = ""
    weight: float = 1.0  # by ``--balance queue``
    queue: int = 0
    drops: int | None = 0  # None with TCP_DEFER_ACCEPT, where each connection counts as one
    connections: int | None = 0  # None if there are too many processes to look at
    new: int = 0  # connections selected for it, and connections that migrated to it
    migrated: int = 0
    directory: str = ""  # what it started in, resolved
    missing: str = ""  # why a starting worker is not ready yet
    left_out: int = 0  # lines that it printed and that are not in the log
    slots: tuple[tuple[str, int], ...] = ()  # (address, slot)
    stalled: float | None = None  # how long it has accepted nothing; None if it accepts
    stalls: int = 0
    memory: int = 0  # bytes, with --max-rss
    given: int = 0  # connections that it was given, with --max-connections
    recycling: str = ""  # why a successor is to replace it, and what that waits for
    rescued: int = 0  # connections that were moved away from it
    hangs: str = (
        ""  # for how long it has accepted nothing, whatever the others do; "" if it accepts
    )
    failing: str = ""  # why its last answer to ``--live-http`` was not good; "" if it was
    outgoing: str = ""  # why a successor is being started; "" if none is


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationStatus:
    """What one generation runs, as its first worker was started."""

    generation: int
    directory: str  # by name
    resolved: str  # what the name led to
    program: str
    started: float  # seconds since 1970


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontStatus:
    """One address."""

    name: str
    address: str
    listeners: int = 0
    half_open: int = 0
    counts: dict[str, int] = field(default_factory=dict)  # the program's decisions, by kind
    by_hash: int = 0  # decisions that the program left to the kernel's hash
    variables: dict[str, int] = field(default_factory=dict)  # of an object file's program
    restored: int = 0  # how often the program had to be put back
    traced: bool = False
    standby: bool = False  # a service manager has a listener here, for when nothing runs
    strangers: tuple[str, ...] = ()  # other processes that listen there


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One instance at one moment."""

    name: str
    pid: int
    phase: str
    engine: str
    working: int | None  # the generation that gets most of new connections, if there is one
    newcomer: int | None  # the generation that is starting, or a canary, if there is one
    size: int
    reasons: tuple[str, ...] = ()  # why this engine
    policy: str = ""
    object: str = ""
    version: str = ""  # of Segue, when this supervisor started or was last re-executed
    command: tuple[str, ...] = ()
    settings_changed: str = ""  # what has become of their file since it was read; "" for nothing
    queued: str = ""  # what a restart waits for, as "until ..."; "" if none waits
    # For how long no worker has served, or how many are missing, and why; "" for neither.
    outage: str = ""
    events: dict[str, int] = field(default_factory=dict)  # what history shows, by kind and result
    failure: str = ""  # the last restart that failed, unless one has served since
    progress: str = ""  # of a restart in steps; "" if none is under way
    moved: int = 0  # connections, by closing and cycling listeners
    cut: int = 0  # accepted connections that were closed before they were finished
    unread: int = 0  # lines of the log that no process read
    notifications_dropped: int = 0  # from users that are not trusted
    rescue: float = 0.0  # seconds without an accept until a worker is stalled; 0 means never
    rescued: int = 0
    balance: str = "off"
    carry: str = "off"  # how kept connections are carried to the next workers: app, http or off
    carry_reason: str = ""  # why they are not
    carried: int = 0
    carried_unread: int = 0  # of these, with a request that its worker had not read
    carried_stalled: int = 0  # of these, from workers that stalled; since the last re-exec
    carry_delayed: int = 0  # no queue had room at once; since the last re-exec
    carry_lost: int = 0  # no listener took them, and their clients were reset
    left_alone: dict[str, int] = field(default_factory=dict)  # by the reason why
    held_wanted: bool = False  # --carry-crash or --keep-idle
    held: int = 0  # connections of serving workers of which there is a duplicate
    held_reason: str = ""  # why of none, or not of all
    held_carried: int = 0  # after the end of their worker
    held_ended: dict[str, int] = field(default_factory=dict)  # with their worker, by the reason why
    waiting_idle: int = 0  # their worker has closed them: they wait for their next request
    went_on: int = 0  # such connections that went to a worker with one
    leftovers: str = "end"  # what becomes of processes that a worker leaves running
    gives_way: str = ""  # how newcomers leave processors to workers that serve, and why so
    flip_ms: float | None = None  # from the moment when all workers are ready to the new shares
    flip_age: float | None = None
    generations: tuple[GenerationStatus, ...] = ()
    fronts: tuple[FrontStatus, ...] = ()
    workers: tuple[WorkerStatus, ...] = ()

    def to_json(self, *, brief: bool = False) -> dict[str, Any]:
        """Plain values, under the names of the fields.

        With ``brief`` without those that have their default.  So a default never changes: a reader
        of another version has the same.
        """
        found: dict[str, Any] = _brief(self) if brief else asdict(self)
        return found

    @classmethod
    def from_json(cls, plain: Any) -> Self:
        """The status that ``to_json`` of this or another version made.

        Fields that the other version lacks get their default, and fields that only it has are left
        out.  Raises SegueError if it is not a status.
        """
        try:
            found: Self = _read(cls, plain, None)
        except _NoStatusError as error:
            raise SegueError(
                f"this is not the status of an instance: {error}; the process that answered is not"
                " a supervisor, or has another version"
            ) from None
        # Earlier versions wrote 0 if there is none.
        return replace(found, working=found.working or None, newcomer=found.newcomer or None)


def _brief(one: Any) -> Any:
    if isinstance(one, tuple):
        return [_brief(it) for it in one]
    if not is_dataclass(one):
        return one
    kind: Any = type(one)
    pairs = [(name, default, getattr(one, name)) for name, default in _defaults(kind)]
    return {name: _brief(value) for name, default, value in pairs if value != default}


@cache
def _defaults(kind: Any) -> list[tuple[str, Any]]:
    """Of each field; MISSING if it must be given."""
    return [
        (one.name, one.default if one.default_factory is MISSING else one.default_factory())
        for one in fields(kind)
    ]


class Reader:
    """Reads the statuses of one instance, look after look.

    A worker of which nothing but the age has changed is the very object of an earlier look, with
    the age of then.  So who looks ten times a second pays for what has changed.  Who does not look
    at some other fields every time names them in ``unseen``.
    """

    def __init__(self) -> None:
        self.brief = True  # unless the supervisor, of an earlier version, knows no brief answer
        self.unseen: frozenset[str] = frozenset()
        self._workers: list[tuple[dict[str, Any], WorkerStatus]] = []

    def read(self, plain: Any) -> Status:
        """As ``Status.from_json``."""
        listed = plain.get("workers") if isinstance(plain, dict) else None
        if not isinstance(listed, list):
            return Status.from_json(plain)
        known: Any = zip_longest(listed, self._workers[: len(listed)], fillvalue=({}, None))
        pairs = [
            (then, worker) if _same(one, then, self.unseen) else (one, one)
            for one, (then, worker) in known
        ]
        found = Status.from_json({**plain, "workers": [worker for _, worker in pairs]})
        self._workers = [
            (then, worker) for (then, _), worker in zip(pairs, found.workers, strict=True)
        ]
        return found


def _same(one: Any, then: dict[str, Any], unseen: frozenset[str]) -> bool:
    """But for the age, which ``then`` gets: a copy of it would take as long as the look at it."""
    if not isinstance(one, dict):
        return False
    then["age"] = one.get("age")
    return one == then or (
        bool(unseen)
        and all(one.get(name) == then.get(name) for name in (one.keys() | then.keys()) - unseen)
    )


class _NoStatusError(Exception):
    """A status has a wrong value; the message says where."""


# Of 64 workers a status has some 2,000 values, and segue watch reads it ten times a second: so what
# is known of a type is asked once, and a plain value first.
_PLAIN: frozenset[Any] = frozenset({bool, int, float, str, type(None)})

# Above every number that is counted, and above every time: of a far larger one no date can be made.
_LIMITS: dict[Any, float] = {int: 1 << 64, float: 1e15}

# Where a value stands, as the way to it: most values are right, and nobody reads where they stand.
_Where: TypeAlias = "tuple[_Where, str | int] | None"


def _place(where: _Where) -> str:
    if where is None:
        return "it"
    outer, part = where
    return f"{_place(outer)}[{part}]" if isinstance(part, int) else f"{_place(outer)}.{part}"


@cache
def _parts(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    return get_origin(kind), get_args(kind)


@cache
def _kinds(kind: type) -> tuple[dict[str, tuple[Any, frozenset[Any]]], dict[str, None]]:
    """Of each field its type, and the types of what is taken as it is; and those that must be."""
    types = get_type_hints(kind)
    known = {
        one.name: (
            its := types[one.name],
            _PLAIN & set(get_args(its) if isinstance(its, UnionType) else [its]),
        )
        for one in fields(kind)
    }
    return known, {
        one.name: None
        for one in fields(kind)
        if one.default is MISSING and one.default_factory is MISSING
    }


def _read(kind: Any, plain: Any, where: _Where) -> Any:
    """The value as this type.  Raises _NoStatusError."""
    if type(plain) is kind and (kind not in _LIMITS or abs(plain) < _LIMITS[kind]):
        return plain
    origin, arguments = _parts(kind)
    if origin is tuple and isinstance(plain, list | tuple):
        if arguments[-1] is not ... and len(arguments) == len(plain):
            pairs = zip(arguments, plain, strict=True)
            return tuple([_read(of, it, (where, at)) for at, (of, it) in enumerate(pairs)])
        if arguments[-1] is ...:
            of = arguments[0]
            return tuple([_read(of, it, (where, at)) for at, it in enumerate(plain)])
    elif origin is dict and isinstance(plain, dict):
        return {key: _read(arguments[1], it, (where, key)) for key, it in plain.items()}
    elif is_dataclass(kind) and isinstance(plain, dict):
        return _fields(kind, plain, where)
    elif type(None) in arguments:
        return None if plain is None else _read(arguments[0], plain, where)
    elif kind is float and type(plain) is int and abs(plain) < _LIMITS[float]:
        return float(plain)
    raise _NoStatusError(f"{_place(where)} is {shown(plain)}")


def _fields(kind: Any, plain: Mapping[str, Any], where: _Where) -> Any:
    known, needed = _kinds(kind)
    found = {}
    for name, value in plain.items():
        if name in known:  # else only another version has it
            its, taken = known[name]
            its_own = type(value)
            limit = _LIMITS.get(its_own)
            right = its_own in taken and (limit is None or abs(value) < limit)
            found[name] = value if right else _read(its, value, (where, name))
    if not needed.keys() <= found.keys():
        missing = next(name for name in needed if name not in found)
        raise _NoStatusError(f"{_place(where)} has no {missing}")
    return kind(**found)
