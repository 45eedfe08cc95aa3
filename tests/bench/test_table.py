"""What a case found, as cells and as JSON."""

from __future__ import annotations

import json

import pytest
from bench.table import LOAD, Column, Report, Row

from segue.errors import UsageError

ROW = Row("ours", "ours --fast", {"lost": [0, 2, 1]}, {"eof": 3}, claims_none=True)
REPORT = Report("one", "One", "What it is.", LOAD, (ROW,), ("a note",), options={"rate": 5})


@pytest.mark.parametrize(
    ("form", "values", "cell"),
    [
        ("median", [3.0, 1.0, 2.25], "2.2 (1.0 to 3.0)"),
        ("median", [7.0, 7.0], "7.0"),
        ("median", [7.01, 7.02], "7.0"),
        ("sum", [1000.0, 500.0], "1,500.0"),
        ("sum", [], "-"),
    ],
)
def test_a_cell_has_the_median_and_the_range_or_the_sum(
    form: str, values: list[float], cell: str
) -> None:
    """A range is shown only where its ends differ in the digits shown."""
    assert Column("x", "x", form).cell(values) == cell


def test_a_report_survives_json() -> None:
    """The files are all that the page is made from."""
    assert Report.from_dict(json.loads(json.dumps(REPORT.as_dict()))) == REPORT


@pytest.mark.parametrize("broken", [{}, {"case": "one"}, REPORT.as_dict() | {"stranger": 1}])
def test_what_is_no_report_is_refused(broken: dict[str, object]) -> None:
    """A file with another shape is a usage error and no half-filled page."""
    with pytest.raises(UsageError, match="not the result of a bench"):
        Report.from_dict(broken)


def test_a_claim_is_broken_only_by_who_made_it() -> None:
    """A peer that loses breaks no claim; a row without repetitions has lost nothing."""
    assert ROW.broken_claim
    assert not Row("theirs", "", ROW.measures, ROW.kinds).broken_claim
    assert not Row("ours", claims_none=True).broken_claim


@pytest.mark.parametrize(("accepted", "broken"), [([2, 1], False), ([2, 0], True)])
def test_what_a_killed_worker_had_accepted_breaks_no_claim(
    accepted: list[float], broken: bool
) -> None:
    """It goes with the worker; one more is a loss."""
    measures = {"lost": [1.0, 2.0], "accepted": accepted}
    assert Row("ours", measures=measures, claims_none=True).broken_claim is broken
