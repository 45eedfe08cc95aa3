"""Which rows claim to lose none, and what a run comes to."""

from __future__ import annotations

import pytest
from bench.claims import Claim, claims
from bench.table import LOAD, Report, Row

KEPT = {"attempts": [10.0, 20.0], "lost": [0.0, 0.0]}


def report(*rows: Row, why: str = "") -> Report:
    return Report("one", "One", "What it is.", LOAD, rows, why=why)


@pytest.mark.parametrize(
    ("row", "claim"),
    [
        (Row("ours", measures=KEPT, claims_none=True), Claim("one", "ours", 30)),
        (
            Row("ours", measures={"attempts": [9], "lost": [2]}, claims_none=True),
            Claim("one", "ours", 9, 2, "lost some", wrong=True),
        ),
        (
            Row("ours", claims_none=True, why="it ended"),
            Claim("one", "ours", said="could not run: it ended", wrong=True),
        ),
        (
            Row("ours", measures=KEPT, claims_none=True, why="the log does not say it"),
            Claim("one", "ours", 30, 0, "not as it should be: the log does not say it", wrong=True),
        ),
        (
            Row("ours", claims_none=True, why="wrk is not installed", absent=True),
            Claim("one", "ours", said="could not run: wrk is not installed"),
        ),
    ],
)
def test_each_row_that_claims_it_says_whether_it_is_so(row: Row, claim: Claim) -> None:
    """A row that could not run, or of which something else is wrong, has not shown it."""
    assert claims([report(row)]) == [claim]


def test_a_row_that_claims_nothing_is_left_out() -> None:
    """Whatever it lost, or if it could not run."""
    assert claims([report(Row("theirs", measures={"lost": [7]}), Row("gone", why="why"))]) == []


def test_a_case_that_could_not_run_is_amiss() -> None:
    """Though nobody knows which rows it would have had."""
    found = claims([report(why="TimeoutError: x")])
    assert found == [Claim("one", "-", said="could not run: TimeoutError: x", wrong=True)]
    assert found[0].cells == ["one", "-", "0", "0", "could not run: TimeoutError: x"]
