"""How the tests wait: until a condition holds, and how long before that counts as a failure."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

# So many seconds for whatever should come at once.  It is a guard against waiting for ever, so it
# may be generous: nothing that comes waits for it, and a machine may be many times slower than
# another.  A name with SEGUE_ would be a setting of segue run.
PATIENCE = float(os.environ.get("LIVE_TEST_PATIENCE") or 60.0)


def wait_until(true: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Poll a condition until it holds; AssertionError naming it after the limit."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.005)
