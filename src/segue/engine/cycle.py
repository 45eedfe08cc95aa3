"""Move what waits at a listener to its siblings, and leave the listener listening.

A *cycle* is shutdown(2) and listen(2) from the supervisor's descriptor.  Between the two calls the
owner could see EPOLLHUP or EINVAL, and there are servers that stop listening for good when they do
(haproxy).  So the owner's processes are frozen around them.

Why frozen, and not out-run by real-time priority: SCHED_FIFO needs CAP_SYS_NICE, and on another
core the owner runs in the window all the same.  Measured on two cores, Linux 6.18, as EPOLLHUP and
EINVAL seen by an owner in epoll_wait() or accept(), 200 cycles a run, idle and under connections:
    nothing done   470 to 40,000 a run: it is woken, and preempts us between the calls
    SCHED_FIFO     0 to 9 a run
    frozen         0 in twelve runs; the owner stands still for 0.6 ms (median), under load 2 ms
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass

from segue.address import Address
from segue.engine.freeze import frozen
from segue.errors import KernelError, UsageError
from segue.linux.inet_diag import info_of
from segue.linux.sockopt import cookie
from segue.observe.snapshot import Observer

# What tcp_disconnect sets back though it is the user's; each with the value that means unset.
_FORGOTTEN = ((socket.TCP_MAXSEG, 536), (socket.TCP_WINDOW_CLAMP, 0))


@dataclass(frozen=True, slots=True)
class CycleReport:
    """What was moved, and whether the owner could see it."""

    moved: int  # children in the accept queue when it was shut down
    backlog: int
    frozen: bool  # every owner stood still meanwhile


def cycle(
    listener: socket.socket,
    owners: Collection[int],
    observer: Observer,
    address: Address,
    *,
    children: bool = True,
    same: Callable[[int], bool] = lambda _: True,
) -> CycleReport:
    """Shut down and listen again, with the same backlog; the queue goes to other members.

    ``owners`` are the processes to freeze meanwhile, and ``children`` of theirs unless told
    otherwise, each of them if it is the ``same`` still (``segue.engine.freeze``); they run again
    when this returns, whatever happens.  The caller sees to it that migration is on, or the queue
    is reset, and puts the listener back into its table.  Backlog, port, TCP_MAXSEG and
    TCP_WINDOW_CLAMP are as before; half-open requests stay with the listener.

    Raises UsageError, with nothing done, for the only listening member of a group, whose queue
    would be reset, and KernelError when the listener cannot listen again.
    """
    group = observer.snapshot(address)
    mine = group.by_cookie(cookie(listener))
    if mine is None:
        raise UsageError(f"the listener to cycle does not listen at {address}")
    if not group.siblings(mine):
        raise UsageError(
            f"the only listener at {address} cannot be cycled: what waits there would be reset"
        )
    here = listener.getsockname()
    forgotten = [
        (option, value)
        for option, unset in _FORGOTTEN
        if (value := listener.getsockopt(socket.IPPROTO_TCP, option)) != unset
    ]
    with frozen(owners, children=children, same=same) as still:
        # Both can only be asked while it listens, and listen() needs the backlog.
        info = info_of(listener)
        queue, backlog = (info.unacked, info.sacked) if info else (mine.queue, mine.backlog)
        call = "shutdown"
        try:
            listener.shutdown(socket.SHUT_RDWR)
            # A port that the kernel chose is given back by now, and listen() would choose another;
            # one that was asked for is kept, and then this is EINVAL.
            with contextlib.suppress(OSError):
                listener.bind(here)
            for option, value in forgotten:
                # A listener that lost an option is better than one that does not listen.
                with contextlib.suppress(OSError):
                    listener.setsockopt(socket.IPPROTO_TCP, option, value)
            call = "listen"
            listener.listen(backlog)
        except OSError as error:
            doing = f"cycling a listener at {address}"
            raise KernelError(call, error.errno or 0, doing) from error
        if listener.getsockname()[1] != here[1]:
            where = f"its port could not be had again, it listens at {listener.getsockname()[1]}"
            raise KernelError("bind", errno.EADDRINUSE, f"cycling a listener at {address}", where)
    return CycleReport(queue, backlog, still)
