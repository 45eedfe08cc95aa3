"""Cases and their options, and rows in the making."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench.case import Case, Sample, Tally
from bench.cases import CASES
from bench.table import Row

from segue.errors import UsageError


def measure(*, restart: int = 3, pause: float = 0.5, systems: str = "a,b") -> list[Row]:
    return [Row(f"{restart} {pause} {systems}")]


def repeated(*, repetitions: int = 3) -> list[Row]:
    return [Row(f"{repetitions}")]


CASE = Case("one", "One", "What it is.", measure)


def test_options_are_the_parameters_of_the_measurement() -> None:
    """Given as text, they get the type of their default; the others keep it."""
    assert CASE.options({"restart": "7", "pause": "2"}) == {
        "restart": 7,
        "pause": 2.0,
        "systems": "a,b",
    }


def test_a_quick_run_repeats_nothing_and_has_options_of_its_own() -> None:
    """What is given comes before them, and a case without repetitions does not get any."""
    quick = replace(CASE, quick={"restart": 1})
    assert quick.options({}, quick=True) == {"restart": 1, "pause": 0.5, "systems": "a,b"}
    assert quick.options({"restart": "2"}, quick=True)["restart"] == 2
    assert quick.options({})["restart"] == 3
    assert replace(CASE, measure=repeated).options({}, quick=True) == {"repetitions": 1}


@pytest.mark.parametrize(
    ("given", "why"),
    [({"restarts": "7"}, "has no option restarts"), ({"restart": "seven"}, "cannot be 'seven'")],
)
def test_a_senseless_option_is_refused(given: dict[str, str], why: str) -> None:
    """Before anything is measured."""
    with pytest.raises(UsageError, match=why):
        CASE.options(given)


def test_a_tally_makes_rows_in_the_order_in_which_they_were_expected() -> None:
    """Whatever the order in which the samples came; losses by kind are added up."""
    tally = Tally()
    tally.expect("first", command="run", claims_none=True)
    tally.expect("second")
    tally.add("second", Sample({"lost": 1}, {"eof": 1}))
    tally.add("first", Sample({"lost": 0}, {}))
    tally.add("second", Sample({"lost": 3}, {"eof": 2, "refused": 1}))
    tally.failed("first", RuntimeError("ended:\n  a line"))
    tally.failed("first", RuntimeError("later"))
    assert tally.rows() == [
        Row("first", "run", {"lost": [0]}, {}, claims_none=True, why="ended: a line"),
        Row("second", "", {"lost": [1, 3]}, {"eof": 3, "refused": 1}),
    ]


def test_a_program_that_is_not_installed_is_said_and_told_from_a_failure() -> None:
    """A file of another kind that is not there is a failure."""
    tally = Tally()
    for name, file in (("absent", "wrk"), ("failed", "/run/x")):
        tally.expect(name)
        tally.failed(name, FileNotFoundError(2, "No such file", file))
    absent, failed = tally.rows()
    assert (absent.why, absent.absent) == ("wrk is not installed", True)
    assert (failed.why, failed.absent) == ("[Errno 2] No such file: '/run/x'", False)


def test_every_case_has_a_name_of_its_own() -> None:
    """It is what the runner is asked for, and the name of the file."""
    assert len({case.name for case in CASES}) == len({case.title for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_option_of_a_case_has_a_default_that_text_can_replace(case: Case) -> None:
    """So that the runner can run it without options, and change each of them."""
    defaults = case.options({})
    assert case.options({name: str(value) for name, value in defaults.items()}) == defaults
    quick = case.options({}, quick=True)
    assert {name: type(one) for name, one in quick.items()} == {
        name: type(one) for name, one in defaults.items()
    }
