"""What processes say of themselves: that they are workers of an instance (``SEGUE_WORKER``).

A worker gets it in its environment, which it may write over, and any process may say the same.  So
a claim decides nothing: whoever uses one checks what the kernel says of the process.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from segue.linux import proc
from segue.supervisor.control.paths import NAME
from segue.worker import VARIABLE

_FLAG = re.compile(r"(?P<directory>/.*)/(?P<file>[^/]+)\.w(?P<worker>[0-9]{1,9})")
_NUMBER = re.compile("[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Claim:
    """A process that leads its session and says that it is this worker."""

    pid: int
    born: int  # its start time in ticks
    name: str  # of the instance
    directory: str  # of the instance's files
    generation: int
    worker: int


def parse(pid: int, born: int, environment: Iterable[bytes]) -> Claim | None:
    """The claim in an environment; None if there is none, or none that fits together."""
    given = dict(one.decode(errors="replace").partition("=")[::2] for one in environment)
    flag = _FLAG.fullmatch(given.get(VARIABLE, ""))
    name, generation = given.get("SEGUE_NAME", ""), given.get("SEGUE_GENERATION", "")
    if not flag or flag["file"] != name or not NAME.fullmatch(name):
        return None
    if not _NUMBER.fullmatch(generation):
        return None
    return Claim(pid, born, name, flag["directory"], int(generation), int(flag["worker"]))


def of(pid: int) -> Claim | None:
    """The claim of this process; None if it has none, or if its environment is not ours to read.

    What a worker starts inherits its environment: only the leader of a session counts, which each
    worker is.
    """
    born = proc.start_time(pid)
    if born is None or proc.session_of(pid) != pid:
        return None
    return parse(pid, born, proc.environment(pid))


def everywhere() -> list[Claim]:
    """The claims of all processes, the oldest first."""
    found = [one for one in map(of, proc.everyone()) if one is not None]
    return sorted(found, key=lambda one: (one.born, one.pid))


def supervisor(claim: Claim) -> int | None:
    """The living supervisor of this process: the nearest one above that has locked the name.

    It has the file of the lock open, also if that was removed.  None if no process has.
    """
    names = {f"{claim.name}.lock", f"{claim.name}.lock (deleted)"}
    above = proc.line_above(claim.pid)[1:]
    return next((pid for pid in above if names & set(map(os.path.basename, proc.files(pid)))), None)
