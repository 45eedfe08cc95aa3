"""A control group for each worker, which is idle while the worker starts or stops.

A worker is in it from before exec to its end, and so is whatever it starts.  Nobody is moved later,
which would take ten milliseconds each time: the group itself is told to be idle or not.  It
outlives the supervisor with its worker.
"""

from __future__ import annotations

import contextlib
import os
import re
import zlib

from segue.errors import KernelError, NotSupported, UsageError
from segue.linux import cgroup
from segue.supervisor.lifecycle.giving_way import AUTO, OFF, Means, means

_CPU = "cpu"


def choose(wanted: str, mark: str, *, injects: bool = False) -> Means:
    """The means by which workers give way, tried with a group of this name."""
    own = cgroup.of(os.getpid())
    near = [] if own is None else [own, os.path.dirname(own)]
    left = [one for one in near if cgroup.delegated(one)]
    path = wanted not in {AUTO, OFF}
    unified = path and cgroup.unified(wanted)
    found = means(wanted, own, left, unified=unified, injects=injects)
    if found.group:
        try:
            _try(found.group, mark)
        except (KernelError, NotSupported, UsageError) as error:
            return Means("", str(error))
    return found


class Groups:
    """The groups of one instance's workers."""

    def __init__(self, base: str) -> None:
        """``base`` is the beginning of the paths of the instance's files, and marks its groups."""
        mark = zlib.crc32(os.path.abspath(base).encode())
        self._mark = f"segue.{os.path.basename(base)}.{mark:08x}.w"
        self._paths: dict[int, str] = {}  # by worker
        self._occupied: set[str] = set()  # by what their workers left running
        self.means: Means | None = None  # until ``open``

    def open(self, wanted: str, *, injects: bool) -> None:
        """Choose where groups are made, and remove those that a killed supervisor left empty."""
        self.means = choose(wanted, f"{self._mark}.trial", injects=injects)
        if self.means.group:
            ours = re.compile(re.escape(self._mark) + r"[0-9]+")
            with contextlib.suppress(OSError):
                left = filter(ours.fullmatch, os.listdir(self.means.group))
                self._occupied |= {f"{self.means.group}/{name}" for name in left}
            self.sweep()

    def door(self, worker: int) -> int | None:
        """A descriptor by which this worker's process enters its group; the caller closes it.

        None where groups are not used.  When the kernel refuses another group, none is used from
        then on.
        """
        if self.means is None or not self.means.group:
            return None
        path = f"{self.means.group}/{self._mark}{worker}"
        try:
            cgroup.make_beside_processes(path)
            door = cgroup.open_door(path)
        except KernelError as error:
            self.means = Means("", str(error))
            return None
        self._paths[worker] = path
        self._occupied.discard(path)
        return door

    def adopt(self, worker: int, pid: int) -> None:
        """This process runs, perhaps in a group that an earlier supervisor made for it."""
        if f"{self._mark}{worker}" not in cgroup.names(pid):
            self.remove(worker)
        elif worker not in self._paths:
            found = cgroup.of(pid, _CPU) or cgroup.of(pid)
            if found is not None:
                self._paths[worker] = found

    def has(self, worker: int) -> bool:
        """Whether this worker has one."""
        return worker in self._paths

    def idle(self, worker: int) -> bool:
        """Whether it only gets what others leave it."""
        return worker in self._paths and cgroup.is_idle(self._paths[worker])

    def set_idle(self, worker: int, *, idle: bool) -> bool:
        """Whether it is to from now on.  False when that cannot be."""
        try:
            cgroup.set_idle(self._paths[worker], idle=idle)
        except (KeyError, KernelError):
            return False
        return True

    def remove(self, worker: int) -> None:
        """The worker has ended, or has not been started."""
        self.set_idle(worker, idle=False)  # for what it left running
        path = self._paths.pop(worker, "")
        if path:
            self._occupied.add(path)
        self.sweep()

    def sweep(self) -> None:
        """Remove those of ended workers, as far as nobody is left there."""
        self._occupied = {one for one in self._occupied if not cgroup.remove_empty(one)}


def _try(group: str, name: str) -> None:
    """Whether a process can be in an idle group below this one.  Raises KernelError, UsageError."""
    owner = cgroup.owner(group)
    if owner not in {0, os.geteuid()}:
        raise UsageError(
            f"the cgroup {group} is of another user, uid {owner}, who could stop or move workers"
        )
    path = f"{group}/{name}.{os.getpid()}"
    cgroup.share_processors(group)
    cgroup.make_beside_processes(path)
    try:
        cgroup.set_idle(path, idle=True)
        cgroup.set_idle(path, idle=False)
        door = cgroup.open_door(path)
        try:
            cgroup.try_door(door, path)
        finally:
            os.close(door)
    finally:
        cgroup.remove_empty(path)
