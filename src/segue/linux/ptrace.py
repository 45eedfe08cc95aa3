"""Threads stopped by ptrace(2): they run again when they are let go, or when the tracer dies.

SIGSTOP stays when whoever sent it is killed; this does not.  Needs the right to trace: the same
user and a dumpable process, or CAP_SYS_PTRACE, and nobody else who traces (Linux 3.4).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Collection, Iterator

_SEIZE, _INTERRUPT = 0x4206, 0x4207
_WALL = 0x40000000  # threads too, of which we are not the parent
_LIMIT_SECONDS = 0.1
_LOOK_SECONDS = 0.00002

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


@contextlib.contextmanager
def stopped(pids: Collection[int]) -> Iterator[bool]:
    """Inside the block no thread of these processes runs; after it all of them do.

    Yields whether that is so: False when one may not be traced, or did not stop in a tenth of a
    second; the others are stopped all the same.  A process that is gone runs no more.  A wait such
    as epoll_wait(2) may end with EINTR.  Signals that come meanwhile are delivered at the end.
    """
    # The tracer is a thread, and its end lets everything go, in whatever state it is: a thread
    # that has not stopped yet, which cannot be detached, and one that has ended meanwhile.
    answer: list[bool] = []
    asked, over = threading.Event(), threading.Event()

    def trace() -> None:
        try:
            refused = [pid for pid in pids if not _stop(pid)]
            answer.append(not refused)
        finally:
            asked.set()
        over.wait()

    tracer = threading.Thread(target=trace, name="segue-ptrace")
    tracer.start()
    try:
        asked.wait()
        yield answer == [True]
    finally:
        over.set()
        tracer.join()
        # The interpreter's thread ends before the kernel's.  Until that has, whoever waits for a
        # child in this process may take its stop for its end.
        while os.path.exists(f"/proc/self/task/{tracer.native_id}"):
            time.sleep(_LOOK_SECONDS)


def _stop(pid: int) -> bool:
    limit = time.monotonic() + _LIMIT_SECONDS
    known: set[int] = set()
    everyone = True
    # A stopped thread makes no more threads, so what it made just before is all there is.
    while new := _threads(pid) - known:
        known |= new
        seized = [thread for thread in sorted(new) if _seize(thread)]
        everyone &= all(thread in seized or _gone(thread) for thread in new)
        for thread in seized:
            everyone &= _wait(thread, limit)
    return everyone


def _threads(pid: int) -> set[int]:
    try:
        return {int(name) for name in os.listdir(f"/proc/{pid}/task")}
    except (FileNotFoundError, ProcessLookupError):
        return set()


def _seize(thread: int) -> bool:
    if _libc.ptrace(_SEIZE, thread, None, None) != 0:
        return False
    _libc.ptrace(_INTERRUPT, thread, None, None)
    return True


def _gone(thread: int) -> bool:
    return not os.path.exists(f"/proc/{thread}")


def _wait(thread: int, limit: float) -> bool:
    while time.monotonic() < limit:
        try:
            # Only a stop is taken note of: an end is for its parent to reap, which we may be.
            if os.waitid(os.P_PID, thread, os.WSTOPPED | os.WNOHANG | _WALL) is not None:
                return True
        except ChildProcessError:
            return True  # it has ended
        time.sleep(_LOOK_SECONDS)
    return False
