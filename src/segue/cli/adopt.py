"""``segue adopt``: make a running server's port shareable, so that its successor can start."""

from __future__ import annotations

import os
import re

import click

from segue.address import Address
from segue.cli.telling import tell, tell_lines
from segue.cli.where import netns_option
from segue.engine.adoption import OwnedListener, at_port, of_process, share, withdraw
from segue.errors import SegueError, UsageError
from segue.linux import netns as namespaces
from segue.linux import proc, sysctl
from segue.linux.features import MIGRATE_SYSCTL
from segue.observe.snapshot import Observer


@click.command(
    epilog="Exit codes: 0 done, or so already; 1 refused by the kernel; 2 usage, or nobody"
    " listens there."
)
@click.argument("target", metavar="PID|:PORT|HOST:PORT")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Of a PID's listeners, those at this port."
    "  [default: all]",
)  # fmt: skip
@click.option("--undo", is_flag=True, help="Put it back, unless another listener has joined.")
@netns_option
def adopt(target: str, port: int | None, netns: str, *, undo: bool) -> int:
    """Set SO_REUSEPORT on the listening TCP sockets of a server that runs, from outside.

    Of the process PID, or of whoever listens at :PORT.  The server notices nothing; a successor of
    the same user, which sets SO_REUSEPORT too, can then start beside it.
    """
    owned = _find(target, port, netns)
    for one in owned:
        who = f"{one.address} of {proc.command(one.pid)} (pid {one.pid})"
        if one.shareable is not undo:
            tell(f"{who}: {'was not shareable' if undo else 'is shareable already'}")
            continue
        if undo:
            with namespaces.visited(_elsewhere(one.pid)):
                withdraw(one)
        else:
            share(one)
        tell(f"{who}: {'can be joined no longer' if undo else 'is shareable now'}")
    if not undo:
        tell_lines(_next(owned))
    return 0


def _find(target: str, port: int | None, netns: str) -> list[OwnedListener]:
    if re.fullmatch("[0-9]{1,9}", target):
        if netns:
            raise UsageError("--netns goes with :PORT; a PID's listeners are wherever it is")
        return of_process(int(target), port)
    if port is not None:
        raise UsageError(f"--port goes with a PID; {target} names its port already")
    # A bare :PORT is every listener there, whatever its host; an address is just that one.
    address = Address.parse(target)
    exact = None if target.startswith(":") else address
    with namespaces.visited(netns), Observer() as observer:
        return at_port(observer, address.port, exact)


def _next(owned: list[OwnedListener]) -> str:
    """What is to be done now, and what becomes of the connections."""
    uids = " or ".join(sorted({str(one.uid) for one in owned}))
    pids = " and ".join(sorted({str(one.pid) for one in owned}))
    return (
        f"Next: start the successor as uid {uids}, with SO_REUSEPORT set (segue run --beside sets"
        f" it); when it serves, stop pid {pids} in the way that lets it finish what it has"
        f" accepted.\n{_waiting(owned[0].pid)}"
    )


def _waiting(pid: int) -> str:
    """What will happen to connections that the old server has not accepted when it stops."""
    otherwise = (
        "is reset, unless segue run serves there with the engine migrate, or segue attach is at"
        " work: then it moves"
    )
    try:
        with namespaces.visited(_elsewhere(pid)):
            value = sysctl.read(MIGRATE_SYSCTL)
    except SegueError as error:
        return f"What then waits there unaccepted {otherwise}.  ({error})"
    if value == "1":
        return f"What then waits there unaccepted moves to the successor: {MIGRATE_SYSCTL} is 1."
    return (
        f"What then waits there unaccepted {otherwise}; or set {MIGRATE_SYSCTL}, which is {value},"
        " to 1 first."
    )


def _elsewhere(pid: int) -> str:
    """The network namespace of the process, or "" when it is this one."""
    there = f"/proc/{pid}/ns/net"
    try:
        return "" if os.path.samefile(there, "/proc/thread-self/ns/net") else there
    except OSError:
        return ""
