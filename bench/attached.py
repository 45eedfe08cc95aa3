"""``segue attach`` over servers that a bench has started, with a bpf file system of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from typing import Any, Self

from bench.harness import ROOT, program, wait_until
from segue.supervisor.control.client import converse

_LIMIT_S = 90.0  # it takes 1.5 s of a processor to start, which a busy machine has not at once


class Attached:
    """The group at a loopback port, attached to until left; needs root.

    ``before`` is the beginning of the command.
    """

    def __init__(self, port: int, *flags: str, before: tuple[str, ...] = ()) -> None:
        self.port, self.flags, self._before = port, flags, before
        self.directory = ""

    @property
    def pid(self) -> int:
        """The process of ``segue attach``."""
        return self._process.pid

    def ask(self, verb: str, **more: Any) -> dict[str, Any]:
        """One order to its end.  Raises RuntimeError when it is refused."""
        answer = converse(f"{self.directory}/bench.sock", {"do": verb, **more}, lambda _: None)
        if answer["exit"]:
            raise RuntimeError(f"{verb}: {answer}")
        return answer

    def workers(self) -> list[dict[str, Any]]:
        """The listeners, as ``segue status`` shows them."""
        found: list[dict[str, Any]] = self.ask("status")["status"]["workers"]
        return found

    def wait_ready(self, listeners: int) -> None:
        """Until there are so many, and each of them is ready."""

        def there() -> bool:
            found = self.workers()
            ready = all(one["stage"] != "starting" for one in found)
            return len(found) == listeners and ready

        wait_until(there, _LIMIT_S, f"{listeners} listeners")

    def __enter__(self) -> Self:
        self.directory = tempfile.mkdtemp(prefix="segue-bench-")
        pins = f"{self.directory}/bpf"
        os.mkdir(pins)
        subprocess.run(["mount", "-t", "bpf", "bpf", pins], check=True)
        where = (f"127.0.0.1:{self.port}", "--name", "bench", "--bpffs", pins)
        self._off = [program("segue"), "detach", *where]
        self._env = {**os.environ, "SEGUE_DIRECTORY": self.directory}
        self._process = subprocess.Popen(
            [*self._before, program("segue"), "attach", *where, *self.flags],
            cwd=ROOT, env=self._env, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_until(self._up, _LIMIT_S, "segue attach")
        except BaseException:
            self.__exit__()
            raise
        return self

    def _up(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"segue attach ended with {self._process.returncode}")
        return os.path.exists(f"{self.directory}/bench.sock")

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait(_LIMIT_S)
        subprocess.run(self._off, cwd=ROOT, env=self._env, check=False, capture_output=True)
        subprocess.run(["umount", f"{self.directory}/bpf"], check=True)
        shutil.rmtree(self.directory)
