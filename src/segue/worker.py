"""The worker's side of the contract: what a server process may ask its supervisor.

The supervisor gives each worker the path of a small file in ``SEGUE_WORKER``; its first byte is
the worker's stage.  It is mapped once, so asking costs a memory read, and every process that the
worker forks or spawns may ask.  Without a supervisor the answer is "not draining".
"""

from __future__ import annotations

import mmap
import os

VARIABLE = "SEGUE_WORKER"
SERVING = 0
DRAINING = 1

_flag: mmap.mmap | None = None
_asked = False


def draining() -> bool:
    """True once this worker takes no new connections and should let go of idle ones."""
    global _flag, _asked  # noqa: PLW0603  one mapping per process is the point
    if not _asked:
        _asked = True
        _flag = _map(os.environ.get(VARIABLE, ""))
    return _flag is not None and _flag[0] == DRAINING


def _map(path: str) -> mmap.mmap | None:
    if not path:
        return None
    try:
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), 1, access=mmap.ACCESS_READ)
    except (OSError, ValueError):
        # A worker must serve even where the supervisor's directory cannot be read.
        return None
