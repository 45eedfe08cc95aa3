"""How exactly a canary gets its part of new connections, and what shifting it costs them."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from bench.attached import Attached
from bench.case import Case, Sample, Tally
from bench.harness import Load, Server, free_port, steady, wait_until
from bench.rounds import seen, told
from bench.table import LOAD, Column, Row
from bench.ways import Overlapping

EACH = 2  # listeners of a generation


def measure(
    *, connections: int = 20000, rate: float = 1000.0, percents: str = "1,5,25,50", shifts: int = 20
) -> list[Row]:
    """A generation beside another: what the newer one got of so many connections, by percent."""
    port, tally = free_port(), Tally()
    argv = [sys.executable, "-m", "bench.own_listener", f"127.0.0.1:{port}"]
    both = [Overlapping(argv, port, host="127.0.0.1", processes=EACH, inherit=False) for _ in "12"]
    with both[0], Attached(port, "--together", "0.5", "--canary", "0") as group:
        group.wait_ready(EACH)
        with steady(1.0):  # longer than what is one generation
            pass
        newer = [Server(argv, port) for _ in range(EACH)]
        try:
            group.wait_ready(2 * EACH)
            for percent in map(float, percents.split(",")):
                sample = _share(group, port, percent, connections, rate)
                told(f"{percent:g} %", sample)
                tally.add(f"shifted to {percent:g} %", sample)
            name = f"shifted to 100 % and back, {shifts} times"
            tally.expect(name, claims_none=True)
            tally.add(name, _shifted(group, port, rate, shifts))
        finally:
            for one in newer:
                one.stop()
    return tally.rows()


def _share(group: Attached, port: int, percent: float, connections: int, rate: float) -> Sample:
    group.ask("shift", percent=percent)
    before = _new(group)
    load = Load(port, "--rate", str(rate), seconds=connections / rate)
    wait_until(lambda: load.process.poll() is not None, 60 + 2 * connections / rate, "the load")
    result = load.stop()
    after = _new(group)
    got = {number: after[number] - before[number] for number in after}
    share = 100 * got[2] / sum(got.values())
    return seen(result, share=share, off=abs(share - percent))


def _shifted(group: Attached, port: int, rate: float, shifts: int) -> Sample:
    load = Load(port, "--rate", str(rate))
    try:
        for _ in range(shifts):
            for percent in (100, 0):
                with steady(0.25):
                    group.ask("shift", percent=percent)
    finally:
        result = load.stop()
    return seen(result)


def _new(group: Attached) -> dict[int, int]:
    """New connections so far, by generation: the program's own count."""
    found: dict[int, int] = {}
    for one in group.workers():
        found[one["generation"]] = found.get(one["generation"], 0) + one["new"]
    return found


def notes(rows: Sequence[Row]) -> list[str]:
    """What chance alone allows."""
    if not rows or "share" not in rows[0].measures:
        return []
    attempts = rows[0].measures["attempts"][0]
    allowed = 100 * math.sqrt(0.25 / max(1.0, attempts))
    return [
        (
            "A connection's generation is chosen by its hash, so the share of a sample scatters as"
            f" heads and tails do: at 50 % and {attempts:,.0f} connections by {allowed:.2f} points"
            " (standard deviation). The table itself is exact to 0.02 points."
        )
    ]


CASE = Case(
    "canary",
    "A canary under segue attach",
    "Four processes of the asyncio example, two of them newer, under segue attach: what part of"
    " new connections the newer ones got, by the program's own count. Then all of them and none in"
    " turn, every quarter of a second.",
    measure,
    (Column("share", "share %", digits=2), Column("off", "off by points", digits=2), *LOAD),
    notes,
    quick={"connections": 4000, "shifts": 4},
)
