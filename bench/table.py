"""What a case found, as values, and as JSON and back.  Pure.

A row has one number for each repetition and measure; what becomes of them in a cell (their sum, or
their median and range) is the column's business.  Raw samples are not kept.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from segue.errors import UsageError


@dataclass(frozen=True, slots=True)
class Column:
    """How one measure is shown: ``form`` is "sum" or "median", which shows the range as well."""

    measure: str
    heading: str
    form: str = "median"
    digits: int = 1

    def cell(self, values: Sequence[float]) -> str:
        """The numbers of all repetitions in one cell; "-" when there are none."""
        if not values:
            return "-"
        if self.form == "sum":
            return f"{sum(values):,.{self.digits}f}"
        middle, low, high = (
            f"{number:,.{self.digits}f}"
            for number in (statistics.median(values), min(values), max(values))
        )
        return middle if low == high else f"{middle} ({low} to {high})"


# What every load has; a case may have columns of its own beside them or instead.
LOAD = (
    Column("attempts", "attempts", "sum", 0),
    Column("lost", "lost", digits=0),
    Column("p50_ms", "p50 ms"),
    Column("p99_ms", "p99 ms"),
    Column("max_ms", "max ms", digits=0),
    Column("gap_ms", "longest gap ms", digits=0),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One system.

    ``kinds`` are its losses of all repetitions by fate.  ``why`` says what kept it, or some of its
    repetitions, from running; ``absent``: a program that is not installed.  ``claims_none`` marks
    a system whose maker says that it loses none, but for what a killed worker had accepted, where
    that was counted (the measure ``accepted``).
    """

    system: str
    command: str = ""
    measures: dict[str, list[float]] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    claims_none: bool = False
    why: str = ""
    absent: bool = False

    @property
    def repetitions(self) -> int:
        """How many there were."""
        return max((len(values) for values in self.measures.values()), default=0)

    @property
    def lost(self) -> int:
        """In all repetitions together."""
        return round(sum(self.measures.get("lost", [])))

    @property
    def broken_claim(self) -> bool:
        """It claims to lose none, and lost some that no killed worker had accepted."""
        return self.claims_none and self.lost > round(sum(self.measures.get("accepted", [])))


@dataclass(frozen=True, slots=True)
class Report:
    """One case: its table, and on what, when and how it was measured.

    ``why`` says what kept the whole case from running.  ``load_before`` is how many cores others
    kept busy just before.
    """

    case: str
    title: str
    about: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()
    why: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    taken: str = ""
    machine: str = ""
    load_before: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Report:
        """The Report that ``as_dict`` was made from.  Raises UsageError when it is none."""
        try:
            return cls(
                **found
                | {
                    "columns": tuple(Column(**one) for one in found["columns"]),
                    "rows": tuple(Row(**one) for one in found["rows"]),
                    "notes": tuple(found["notes"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise UsageError(f"this is not the result of a bench: {error!r}") from error
