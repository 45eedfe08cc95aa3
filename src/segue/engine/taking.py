"""Other processes' listeners, taken for as long as it needs.

A listener lives until its last descriptor is closed, and only that close moves what waits there.
So no duplicate is kept: one held here would make connections wait where nobody accepts.
"""

from __future__ import annotations

import errno
import socket

from segue.errors import KernelError, NotSupported
from segue.group import Listener
from segue.linux import pidfd, proc, sockopt
from segue.worker import VARIABLE

GONE = {errno.ESRCH, errno.EBADF, errno.ENOTSOCK}  # the process, or its descriptor
_SUPERVISED = VARIABLE.encode()


def take(listener: Listener) -> socket.socket | None:
    """A duplicate of a listener from one of its ``owners``, the caller's to close; None when gone.

    Raises NotSupported when no owner can be seen or looked into, KernelError.
    """
    refused: KernelError | None = None
    for pid in listener.owners:
        number = proc.sockets(pid).get(listener.inode)
        if number is None:
            continue
        try:
            taken = pidfd.take_socket(pid, number)
        except KernelError as error:
            if error.errno not in GONE:
                refused = error
            continue
        if sockopt.cookie(taken) == listener.cookie:
            return taken
        taken.close()
    if refused is None and listener.owners:
        return None
    raise NotSupported(
        f"reaching a listener at {listener.address}",
        "the right to look into its process: the same user's and dumpable, or CAP_SYS_PTRACE",
        str(refused) if refused else f"no process can be seen that has socket {listener.inode}",
    )


def supervised(listener: Listener) -> str:
    """The name of the ``segue run`` that one of its owners is a worker of; "" for none."""
    for pid in listener.owners:
        told = dict(one.split(b"=", 1) for one in proc.environment(pid) if b"=" in one)
        if _SUPERVISED in told:
            return told.get(b"SEGUE_NAME", b"?").decode(errors="replace")
    return ""
