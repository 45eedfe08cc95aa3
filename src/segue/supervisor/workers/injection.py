"""SO_REUSEPORT for workers that bind themselves and do not set it (``--inject``).

The workers of an instance run in a cgroup of their own below the supervisor's.  A program attached
to it sets the option when they bind.  Both remain if the supervisor is killed, and are found again
by name.  When the cgroup is removed at the end, its programs are removed too.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from segue.errors import KernelError, NotSupported, UsageError
from segue.linux import cgroup, features
from segue.linux.bpf import Program, attach_cgroup, attached_to_cgroup
from segue.linux.bpf_attr import AttachType
from segue.policy import reuseport_bind

# A killed process usually ends at once.  One that writes a core file takes longer.
_EMPTY_SECONDS = 5.0


def check() -> None:
    """Raises NotSupported where no program can set the option at bind(2), or without cgroup2."""
    cgroup.mine()
    if features.ask("ebpf_bind").answer is features.Answer.NO:
        here = "the kernel refuses a program that sets options at bind(2)"
        raise NotSupported("--inject", "Linux 5.15 or later", here)


def directory_of(base: str, ports: Sequence[int], known: str = "") -> str:
    """The path of an instance's cgroup, below the cgroup of this process.

    ``base`` is the beginning of the paths of all the instance's files.  So two instances of one
    name in two directories have two cgroups.  Two runs with different ports have two cgroups as
    well, because the attached program knows its ports.  ``known`` is the path of a predecessor's
    cgroup, which may be below another cgroup.  It is used while workers are in it.  Raises
    NotSupported if cgroup2 is not mounted.
    """
    mark = f"{os.path.abspath(base)} {sorted(set(ports))}"
    name = f"segue.{os.path.basename(base)}.{zlib.crc32(mark.encode()):08x}"
    if os.path.basename(known) == name and cgroup.members(known):
        return known
    return f"{cgroup.mine()}/{name}"


@dataclass(slots=True)
class Injection:
    """The cgroup of one instance.  A starting worker enters it through the descriptor ``door``."""

    path: str
    door: int

    @classmethod
    def open(cls, path: str, ports: Sequence[int]) -> Injection:
        """Make the cgroup and attach the programs, unless a predecessor has done so.

        Raises KernelError if this is not permitted, NotSupported as ``check`` does, UsageError for
        a cgroup that another user has made; and then leaves nothing new behind.
        """
        check()
        cgroup.make(path)
        try:
            directory = cgroup.open_directory(path)
            try:
                owner = os.fstat(directory).st_uid
                if owner not in {0, os.geteuid()}:
                    raise UsageError(
                        f"the cgroup {path} was made by another user, uid {owner}, who could stop"
                        " or move its processes: remove it (rmdir), or start this instance in a"
                        " cgroup that root owns"
                    )
                for asked in (AttachType.INET4_BIND, AttachType.INET6_BIND):
                    if not attached_to_cgroup(directory, asked):
                        _attach(directory, asked, ports)
            finally:
                os.close(directory)
            return cls(path, cgroup.open_door(path))
        except BaseException:
            if not cgroup.members(path):
                with contextlib.suppress(KernelError):  # the exception on its way says more
                    cgroup.remove(path, 0)
            raise

    def remove(self) -> None:
        """Remove the cgroup once its last process has ended.

        Raises KernelError: EBUSY, with the process, if one does not end.
        """
        os.close(self.door)
        cgroup.remove(self.path, _EMPTY_SECONDS)


def forget(known: str) -> None:
    """Remove the cgroup of a killed predecessor, unless a process is still in it."""
    with contextlib.suppress(KernelError):
        cgroup.remove(known, 0)


def _attach(directory: int, asked: AttachType, ports: Sequence[int]) -> None:
    specification = reuseport_bind.program(ports)
    with Program.load(specification, name="segue_bind", attach_type=asked) as program:
        attach_cgroup(directory, program.fileno(), asked)
