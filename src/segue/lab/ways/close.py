"""``close``: the listener is closed while others serve, which is what happens without anything."""

from __future__ import annotations

from segue.lab.ways.leaving import Leaving, Steps, Way


def _steps(leaving: Leaving) -> Steps:
    leaving.close()
    yield from ()


WAY = Way("close", "close the listener", _steps)
