"""``segue adopt``: make a running server's port shareable, so that its successor can start."""

from __future__ import annotations

import os
import re

import click

from segue.address import Address
from segue.cli.shared.netns import netns_option
from segue.cli.shared.progress import progress
from segue.cli.shared.telling import tell, tell_lines
from segue.engine.adoption import OwnedListener, at_port, of_process, share, withdraw
from segue.errors import SegueError, UsageError
from segue.linux import netns as namespaces
from segue.linux import proc, sysctl
from segue.linux.features import MIGRATE_SYSCTL
from segue.observe.snapshot import Observer


@click.command(
    epilog="Exit codes: 0 if it is done, or was done already; 1 if the kernel refuses; 2 for wrong"
    " usage, or if no process listens there."
)
@click.argument("target", metavar="PID|:PORT|HOST:PORT")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="With PID: only its listeners at this port."
    "  [default: all]",
)  # fmt: skip
@click.option(
    "--undo", is_flag=True, help="Clear the option again, unless another listener has joined."
)
@netns_option
def adopt(target: str, port: int | None, netns: str, *, undo: bool) -> int:
    """Make the port of a running server shareable.

    Sets SO_REUSEPORT on its listening TCP sockets, from outside.
    The target is a process, or every process that listens at :PORT.  The server notices nothing.
    A successor can then start beside it, if it runs as the same user and sets SO_REUSEPORT too.
    """
    with progress("looking for the listeners"):
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
        tell(f"{who}: {'is not shareable any more' if undo else 'is shareable now'}")
    if not undo:
        tell_lines(_next(owned))
    return 0


def _find(target: str, port: int | None, netns: str) -> list[OwnedListener]:
    if re.fullmatch("[0-9]{1,9}", target):
        if netns:
            raise UsageError(
                "--netns needs :PORT: with a PID, the network namespace of that process is used"
            )
        return of_process(int(target), port)
    if port is not None:
        raise UsageError(f"--port needs a PID: {target} names its port already")
    # A bare :PORT is every listener there, whatever its host; an address is just that one.
    address = Address.parse(target)
    exact = None if target.startswith(":") else address
    with namespaces.visited(netns), Observer() as observer:
        return at_port(observer, address.port, exact)


def _next(owned: list[OwnedListener]) -> str:
    """What to do now, and what becomes of the connections."""
    uids = " or ".join(sorted({str(one.uid) for one in owned}))
    pids = " and ".join(sorted({str(one.pid) for one in owned}))
    return (
        f"Next: start the successor as uid {uids}, with SO_REUSEPORT set (segue run --beside sets"
        f" it). When it serves, stop pid {pids} gracefully, so that it finishes the connections"
        f" that it has accepted.\n{_waiting(owned[0].pid)}"
    )


def _waiting(pid: int) -> str:
    """What happens to connections that the old server has not accepted when it stops."""
    otherwise = (
        "are reset, unless segue run serves there with the engine migrate, or segue attach runs"
        " there: then they move"
    )
    try:
        with namespaces.visited(_elsewhere(pid)):
            value = sysctl.read(MIGRATE_SYSCTL)
    except SegueError as error:
        return f"Connections that wait there unaccepted {otherwise}.  ({error})"
    if value == "1":
        return (
            f"Connections that wait there unaccepted move to the successor: {MIGRATE_SYSCTL} is 1."
        )
    return (
        f"Connections that wait there unaccepted {otherwise}. Or set {MIGRATE_SYSCTL}, which is"
        f" {value}, to 1 first."
    )


def _elsewhere(pid: int) -> str:
    """The network namespace of the process, or "" when it is this one."""
    there = f"/proc/{pid}/ns/net"
    try:
        return "" if os.path.samefile(there, "/proc/thread-self/ns/net") else there
    except OSError:
        return ""
