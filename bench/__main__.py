"""The runner: ``python -m bench [CASE...] [OPTION=VALUE...]``; without a case, all of them.
``python -m bench fuzz`` is no case: it sends nonsense (``bench.fuzz``).  Nor is ``python -m bench
kernels``, which boots other kernels (``bench.kernels``), nor ``python -m bench servers [NAME...]``,
which restarts every kind of server that is installed (``bench.catalogue``), nor ``python -m bench
carries [COUNT]``, which carries connections at random moments (``bench.carrying``), nor ``python -m
bench compare-grid``, which restarts by every way at twelve loads (``bench.grid``), nor ``python -m
bench packetdrill DIRECTORY``, which tells scripts to Linux and the model (``bench.packetdrill``).

Each case runs in a process and a network namespace of its own, so a broken one stops no other.  It
prints its table and writes bench/results/CASE.json; after the last one RESULTS.md is made from
all the files there are.  With options (``python -m bench soak restarts=1000``) it only prints, and
so does ``--quick``, which asks each case for one repetition of less.  At the end stands which rows
claim to lose none, and whether they did.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench import render
from bench.carrying.__main__ import main as carries
from bench.case import Case
from bench.cases import CASES
from bench.catalogue.__main__ import main as servers
from bench.claims import HEADINGS, claims
from bench.fuzz.__main__ import main as fuzz
from bench.grid.__main__ import main as compare_grid
from bench.harness import ROOT, apart, machine
from bench.kernels.__main__ import main as kernels
from bench.packetdrill.__main__ import main as packetdrill
from bench.table import Report
from bench.versions import versions
from segue.errors import UsageError
from segue.linux import proc

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PAGE = HERE / "RESULTS.md"
# Twice what the longest of them takes on two cores.
LIMIT_S = 2400.0
WIDTH = 200


def main() -> int:
    """0; 1 when a case, or a system that claims to lose none, could not run, or it lost some."""
    if sys.argv[1:2] == ["carries"]:
        return carries(sys.argv[2:])
    if sys.argv[1:2] == ["compare-grid"]:
        return compare_grid(sys.argv[2:])
    if sys.argv[1:2] == ["fuzz"]:
        return fuzz(sys.argv[2:])
    if sys.argv[1:2] == ["kernels"]:
        return kernels(sys.argv[2:])
    if sys.argv[1:2] == ["packetdrill"]:
        return packetdrill(sys.argv[2:])
    if sys.argv[1:2] == ["servers"]:
        return servers(sys.argv[2:])
    reader = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    reader.add_argument("words", nargs="*", metavar="CASE|OPTION=VALUE")
    reader.add_argument("--list", action="store_true", help="name the cases and their options")
    reader.add_argument("--render", action="store_true", help="only make RESULTS.md again")
    reader.add_argument("--quick", action="store_true", help="one repetition of less, and no files")
    reader.add_argument("--missing", action="store_true", help="the cases that have no file yet")
    reader.add_argument("--here", nargs=2, metavar=("LOAD", "FILE"), help=argparse.SUPPRESS)
    asked = reader.parse_args()
    given = dict(word.split("=", 1) for word in asked.words if "=" in word)
    names = [word for word in asked.words if "=" not in word]
    try:
        cases = [_case(name) for name in names] or list(CASES)
        if asked.missing:
            cases = [case for case in cases if not _file(case).exists()]
        for case in cases:
            case.options(given, quick=asked.quick)
    except UsageError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    if asked.list:
        for case in CASES:
            options = " ".join(f"{name}={value}" for name, value in case.options({}).items())
            print(f"{case.name:16}{case.title}\n{'':16}{options}")
        return 0
    if asked.here is not None:
        load, file = asked.here
        _run(cases[0], cases[0].options(given, quick=asked.quick), float(load), Path(file))
        return 0
    if asked.render:
        _write_page()
        return 0
    words = [word for word in asked.words if "=" in word]
    return _run_all(cases, [*words, *(["--quick"] if asked.quick else [])])


def _case(name: str) -> Case:
    for one in CASES:
        if one.name == name:
            return one
    raise UsageError(f"there is no case {name} ({', '.join(one.name for one in CASES)})")


def _file(case: Case) -> Path:
    return RESULTS / f"{case.name}.json"


def _run_all(cases: Sequence[Case], options: Sequence[str]) -> int:
    """What was asked for with options is not kept."""
    begun, reports = time.monotonic(), []
    for case in cases:
        report = _apart(case, options)
        reports.append(report)
        if not options:
            RESULTS.mkdir(exist_ok=True)
            _file(case).write_text(f"{json.dumps(report.as_dict(), indent=1)}\n")
    if not options:
        _write_page()
    found = claims(reports)
    _show("Claims", HEADINGS, [one.cells for one in found])
    wrong = sum(one.wrong for one in found)
    print(f"{len(cases)} cases in {(time.monotonic() - begun) / 60:.1f} minutes")
    print(f"{wrong} of {len(found)} not as they should be" if wrong else "all as they should be")
    return min(wrong, 1)


def _apart(case: Case, options: Sequence[str]) -> Report:
    """One case in a process of its own."""
    load = _busy()
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "report.json")
        here = ("--here", str(load), str(file))
        argv = [sys.executable, "-m", "bench", *here, case.name, *options]
        child = subprocess.Popen(argv, cwd=ROOT)
        try:
            code = child.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if child.poll() is None:
                _end(child)
        if file.exists():
            return Report.from_dict(json.loads(file.read_text()))
    why = f"it took longer than {LIMIT_S:g} s" if code is None else f"it ended with {code}"
    report = replace(_blank(case, load), why=why)
    _finish(report)
    return report


def _busy(seconds: float = 1.0) -> float:
    """How many cores are busy while nothing of ours runs.

    Not the load average, which remembers the last minute: that may have been a bench as well.
    """

    def spent() -> tuple[int, int]:
        with open("/proc/stat", encoding="ascii") as file:
            ticks = [int(word) for word in file.readline().split()[1:9]]
        return sum(ticks), ticks[3] + ticks[4]  # idle and waiting for a disk (proc_stat(5))

    total, idle = spent()
    time.sleep(seconds)
    total_after, idle_after = spent()
    all_ticks = max(1, total_after - total)
    return (1 - (idle_after - idle) / all_ticks) * (os.cpu_count() or 1)


def _run(case: Case, options: dict[str, Any], load: float, file: Path) -> None:
    """One case in this process; the file gets its report."""
    own = apart()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    print(f"--- {case.title}", flush=True)
    report, begun = _blank(case, load), time.monotonic()
    if not own:
        print("without root: no network namespace, so everything listens on this host's loopback")
    try:
        rows = case.measure(**options)
        report = replace(report, rows=tuple(rows), notes=tuple(case.notes(rows)))
    except Exception as error:  # noqa: BLE001 - whatever it is, the table says it
        report = replace(report, why=f"{type(error).__name__}: {error}")
    report = replace(report, options=options, seconds=round(time.monotonic() - begun, 1))
    _finish(report)
    file.write_text(json.dumps(report.as_dict()))


def _blank(case: Case, load: float) -> Report:
    return Report(
        case=case.name,
        title=case.title,
        about=case.about,
        columns=case.columns,
        taken=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine(),
        load_before=round(load, 2),
        versions=versions(),
    )


def _finish(report: Report) -> None:
    """Print the table."""
    if report.rows:
        headings, *body = render.grid(report)
        _show(report.title, headings, body)
    for note in render.notes(report):
        print(note)
    if report.why:
        print(f"could not run: {report.why}")
    sys.stdout.flush()


def _show(title: str, headings: Iterable[str], body: Iterable[Iterable[str]]) -> None:
    table = Table(title=title, title_justify="left", box=None)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    for cells in body:
        table.add_row(*map(escape, cells))
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)


def _write_page() -> None:
    """RESULTS.md, from the files of all cases there are."""
    files = {case.name: _file(case) for case in CASES}
    there = [json.loads(file.read_text()) for file in files.values() if file.exists()]
    missing = [name for name, file in files.items() if not file.exists()]
    PAGE.write_text(render.page([Report.from_dict(one) for one in there], missing))
    print(f"wrote {PAGE.relative_to(ROOT)}")


def _end(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM, so that it stops what it started; then SIGKILL to all that is left of its tree."""
    tree = proc.tree(child.pid)
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(60)
    for pid in tree:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    child.wait()


if __name__ == "__main__":
    raise SystemExit(main())
