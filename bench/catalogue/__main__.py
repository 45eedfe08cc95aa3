"""``python -m bench servers [NAME...]``: three restarts of each installed server under a probe.

Prints one row of docs/SERVERS.md for each, and says which are not installed.  As root; each server
runs in a network namespace and a directory of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.catalogue import CATALOGUE
from bench.catalogue.entry import HERE, Entry, search_path
from bench.harness import apart, wait_until
from segue.errors import SegueError, UsageError
from segue.linux import proc
from segue.supervisor.control.client import converse

RESTARTS = 3
RATE = 100
_SECONDS = 60.0  # for a start, a restart, a stop


@dataclass(frozen=True, slots=True)
class Row:
    """What was seen of one server; ``why`` if it could not be run."""

    entry: Entry
    asked: int = 0
    lost: int = 0
    p99_ms: float = 0.0
    why: str = ""

    def markdown(self) -> str:
        """A row of docs/SERVERS.md."""
        options = f"`{self.entry.options}`" if self.entry.options else ""
        command = f"`{self.entry.command}`".replace("|", r"\|")
        seen = self.why or f"{self.lost} of {self.asked:,}, {self.p99_ms:.0f} ms"
        return f"| {self.entry.name} | {options} | {command} | {self.entry.know} | {seen} |"


def main(words: Sequence[str]) -> int:
    """0; 1 if one of them could not be run or lost a connection."""
    try:
        wanted = [_named(word) for word in words] or list(CATALOGUE)
    except UsageError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    if not apart():
        sys.stderr.write("python -m bench servers needs root, for a network namespace\n")
        return 2
    missing = [one.name for one in wanted if not one.there]
    good = True
    for one in wanted:
        if one.there:
            row = _run(one)
            good = good and not row.why and not row.lost
            print(row.markdown(), flush=True)
    if missing:
        print(f"not installed: {', '.join(missing)}")
    return 0 if good else 1


def _named(word: str) -> Entry:
    for one in CATALOGUE:
        if one.name.lower() == word.lower():
            return one
    known = ", ".join(one.name for one in CATALOGUE)
    raise UsageError(f"there is no server {word!r} (there are: {known})")


def _run(entry: Entry) -> Row:
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o777)
        _prepare(entry, Path(place))
        log = Path(place, "segue.log")
        with open(log, "wb") as output:
            supervisor = subprocess.Popen(
                _command(entry), cwd=place, env=_environment(place), stdin=subprocess.DEVNULL,
                stdout=output, stderr=output,
            )  # fmt: skip
        try:
            control = f"{place}/run/bench.sock"
            wait_until(lambda: _serves(supervisor, control, entry.workers), _SECONDS, "a start")
            found = _probed(entry, place)
            supervisor.terminate()
            supervisor.wait(_SECONDS)
            lost, p99 = found["lost"], found["p99_ms"] or 0.0
            return Row(entry, found["total"], lost, p99, _failed(found))
        except (OSError, ValueError, RuntimeError, subprocess.SubprocessError) as error:
            said = log.read_text(errors="replace").strip().splitlines()[-6:]
            return Row(entry, why=f"{error}: {' / '.join(said)}")
        finally:
            _end(supervisor)


def _prepare(entry: Entry, place: Path) -> None:
    for name, text in entry.files.items():
        path = place / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.replace("{place}", str(place)))
    if "sshd.conf" in entry.files:
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / "key")]
        subprocess.run(key, check=True)


def _command(entry: Entry) -> list[str]:
    segue = (sys.executable, "-m", "segue", "run", "--name", "bench", "--bind", HERE)
    size = ("--workers", str(entry.workers))
    return [*segue, *size, *shlex.split(entry.options), "--", *shlex.split(entry.command)]


def _environment(place: str) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": search_path(),
        "SEGUE_DIRECTORY": f"{place}/run",
        "PWD": place,
        "HOME": place,
    }


def _serves(supervisor: subprocess.Popen[bytes], control: str, workers: int) -> bool:
    if supervisor.poll() is not None:
        raise RuntimeError(f"it ended with {supervisor.returncode}")
    with contextlib.suppress(SegueError):
        status = converse(control, {"do": "status"}, lambda _: None)["status"]
        serving = [one for one in status["workers"] if one["stage"] == "serving"]
        return status["phase"] == "serving" and len(serving) == workers
    return False


def _probed(entry: Entry, place: str) -> dict[str, Any]:
    segue = f"{sys.executable} -m segue"
    restarts = " && ".join([f"{segue} restart"] * RESTARTS)
    argv = [
        *(sys.executable, "-m", "segue", "probe", entry.target, *entry.ask),
        *("--rate", str(RATE), "--during", f"sh -c {shlex.quote(restarts)}"),
        *("--steady", "1", "--settle", "1", "--json"),
    ]
    done = subprocess.run(
        argv, cwd=place, env=_environment(place), capture_output=True, text=True, timeout=180,
        check=False,
    )  # fmt: skip
    if not done.stdout:
        raise RuntimeError(done.stderr.strip())
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _failed(found: dict[str, Any]) -> str:
    during = found["during"]
    return f"a restart failed: {during['output']}" if during["failed"] else ""


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    """Kill it with all below it, if it still runs."""
    if supervisor.poll() is not None:
        return
    tree = proc.tree(supervisor.pid)
    supervisor.kill()
    supervisor.wait()
    for pid in tree:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
