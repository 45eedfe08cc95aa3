"""pidfds: processes by descriptor, and descriptors of other processes (pidfd_open(2))."""

from __future__ import annotations

import ctypes
import errno
import os

from segue.errors import KernelError

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
