"""SO_REUSEPORT for workers that bind and do not set it (``--inject``).

The workers of an instance live in a cgroup of their own, made below the supervisor's; a program
attached to it sets the option when they bind.  Both outlive a supervisor that is killed and are
found again by name; with the cgroup, at the end, the programs go too.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from segue.errors import KernelError, UsageError
from segue.linux import cgroup
from segue.linux.bpf import Program, attach_cgroup, attached_to_cgroup
from segue.linux.bpf_attr import AttachType
from segue.policy import reuseport_bind

# What was killed is gone at once as a rule; a process that writes a core takes longer.
_EMPTY_SECONDS = 5.0


def directory_of(base: str, ports: Sequence[int], known: str = "") -> str:
    """Where the cgroup of an instance is to be: below this process's own.

    ``base`` is the path that all files of the instance begin with: two instances of one name in
    two directories have two cgroups.  So have two runs with other ports, as the program that is
    attached to one knows its ports.  ``known`` is where a predecessor made it, which may have
    been below another cgroup; where it left workers, there it stays.  Raises NotSupported where
    cgroup2 is not mounted.
    """
    mark = f"{os.path.abspath(base)} {sorted(set(ports))}"
    name = f"segue.{os.path.basename(base)}.{zlib.crc32(mark.encode()):08x}"
    if os.path.basename(known) == name and cgroup.members(known):
        return known
    return f"{cgroup.mine()}/{name}"


@dataclass(slots=True)
class Injection:
    """The cgroup of one instance; ``door`` is what a starting worker enters it by."""

    path: str
    door: int

    @classmethod
    def open(cls, path: str, ports: Sequence[int]) -> Injection:
        """Make the cgroup and attach the programs, as far as a predecessor has not.

        Raises KernelError where it may not be made or written to, or the programs may not be
        loaded; then nothing new is left behind.  Raises UsageError for one that another user made.
        """
        cgroup.make(path)
        try:
            directory = cgroup.open_directory(path)
            try:
                owner = os.fstat(directory).st_uid
                if owner not in {0, os.geteuid()}:
                    raise UsageError(
                        f"the cgroup {path} was made by another user, uid {owner}, who could stop"
                        " or move what is in it: remove it (rmdir), or start this instance in a"
                        " cgroup that is root's"
                    )
                for asked in (AttachType.INET4_BIND, AttachType.INET6_BIND):
                    if not attached_to_cgroup(directory, asked):
                        _attach(directory, asked, ports)
            finally:
                os.close(directory)
            return cls(path, cgroup.open_door(path))
        except BaseException:
            if not cgroup.members(path):
                with contextlib.suppress(KernelError):  # what is raised already says more
                    cgroup.remove(path, 0)
            raise

    def remove(self) -> None:
        """Remove the cgroup once its last process has ended.

        Raises KernelError: EBUSY, naming who, when one does not end.
        """
        os.close(self.door)
        cgroup.remove(self.path, _EMPTY_SECONDS)


def forget(known: str) -> None:
    """Remove the cgroup of a predecessor that was killed, unless somebody is in it still."""
    with contextlib.suppress(KernelError):
        cgroup.remove(known, 0)


def _attach(directory: int, asked: AttachType, ports: Sequence[int]) -> None:
    specification = reuseport_bind.program(ports)
    with Program.load(specification, name="segue_bind", attach_type=asked) as program:
        attach_cgroup(directory, program.fileno(), asked)
