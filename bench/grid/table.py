"""The grid as Markdown: Linux, the model and the simulation side by side.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from bench.grid.cells import Cell, Figure, Figures
from segue.lab.ways.known import WAYS

# Measures of what is lost are compared with each other, and so are times.
_COMPARED = {
    "early": "connections lost before they were accepted",
    "accepted": "accepted connections lost",
    "again": "connections made again",
    "gone ms": "ms until no old worker has a listener",
    "old ms": "ms until the last answer by an old worker",
}
_FULL = ("half-open", "queued", "accepted", "again", "gone ms", "old ms")


@dataclass(frozen=True, slots=True)
class Grid:
    """What was found on each side; ``simulated`` has no latencies."""

    linux: Figures
    model: Figures
    simulated: Figures

    @property
    def cells(self) -> list[Cell]:
        """Those that were measured, as they were asked for."""
        return list(dict.fromkeys(cell for cell, _ in self.linux))

    @property
    def ways(self) -> list[str]:
        """The same of the ways, in the order of every table."""
        measured = {way for _, way in self.linux}
        return [way for way in WAYS if way in measured]


@dataclass(frozen=True, slots=True)
class Deviation:
    """Where another side is farthest from Linux, of one measure."""

    measure: str
    side: str
    cell: Cell
    way: str
    linux: Figure
    other: float

    def __str__(self) -> str:
        if not self.linux.beyond(self.other):
            return f"{_COMPARED[self.measure]}: the {self.side} says what Linux does, everywhere"
        figure = cell_text(self.linux)
        return (
            f"{_COMPARED[self.measure]}: the {self.side} says {_number(self.other)} and Linux"
            f" {figure}, by `{self.way}` at {self.cell}"
        )


def deviations(grid: Grid) -> Iterator[Deviation]:
    """The largest of each measure and side."""
    for measure in _COMPARED:
        for side, theirs in (("model", grid.model), ("simulation", grid.simulated)):
            all_of_them = [
                Deviation(measure, side, cell, way, mine[measure], other[measure].middle)
                for (cell, way), mine in grid.linux.items()
                if measure in mine
                and (other := theirs.get((cell, way))) is not None
                and measure in other
            ]
            if all_of_them:
                yield max(all_of_them, key=lambda one: one.linux.beyond(one.other))


def short(grid: Grid) -> str:
    """What is lost before it is accepted, by round trip; then what is lost of accepted ones."""
    parts: list[str] = []
    for rtt in dict.fromkeys(cell.rtt_ms for cell in grid.cells):
        cells = [cell for cell in grid.cells if cell.rtt_ms == rtt]
        heads = (
            "way", *(f"{cell.rate}/s, {cell.kept} kept" for cell in cells), "gone ms", "old ms",
            "+p99 ms",
        )  # fmt: skip
        rows = [
            (
                f"`{way}`",
                *(_three(grid, cell, way, "early") for cell in cells),
                *(_of_all(grid.linux, cells, way, name) for name in ("gone ms", "old ms")),
                _of_all(grid.linux, cells, way, "p99 ms"),
            )
            for way in grid.ways
        ]
        parts += [f"Round trip {rtt} ms:", "", *_table(heads, rows), ""]
    return "\n".join([*parts, *_accepted(grid)])


def _accepted(grid: Grid) -> Iterator[str]:
    yield "Accepted connections lost, in brackets those that are made again. By `close`:"
    yield "what nobody has accepted yet, of all that the restart meets and of all that it loses."
    yield ""
    others = [way for way in grid.ways if way != "carry"]
    groups = (("every other way", others), ("`carry`", ["carry"]))
    rows = [
        (
            str(cell),
            *(
                " / ".join(
                    f"{_number(_over(side, cell, ways, 'accepted'))}"
                    f" ({_number(_over(side, cell, ways, 'again'))})"
                    for side in (grid.linux, grid.model, grid.simulated)
                )
                for _, ways in groups
            ),
            *_parts(grid.linux, cell),
        )
        for cell in grid.cells
    ]
    heads = ("load", *(name for name, _ in groups), "not accepted, of all", "of the lost")
    yield from _table(heads, rows)


def _parts(side: Figures, cell: Cell) -> tuple[str, str]:
    """By ``close``: in percent of all that the restart meets, and of all that it loses."""
    early, accepted = (_over(side, cell, ["close"], name) for name in ("early", "accepted"))
    return _percent(early, early + cell.kept), _percent(early, early + accepted)


def _percent(part: float, whole: float) -> str:
    return f"{_number(100 * part / whole)} %" if whole else "-"


def full(grid: Grid) -> str:
    """Every figure of every load."""
    parts: list[str] = []
    for cell in grid.cells:
        rows = [
            (
                f"`{way}`",
                *(_three(grid, cell, way, name) for name in _FULL),
                cell_text(grid.linux[cell, way].get("p99 ms")),
            )
            for way in grid.ways
        ]
        parts += [f"## {cell}", "", *_table(("way", *_FULL, "+p99 ms"), rows), ""]
    return "\n".join(parts)


def named(grid: Grid) -> str:
    """The largest deviations, a line each."""
    return "\n".join(f"- {one}." for one in deviations(grid))


def beside_alone(beside: Figures, alone: Figures) -> str:
    """The same restarts with others beside them, and without."""
    rows = [
        (
            str(cell),
            f"`{way}`",
            *(
                f"{cell_text(beside[cell, way].get(name))} / {cell_text(mine.get(name))}"
                for name in ("early", "accepted", "gone ms", "p99 ms")
            ),
        )
        for (cell, way), mine in alone.items()
        if (cell, way) in beside
    ]
    heads = ("load", "way", "lost early", "lost accepted", "gone ms", "+p99 ms")
    return "\n".join(_table(heads, rows))


def cell_text(figure: Figure | None) -> str:
    """The middle, and the range in brackets if there is one."""
    if figure is None:
        return "-"
    middle, low, high = map(_number, (figure.middle, figure.low, figure.high))
    return middle if low == high else f"{middle} ({low} to {high})"


def _three(grid: Grid, cell: Cell, way: str, measure: str) -> str:
    """Linux with its range, the model's median and the simulation's mean."""
    linux = cell_text(grid.linux[cell, way].get(measure))
    others = [
        _number(figure.middle) if (figure := side.get((cell, way), {}).get(measure)) else "-"
        for side in (grid.model, grid.simulated)
    ]
    return " / ".join([linux, *others])


def _of_all(side: Figures, cells: Sequence[Cell], way: str, measure: str) -> str:
    """Over these loads: the median of their medians, and the ends of their ranges."""
    them = [found for cell in cells if (found := side[cell, way].get(measure)) is not None]
    if not them:
        return "-"
    middle = median(one.middle for one in them)
    return cell_text(Figure(middle, min(one.low for one in them), max(one.high for one in them)))


def _over(side: Figures, cell: Cell, ways: Sequence[str], measure: str) -> float:
    """The median over several ways."""
    them = [
        figure.middle
        for way in ways
        if (figure := side.get((cell, way), {}).get(measure)) is not None
    ]
    return median(them) if them else 0.0


def _number(value: float) -> str:
    if value and abs(value) < 9.95 and abs(value - round(value)) >= 0.05:
        return f"{value:.1f}"
    return f"{round(value):,}"  # which has no -0


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
