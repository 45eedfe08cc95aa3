"""Which run of its server a process belongs to: what tells generations apart.

A listener that Segue did not open says nothing of the version that it serves.  Its process does: by
when its server was started, or by a mark that whoever deploys it leaves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from segue.errors import UsageError
from segue.linux import proc

RULES = "start, process, cgroup, unit, exe, cwd, env:NAME, command:REGEX or none"
_CONTAINER = re.compile(r"[0-9a-f]{64}")
_UNIT = re.compile(r"[^/]+\.(?:service|scope)")


@dataclass(frozen=True, slots=True)
class Origin:
    """Equal ``key``: the same run of a server.  ``started`` is in seconds since boot."""

    key: str
    started: float


@dataclass(frozen=True, slots=True)
class Rule:
    """How a process is asked for the run that it belongs to."""

    name: str
    key: Callable[[int], str]

    @property
    def by_start(self) -> bool:
        """Keys name processes: runs that start together are still one generation."""
        return self.name in {"start", "process"}

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read one of RULES.  Raises UsageError.

        ``start``: the process group, which is a service's, a shell job's, or a daemon's with all
        its workers.  ``process``: the process itself, so that a reload inside one group counts as
        well, and a single worker that is started again too.  ``cgroup``: the control group's path.
        ``unit``: the container, else the systemd unit and its invocation.  ``exe`` and ``cwd``:
        the very file or directory, by inode.  ``env:NAME``: a variable it was started with.
        ``command:REGEX``: what the expression's first group, or the whole of it, matches in its
        command line.
        """
        kind, colon, rest = text.partition(":")
        if not colon and kind in _RULES:
            return cls(kind, _RULES[kind])
        if kind == "env" and rest:
            return cls(text, lambda pid: _variable(pid, rest))
        if kind == "command" and rest:
            try:
                return cls(text, _Matches(re.compile(rest)))
            except re.error as error:
                raise UsageError(f"{rest!r} is not a regular expression: {error}") from None
        raise UsageError(f"{text!r} tells no generations apart; write one of {RULES}")

    def origin(self, pids: Iterable[int]) -> Origin | None:
        """That of a socket with these owners; None when they are gone.

        The youngest of them decides.  A parent that binds for its workers, or a service manager,
        has the listener too, and long before; those that a reload left behind have it as well.
        """
        ages = {pid: started for pid in pids if (started := proc.start_seconds(pid)) is not None}
        if not ages:
            return None
        pid = max(ages, key=lambda one: (ages[one], one))
        leader = proc.process_group(pid) if self.name == "start" else None
        started = None if leader is None else proc.start_seconds(leader)
        return Origin(self.key(pid), ages[pid] if started is None else started)


@dataclass(frozen=True, slots=True)
class _Matches:
    expression: re.Pattern[str]

    def __call__(self, pid: int) -> str:
        found = self.expression.search(" ".join(proc.command_line(pid)))
        return "" if found is None else found[min(1, self.expression.groups)] or ""


def _variable(pid: int, name: str) -> str:
    wanted = f"{name}=".encode()
    found = (one for one in proc.environment(pid) if one.startswith(wanted))
    return next(found, b"").removeprefix(wanted).decode(errors="replace")


def _unit(pid: int) -> str:
    path = proc.control_group(pid)
    container = _CONTAINER.search(path)
    if container:
        return container[0]
    units = _UNIT.findall(path)
    # The path is the same for every start of a unit; systemd.exec(5) makes the id anew for each.
    return f"{units[-1]} {_variable(pid, 'INVOCATION_ID')}" if units else path


_RULES: dict[str, Callable[[int], str]] = {
    "start": lambda pid: str(proc.process_group(pid) or pid),
    "process": str,
    "cgroup": proc.control_group,
    "unit": _unit,
    "exe": lambda pid: proc.file_identity(pid, "exe"),
    "cwd": lambda pid: proc.file_identity(pid, "cwd"),
    "none": lambda _: "",
}
