"""Segue on other kernels: fetch each, boot it, and say what works there.

python -m bench kernels [KERNEL...] [--only STEP,...] [--cache DIRECTORY]
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.harness import ROOT
from bench.kernels import fetch, host, root, table
from bench.kernels.boot import Machine, Ran
from bench.kernels.host import CACHE, call, tell
from segue.errors import SegueError, UsageError

RESULTS = ROOT / "bench" / "results" / "kernels"
PAGE = ROOT / "docs" / "KERNELS.md"
# One that cannot migrate, one that wakes nobody (CVE-2026-46015), one of long support that can
# carry, and whatever comes next.
USUAL = ("5.10", "6.1.170", "6.12", "newest")
_MOST_RATE = 1000.0
_TESTS_LIMIT_S = 3600.0  # of which a third without KVM, where nothing else runs
_STEP_LIMIT_S = 240.0  # for the others, starts of servers without KVM included
_WIDTH = 200


def main(args: Sequence[str] | None = None) -> int:
    """0; 1 if something is not as it should be on one of the kernels, or could not be done."""
    reader = argparse.ArgumentParser(
        prog="python -m bench kernels", description=__doc__.split("\n")[0]
    )
    known = ", ".join(table.STEPS)
    reader.add_argument(
        "kernels",
        nargs="*",
        metavar="KERNEL",
        default=list(USUAL),
        help="a version (6.1, 6.1.170), newest, or Debian's SUITE/PACKAGE; without one:"
        f" {', '.join(USUAL)}",
    )
    reader.add_argument(
        "--only", metavar="STEP,...", help=f"some of: {known}; what is kept of other steps stays"
    )
    reader.add_argument(
        "--rate",
        type=float,
        default=None,
        metavar="N",
        help="connections a second of restarts and kills  [default: what leaves the machine room]",
    )
    reader.add_argument("--cache", type=Path, default=CACHE, help=f"[default: {CACHE}]")
    reader.add_argument("--accel", choices=("auto", "kvm", "tcg"), default="auto")
    asked = reader.parse_args(args)
    steps = asked.only.split(",") if asked.only else list(table.STEPS)
    for step in steps:
        if step not in table.STEPS and not (step.startswith("tests/") and (ROOT / step).exists()):
            reader.error(f"there is no step {step!r}: write some of {known}, or a path in tests/")
    if asked.rate is not None and not 0 < asked.rate <= _MOST_RATE:
        reader.error(f"--rate must be above 0 and at most {_MOST_RATE:g} (got {asked.rate:g})")
    try:
        for name in asked.kernels:
            fetch.suites(name)
        host.check()
        host.claim(asked.cache)
        # So that the machine ends with us, and its directory is removed.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
        return _run(asked.kernels, steps, asked.rate, asked.cache, asked.accel)
    except SegueError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except RuntimeError as error:
        sys.stderr.write(f"bench kernels: {error}\n")
        return 1


def _run(
    names: Sequence[str], steps: list[str], rate: float | None, cache: Path, accel: str
) -> int:
    found: list[table.Found] = []
    kernels = [fetch.fetch(name, cache) for name in names]
    image = root.image(cache)
    for kernel in kernels:
        machine = Machine(kernel, image, accel)
        tests = sum(step.startswith("tests/") for step in steps)
        limit = tests * _TESTS_LIMIT_S + (1 + len(steps) - tests) * _STEP_LIMIT_S
        # What the machine gets is the project as it is now.
        commit = call(["git", "-C", str(ROOT), "log", "-1", "--format=%h", "--", "src"]).strip()
        tell(f"booting {kernel.name}, with the project of {commit}")
        argv = ["python", "-m", "bench.kernels.inside", *steps]
        argv += ["--limit", f"{_TESTS_LIMIT_S:g}", *(["--rate", f"{rate:g}"] if rate else [])]
        ran = machine.run(" ".join(argv), limit, lambda line: tell(f"  {table.progress(line)}"))
        accel = machine.accelerator
        one = _found(kernel, commit, steps, accel, ran)
        (cache / f"{kernel.name}.log").write_text(ran.console)
        found.append(one)
        for said in table.wrong(one):
            tell(f"{kernel.name}: {said}")
        if not one["steps"]:
            tell(f"{kernel.name}: its last words were\n{ran.console[-1000:]}")
        _keep(one)
    _print(found)
    write_page()
    return 1 if any(table.wrong(one) for one in found) else 0


def _found(
    kernel: fetch.Fetched, commit: str, steps: list[str], accel: str, ran: Ran
) -> table.Found:
    told = {one.pop("step"): {**one, "commit": commit} for one in ran.results if "step" in one}
    return {
        "kernel": kernel.name,
        "package": f"{kernel.offer.suite}/{kernel.offer.package}",
        "version": kernel.offer.version,
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "accelerator": accel,
        "seconds": ran.seconds,
        "asked": steps,
        "steps": told,
        "trouble": ran.trouble,
    }


def _keep(one: table.Found) -> None:
    """Write down what was found, beside what is kept of this kernel."""
    path = RESULTS / f"{one['kernel']}.json"
    kept = table.merged(json.loads(path.read_text()) if path.exists() else None, one)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{json.dumps(kept, indent=1)}\n")


def _print(found: Sequence[table.Found]) -> None:
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    shown = Table(box=None)
    heading, *body = table.rows(found)
    for one in heading:
        shown.add_column(one)
    for cells in body:
        shown.add_row(*cells)
    console.print(shown)


def results() -> list[table.Found]:
    """Those that are kept."""
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]


def write_page() -> None:
    """Put the table of all kept results into docs/KERNELS.md, between its two marks."""
    before, mark, rest = PAGE.read_text().partition("<!-- results -->\n")
    _, end, after = rest.partition("<!-- end -->\n")
    if not mark or not end:
        raise UsageError(f"{PAGE} has no place for the table")
    PAGE.write_text(f"{before}{mark}{table.markdown(results())}{end}{after}")
    tell(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
