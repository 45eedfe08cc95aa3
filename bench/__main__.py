"""The runner: ``python -m bench [CASE...] [OPTION=VALUE...]``; without a case, all of them.
``python -m bench fuzz`` is no case: it sends nonsense (``bench.fuzz``).  Nor is ``python -m bench
kernels``, which boots other kernels (``bench.kernels``), nor ``python -m bench servers [NAME...]``,
which restarts every kind of server that is installed (``bench.catalogue``), nor ``python -m bench
carries [COUNT]``, which carries connections at random moments (``bench.carrying``).

Each case runs in a process and a network namespace of its own, so a broken one stops no other.  It
prints its table and writes bench/results/CASE.json; after the last one RESULTS.md is made from
all the files there are.  With options (``python -m bench soak restarts=1000``) it only prints.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import render
from bench.carrying.__main__ import main as carries
from bench.case import Case
from bench.cases import CASES
from bench.catalogue.__main__ import main as servers
from bench.fuzz.__main__ import main as fuzz
from bench.harness import ROOT, apart, machine
from bench.kernels.__main__ import main as kernels
from bench.table import Report
from bench.versions import versions
from segue.errors import UsageError
from segue.linux import proc

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PAGE = HERE / "RESULTS.md"
# Twice what the longest of them takes on two cores.
LIMIT_S = 1200.0
WIDTH = 200


def main() -> int:
    """0; 1 when a case could not run or a system that claims to lose none lost some."""
    if sys.argv[1:2] == ["carries"]:
        return carries(sys.argv[2:])
    if sys.argv[1:2] == ["fuzz"]:
        return fuzz(sys.argv[2:])
    if sys.argv[1:2] == ["kernels"]:
        return kernels(sys.argv[2:])
    if sys.argv[1:2] == ["servers"]:
        return servers(sys.argv[2:])
    reader = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    reader.add_argument("words", nargs="*", metavar="CASE|OPTION=VALUE")
    reader.add_argument("--list", action="store_true", help="name the cases and their options")
    reader.add_argument("--render", action="store_true", help="only make RESULTS.md again")
    reader.add_argument("--here", type=float, metavar="LOAD", help=argparse.SUPPRESS)
    asked = reader.parse_args()
    given = dict(word.split("=", 1) for word in asked.words if "=" in word)
    names = [word for word in asked.words if "=" not in word]
    try:
        cases = [_case(name) for name in names] or list(CASES)
        for case in cases:
            case.options(given)
    except UsageError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    if asked.list:
        for case in CASES:
            options = " ".join(f"{name}={value}" for name, value in case.options({}).items())
            print(f"{case.name:16}{case.title}\n{'':16}{options}")
        return 0
    if asked.here is not None:
        return _run(cases[0], given, asked.here)
    if asked.render:
        _write_page()
        return 0
    return _run_all(cases, asked.words, given)


def _case(name: str) -> Case:
    for one in CASES:
        if one.name == name:
            return one
    raise UsageError(f"there is no case {name} ({', '.join(one.name for one in CASES)})")


def _run_all(cases: list[Case], words: list[str], given: dict[str, str]) -> int:
    load = _busy()
    options = [word for word in words if "=" in word]
    begun, bad = time.monotonic(), []
    for case in cases:
        argv = [sys.executable, "-m", "bench", "--here", str(load), case.name, *options]
        child = subprocess.Popen(argv, cwd=ROOT)
        try:
            code = child.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if child.poll() is None:
                _end(child)
        if code not in {0, 1}:
            why = f"it took longer than {LIMIT_S:g} s" if code is None else f"it ended with {code}"
            _finish(replace(_blank(case, load), why=why), keep=not given)
        if code != 0:
            bad.append(case.name)
    if not given:
        _write_page()
    print(f"{len(cases)} cases in {(time.monotonic() - begun) / 60:.1f} minutes")
    if bad:
        print(f"not as it should be: {', '.join(bad)}")
    return min(len(bad), 1)


def _busy(seconds: float = 2.0) -> float:
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


def _run(case: Case, given: dict[str, str], load: float) -> int:
    """One case in this process."""
    own = apart()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    options = case.options(given)
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
    _finish(report, keep=not given)
    broken = report.why or any(
        row.broken_claim or (row.claims_none and not row.repetitions) for row in report.rows
    )
    return 1 if broken else 0


def _blank(case: Case, load: float) -> Report:
    return Report(
        case=case.name,
        place=CASES.index(case),
        title=case.title,
        about=case.about,
        columns=case.columns,
        taken=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine(),
        load_before=round(load, 2),
        versions=versions(),
    )


def _finish(report: Report, *, keep: bool) -> None:
    """Print the table and write the file."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    table = Table(title=report.title, title_justify="left", box=None)
    if report.rows:
        headings, *body = render.grid(report)
        for number, heading in enumerate(headings):
            table.add_column(heading, justify="right" if number else "left")
        for cells in body:
            table.add_row(*cells)
        console.print(table)
    for note in render.notes(report):
        console.print(note, markup=False, highlight=False)
    if report.why:
        console.print(f"could not run: {report.why}", markup=False)
    if keep:
        RESULTS.mkdir(exist_ok=True)
        text = json.dumps(report.as_dict(), indent=1)
        (RESULTS / f"{report.case}.json").write_text(f"{text}\n")


def _write_page() -> None:
    files = sorted(RESULTS.glob("*.json"))
    reports = [Report.from_dict(json.loads(path.read_text())) for path in files]
    PAGE.write_text(render.page(reports))
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
