"""close_range(2): every descriptor from a number on, all at once."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os

from segue.errors import KernelError

_NUMBER = 436  # of the system call, the same on every machine but Alpha
_CLOEXEC = 4  # Linux 5.11
_LAST = 0xFFFFFFFF
# No such call; no such flag; a sandbox that was written before there was the call.
_OLD = {errno.ENOSYS, errno.EINVAL, errno.EPERM}

_libc = ctypes.CDLL(None, use_errno=True)


def close_on_exec(first: int) -> None:
    """No descriptor from this number on outlives exec(2).  Raises KernelError, OSError."""
    number, start = ctypes.c_long(_NUMBER), ctypes.c_uint(first)
    if _libc.syscall(number, start, ctypes.c_uint(_LAST), ctypes.c_uint(_CLOEXEC)) == 0:
        return
    code = ctypes.get_errno()
    if code not in _OLD:
        raise KernelError("close_range", code, "keeping descriptors from a program")
    close_each_on_exec(first)


def close_each_on_exec(first: int) -> None:
    """The same on a kernel before 5.11, one by one.  Raises OSError."""
    for entry in os.listdir("/proc/self/fd"):
        if int(entry) >= first:
            with contextlib.suppress(OSError):  # that of the listing itself is closed again
                os.set_inheritable(int(entry), False)
