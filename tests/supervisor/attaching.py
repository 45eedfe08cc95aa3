"""A ``segue attach`` in a process of its own, and servers that it did not start, for live tests."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from tests.supervisor.instance import ROOT, Instance
from tests.waiting import PATIENCE, wait_until

from segue.address import Address
from segue.linux import proc
from segue.observe.snapshot import Observer

HERE = Address("127.0.0.1", 8080)
PLAIN = (sys.executable, "-S", "-E", str(ROOT / "tests" / "supervisor" / "plain_server.py"))


class Attach(Instance):
    """One ``segue attach``, or ``rescue``, named t; leaves nothing attached or pinned."""

    def __init__(
        self,
        directory: Path,
        bpffs: str,
        *flags: str,
        address: Address = HERE,
        before: tuple[str, ...] = (),
        verb: str = "attach",
    ) -> None:
        self.directory = directory
        self.output = directory / "output"
        where = (str(address), "--name", "t", "--bpffs", bpffs)
        segue = (sys.executable, "-m", "segue")
        self.argv = [*before, *segue, verb, *where, *flags]
        self.off = [*before, *segue, "detach", *where]
        self.env = {**os.environ, "SEGUE_DIRECTORY": str(directory / "run")}
        self.cwd = ROOT
        self.process = self._start()

    def wait_attached(self, listeners: int) -> Self:
        """Until it has so many listeners, each of them ready."""

        def settled() -> bool:
            assert self.process.poll() is None, self.said()
            workers = self.status().get("workers", [])
            return len(workers) == listeners and not any(w["stage"] == "starting" for w in workers)

        wait_until(settled, f"{listeners} listener(s)\n{self.said()}")
        return self

    def wait_share(self, generation: int, percent: float) -> Self:
        """Until the generation has this share of new connections."""
        wait_until(
            lambda: abs(self.shares().get(generation, -1) - percent) < 0.05,
            f"{percent} % for generation {generation}\n{self.said()}",
        )
        return self

    def shares(self) -> dict[int, float]:
        """Generation -> percentage."""
        found: Counter[int] = Counter()
        for one in self.status().get("workers", []):
            found[one["generation"]] += one["share"]
        return {number: round(share, 2) for number, share in found.items()}

    def front(self) -> dict[str, Any]:
        """What the status says of the address."""
        found: dict[str, Any] = self.status()["fronts"][0]
        return found

    def kill(self) -> None:
        """SIGKILL: it can do nothing more."""
        self.process.kill()
        self.process.wait()

    def detach(self) -> subprocess.CompletedProcess[str]:
        """``segue detach``, as users do."""
        return subprocess.run(
            self.off, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.detach()


def pinned(bpffs: str) -> list[str]:
    """The names that something is pinned under in this bpf file system."""
    with contextlib.suppress(FileNotFoundError):
        return os.listdir(f"{bpffs}/segue")
    return []


def listening(address: Address = HERE) -> set[int]:
    """The cookies of whoever listens there, in this namespace."""
    with Observer() as observer:
        return {one.cookie for one in observer.snapshot(address).listeners}


class Servers:
    """Servers in sessions of their own, as a service manager starts them; ends what is left."""

    def __init__(self) -> None:
        self.running: list[subprocess.Popen[bytes]] = []

    def start(
        self,
        *argv: str,
        listeners: int = 1,
        address: Address = HERE,
        release: str = "",
        inherits: tuple[int, ...] = (),
    ) -> subprocess.Popen[bytes]:
        """Start one, RELEASE in its environment, and wait until it has added its listeners.

        It ``inherits`` these descriptors, under their numbers.
        """
        before = listening(address)
        one = subprocess.Popen(
            argv,
            cwd=ROOT,
            env={**os.environ, "RELEASE": release},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=inherits,
        )
        self.running.append(one)
        wait_until(
            lambda: one.poll() is not None or len(listening(address) - before) >= listeners,
            f"a listener of {argv}",
        )
        assert one.poll() is None
        return one

    def plain(
        self, *more: int, address: Address = HERE, release: str = ""
    ) -> subprocess.Popen[bytes]:
        """A plain server."""
        where = (address.host, str(address.port), *map(str, more))
        return self.start(*PLAIN, *where, address=address, release=release)

    def stop(self, one: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
        """The signal, and its end."""
        one.send_signal(number)
        one.wait(PATIENCE)
        self.running.remove(one)

    def close(self) -> None:
        """Kill what is left, with all that it started."""
        for one in self.running:
            pids = proc.tree(one.pid)
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            one.wait()


@contextlib.contextmanager
def servers() -> Iterator[Servers]:
    """Servers that are gone afterwards."""
    made = Servers()
    try:
        yield made
    finally:
        made.close()


def answered_by(count: int, address: Address = HERE) -> Counter[int]:
    """So many requests, one after the other, each by a connection of its own: whose answers."""
    found: Counter[int] = Counter()
    for _ in range(count):
        with socket.create_connection((address.host, address.port), timeout=PATIENCE) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            head = client.makefile("rb").read()
        found[int(head.lower().partition(b"x-pid: ")[2].split()[0])] += 1
    return found
