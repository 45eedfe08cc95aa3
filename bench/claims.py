"""Which rows of a run claim to lose none, and whether they lost none.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.table import Report

HEADINGS = ("case", "claims to lose none", "attempts", "lost", "")


@dataclass(frozen=True, slots=True)
class Claim:
    """One row that claims it, or a case that could not run at all.

    ``said`` is why it has not shown it.  ``wrong``: for another reason than a missing program.
    """

    case: str
    system: str
    attempts: int = 0
    lost: int = 0
    said: str = ""
    wrong: bool = False

    @property
    def cells(self) -> list[str]:
        """For a table under HEADINGS."""
        return [self.case, self.system, f"{self.attempts:,}", f"{self.lost:,}", self.said or "ok"]


def claims(reports: Iterable[Report]) -> list[Claim]:
    """In the order of the reports and of their rows."""
    found = []
    for report in reports:
        if report.why:
            found.append(Claim(report.case, "-", said=f"could not run: {report.why}", wrong=True))
        for row in report.rows:
            if not row.claims_none:
                continue
            said = ""
            if row.broken_claim:
                said = "lost some"
            elif not row.repetitions:
                said = f"could not run: {row.why}"
            elif row.why:
                said = f"not as it should be: {row.why}"
            attempts = round(sum(row.measures.get("attempts", [])))
            wrong = row.broken_claim or (bool(said) and not row.absent)
            found.append(Claim(report.case, row.system, attempts, row.lost, said, wrong))
    return found
