"""RESULTS.md is made from the reports alone."""

from __future__ import annotations

from dataclasses import replace

from bench.render import grid, notes, page, section
from bench.table import LOAD, Column, Report, Row

THEIRS = Row(
    "theirs",
    "theirs -w 2",
    {"attempts": [1000, 2000], "lost": [0, 3]},
    {"eof": 1, "reset_after": 2},
)
OURS = Row("ours", "ours", {"attempts": [10, 10], "lost": [0, 0]}, claims_none=True)
ABSENT = Row("absent", why="no such program")
ONE = Report(
    "one", "First", "What it is.", LOAD, (THEIRS, OURS, ABSENT), ("Mind the gap.",),
    seconds=12.3, taken="2026-01-02T03:04:05+00:00", machine="Linux 6, 2 cores",
    versions={"nginx": "1.22", "Segue": "0.1 (abc)"},
    options={"rate": 500, "systems": "theirs,ours"},
)  # fmt: skip
TWO = Report("two", "Second", "What else.", LOAD, why="TimeoutError: too slow")


def test_the_table_has_only_the_columns_that_were_measured() -> None:
    """A row that could not run says so in its place, and the grid stays rectangular."""
    headings, *body = grid(ONE)
    assert headings == ["system", "repetitions", "attempts", "lost", "lost by kind"]
    assert body == [
        ["theirs", "2", "3,000", "2 (0 to 3)", "reset after 2, eof 1"],
        ["ours", "2", "20", "0", "-"],
        ["absent", "0", "could not run", "", ""],
    ]


def test_a_table_without_losses_has_no_column_for_them() -> None:
    """A case may measure something else altogether."""
    row = Row("ours", measures={"us": [1.5]})
    report = replace(ONE, columns=(Column("us", "us each"),), rows=(row,))
    assert grid(report) == [["system", "repetitions", "us each"], ["ours", "1", "1.5"]]


def test_what_a_reader_must_know_stands_below_the_table() -> None:
    """A broken claim first, the case's own notes, and why a row is missing."""
    liar = replace(OURS, measures={"lost": [0, 1]})
    assert notes(replace(ONE, rows=(*ONE.rows, liar))) == [
        "**ours claims to lose none and lost 1.**",
        "Mind the gap.",
        "absent: could not run: no such program",
    ]


def test_a_case_that_could_not_run_says_why() -> None:
    """Its section stands in the page all the same."""
    assert "This case could not run: TimeoutError: too slow" in section(TWO)


def test_the_page_says_what_was_measured_and_when() -> None:
    """The cases in the order given, each with its command, day and commit."""
    made = page([ONE, TWO])
    assert made.index("## First") < made.index("## Second") < made.index("## How each was started")
    assert "Measured 2026-01-02 on Linux 6, 2 cores." in made
    assert "Versions: Segue 0.1 (abc), nginx 1.22." in made
    assert "| theirs | `theirs -w 2` |" in made
    assert "`python -m bench one` (rate 500), 12 s; 2026-01-02, Segue 0.1 (abc)." in made
    assert "All 1 rows whose engine claims to lose none lost none." in made


def test_a_busy_machine_and_a_broken_claim_are_told_at_the_top() -> None:
    """Before any table."""
    liar = replace(OURS, measures={"lost": [0, 1]})
    head, *_ = page([replace(ONE, rows=(liar,), load_before=1.7)]).partition("## First")
    assert "it kept up to 1.7 cores busy before every case" in head
    assert "these lost some: ours (one)" in head


def test_the_page_says_what_was_not_measured_yet() -> None:
    """And by which command it would be."""
    assert "Not measured yet: three, four (`python -m bench --missing`)." in page(
        [ONE], ["three", "four"]
    )


def test_a_page_of_nothing_says_so() -> None:
    """Before the first run there are no files."""
    assert "Nothing has been measured yet." in page([])
