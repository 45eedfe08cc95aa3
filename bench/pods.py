"""Pods of one host as Kubernetes has them with hostNetwork, and an update with maxSurge.

Each has a PID, a mount, a cgroup, a UTS and an IPC namespace of its own, in which its server is
process 1, and a control group that is called as a container's is.  The network namespace is the
host's, here that of the bench.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import time
from pathlib import Path
from typing import Self

from bench.harness import Server, shown, wait_until
from segue.address import Address
from segue.linux import cgroup, proc
from segue.observe.snapshot import Observer

_LIMIT_S = 60.0
# What unshare starts is process 1 there.  The directory is entered before: it is the root then.
_CONFINE = 'echo 0 >"$1/cgroup.procs"; shift; exec unshare --mount --cgroup "$@"'
_POD = ("--uts", "--ipc", "--pid", "--fork", "--mount-proc", "--kill-child")


class Group:
    """A control group for a container, removed at the end with those that are below it."""

    def __init__(self, above: str, name: str = "") -> None:
        # Sixty-four digits, by which a container is known.
        self.path = f"{above}/{name or secrets.token_hex(32)}"
        cgroup.make(self.path)

    def confined(self, *namespaces: str) -> tuple[str, ...]:
        """The beginning of a command that runs in it, in these namespaces."""
        return ("sh", "-c", _CONFINE, "sh", self.path, *namespaces)

    def remove(self) -> None:
        """Once nobody is in it.  Raises KernelError."""
        cgroup.remove(self.path, _LIMIT_S)


class Pod(Server):
    """One, started and not waited for."""

    def __init__(self, argv: list[str], port: int, *, host: str, above: str) -> None:
        self.group = Group(above)
        super().__init__([*self.group.confined(*_POD), *argv], port, host=host)
        self.shown = shown(argv)

    @property
    def first(self) -> int:
        """Its process 1, by the host's number.  Raises TimeoutError."""
        there: list[int] = []

        def found() -> bool:
            there[:] = proc.children(self.process.pid)
            return bool(there)

        wait_until(found, _LIMIT_S, "process 1 of a pod")
        return there[0]

    def end(self, number: int) -> None:
        """What the kubelet does: the signal to process 1, and its end."""
        os.kill(self.first, number)
        self.process.wait(_LIMIT_S)
        self.stop()

    def stop(self) -> None:
        """Whatever is left of it."""
        with contextlib.suppress(TimeoutError):
            if self.process.poll() is None:
                os.kill(self.first, signal.SIGKILL)
        super().stop()
        self.group.remove()


class Pods:
    """One pod that is updated, with ``listeners`` of its own at the port.

    The new one is started beside the old one; the old one gets ``stop`` once all of those listen,
    and ``pre_stop`` seconds after that.  ``directory`` is the server's, and removed at the end.
    """

    def __init__(
        self, argv: list[str], port: int, *, host: str, listeners: int, pre_stop: float,
        stop: signal.Signals = signal.SIGTERM, directory: Path | None = None,
    ) -> None:  # fmt: skip
        self.host, self.port, self.shown = host, port, shown(argv)
        if directory is not None:
            self.shown = self.shown.replace(str(directory), ".")
        self._argv, self._listeners, self._stop = argv, listeners, stop
        self._pre_stop, self._directory = pre_stop, directory
        self._running: list[Pod] = []
        self._above: Group | None = None

    @property
    def above(self) -> str:
        """The control group that all of them are in."""
        assert self._above is not None
        return self._above.path

    def surge(self) -> None:
        """One more beside those that there are.  Raises TimeoutError, RuntimeError."""
        family = Address(self.host, self.port).family
        with Observer() as observer:

            def there() -> int:
                return len(observer.diag.listeners(self.port, family))

            wanted = there() + self._listeners
            pod = Pod(self._argv, self.port, host=self.host, above=self.above)
            self._running.append(pod)

            def listens() -> bool:
                if pod.process.poll() is not None:
                    raise RuntimeError(f"{self.shown} ended:\n{pod.log()}")
                return there() >= wanted

            try:
                wait_until(listens, _LIMIT_S, f"{self._listeners} listener(s) of the new pod")
            except TimeoutError as error:
                raise TimeoutError(f"{error}; it has printed:\n{pod.log()}") from None

    def end_oldest(self) -> None:
        """Tell it to stop, and wait for its end."""
        self._running.pop(0).end(self._stop)

    def restart(self) -> float:
        """As in Restartable."""
        before = time.monotonic()
        self.surge()
        time.sleep(self._pre_stop)
        self.end_oldest()
        return time.monotonic() - before

    def accepting(self) -> list[int]:
        """As in Restartable."""
        return [pid for one in self._running for pid in one.accepting()]

    def __enter__(self) -> Self:
        self._above = Group(cgroup.mine(), f"segue-bench-{os.getpid()}")
        try:
            self.surge()
            self._running[0].wait_serving()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._running:
            one.stop()
        assert self._above is not None
        self._above.remove()
        if self._directory is not None:
            shutil.rmtree(self._directory)
