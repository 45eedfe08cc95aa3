"""prctl(2): the attributes of the calling process that a supervisor or a worker sets."""

from __future__ import annotations

import ctypes

from segue.errors import KernelError

_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)


def set_child_subreaper() -> None:
    """From now on orphaned descendants become children of this process, as they do of PID 1."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        doing = "becoming the parent of orphaned workers"
        raise KernelError("prctl", ctypes.get_errno(), doing)


def set_no_new_privileges() -> None:
    """No program that is executed from here gets more rights by its file: no set-user-ID."""
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise KernelError("prctl", ctypes.get_errno(), "giving up set-user-ID programs")
