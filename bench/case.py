"""A case: one question, one table.  The runner finds them in ``bench.cases``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.table import LOAD, Column, Row
from segue.errors import SegueError, UsageError

# What a measurement may raise when the system, and not the bench, is at fault.
FAULTS = (RuntimeError, TimeoutError, OSError, SegueError)


@dataclass(frozen=True, slots=True)
class Case:
    """``measure`` takes options by keyword and finds the rows; ``notes`` says what they need.

    ``quick`` has the options of a quick run that differ from the defaults; one repetition is enough
    there in any case.
    """

    name: str
    title: str
    about: str
    measure: Callable[..., list[Row]]
    columns: tuple[Column, ...] = LOAD
    notes: Callable[[Sequence[Row]], list[str]] = lambda _: []
    quick: Mapping[str, Any] = field(default_factory=dict)

    def options(self, given: Mapping[str, str], *, quick: bool = False) -> dict[str, Any]:
        """Every option of ``measure``: its default, that of a quick run, or what was given.

        Raises UsageError.
        """
        known = {
            name: one.default for name, one in inspect.signature(self.measure).parameters.items()
        }
        if quick:
            known |= {"repetitions": 1} if "repetitions" in known else {}
            known |= self.quick
        for name, text in given.items():
            if name not in known:
                raise UsageError(f"{self.name} has no option {name} ({', '.join(known) or 'none'})")
            try:
                known[name] = type(known[name])(text)
            except ValueError:
                raise UsageError(f"{name} cannot be {text!r}") from None
        return known


@dataclass(frozen=True, slots=True)
class Sample:
    """One repetition of one system."""

    measures: dict[str, float]
    kinds: dict[str, int]


class Tally:
    """Rows in the making, a sample at a time."""

    def __init__(self) -> None:
        self._samples: dict[str, list[Sample]] = {}
        self._about: dict[str, tuple[str, bool]] = {}
        self._why: dict[str, str] = {}
        self._absent: set[str] = set()

    def expect(self, system: str, *, command: str = "", claims_none: bool = False) -> None:
        """There will be such a row; rows stand in this order."""
        self._samples.setdefault(system, [])
        self._about[system] = command, claims_none

    def add(self, system: str, sample: Sample) -> None:
        """One more repetition."""
        self._samples.setdefault(system, []).append(sample)

    def failed(self, system: str, error: BaseException) -> None:
        """A repetition could not be; the first reason stays."""
        text = " ".join(str(error).split())
        if isinstance(error, FileNotFoundError) and "/" not in str(error.filename or "/"):
            text = f"{error.filename} is not installed"
            self._absent.add(system)
        self._why.setdefault(system, f"{text[:300]}" or type(error).__name__)

    def rows(self) -> list[Row]:
        """What was found."""
        found = []
        for system, samples in self._samples.items():
            command, claims_none = self._about.get(system, ("", False))
            measures: dict[str, list[float]] = {}
            kinds: dict[str, int] = {}
            for sample in samples:
                for name, value in sample.measures.items():
                    measures.setdefault(name, []).append(round(value, 4))
                for kind, count in sample.kinds.items():
                    kinds[kind] = kinds.get(kind, 0) + count
            why, absent = self._why.get(system, ""), system in self._absent
            found.append(Row(system, command, measures, kinds, claims_none, why, absent))
        return found
