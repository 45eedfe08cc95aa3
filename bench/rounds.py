"""Repetitions that take turns: every system once, then all again in the other order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from bench.case import FAULTS, Sample, Tally
from bench.harness import free_port
from bench.systems import LOCAL, System, systems
from bench.table import Row
from bench.ways import Restartable
from segue.probe.result import Result


def chosen(names: str) -> list[System]:
    """The systems of a comma-separated list.  Raises KeyError."""
    return [systems()[name] for name in names.split(",")]


def alternate(
    compared: Sequence[System],
    repetitions: int,
    measure: Callable[[Restartable], Sample],
    host: str = LOCAL,
) -> list[Row]:
    """One row for each system, each repetition on a server freshly started on loopback."""

    def on_loopback(system: System, tally: Tally) -> Sample:
        server = system.start(host, free_port())
        tally.expect(system.name, command=server.shown, claims_none=system.claims_none)
        with server:
            return measure(server)

    return take_turns(compared, repetitions, on_loopback)


class Named(Protocol):
    """Whatever can have a row."""

    @property
    def name(self) -> str:
        """In the table."""

    @property
    def claims_none(self) -> bool:
        """It is said to lose none."""


Compared = TypeVar("Compared", bound=Named)


def take_turns(
    compared: Sequence[Compared],
    repetitions: int,
    measure: Callable[[Compared, Tally], Sample],
) -> list[Row]:
    """One row for each system; one that could not run says why."""
    tally = Tally()
    for system in compared:
        tally.expect(system.name, claims_none=system.claims_none)
    for number in range(repetitions):
        # The other way round every second time, so that nobody always follows the same one.
        for system in compared if number % 2 == 0 else reversed(compared):
            try:
                sample = measure(system, tally)
            except FAULTS as error:
                tally.failed(system.name, error)
                print(f"{number + 1}/{repetitions}  {system.name}: {error}", flush=True)
                continue
            tally.add(system.name, sample)
            told(f"{number + 1}/{repetitions}  {system.name}", sample)
    return tally.rows()


def told(what: str, sample: Sample) -> None:
    """One line of progress."""
    values = "  ".join(f"{name} {value:.6g}" for name, value in sample.measures.items())
    print(f"{what:70}{values}", flush=True)


def seen(result: Result, **more: float) -> Sample:
    """What clients saw, and other measures beside it."""
    measures = {"attempts": float(result.total), "lost": float(result.lost)}
    for name in ("p50_ms", "p99_ms", "max_ms", "gap_ms"):
        value = getattr(result, name)
        if value is not None:
            measures[name] = value
    kinds = {fate.value: n for fate, n in result.counts.items() if fate.lost and n}
    return Sample(measures | more, kinds)
