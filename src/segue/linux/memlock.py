"""RLIMIT_MEMLOCK of this process: how much memory it may lock (getrlimit(2))."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator

_LIMIT = resource.RLIMIT_MEMLOCK


@contextlib.contextmanager
def lifted() -> Iterator[None]:
    """Without this limit for the block, as far as this process may: its own, and nobody's after.

    A process that is started later has the limit that there was.
    """
    soft, hard = resource.getrlimit(_LIMIT)
    for allowed in (resource.RLIM_INFINITY, hard):
        # More than the hard limit needs CAP_SYS_RESOURCE.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(_LIMIT, (allowed, allowed))
            break
    try:
        yield
    finally:
        resource.setrlimit(_LIMIT, (soft, hard))
