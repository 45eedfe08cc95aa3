"""SO_REUSEPORT for workers that bind and do not set it (``--inject``).

The workers of an instance live in a cgroup of their own, made below the supervisor's; a program
attached to it sets the option when they bind.  Both outlive a supervisor that is killed and are
found again by name; with the cgroup, at the end, the programs go too.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from segue.linux import cgroup
from segue.linux.bpf import Program, attach_cgroup, attached_to_cgroup
from segue.linux.bpf_attr import AttachType
from segue.policy import reuseport_bind

# What was killed is gone at once as a rule; a process that writes a core takes longer.
_EMPTY_SECONDS = 5.0


def directory_of(base: str, known: str = "") -> str:
    """Where the cgroup of an instance is to be: below this process's own.

    ``base`` is the path that all files of the instance begin with: two instances of one name in
    two directories have two cgroups.  ``known`` is where a predecessor made it, which may have
    been below another cgroup; where it left workers, there it stays.  Raises NotSupported where
    cgroup2 is not mounted.
    """
    if known and cgroup.members(known):
        return known
    name = f"segue.{os.path.basename(base)}.{zlib.crc32(os.path.abspath(base).encode()):08x}"
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
        loaded; then nothing new is left behind.
        """
        cgroup.make(path)
        try:
            directory = cgroup.open_directory(path)
            try:
                for asked in (AttachType.INET4_BIND, AttachType.INET6_BIND):
                    if not attached_to_cgroup(directory, asked):
                        _attach(directory, asked, ports)
            finally:
                os.close(directory)
            return cls(path, cgroup.open_door(path))
        except BaseException:
            if not cgroup.members(path):
                cgroup.remove(path, 0)
            raise

    def remove(self) -> None:
        """Remove the cgroup once its last process has ended.

        Raises KernelError: EBUSY, naming who, when one does not end.
        """
        os.close(self.door)
        cgroup.remove(self.path, _EMPTY_SECONDS)


def _attach(directory: int, asked: AttachType, ports: Sequence[int]) -> None:
    specification = reuseport_bind.program(ports)
    with Program.load(specification, name="segue_bind", attach_type=asked) as program:
        attach_cgroup(directory, program.fileno(), asked)
