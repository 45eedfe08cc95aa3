"""What the bench of rescue takes for a line that a server has printed: pure."""

from __future__ import annotations

from bench.cases.rescue import printed


def test_the_supervisors_own_lines_are_no_harm() -> None:
    """With the time before its name or without; a worker's line is harm, whatever it is about."""
    own = ["segue: worker 1.1 stalls", "2026-01-02T03:04:05.678+00:00 segue: it accepts again"]
    theirs = ["worker 1.1 | Traceback (most recent call last):", "segue is a word"]
    assert printed([*own, *theirs]) == theirs
