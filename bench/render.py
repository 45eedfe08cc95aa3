"""Reports as the page RESULTS.md.  Pure: from the reports alone, and the same ones make the same
page.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.table import Report, Row

HEAD = """# Results

Segue beside the ways in which servers restart themselves, and what Segue itself costs.
`make bench` measures all of it again and writes this page from `bench/results/*.json`;
`python -m bench CASE` measures one case, `python -m bench --list` names them. Below each table
stand its command, how long that took, and of which day and commit it is.

Every row of a table had the same client, load and machine, and the repetitions of all rows took
turns. A cell has the median of the repetitions and, in brackets, their range; *attempts* and
*lost by kind* are sums. *Lost* is an attempt without a whole answer, by no fault of the client's
machine; the kinds are those of `segue probe`. Latencies count from when an attempt was due.
"""
# More cores than this were not busy by chance before the run began.
BUSY = 0.3


def page(reports: Sequence[Report], missing: Sequence[str] = ()) -> str:
    """The whole of RESULTS.md, in the order of the reports; ``missing`` cases have none."""
    sections = [section(one) for one in reports]
    parts = [HEAD, _circumstances(reports, missing), *sections, _commands(reports)]
    return "\n".join(part for part in parts if part)


def section(report: Report) -> str:
    """One case: its sentence, its table, its notes."""
    lines = [f"## {report.title}", "", report.about, ""]
    if report.why:
        lines += [f"This case could not run: {report.why}", ""]
    if report.rows:
        heading, *body = grid(report)
        lines += [_line(heading), "|" + "---|" + "--:|" * (len(heading) - 1)]
        lines += [*(_line(cells) for cells in body), ""]
    lines += [f"- {note}" for note in notes(report)]
    # Which systems and engines there are, the table says itself.
    numbers = {name: v for name, v in report.options.items() if not isinstance(v, str)}
    how = ", ".join(f"{name} {value}" for name, value in numbers.items())
    lines.append(
        f"- `python -m bench {report.case}`{f' ({how})' if how else ''}, {report.seconds:.0f} s;"
        f" {report.taken[:10]}, Segue {report.versions.get('Segue', '')}."
    )
    return "\n".join([*lines, ""])


def grid(report: Report) -> list[list[str]]:
    """The table as text: headings first, then a list of cells for each row."""
    lossy = any("lost" in row.measures for row in report.rows)
    columns = [one for one in report.columns if any(one.measure in r.measures for r in report.rows)]
    headings = ["system", "repetitions", *(one.heading for one in columns)]
    if lossy:
        headings.append("lost by kind")
    found = [headings]
    for row in report.rows:
        cells = [one.cell(row.measures.get(one.measure, [])) for one in columns]
        if lossy:
            cells.append(_kinds(row))
        if not row.repetitions:
            cells = ["could not run", *[""] * (len(cells) - 1)] if cells else []
        found.append([row.system, str(row.repetitions), *cells])
    return found


def notes(report: Report) -> list[str]:
    """What a reader must know of the table beside its numbers."""
    return [
        *(f"**{row.system} claims to lose none and lost {row.lost}.**"
          for row in report.rows if row.broken_claim),
        *report.notes,
        *(f"{row.system}: {'could not run' if not row.repetitions else 'not every repetition ran'}:"
          f" {row.why}" for row in report.rows if row.why),
    ]  # fmt: skip


def _kinds(row: Row) -> str:
    met = sorted(row.kinds.items(), key=lambda one: -one[1])
    return ", ".join(f"{kind.replace('_', ' ')} {count:,}" for kind, count in met if count) or "-"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _circumstances(reports: Sequence[Report], missing: Sequence[str]) -> str:
    """When, on what and with which versions; several where the reports differ."""
    if not reports:
        return "Nothing has been measured yet.\n"
    days = sorted({one.taken[:10] for one in reports if one.taken})
    lines = [
        f"Measured {' and '.join(days)}" if len(days) < 3 else f"Measured {days[0]} to {days[-1]}"
    ]
    lines[0] += f" on {'; '.join(sorted({one.machine for one in reports if one.machine}))}."
    busy = [one for one in reports if one.load_before > BUSY]
    if busy:
        most = max(one.load_before for one in busy)
        which = "every case" if len(busy) == len(reports) else ", ".join(one.case for one in busy)
        lines.append(
            "Other work shared the machine, so latencies are less sure than on a quiet one: it kept"
            f" up to {most:.1f} cores busy before {which}."
        )
    versions: dict[str, set[str]] = {}
    for report in reports:
        for name, version in report.versions.items():
            versions.setdefault(name, set()).add(version)
    said = ", ".join(f"{name} {' and '.join(sorted(versions[name]))}" for name in sorted(versions))
    lines.append(f"Versions: {said}." if said else "")
    if missing:
        lines.append(f"Not measured yet: {', '.join(missing)} (`python -m bench --missing`).")
    lost = [f"{row.system} ({one.case})" for one in reports for row in one.rows if row.broken_claim]
    claims = [row for one in reports for row in one.rows if row.claims_none and row.repetitions]
    lines.append(
        f"**Of the {len(claims)} rows whose engine claims to lose none, these lost some:"
        f" {', '.join(lost)}.**"
        if lost
        else f"All {len(claims)} rows whose engine claims to lose none lost none."
    )
    return "\n\n".join(one for one in lines if one) + "\n"


def _commands(reports: Sequence[Report]) -> str:
    """How each system was started; a system has the same command wherever it appears."""
    commands: dict[str, str] = {}
    for report in reports:
        for row in report.rows:
            if row.command:
                commands.setdefault(row.system, row.command)
    if not commands:
        return ""
    lines = ["## How each was started", "", "| system | command |", "|---|---|"]
    lines += [_line([system, f"`{command}`"]) for system, command in commands.items()]
    return "\n".join([*lines, ""])
