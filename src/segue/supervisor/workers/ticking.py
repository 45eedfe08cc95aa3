"""The program of ``workers/ticks.py``: a thread on each processor that wakes and sleeps again.

It is run as a file, without the site and without Segue, so that it starts in 10 ms.  Its standard
input says when: GO, REST, and its end is the program's.
"""

from __future__ import annotations

import _thread
import os
import time

GO, REST = b"g", b"r"
_SECONDS = 0.0005  # half of this is what a thread that may run waits for it


def main() -> None:
    """Until nobody writes to the standard input any more."""
    pace = Pace()
    for processor in os.sched_getaffinity(0):
        _thread.start_new_thread(pace.keep, (processor,))
    while word := os.read(0, 1):
        pace.set(word)
    os._exit(0)  # the threads end with it, wherever they are


class Pace:
    """Whether the threads wake up, or rest."""

    def __init__(self) -> None:
        self._resting = _thread.allocate_lock()
        self._resting.acquire()

    def set(self, word: bytes) -> None:
        """By the last word of the standard input."""
        if word == GO and self._resting.locked():
            self._resting.release()
        elif word == REST:
            self._resting.acquire()

    def keep(self, processor: int) -> None:
        """What a thread does."""
        os.sched_setaffinity(0, {processor})
        while True:
            with self._resting:
                pass
            time.sleep(_SECONDS)


if __name__ == "__main__":
    main()
