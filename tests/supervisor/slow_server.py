"""Servers that start, or end, when a test lets them."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from tests.supervisor.instance import SERVER, Instance
from tests.waiting import wait_until

from segue.linux import proc


def waits_for(go: Path) -> tuple[str, ...]:
    """A server that has a child, and serves once the file is there."""
    script = f"sleep 60 & while [ ! -e {go} ]; do sleep 0.02; done; exec {shlex.join(SERVER)}"
    return ("sh", "-c", script)


def waits_at_its_end(go: Path) -> tuple[str, ...]:
    """A server that ends, when it was told to stop, once somebody writes into the pipe.

    It does nothing meanwhile: then it cannot wait too long for a processor on a busy machine.
    """
    os.mkfifo(go)
    until = f"read _ < {go}"
    return ("sh", "-c", f"trap 'kill $!' TERM; {shlex.join(SERVER)} & wait; wait; {until}")


def newcomer(one: Instance) -> int:
    """The starting worker's process, once its child is there."""
    wait_until(lambda: one.workers("starting"), "the newcomer")
    pid = int(one.workers("starting")[0]["pid"])
    wait_until(lambda: len(proc.tree(pid)) > 1, "its child")
    return pid


def ticking(one: Instance) -> list[int]:
    """The supervisor's processes that have processors choose anew."""
    below = proc.children(one.process.pid)
    return [pid for pid in below if any("ticking" in word for word in proc.command_line(pid))]
