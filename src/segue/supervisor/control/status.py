"""The status of an instance, as ``segue status`` shows it and ``--json`` prints it.

One value for ``segue run`` and ``segue attach``: both fill it, and the command line reads it.
Times are seconds and shares are percent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from functools import cache
from typing import Any, Self, get_args, get_origin, get_type_hints

from segue.errors import SegueError
from segue.supervisor.control.requests import shown


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """One worker; of an attached group, one listener."""

    generation: int
    id: int  # of an attached group, the slot
    pid: int
    stage: str
    age: float
    share: float
    command: str = ""
    weight: float = 1.0  # by ``--balance queue``
    queue: int = 0
    drops: int = 0
    connections: int | None = 0  # None where there are more processes than can be looked at
    new: int = 0  # connections that were selected for it, and those that migrated to it
    migrated: int = 0
    left_out: int = 0  # lines that it printed and the log has not
    slots: tuple[tuple[str, int], ...] = ()  # (address, slot)
    stalled: float | None = None  # for how long it has accepted nothing; None while it accepts
    stalls: int = 0
    rescued: int = 0  # connections that were moved away from it


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontStatus:
    """One address."""

    name: str
    address: str
    listeners: int = 0
    half_open: int = 0
    counts: dict[str, int] = field(default_factory=dict)  # the program's decisions, by kind
    by_hash: int = 0  # decisions that it left to the kernel's hash
    variables: dict[str, int] = field(default_factory=dict)  # of an object file's program
    restored: int = 0  # how often the program had to be put back
    traced: bool = False
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
    command: tuple[str, ...] = ()
    moved: int = 0  # connections, by closing and cycling listeners
    cut: int = 0  # accepted connections that were closed before they were finished
    unread: int = 0  # lines of the log that nobody read
    notifications_dropped: int = 0  # of users whose word counts for nothing
    rescue: float = 0.0  # seconds without an accept until a worker counts as stalled; 0 for never
    rescued: int = 0
    balance: str = "off"
    flip_ms: float | None = None  # from the last worker's being ready to the new shares
    flip_age: float | None = None
    fronts: tuple[FrontStatus, ...] = ()
    workers: tuple[WorkerStatus, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values, under the names of the fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Any) -> Self:
        """The status that ``to_json`` of this version or another made.

        What the other version did not know has its default, and what only that one knows is left
        out.  Raises SegueError when it is no status.
        """
        try:
            found: Self = _read(cls, plain, "it")
        except _NoStatusError as error:
            raise SegueError(
                f"this is no status of an instance: {error}; what answered is no supervisor, or"
                " one of another version"
            ) from None
        # Earlier versions said 0 where there is none.
        return replace(found, working=found.working or None, newcomer=found.newcomer or None)


class _NoStatusError(Exception):
    """What is wrong, and where."""


@cache
def _kinds(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _read(kind: Any, plain: Any, where: str) -> Any:
    """The value as this kind.  Raises _NoStatusError."""
    arguments = get_args(kind)
    if get_origin(kind) is tuple and isinstance(plain, list | tuple):
        if arguments[-1] is not ... and len(arguments) == len(plain):
            pairs = zip(arguments, plain, strict=True)
            return tuple(_read(of, it, f"{where}[{at}]") for at, (of, it) in enumerate(pairs))
        if arguments[-1] is ...:
            of = arguments[0]
            return tuple(_read(of, it, f"{where}[{at}]") for at, it in enumerate(plain))
    elif get_origin(kind) is dict and isinstance(plain, dict):
        return {key: _read(arguments[1], it, f"{where}.{key}") for key, it in plain.items()}
    elif is_dataclass(kind) and isinstance(plain, dict):
        return _fields(kind, plain, where)
    elif type(None) in arguments:
        return None if plain is None else _read(arguments[0], plain, where)
    elif kind is float and type(plain) in {int, float}:
        return float(plain)
    elif type(plain) is kind:
        return plain
    raise _NoStatusError(f"{where} is {shown(plain)}")


def _fields(kind: Any, plain: Mapping[str, Any], where: str) -> Any:
    found = {}
    for one in fields(kind):
        if one.name in plain:
            found[one.name] = _read(_kinds(kind)[one.name], plain[one.name], f"{where}.{one.name}")
        elif one.default is MISSING and one.default_factory is MISSING:
            raise _NoStatusError(f"{where} has no {one.name}")
    return kind(**found)
