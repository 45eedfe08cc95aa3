"""Signals that are passed on to workers: only to a process that has a handler.

The default action of most signals ends the process.  A log rotation sends USR1 to every server
that it knows, and one without a handler must not lose its connections by that.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence

from segue.linux import pidfd, proc
from segue.supervisor.workers.processes import Process


def receivers(
    top: int,
    catches: Callable[[int], bool],
    children_of: Callable[[int], Mapping[int, int]],
    most: int,
) -> dict[int, int]:
    """The processes below ``top`` to be signalled in its place, with their start times.

    A wrapper such as a shell has no handler, and its server has.  What is below a process that has
    one is left to that process: servers signal their own processes themselves.  No more than
    ``most`` processes are looked at.
    """
    found: dict[int, int] = {}
    looked = 0
    wrappers = [top]
    for one in wrappers:
        for pid, born in children_of(one).items():
            looked += 1
            if looked > most:
                return found
            if catches(pid):
                found[pid] = born
            else:
                wrappers.append(pid)
    return found


def pass_on(process: Process, number: int, most: int) -> bool:
    """Signal the worker, or what runs below it; whether any process has a handler."""
    if proc.catches(process.child.pid, number):
        process.signal(number)
        return True
    found = receivers(
        process.child.pid, lambda pid: proc.catches(pid, number), proc.children_born, most
    )
    reached = [pidfd.signal_same(pid, born, number) for pid, born in found.items()]
    return any(reached)


def unheard(names: Sequence[str], number: int) -> str:
    """The sentence for workers that have no handler for a signal."""
    name = signal.Signals(number).name.removeprefix("SIG")
    if len(names) == 1:
        return f"{names[0]} has no handler for {name}: it is left alone"
    others = "1 other" if len(names) == 2 else f"{len(names) - 1} others"
    return f"{names[0]} and {others} have no handler for {name}: they are left alone"
