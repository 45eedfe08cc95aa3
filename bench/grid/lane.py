"""One lane of the grid: python -m bench.grid.lane.

Reads restarts from standard input, a line of JSON for each, and says what each found: measured
here, and on the model.  It ends with its input, so it does not outlive whoever feeds it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from bench.grid.cells import Cell, Restart, remembered
from segue.errors import SegueError
from segue.lab.comparing.on_linux import measure
from segue.lab.comparing.on_model import predict
from segue.lab.ways.known import WAYS


def told(one: Restart) -> str:
    """As a line."""
    return json.dumps(asdict(one))


def found(line: str) -> dict[str, Any]:
    """What the restart of a line found; ``why`` says why it could not be measured."""
    plain = json.loads(line)
    one = Restart(Cell(**plain["cell"]), plain["repetition"], plain["way"])
    settings, way = one.cell.settings(one.repetition), WAYS.get(one.way)
    linux, why = None, ""
    try:
        linux = remembered(measure(settings, way))
    except SegueError as error:
        why = str(error)
    return {"linux": linux, "model": remembered(predict(settings, way)), "why": why}


def main() -> None:
    """Until standard input ends."""
    for line in sys.stdin:
        sys.stdout.write(f"{json.dumps(found(line))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
