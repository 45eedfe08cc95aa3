"""Restarts that need no supervisor: two processes side by side, and one shared socket.

Both hand their programs a listener as descriptor 3 in systemd's dialect (LISTEN_FDS, LISTEN_PID).
"""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import time
from typing import Protocol, Self

from bench.harness import Server, answer, shown, wait_until
from segue.address import Address
from segue.linux import proc
from segue.linux.sockopt import open_listener

BACKLOG = 2048  # that of segue run
_LIMIT_S = 60.0
# Descriptor 3 and the environment are what systemd's service manager would set before exec.
_AS_THIRD = (
    "import os, sys\n"
    "os.dup2(int(sys.argv[1]), 3)\n"
    "os.environ |= {'LISTEN_FDS': '1', 'LISTEN_PID': str(os.getpid())}\n"
    "os.execvp(sys.argv[2], sys.argv[2:])\n"
)


class Restartable(Protocol):
    """What a case may ask of any system."""

    host: str
    port: int
    shown: str

    def restart(self) -> float:
        """Until nothing of the old is left and the new answers; seconds."""

    def accepting(self) -> list[int]:
        """The processes that serve."""

    def __enter__(self) -> Self:
        """It answers."""

    def __exit__(self, *_: object) -> None:
        """Nothing of it is left."""


class Overlapping:
    """Processes with a listener each, by SO_REUSEPORT and nothing else.

    A restart starts the new ones beside the old, waits until each has answered and for ``wait``
    seconds more, and sends the old ones SIGTERM.  With ``inherit`` the listener is made here and no
    descriptor of it kept; without it the program makes its own.
    """

    def __init__(
        self,
        argv: list[str],
        port: int,
        *,
        host: str,
        processes: int,
        inherit: bool,
        wait: float = 0.0,
    ) -> None:
        self.host, self.port = host, port
        self._argv, self._processes, self._inherit = argv, processes, inherit
        self._wait = wait
        self.shown = f"{processes} x {shown(argv)}" if processes > 1 else shown(argv)
        self._running: list[Server] = []

    def restart(self) -> float:
        """As in Restartable."""
        before = time.monotonic()
        old = list(self._running)
        for _ in range(self._processes):
            self._running.append(self._start())
        new = self._running[len(old) :]
        for one in new:
            self._wait_answered_by(one)
        time.sleep(self._wait)
        for one in old:
            one.process.terminate()
        for one in old:
            one.stop()
        self._running = new
        return time.monotonic() - before

    def replace_dead(self) -> None:
        """What any process supervisor does: wait for a death, and start a new one in its place.

        Raises TimeoutError when none of them dies.
        """
        alive = [one.process for one in self._running]
        wait_until(lambda: any(one.poll() is not None for one in alive), _LIMIT_S, "a death")
        for place, one in enumerate(self._running):
            if one.process.poll() is not None:
                one.stop()
                self._running[place] = self._start()

    def accepting(self) -> list[int]:
        """As in Restartable."""
        return [pid for one in self._running for pid in one.accepting()]

    def __enter__(self) -> Self:
        try:
            for _ in range(self._processes):
                self._running.append(self._start())
            for one in self._running:
                self._wait_answered_by(one)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._running:
            one.stop()

    def _start(self) -> Server:
        if not self._inherit:
            return Server(self._argv, self.port, host=self.host)
        with open_listener(Address(self.host, self.port), backlog=BACKLOG) as listener:
            return inheriting(listener, self._argv, self.host, self.port)

    def _wait_answered_by(self, one: Server) -> None:
        def answered() -> bool:
            if one.process.poll() is not None:
                raise RuntimeError(f"{one.shown} ended:\n{one.log()}")
            found = re.search(rb"(?i)\nx-pid: *(\d+)", answer(self.host, self.port))
            return found is not None and int(found[1]) in proc.tree(one.process.pid)

        wait_until(answered, _LIMIT_S, "an answer of the new process")


class StopStart:
    """One process on a listener that outlives it, as a systemd service with a .socket unit.

    A restart is a stop and a start: what comes meanwhile waits in the listener.
    """

    def __init__(self, argv: list[str], port: int, *, host: str) -> None:
        self.host, self.port, self.shown = host, port, shown(argv)
        self._argv = argv
        self._listener: socket.socket | None = None
        self._server: Server | None = None

    def restart(self) -> float:
        """As in Restartable."""
        before = time.monotonic()
        self._stop()
        self._start()
        return time.monotonic() - before

    def accepting(self) -> list[int]:
        """As in Restartable."""
        return self._server.accepting() if self._server else []

    def __enter__(self) -> Self:
        self._listener = open_listener(
            Address(self.host, self.port), backlog=BACKLOG, reuseport=False
        )
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.ExitStack() as stack:
            if self._listener is not None:
                stack.enter_context(self._listener)
            self._stop()

    def _start(self) -> None:
        assert self._listener is not None
        self._server = inheriting(self._listener, self._argv, self.host, self.port)
        self._server.wait_serving()

    def _stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.stop()


def inheriting(listener: socket.socket, argv: list[str], host: str, port: int) -> Server:
    """Start it with this listener as descriptor 3; our own stays open."""
    number = listener.fileno()
    launch = [sys.executable, "-S", "-E", "-c", _AS_THIRD, str(number), *argv]
    return Server(launch, port, host=host, inherit=(number,))
