"""Processes stopped for a moment, so that they do not see what is done to their sockets.

SIGSTOP and SIGCONT, by pidfd.  The alternatives were refused: the cgroup freezer needs a cgroup of
the worker's own, ptrace(2) the right to trace and every thread taken singly.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator

from segue.errors import KernelError, UsageError
from segue.linux import pidfd, proc

# A thread stops when it next returns from the kernel, which takes tens of microseconds; one that
# waits for a disk or a dead NFS server takes for ever, and then longer is no use.
_LIMIT_SECONDS = 0.1
_LOOK_SECONDS = 0.0001
# Those whose handlers raise, in a command line or a test; all sixty-four would take longer to
# block than the processes to stop.
_RAISING = frozenset(
    {
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGALRM,
        signal.SIGUSR1,
        signal.SIGUSR2,
    }
)


@contextlib.contextmanager
def frozen(
    pids: Collection[int], *, children: bool = True, same: Callable[[int], bool] = lambda _: True
) -> Iterator[bool]:
    """Inside the block these processes, and unless told otherwise their children, do not run.

    Yields whether that is so of all of them: False when one may not be signalled (another user's,
    without CAP_KILL), is gone, or did not stop in a tenth of a second; the others are stopped all
    the same.  They go on when the block is left, in whatever way, except those that were stopped
    before.  ``same`` says whether a pid is still that of a process that is meant; where it says no,
    that one counts as gone.  Signals that end or interrupt a program wait meanwhile: what their
    handlers raise must not come between stopping a process and taking note of it.

    A parent of theirs that asks for it gets SIGCHLD, and a few waits, such as epoll_wait(2), end
    with EINTR, as signal(7) says of stop signals.  Raises UsageError, with nothing done, when the
    calling process is among them.
    """
    if os.getpid() in pids:
        raise UsageError(f"process {os.getpid()} cannot freeze itself")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _RAISING)
    stopped: dict[int, int] = {}  # pid -> pidfd
    try:
        yield _stop(pids, stopped, same, children=children)
    finally:
        for holder in stopped.values():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(holder, signal.SIGCONT)
            os.close(holder)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _stop(
    pids: Collection[int],
    stopped: dict[int, int],
    same: Callable[[int], bool],
    *,
    children: bool,
) -> bool:
    limit = time.monotonic() + _LIMIT_SECONDS
    known: set[int] = set()
    everyone = True
    new = set(pids)
    while new:
        refused = [pid for pid in sorted(new) if not _signalled(pid, stopped, same)]
        everyone &= not refused
        known |= new
        everyone &= _wait_stopped(new & stopped.keys(), limit)
        # A stopped process forks no more, so what it forked just before is all there is.
        below = {child for pid in new for child in proc.children(pid)} if children else set()
        new = below - known - {os.getpid()}
        same = _child_of(frozenset(known))
    return everyone


def _child_of(parents: frozenset[int]) -> Callable[[int], bool]:
    return lambda pid: proc.parent(pid) in parents


def _signalled(pid: int, stopped: dict[int, int], same: Callable[[int], bool]) -> bool:
    if proc.run_state(pid) in {"T", "t"}:
        return True  # by somebody else, who will not want it to go on
    try:
        holder = pidfd.open_process(pid)
    except KernelError:
        return False
    if not same(pid):  # asked once the descriptor is held: from here on it is this process or none
        os.close(holder)
        return False
    stopped[pid] = holder
    try:
        signal.pidfd_send_signal(holder, signal.SIGSTOP)
    except (ProcessLookupError, PermissionError):
        os.close(stopped.pop(pid))
        return False
    return True


def _wait_stopped(pids: set[int], limit: float) -> bool:
    while True:
        pids = {pid for pid in pids if not proc.threads_stopped(pid)}
        if not pids or time.monotonic() > limit:
            return not pids
        time.sleep(_LOOK_SECONDS)
