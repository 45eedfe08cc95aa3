"""How the workers behind somebody's listener are restarted, as far as it is known for certain.

A process may write any name into its environment, and what is advised is run by whoever reads it.
So the only instances named are this user's, and only for a worker that their record has.
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
        pass  # where there is no directory of this user's there is no instance either
    return "segue restart, as the user whose segue run it is,"


def workers(record: dict[str, Any] | None) -> set[int]:
    """The processes that a record names as workers, and that are still the same."""
    try:
        known = [(one["pid"], one["start_ticks"]) for one in (record or {})["instance"]["workers"]]
    except (KeyError, TypeError):
        return set()
    return {pid for pid, born in known if pid and born == proc.start_time(pid)}
