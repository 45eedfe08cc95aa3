"""The command that restarts the workers behind a listener, if it is known for certain.

A process may write any name into its environment, and a user may run the command that we suggest.
So it names an instance only if its record has the worker, or if its supervisor is above the worker
and answers at its control socket.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any

from segue.errors import SegueError
from segue.group import Listener
from segue.linux import proc
from segue.supervisor.control import claims
from segue.supervisor.control.instances import Running, askable, instances, supervised_by
from segue.supervisor.control.paths import Paths


def renewal(listener: Listener) -> str:
    """The command that restarts the workers that have this listener, and the control socket."""
    above = {pid for owner in listener.owners for pid in proc.line_above(owner)}
    try:
        running = instances()
        one = _by_record(above, running) or _by_claim(above)
    except (SegueError, OSError):
        # Without a directory of this user there is no instance either.
        running, one = [], None
    if one is None:
        return "segue restart, as the user whose segue run it is,"
    if [known.control for known in running if known.own and known.name == one.name] == [
        one.control
    ]:
        return f"segue restart --name {shlex.quote(one.name)} (control socket {one.control})"
    return f"segue restart --control {shlex.quote(one.control)}"


def _by_record(above: set[int], running: Iterable[Running]) -> Running | None:
    own = (one for one in running if one.own)
    return next((one for one in own if above & workers(Paths.at(one.control).read_record())), None)


def _by_claim(above: set[int]) -> Running | None:
    users = askable()
    known = (supervised_by(one, users) for pid in above if (one := claims.of(pid)) is not None)
    return next((one for one in known if one is not None), None)


def workers(record: dict[str, Any] | None) -> set[int]:
    """The processes that a record names as workers, without reused pids."""
    try:
        known = [(one["pid"], one["start_ticks"]) for one in (record or {})["instance"]["workers"]]
    except (KeyError, TypeError):
        return set()
    return {pid for pid, born in known if pid and born == proc.start_time(pid)}
