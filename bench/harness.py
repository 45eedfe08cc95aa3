"""What every bench and the demo share: a namespace, servers under load, restarts, and the probe.

As root everything runs in a network namespace of its own; as an ordinary user on loopback, on a
port that is free.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from bench import load
from segue.linux import netns, proc
from segue.probe.result import Result
from segue.supervisor.control.client import converse

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
# Entered once, and left with the process.
_APART = contextlib.ExitStack()
_START_SECONDS = 300.0  # also where a machine is emulated
_STOP_SECONDS = 60.0
# Each attempt has its own limit of 8 s in all.
_LOAD_ENDS_SECONDS = 30.0


def apart() -> bool:
    """Enter a network namespace of our own if we may; True when we did."""
    if os.geteuid() != 0:
        return False
    _APART.enter_context(netns.fresh())
    return True


def free_port() -> int:
    """A loopback port that nobody has now."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port


def wait_until(true: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for a condition, at most so long; raises TimeoutError naming it."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)


def program(name: str) -> str:
    """A program of this environment."""
    here = BIN / name
    return str(here) if here.exists() else str(shutil.which(name) or name)


def answer(host: str, port: int, *, tls: bool = False) -> bytes:
    """The whole answer to one request on a new connection; empty when there was none."""
    found = b""
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        made = stack.enter_context(socket.create_connection((host, port), timeout=1))
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            made = stack.enter_context(context.wrap_socket(made))
        made.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while data := made.recv(4096):
            found += data
    return found


def shown(argv: list[str]) -> str:
    """A command as a reader would type it in a clone."""
    words = [word.removeprefix(f"{BIN}/").removeprefix(f"{ROOT}/") for word in argv]
    return shlex.join("python" if word == sys.executable else word for word in words)


class Server:
    """A process in its own session, stopped by pid with everything it started."""

    def __init__(
        self,
        argv: list[str],
        port: int,
        *,
        host: str = "127.0.0.1",
        tls: bool = False,
        env: dict[str, str] | None = None,
        inherit: tuple[int, ...] = (),
    ) -> None:
        self.host, self.port, self.tls = host, port, tls
        self.shown = shown(argv)
        # A file of its own: what it says is read when it fails.
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            argv,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=inherit,
        )

    def wait_serving(self) -> None:
        """Until a connection is answered.

        Raises RuntimeError when it ends instead, and TimeoutError, both with what it has printed.
        """

        def answers() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.shown} ended:\n{self.log()}")
            return answer(self.host, self.port, tls=self.tls).startswith(b"HTTP/1.1 200")

        try:
            wait_until(answers, _START_SECONDS, "an answer of the server")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; {self.shown} has printed:\n{self.log()}") from None

    def accepting(self) -> list[int]:
        """The processes of its tree that serve: the living ones without children of their own."""
        return _leaves(self.process.pid)

    def log(self) -> str:
        """What it has printed so far."""
        self._log.seek(0)
        return self._log.read()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL to whatever is left of its tree."""
        tree = proc.tree(self.process.pid)
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in tree:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._log.close()

    def __enter__(self) -> Self:
        try:
            self.wait_serving()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Segue(Server):
    """``segue run`` over a command."""

    def __init__(
        self,
        command: list[str],
        port: int,
        *,
        engine: str,
        workers: int = 2,
        more: tuple[str, ...] = (),
        host: str = "127.0.0.1",
        tls: bool = False,
    ) -> None:
        self.directory = tempfile.mkdtemp(prefix="segue-bench-")
        os.chmod(self.directory, 0o711)
        super().__init__(
            [
                *(program("segue"), "run", "--name", "bench", "--bind", f"{host}:{port}"),
                *("--engine", engine, "--workers", str(workers), *more, "--", *command),
            ],
            port,
            host=host,
            tls=tls,
            env={"SEGUE_DIRECTORY": self.directory},
        )

    def wait_serving(self) -> None:
        """As in Server, and until every worker of the first generation serves."""
        super().wait_serving()
        wait_until(
            lambda: self.status()["phase"] == "serving", _START_SECONDS, "the first generation"
        )

    def order(self, verb: str, **more: Any) -> float:
        """Give an order and wait for its end; seconds.  Raises RuntimeError when it fails.

        Straight to the control socket: starting a program for each order would be load as well.
        """
        before = time.monotonic()
        answer = converse(f"{self.directory}/bench.sock", {"do": verb, **more}, lambda _: None)
        if answer["exit"]:
            raise RuntimeError(f"{verb}: {answer}\n{self.log()}")
        return time.monotonic() - before

    def restart(self) -> float:
        """One restart until the old generation is gone; seconds."""
        return self.order("restart")

    def status(self) -> dict[str, Any]:
        """What ``segue status --json`` says."""
        answer = converse(f"{self.directory}/bench.sock", {"do": "status"}, lambda _: None)
        found: dict[str, Any] = answer["status"]
        return found

    def accepting(self) -> list[int]:
        """As in Server, over the trees of the workers that have a share."""
        serving = [one for one in self.status()["workers"] if one["stage"] == "serving"]
        return [pid for one in serving for pid in _leaves(one["pid"])]

    def stop(self) -> None:
        """Stop, and remove its directory."""
        super().stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class Hup(Server):
    """A server restarted its own way, by a signal to its parent process."""

    restarted_by = signal.SIGHUP

    def restart(self) -> float:
        """The signal, until none of the old processes is left and new ones answer; seconds."""
        before = time.monotonic()
        old = self._workers()
        self.process.send_signal(self.restarted_by)
        wait_until(
            lambda: (now := self._workers()) and not now & old,
            _START_SECONDS,
            "new worker processes",
        )
        self.wait_serving()
        return time.monotonic() - before

    def _workers(self) -> set[int]:
        """Its children, without the one that Python's multiprocessing keeps for itself."""
        return {pid for pid in proc.children(self.process.pid) if not _tracks(pid)}


def _leaves(pid: int) -> list[int]:
    return [
        one
        for one in proc.tree(pid)
        if not proc.children(one) and not _tracks(one) and proc.start_time(one) is not None
    ]


def _tracks(pid: int) -> bool:
    return any("resource_tracker" in word for word in proc.command_line(pid))


class Load:
    """The probe in a process of its own, which has begun, until stopped."""

    def __init__(
        self,
        port: int,
        *args: str,
        seconds: float = 600.0,
        host: str = "127.0.0.1",
    ) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "bench.load", f"{host}:{port}"),
                *("--duration", str(seconds), "--until-stdin-closes", *args),
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr
        if not self.process.stderr.readline().startswith("probing"):
            raise RuntimeError(f"the probe did not begin: {self.process.communicate()[1][-300:]}")

    def stop(self) -> Result:
        """End the load; what became of every attempt.  Raises TimeoutError when it does not end."""
        try:
            text, _ = self.process.communicate(timeout=_LOAD_ENDS_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise TimeoutError(
                f"the probe did not end within {_LOAD_ENDS_SECONDS:g} s of being told to"
            ) from None
        return load.result(text)


@contextlib.contextmanager
def steady(seconds: float) -> Iterator[None]:
    """Whatever the block takes, at least so long: load needs time between two restarts."""
    end = time.monotonic() + seconds
    yield
    time.sleep(max(0.0, end - time.monotonic()))


def machine() -> str:
    """What the figures were taken on, for a heading."""
    return f"Linux {os.uname().release}, {os.cpu_count()} cores, Python {sys.version.split()[0]}"
