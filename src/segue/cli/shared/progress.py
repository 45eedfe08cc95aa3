"""A line that says what a command waits for, and for how long; only on a terminal."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_AFTER = 1.0  # seconds; what is over sooner needs no word
_ERASE = "\r\x1b[K"
# One line at a time, written by a thread of its own: a signal's handler would interrupt calls of
# the kernel, of which bpf(2) does not go on.
_lock = threading.Lock()
_written = False


@contextmanager
def progress(doing: str) -> Iterator[None]:
    """Say on stderr what is done, once it has taken a second, until the block ends."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield
        return
    over = threading.Event()

    def follow() -> None:
        seconds = 0
        while not over.wait(_AFTER):
            seconds += 1
            _write(f"{_ERASE}{doing}: {seconds} s")

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        clear()


def clear() -> None:
    """Make room for something else that is printed; the line comes again a second later."""
    if _written:
        _write(_ERASE)


def _write(text: str) -> None:
    global _written  # noqa: PLW0603  there is one terminal
    with _lock:
        sys.stderr.write(text)
        sys.stderr.flush()
        _written = text != _ERASE
