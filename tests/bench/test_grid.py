"""The grid of ways and loads: what is asked, how figures are gathered, and how they are told."""

from __future__ import annotations

import os
import signal
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from bench.grid import __main__ as grid_main
from bench.grid import table
from bench.grid.cells import CELLS, NO_RESTART, Cell, Figure, digest, figures, remembered, restarts
from bench.grid.lanes import side_by_side
from bench.grid.simulated import load, simulated

from segue.lab.comparing.ledger import Fate, Outcome
from segue.lab.ways.known import WAYS
from segue.linux import proc

CELL = Cell(40, 400, 20)
WORDS = ("close", "carry")


def outcome(lost: int, p99: float) -> Outcome:
    fates = Counter({Fate.ANSWERED: 90, Fate.HALF_OPEN: lost, Fate.ACCEPTED: 2})
    return Outcome(fates, 3, 0.5, None, (p99,))


def done() -> dict[int, Any]:
    """Of three repetitions, whose clients without a restart wait 10, 20 and 30 ms."""
    found = {}
    for number, one in enumerate(restarts([CELL], 3, WORDS)):
        lost = 0 if one.way != "close" else 5 + one.repetition
        extra = 0 if one.way == NO_RESTART else 7
        linux = remembered(outcome(lost, 10 * (one.repetition + 1) + extra))
        found[number] = {"linux": linux, "model": remembered(outcome(lost + 1, 1.0)), "why": ""}
    return found


def grid() -> table.Grid:
    asked = restarts([CELL], 3, WORDS)
    linux, model = (figures(asked, done(), side) for side in ("linux", "model"))
    simulation = {
        (CELL, "close"): {"early": Figure(9.44, 1.0, 20.0), "accepted": Figure(2.0, 0.0, 4.0)}
    }
    return table.Grid(linux, model, simulation)


def test_all_loads_and_ways_are_asked_for_and_each_repetition_by_itself() -> None:
    """Twelve loads, each way and no restart; the clients of a repetition are the same for all."""
    asked = restarts(CELLS, 3)
    assert len(asked) == len(set(asked)) == 12 * (len(WAYS) + 1) * 3
    assert [one.repetition for one in asked] == sorted(one.repetition for one in asked)
    seeds = {one.cell.settings(one.repetition).seed for one in asked}
    assert seeds == {1, 2, 3}
    assert restarts(CELLS, 2) == asked[: 12 * (len(WAYS) + 1) * 2]
    assert digest(CELLS) != digest(CELLS[:2])


def test_figures_are_medians_with_ranges_against_the_same_clients() -> None:
    """What was never there has no figure; a restart that was not measured has none either."""
    found = done()
    of = figures(restarts([CELL], 3, WORDS), found, "linux")[CELL, "close"]
    assert of["early"] == Figure(6, 5, 7)
    assert of["p99 ms"] == Figure(7, 7, 7)
    assert of["gone ms"] == Figure(500, 500, 500)
    assert "old ms" not in of
    for one in found.values():
        one["linux"] = None
    assert figures(restarts([CELL], 3, WORDS), found, "linux") == {}


def test_the_tables_have_three_sides_and_the_farthest_is_named() -> None:
    """Linux with its range, the model, the simulation; a dash for what one side does not have."""
    seen = grid()
    assert "| `close` | 6 (5 to 7) / 7 / 9.4 | 500 | - | 7 |" in table.short(seen)
    assert "| `carry` | 0 / 1 / - |" in table.short(seen)
    assert "| 400/s, 20 kept, 40 ms | 2 (3) / 2 (3) / " in table.short(seen)
    # Six of 26 that there are, and of eight that are lost.
    assert "| 23 % | 75 % |" in table.short(seen)
    assert f"## {CELL}" in table.full(seen)
    farthest = {(one.measure, one.side): one for one in table.deviations(seen)}
    assert farthest["early", "simulation"].way == "close"
    assert "the simulation says 9.4 and Linux 6 (5 to 7), by `close`" in table.named(seen)
    assert "made again: the model says what Linux does, everywhere" in table.named(seen)
    alone = {(CELL, "close"): {"early": Figure(6, 6, 6)}}
    assert "| `close` | 6 (5 to 7) / 6 |" in table.beside_alone(seen.linux, alone)


def test_the_simulation_has_the_loads_of_the_comparison() -> None:
    """What is half-open by Little's law; the queue by the formula for a fixed time (M/D/1)."""
    given = CELL.settings(0)
    found = simulated(CELL)
    assert found["close"]["half-open"].middle == pytest.approx(400 * 0.04, rel=0.05)
    waits = given.busy * given.accept_s / (2 * (1 - given.busy))
    assert load(given).accept.mean_s == pytest.approx(waits, rel=0.1)
    assert found["close"]["again"] == Figure(20, 20, 20)
    assert found["carry"]["accepted"] == Figure(0, 0, 0)


def test_what_stands_between_the_marks_is_replaced(tmp_path: Path) -> None:
    """And nothing else."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- grid: begins -->\nold\n<!-- grid: ends -->\nafter\n")
    grid_main.replace_table(page, "new")
    assert page.read_text() == (
        "before\n<!-- grid: begins -->\n\nnew\n<!-- grid: ends -->\nafter\n"
    )


@pytest.mark.root
@pytest.mark.slow
def test_restarts_run_side_by_side() -> None:
    """Each is measured as it would be alone, and on the model; nothing is left."""
    asked = restarts([Cell(1, 100, 20)], 1, ("close", "inherit"))
    found = dict(side_by_side(enumerate(asked), 2))
    assert set(found) == {0, 1, 2}
    assert not [one["why"] for one in found.values() if one["why"]]
    assert found[0]["linux"]["lost"] == found[0]["model"]["lost"] == 0
    assert not lanes()


@pytest.mark.root
@pytest.mark.slow
def test_a_lane_that_ends_is_told_of() -> None:
    """And the other ones have ended with it."""
    asked = restarts([Cell(1, 100, 20)], 1, ("close",))
    running = side_by_side(enumerate(asked * 4), 2)
    next(running)
    os.kill(lanes()[0], signal.SIGKILL)
    with pytest.raises(RuntimeError, match="a lane ended at"):
        list(running)
    assert not lanes()


def lanes() -> list[int]:
    """Of this process."""
    return [
        pid for pid in proc.children(os.getpid()) if "bench.grid.lane" in proc.command_line(pid)
    ]


def test_a_restart_is_told_whole() -> None:
    """As the lane reads it."""
    one = restarts([CELL], 1, ("close",))[1]
    assert asdict(one) == {"cell": asdict(CELL), "repetition": 0, "way": "close"}
