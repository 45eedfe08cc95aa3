"""``python -m bench compare-grid``: every way to empty a listener at twelve loads.

Three round trips, two rates and two shares of kept connections, each way three times, on Linux and
on the model; beside them what ``segue plan`` simulates.  Several restarts run side by side.  What
is done is kept, and the same command goes on where it was ended.  ``--write`` replaces the table in
docs/COMPARE.md and the whole in bench/GRID.md; without it the tables are printed.  ``--alone``
repeats the busiest load one restart at a time, and shows both.  As root.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.grid import table
from bench.grid.cells import CELLS, Cell, Restart, digest, figures, restarts
from bench.grid.lanes import side_by_side
from bench.grid.simulated import simulated
from bench.harness import ROOT, machine
from segue.lab.ways.known import WAYS
from segue.plan.results import Results

_SIDE_BY_SIDE = 4
_REPETITIONS = 3
_DOCS, _WHOLE = ROOT / "docs" / "COMPARE.md", ROOT / "bench" / "GRID.md"
_FILE = ROOT / ".compare-grid.results"
_BUSIEST = Cell(200, 400, 200)
_BEGIN, _END = "<!-- grid: begins -->\n", "<!-- grid: ends -->\n"
_HEAD = """# Every way to empty a listener, at twelve loads

`python -m bench compare-grid --write` measures this and writes it. A cell has Linux, the model and
the simulation of `segue plan`, in this order: of Linux the median of the restarts and, in brackets,
their range; of the model the median over the same clients; of the simulation the mean of 1,000
restarts. docs/COMPARE.md says what is measured.
"""


def main(args: Sequence[str] | None = None) -> int:
    """0; 2 without root."""
    reader = argparse.ArgumentParser(prog="python -m bench compare-grid", description=__doc__)
    reader.add_argument("--side-by-side", type=int, default=_SIDE_BY_SIDE, metavar="COUNT")
    reader.add_argument("--repetitions", type=int, default=_REPETITIONS, metavar="COUNT")
    reader.add_argument(
        "--results", default=str(_FILE), metavar="FILE", help="default: %(default)s"
    )
    reader.add_argument("--write", action="store_true", help="the tables into their files")
    reader.add_argument("--as-is", action="store_true", help="of what is done, and do no more")
    reader.add_argument("--alone", action="store_true", help="the busiest load without others")
    asked = reader.parse_args(args)
    if os.geteuid() != 0:
        sys.stderr.write("python -m bench compare-grid needs root, for hosts of its own\n")
        return 2
    every = restarts(CELLS, asked.repetitions)
    begun = time.monotonic()
    with Results(asked.results, digest(CELLS)) as kept:
        before = len(kept.done)
        if not asked.as_is:
            _do(every, kept, asked.side_by_side)
        done, new = dict(kept.done), len(kept.done) - before
    measured = [every[number] for number in done if number < len(every)]
    sides = {side: figures(every, done, side) for side in ("linux", "model")}
    simulation = {(cell, way): found for cell in CELLS for way, found in simulated(cell).items()}
    grid = table.Grid(**sides, simulated=simulation)
    took = (
        f"{new} restarts in {(time.monotonic() - begun) / 60:.1f} minutes"
        if new
        else f"nothing was left to do: remove {asked.results} to measure again"
    )
    fewest = min(sum(one.cell == cell for one in measured) for cell in CELLS) // (len(WAYS) + 1)
    how = f"{len(measured)} restarts, at least {fewest} by each way at each load; {machine()}."
    if asked.alone:
        _alone(grid, asked.repetitions, f"{asked.results}.alone")
    elif asked.write:
        farthest = f"The largest deviations from Linux:\n\n{table.named(grid)}"
        replace_table(_DOCS, f"{table.short(grid)}\n\n{how}\n\n{farthest}\n")
        _WHOLE.write_text(f"{_HEAD}\n{how}\n\n{table.full(grid)}\n{farthest}\n")
    else:
        print(table.full(grid), table.short(grid), table.named(grid), how, sep="\n\n")
    print(took)
    return 0


def _do(asked: Sequence[Restart], kept: Results, count: int) -> None:
    """What is not done yet."""
    ahead = [(number, one) for number, one in enumerate(asked) if number not in kept.done]
    begun = time.monotonic()
    for so_far, (number, found) in enumerate(side_by_side(ahead, count), 1):
        kept.add(number, found)
        one = asked[number]
        left = (time.monotonic() - begun) / so_far * (len(ahead) - so_far) / 60
        lost = found["linux"]["lost"] if found["linux"] else found["why"]
        what = f"{one.way or 'no restart'} at {one.cell}"
        print(f"{len(kept.done)}/{len(asked)}  {what}: {lost}  ({left:.0f} minutes)", flush=True)


def _alone(grid: table.Grid, repetitions: int, file: str) -> None:
    """The busiest load again, one restart at a time."""
    every = restarts([_BUSIEST], repetitions)
    with Results(file, digest([_BUSIEST])) as kept:
        _do(every, kept, 1)
        alone = figures(every, kept.done, "linux")
    print("Side by side with others / alone:\n")
    print(table.beside_alone(grid.linux, alone))


def replace_table(page: Path, text: str) -> None:
    """What stands between the marks."""
    before, _, rest = page.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    page.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{after}")


if __name__ == "__main__":
    sys.exit(main())
