"""The requests of the control socket: one class a verb, checked as a whole.

A request is ``{"do": VERB, ...}`` with the fields of that verb's class and no others.  A misspelt
key is refused; it is never treated as missing.
"""

from __future__ import annotations

import contextlib
import difflib
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from types import UnionType
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints

from segue.errors import UsageError

LONGEST = 86400.0  # seconds; more than a day is surely a mistake
MOST_WORKERS = 512
# A table of 4,096 entries cannot show a larger difference anyway.
MOST_WEIGHT = 1e6
UNTIL = ("serving", "drained")  # what a client of a restart can wait for
_MOST_DIGITS = 20  # of a number of 64 bits
_MOST_SHOWN = 60  # characters


@dataclass(frozen=True, slots=True)
class Request:
    """One request.  Constructing it raises UsageError for a value that makes no sense."""

    verb: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        """The verb, and the fields that do not have their default."""
        default = {one.name: one.default for one in fields(self)}
        given = {name: it for name, it in asdict(self).items() if it != default[name]}
        return {"do": self.verb, **given}


@dataclass(frozen=True, slots=True)
class Restart(Request):
    """Start a new generation.  Times are in seconds."""

    verb = "restart"
    canary: float | None = None  # percent of new connections; None means all
    keep: float | None = (
        None  # the time for which the old generation is kept; None means by the settings
    )
    now: bool = False
    cut: bool = False
    wait: bool = True
    until: str = ""  # what to wait for, a key of UNTIL; "" means drained, or serving with ``keep``
    replace: bool = False  # give up the restart at work, instead of waiting for it
    step: int | None = None  # workers that are replaced at a time, 0 for all; None by the settings

    def __post_init__(self) -> None:
        if self.until not in {"", *UNTIL}:
            raise UsageError(
                f"until (--wait) must be {' or '.join(UNTIL)} (got {shown(self.until)})"
            )
        if self.until == "drained" and self.canary not in {None, 100}:
            raise UsageError(
                "a restart with a canary stops no worker: it can be waited for until the new"
                " workers serve, and not until the old ones are drained"
            )
        if self.canary is not None and not 0 < self.canary <= 100:
            raise UsageError(
                f"a canary must get more than 0 and at most 100 percent (got {self.canary:g})"
            )
        if self.keep is not None and not 0 <= self.keep < LONGEST:
            raise UsageError(
                f"keep must be at least 0 and less than a day in seconds (got {self.keep:g})"
            )
        if self.step is not None and not 0 <= self.step <= MOST_WORKERS:
            raise UsageError(f"step must be between 0 and {MOST_WORKERS} (got {self.step})")


@dataclass(frozen=True, slots=True)
class Rollback(Request):
    """Go back to the previous generation, or stop the one that is starting."""

    verb = "rollback"


@dataclass(frozen=True, slots=True)
class Promote(Request):
    """Give the canary all new connections."""

    verb = "promote"


@dataclass(frozen=True, slots=True)
class Shift(Request):
    """Give the newest generation this part of new connections."""

    percent: float
    verb = "shift"

    def __post_init__(self) -> None:
        if not 0 <= self.percent <= 100:
            raise UsageError(f"percent must be between 0 and 100 (got {self.percent:g})")


@dataclass(frozen=True, slots=True)
class Weights(Request):
    """Multiply the shares of workers by these factors."""

    weights: dict[int, float]
    verb = "weights"

    def __post_init__(self) -> None:
        if not self.weights:
            raise UsageError('weights must be given by worker, as in {"3": 0.5}')
        for worker, weight in self.weights.items():
            if not 0 <= weight <= MOST_WEIGHT:
                raise UsageError(
                    f"the weight of worker{worker} must be between 0 and {MOST_WEIGHT:g}"
                    f" (got {weight:g})"
                )


@dataclass(frozen=True, slots=True)
class Scale(Request):
    """Change the number of workers."""

    workers: int
    verb = "scale"

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= MOST_WORKERS:
            raise UsageError(f"workers must be between 1 and {MOST_WORKERS} (got {self.workers})")


@dataclass(frozen=True, slots=True)
class Stop(Request):
    """End the instance; with ``fast``, at once."""

    verb = "stop"
    fast: bool = False


@dataclass(frozen=True, slots=True)
class ShowStatus(Request):
    """Show the status; with ``brief`` without what has its default, as ``Status`` may be read."""

    verb = "status"
    brief: bool = False


@dataclass(frozen=True, slots=True)
class Reexec(Request):
    """Replace the supervisor's code by the installed one."""

    verb = "reexec"


@dataclass(frozen=True, slots=True)
class Trace(Request):
    """Ask for descriptors to read decisions from.  ``bind`` picks one of several addresses."""

    verb = "trace"
    bind: str = ""


@dataclass(frozen=True, slots=True)
class Map(Request):
    """Show a policy's map, after changing it if asked.  Without a name, list the maps."""

    verb = "map"
    map: str = ""
    set: dict[int, int] | None = None
    delete: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Rescue(Request):
    """Rescue connections behind stalled listeners until the client disconnects."""

    after: str  # such as 50ms
    verb = "rescue"
    address: str = ""


@dataclass(frozen=True, slots=True)
class Detach(Request):
    """Detach, and leave the group as it was found."""

    verb = "detach"
    address: str = ""


VERBS: dict[str, type[Request]] = {
    kind.verb: kind
    for kind in (
        *(Restart, Rollback, Promote, Shift, Weights, Scale, Stop, ShowStatus, Reexec, Trace, Map),
        *(Rescue, Detach),
    )
}


def parse(plain: Mapping[str, Any]) -> Request:
    """The request that was sent.

    Raises UsageError for an unknown verb, a key that the verb does not have, a missing key, and a
    value of the wrong type or out of range.
    """
    verb = plain.get("do")
    kind = VERBS.get(verb) if isinstance(verb, str) else None
    if kind is None:
        raise UsageError(f"there is no request {shown(verb)} (there are {', '.join(VERBS)})")
    hints = get_type_hints(kind)
    known = {one.name: one for one in fields(kind)}
    given = {key: value for key, value in plain.items() if key != "do"}
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            advice = (
                f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known) or 'none'}"
            )
            raise UsageError(f"{verb} has no {key!r}; {advice}")
    for name, one in known.items():
        if name not in given and one.default is MISSING:
            raise UsageError(f"{verb} needs {name!r}")
    return kind(**{key: _value(key, hints[key], value) for key, value in given.items()})


def _value(key: str, kind: Any, value: Any) -> Any:
    """The value as the field's type.  Raises UsageError."""
    if get_origin(kind) in {Union, UnionType}:
        # A client leaves a field out if it is None; it does not send null.
        kind = next(one for one in get_args(kind) if one is not type(None))
    if get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise UsageError(
                f'{key} must be given by number, as in {{"3": 1}} (got {shown(value)})'
            )
        _, of = get_args(kind)
        return {_whole(key, one): _value(f"{key} of {one}", of, it) for one, it in value.items()}
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise UsageError(f"{key} must be a list (got {shown(value)})")
        return tuple(_whole(key, one) for one in value)
    if kind is int:
        return _whole(key, value)
    if kind is float:
        return _number(key, value)
    if type(value) is not kind:
        raise UsageError(f"{key} must be {_WANTED[kind]} (got {shown(value)})")
    return value


_WANTED = {bool: "true or false", str: "a string"}


def _number(key: str, value: Any) -> float:
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            number = float(value)
    if not math.isfinite(number):
        raise UsageError(f"{key} must be a number (got {shown(value)})")
    return number


def _whole(key: str, value: Any) -> int:
    """A whole number from 0 on, also as text, because keys of JSON are strings."""
    number = -1
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        number = int(value) if len(value) <= _MOST_DIGITS else -1
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    if not 0 <= number < 1 << 64:
        raise UsageError(f"{key} must be whole numbers from 0 on (got {shown(value)})")
    return number


def shown(value: Any) -> str:
    """A received value for a sentence, short in any case."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits; lists in lists
        return "a value too large to print"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
