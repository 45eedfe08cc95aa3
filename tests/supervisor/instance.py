"""A ``segue run`` in a process of its own, for live tests: started, asked, waited for, stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from bench.load import result
from tests.waiting import PATIENCE, wait_until

from segue.errors import SegueError
from segue.linux import proc, snmp
from segue.probe.result import Result
from segue.supervisor.control.client import converse

ROOT = Path(__file__).resolve().parent.parent.parent
ADDRESS = "127.0.0.1:8080"
# Drain is for kernels on which nothing migrates: its tests run on those too.
DRAIN = pytest.param("drain", marks=pytest.mark.kernel("5.10"))
# For slow machines: no test offers more connections a second.
MOST_RATE = float(os.environ.get("LIVE_TEST_RATE") or "inf")
# A worker that starts fast: no site, no environment of Python's.
SERVER = (sys.executable, "-S", "-E", str(ROOT / "examples" / "asyncio_server.py"))


def wait_asleep(*pids: int) -> None:
    """Until no thread of these processes runs.

    A client may have its answer before the server has done what it does after one.
    """

    def asleep() -> bool:
        threads = [one for pid in pids for one in proc.scheduling(pid).values()]
        return not any(one.runnable for one in threads)

    wait_until(asleep, f"{pids} sleep")


def wait_for_load(connections: int = 50) -> None:
    """Until so many more connections have come to this network namespace."""
    wanted = snmp.read()["Tcp.PassiveOpens"] + connections
    wait_until(lambda: snmp.read()["Tcp.PassiveOpens"] >= wanted, f"{connections} connections")


class Instance:
    """One supervisor; a context manager that leaves no process behind.

    If the block raises, it prints what the supervisor has said, its last status and what its
    processes do: the test's report has them then.
    """

    def __init__(
        self,
        directory: Path,
        *flags: str,
        command: tuple[str, ...] = SERVER,
        before: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
        cwd: Path = ROOT,
        python: str = sys.executable,
    ) -> None:
        self.directory, self.cwd = directory, cwd
        self.output = directory / "output"
        where = () if any(flag == "--bind" for flag in flags) else ("--bind", ADDRESS)
        self.argv = [
            *before,
            *(python, "-m", "segue", "run", "--name", "t", *where, *flags, "--", *command),
        ]
        self.env = {**os.environ, "SEGUE_DIRECTORY": str(directory / "run"), **(env or {})}
        self.env["PWD"] = str(cwd)  # as a shell has it
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with open(self.output, "ab") as output:
            return subprocess.Popen(
                self.argv, cwd=self.cwd, env=self.env, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output,
            )  # fmt: skip

    def again(self) -> None:
        """The same command once more, as after a crash."""
        self.process = self._start()

    @property
    def control(self) -> str:
        """The control socket."""
        return str(self.directory / "run" / "t.sock")

    def said(self) -> str:
        """All that it has printed."""
        return self.output.read_text(errors="replace")

    def ask(self, verb: str, **more: Any) -> dict[str, Any]:
        """One request to its last answer."""
        return converse(self.control, {"do": verb, **more}, lambda _: None)

    def status(self) -> dict[str, Any]:
        """What ``segue status`` shows; {} while nobody answers."""
        with contextlib.suppress(SegueError):
            found: dict[str, Any] = self.ask("status").get("status", {})
            return found
        return {}

    def workers(self, *stages: str) -> list[dict[str, Any]]:
        """Workers in these stages, oldest first."""
        return [one for one in self.status().get("workers", []) if one["stage"] in stages]

    def wait_serving(self, generation: int = 1, workers: int = 1) -> Self:
        """Until so many workers of this generation serve, and no other lives."""

        def settled() -> bool:
            assert self.process.poll() is None, self.said()
            everyone = self.status().get("workers", [])
            serving = [w for w in everyone if w["stage"] == "serving"]
            right = [w for w in serving if w["generation"] == generation]
            return len(right) == workers == len(everyone)

        wait_until(settled, f"generation {generation} with {workers} worker(s)\n{self.said()}")
        return self

    def wait(self) -> int:
        """Its exit code, once it ends."""
        return self.process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        if failed is not None:
            print(self.said(), json.dumps(self.status(), indent=1), sep="\n")
            print(proc.doing(proc.tree(self.process.pid)))
        # Stopped first, and parents before their children: who sees a worker killed starts another.
        self.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: proc.threads_stopped(self.process.pid), "the supervisor stopped")
        pids = [self.process.pid, *proc.tree(self.process.pid)]
        record = self.directory / "run" / "t.json"
        if record.exists():
            # Workers of a supervisor that was killed are nobody's children any more.
            for one in json.loads(record.read_text())["instance"]["workers"]:
                if one["pid"] > 1 and one["start_ticks"] == proc.start_time(one["pid"]):
                    pids += proc.tree(one["pid"])
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def _offered(args: tuple[str, ...]) -> tuple[str, ...]:
    """The same load, at no more than MOST_RATE."""
    after_rate = ("", *(one == "--rate" for one in args))
    capped = zip(after_rate, args, strict=False)
    return tuple(str(min(float(one), MOST_RATE)) if rate else one for rate, one in capped)


@contextlib.contextmanager
def load(*args: str, address: str = ADDRESS) -> Iterator[Callable[[], Result]]:
    """The probe against the address; yields a function that ends it and tells the result."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.load", address, "--duration", "60", "--until-stdin-closes",
         *_offered(args or ("--rate", "200"))],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    # It says so when its first connection is due; from then on there is load.
    assert "probing" in process.stderr.readline()

    def finish() -> Result:
        text, _ = process.communicate(timeout=PATIENCE)
        return result(text)

    try:
        yield finish
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
