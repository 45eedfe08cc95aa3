"""Other processes' listeners: found by address, and duplicated for a moment.

A listener lives until its last descriptor is closed, and only that close moves what waits there.
So no duplicate is kept: one held here would make connections wait where no process accepts.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterable, Sequence

from segue.address import Address
from segue.errors import KernelError, NotSupported, UsageError
from segue.group import Listener
from segue.linux import capability, pidfd, proc, sockopt
from segue.linux.sock_diag import SockDiag
from segue.observe.snapshot import Observer, Part
from segue.worker import VARIABLE

GONE = {errno.ESRCH, errno.EBADF, errno.ENOTSOCK}  # the process, or its descriptor
_SUPERVISED = VARIABLE.encode()
_EVERYWHERE = capability.bits(["sys_ptrace", "dac_read_search"])  # any process can be looked into


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

    To be called in the listener's network namespace.  Raises NotSupported when no owner can be
    seen or looked into, KernelError.
    """
    taken, refused = _from_one_of(listener.owners, listener)
    if refused is None and not listener.owners:
        # One that was started while the processes were looked at may have it.
        owners = proc.owners({listener.inode}).get(listener.inode, ())
        taken, refused = _from_one_of(owners, listener)
    elif refused is None:
        return taken
    why = None if taken is not None else unreachable(listener, refused)
    if why is not None:
        raise why
    return taken


def unreachable(listener: Listener, refused: KernelError | None = None) -> NotSupported | None:
    """Why a listener cannot be reached: for want of a right, or of a process that can be seen.

    None when it has ended since it was seen.  ``refused`` is what the kernel said.  To be called in
    the listener's network namespace.
    """
    with SockDiag() as diag:
        there = diag.listeners(listener.address.port, listener.address.family)
    if all(one.cookie != listener.cookie for one in there):
        return None
    reaching = f"reaching the listener at {listener.address}"
    unseen = f"no process can be seen that has socket {listener.inode}, of uid {listener.uid}"
    if refused is None and capability.mine().effective & _EVERYWHERE == _EVERYWHERE:
        return NotSupported(
            reaching,
            "a process that has it, in this PID namespace",
            f"{unseen}; it may be in a container, whose PID namespace nsenter(1) enters",
        )
    return NotSupported(
        reaching,
        "the right to look into its process: the same user's and dumpable, or CAP_SYS_PTRACE"
        " and CAP_DAC_READ_SEARCH",
        str(refused) if refused else unseen,
    )


def _from_one_of(
    pids: Iterable[int], listener: Listener
) -> tuple[socket.socket | None, KernelError | None]:
    """A duplicate from one of these processes; or what the kernel said of the last that refused."""
    refused: KernelError | None = None
    for pid in pids:
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
            return taken, None
        taken.close()
    return None, refused


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
                f"the listener of {who} at {listener.address} lacks SO_REUSEPORT, so nothing can"
                " join it and take over what it holds: turn that on in the server (see also segue"
                " adopt), or start it with segue run"
            )
        if supervised(listener):
            raise UsageError(
                f"the listener of {who} at {listener.address} is one of segue run, which keeps its"
                " connections already, and rescues them from workers that stall (segue run"
                " --rescue):"
                f" {renewal(listener)}"
            )


def supervised(listener: Listener) -> bool:
    """One of its owners says that it is a worker of a ``segue run``, which any process may say."""
    mark = _SUPERVISED + b"="
    return any(one.startswith(mark) for pid in listener.owners for one in proc.environment(pid))
