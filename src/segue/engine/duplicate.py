"""Other processes' listeners: found by address, and duplicated for a moment.

A listener lives until its last descriptor is closed, and only that close moves what waits there.
So no duplicate is kept: one held here would make connections wait where no process accepts.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence

from segue.address import Address
from segue.errors import KernelError, NotSupported, UsageError
from segue.group import Listener
from segue.linux import pidfd, proc, sockopt
from segue.observe.snapshot import Observer, Part
from segue.worker import VARIABLE

GONE = {errno.ESRCH, errno.EBADF, errno.ENOTSOCK}  # the process, or its descriptor
_SUPERVISED = VARIABLE.encode()


def find(observer: Observer, address: Address) -> tuple[Listener, ...]:
    """The listeners of one group at exactly this address, with their owners.

    Raises UsageError when there are none, or those of more than one group.
    """
    found = observer.snapshot(address, Part.OWNERS)
    if not found.listeners:
        others = observer.overlapping(address)
        more = f"; {' and '.join(map(str, others))} is listened at" if others else ""
        raise UsageError(f"no process listens at {address} in this network namespace{more}")
    first = found.listeners[0]
    if len(found.siblings(first)) < len(found.listeners) - 1:
        raise UsageError(
            f"the listeners at {address} are in more than one reuseport group: they differ in"
            " user, interface or IPV6_V6ONLY, and nothing can move from one to the other"
        )
    return found.listeners


def duplicate(listener: Listener) -> socket.socket | None:
    """A duplicate of a listener from one of its ``owners``, the caller's to close; None when gone.

    Raises NotSupported when no owner can be seen or looked into, KernelError.
    """
    refused: KernelError | None = None
    for pid in listener.owners:
        number = proc.sockets(pid).get(listener.inode)
        if number is None:
            continue
        try:
            taken = pidfd.duplicate_socket(pid, number)
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
        "the right to look into its process: the same user's and dumpable, or CAP_SYS_PTRACE"
        " and CAP_DAC_READ_SEARCH",
        str(refused) if refused else f"no process can be seen that has socket {listener.inode}",
    )


def refuse(
    listeners: Sequence[Listener],
    sockets: Sequence[socket.socket],
    renewal: Callable[[Listener], str],
) -> None:
    """Raise UsageError when these are not to be attached to: not SO_REUSEPORT, or supervised.

    ``renewal`` is asked how the workers of one that is supervised are restarted.
    """
    for listener, taken in zip(listeners, sockets, strict=True):
        who = proc.describe(listener.owners)
        if not taken.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
            raise UsageError(
                f"{who} listens at {listener.address} without SO_REUSEPORT, so nothing can join"
                " it and take over what it holds: turn that on in the server (see also segue"
                " adopt), or start it with segue run"
            )
        if supervised(listener):
            raise UsageError(
                f"{who} at {listener.address} is run by segue run, which keeps its connections"
                " already, and rescues them from workers that stall (segue run --rescue):"
                f" {renewal(listener)}"
            )


def supervised(listener: Listener) -> bool:
    """One of its owners says that it is a worker of a ``segue run``, which any process may say."""
    mark = _SUPERVISED + b"="
    return any(one.startswith(mark) for pid in listener.owners for one in proc.environment(pid))
