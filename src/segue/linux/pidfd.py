"""pidfds: processes by descriptor, and descriptors of other processes (pidfd_open(2))."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import socket
from collections.abc import Iterator

from segue.errors import KernelError
from segue.linux import proc

_PIDFD_GETFD = 438  # the same number on every architecture

_libc = ctypes.CDLL(None, use_errno=True)


def open_process(pid: int) -> int:
    """A descriptor of the process, readable once it has ended; the caller closes it.

    Raises KernelError: ESRCH when there is no such process.
    """
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        raise KernelError("pidfd_open", error.errno or 0, f"looking at process {pid}") from error


def getfd(pidfd: int, number: int) -> int:
    """A duplicate, close-on-exec, of descriptor ``number`` of that process; the caller closes it.

    Needs the right to ptrace: the same uid and a dumpable process, or CAP_SYS_PTRACE.  Raises
    KernelError: EPERM without it, EBADF when that descriptor is not open there.
    """
    duplicate: int = _libc.syscall(_PIDFD_GETFD, pidfd, number, 0)
    if duplicate < 0:
        code = ctypes.get_errno()
        advice = {
            errno.EPERM: "another user's process, or one that changed its user, needs"
            " CAP_SYS_PTRACE",
            errno.ENOSYS: "it needs Linux 5.6",
        }.get(code, "")
        doing = f"taking descriptor {number} of another process"
        raise KernelError("pidfd_getfd", code, doing, advice)
    os.set_inheritable(duplicate, False)
    return duplicate


@contextlib.contextmanager
def opened(pid: int) -> Iterator[int]:
    """The descriptor of the process inside the block.  Raises KernelError."""
    pidfd = open_process(pid)
    try:
        yield pidfd
    finally:
        os.close(pidfd)


def duplicate(pid: int, number: int) -> int:
    """The same by process id.  Raises KernelError: as ``open_process`` and ``getfd``."""
    with opened(pid) as holder:
        return getfd(holder, number)


def duplicate_socket(pid: int, number: int) -> socket.socket:
    """A duplicate of another process's socket, the caller's to close.

    Raises KernelError: as ``duplicate``, and ENOTSOCK when the number is another file's.
    """
    taken = duplicate(pid, number)
    try:
        return socket.socket(fileno=taken)
    except OSError as error:
        os.close(taken)
        doing = f"taking descriptor {number} of process {pid} for a socket"
        raise KernelError("getsockname", error.errno or 0, doing) from error


def send_signal(pidfd: int, number: int) -> None:
    """To this very process, never to another that got its pid.

    Raises KernelError: ESRCH when it has been reaped, EPERM without CAP_KILL for another user's.
    """
    try:
        signal.pidfd_send_signal(pidfd, number)
    except OSError as error:
        code = error.errno or 0
        advice = "another user's process needs CAP_KILL" if code == errno.EPERM else ""
        doing = f"sending signal {number} to a process"
        raise KernelError("pidfd_send_signal", code, doing, advice) from error


def signal_same(pid: int, born: int, number: int) -> bool:
    """Signal the process that has this id and this start time; whether there is one that may be.

    A process that got the id of one that has ended is not signalled: its time is read while a
    descriptor is held, and the signal goes to what that descriptor stands for.
    """
    try:
        with opened(pid) as holder:
            if proc.start_time(pid) != born:
                return False
            send_signal(holder, number)
    except KernelError:
        return False
    return True


def ended(pidfd: int) -> bool:
    """The process has ended, though it may not be reaped yet."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def wait(pidfd: int, seconds: float | None = None) -> int | None:
    """Wait until a child has ended, and reap it; None when it still runs after so many seconds.

    The answer is the exit status, or a signal's number made negative.  Raises KernelError: ECHILD
    when it is no child of ours, or was reaped.
    """
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(None if seconds is None else seconds * 1000):
        return None
    try:
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except OSError as error:
        raise KernelError("waitid", error.errno or 0, "waiting for a process") from error
    assert ended
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
