"""The command that restarts the workers behind a listener, if it is known for certain.

A process may write any name into its environment, and a user may run the command that we suggest.
So it names only instances of this user, and only if their record has the worker.
"""

from __future__ import annotations

import shlex
from typing import Any

from segue.errors import SegueError
from segue.group import Listener
from segue.linux import proc
from segue.supervisor.control.paths import NAME, Paths, instances


def renewal(listener: Listener) -> str:
    """The command that restarts the workers that have this listener."""
    above = {pid for owner in listener.owners for pid in proc.line_above(owner)}
    try:
        for name in filter(NAME.fullmatch, instances()):
            if above & workers(Paths.of(name).read_record()):
                return f"segue restart --name {shlex.quote(name)}"
    except (SegueError, OSError):
        pass  # without a directory of this user there is no instance either
    return "segue restart, as the user whose segue run it is,"


def workers(record: dict[str, Any] | None) -> set[int]:
    """The processes that a record names as workers, without reused pids."""
    try:
        known = [(one["pid"], one["start_ticks"]) for one in (record or {})["instance"]["workers"]]
    except (KeyError, TypeError):
        return set()
    return {pid for pid, born in known if pid and born == proc.start_time(pid)}
