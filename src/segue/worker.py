"""The worker's side of the contract: what a server process may ask its supervisor, and tell it.

The supervisor gives each worker the path of a file in ``SEGUE_WORKER`` (``page.py``).  It is mapped
once, so asking costs a memory read, and every process that the worker forks or spawns may ask.
Without a supervisor the answer is "not draining", and nothing is told.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from dataclasses import dataclass

from segue import page
from segue.page import DRAINING, Place, Says

VARIABLE = "SEGUE_WORKER"

_flag: mmap.mmap | None = None
_asked = False


def draining() -> bool:
    """True once this worker takes no new connections and should let go of idle ones."""
    global _flag, _asked  # noqa: PLW0603  one mapping per process is the point
    if not _asked:
        _asked = True
        _flag = _map(os.environ.get(VARIABLE, ""))
    return _flag is not None and _flag[0] == DRAINING


def marks() -> Marks | None:
    """Where this process says which of its peers are kept; None if nobody wants to know."""
    global _marks, _looked  # noqa: PLW0603  as above
    if not _looked:
        _looked = True
        draining()
        shared = memoryview(_flag) if _flag is not None and len(_flag) == page.BYTES else None
        if shared is not None and not shared.readonly:
            _marks = Marks(shared)
            os.register_at_fork(after_in_child=_marks.forked)
    return _marks


@dataclass(slots=True)
class _Open:
    """The requests of one peer that are being answered."""

    requests: int = 0
    kept: bool = True


class Marks:
    """What this process says of its peers.  Any thread may call; a call takes microseconds."""

    def __init__(self, shared: memoryview) -> None:
        self._key, self._words = page.key_of(shared), page.words(shared)
        page.announce(shared)
        self.forked()

    def forked(self) -> None:
        """This is a new process, and nothing is its own yet."""
        self._pid, self._lock = os.getpid(), threading.Lock()
        self._open: dict[Place, _Open] = {}

    def begin(self, host: str, port: int) -> Place | None:
        """A request of this peer is to be answered; None if that is no address with a port."""
        who = page.peer(host, port)
        if who is None:
            return None
        where = page.place(self._key, who, self._pid)
        with self._lock:
            self._open.setdefault(where, _Open()).requests += 1
            page.write(self._words, where, Says.BUSY, _now_ms())
        return where

    def lasting(self, where: Place | None) -> None:
        """What this peer's request has begun has no end of its own: a worker waits for none."""
        if where is None:
            return
        with self._lock:
            if where in self._open:
                page.write(self._words, where, Says.LASTING, _now_ms())

    def end(self, where: Place | None, *, kept: bool) -> None:
        """It was answered; ``kept`` if the answer is whole and its connection waits for the next.

        Two requests of one peer may overlap: one server begins the next before the first has
        returned, and a port may be in use again.  The last to end speaks for all.
        """
        if where is None:
            return
        with self._lock:
            its = self._open.get(where)
            if its is None:
                return  # it began before a fork
            its.requests -= 1
            its.kept &= kept
            if not its.requests:
                del self._open[where]
                says = Says.KEPT if its.kept else None
                page.write(self._words, where, says, _now_ms())


_marks: Marks | None = None
_looked = False


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _map(path: str) -> mmap.mmap | None:
    if not path:
        return None
    for mode, access in (("r+b", mmap.ACCESS_WRITE), ("rb", mmap.ACCESS_READ)):
        try:
            with open(path, mode) as file:
                size = os.fstat(file.fileno()).st_size
                # An older supervisor's has the stage alone.
                return mmap.mmap(
                    file.fileno(), page.BYTES if size >= page.BYTES else 1, access=access
                )
        except (OSError, ValueError):
            continue
    # A worker must serve even where the supervisor's directory cannot be read.
    return None
