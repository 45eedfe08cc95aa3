"""By which means newcomers and workers that stop give way to workers that serve.

A control group that is idle gets a processor at once taken away when anybody else wants it.  The
lowest nice value does less, and is there for everybody.  Groups are made only where somebody has
left that to us: in another's group they would change how all of its processes share processors.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection
from dataclasses import dataclass

AUTO, OFF = "auto", "off"


@dataclass(frozen=True, slots=True)
class Means:
    """The control group that those of workers are made in, or "" for nice values; and why."""

    group: str
    why: str

    def __str__(self) -> str:
        if self.group:
            return f"by control groups (cpu.idle) in {self.group}: {self.why}"
        return f"by nice values: {self.why}"


def means(
    wanted: str, own: str | None, delegated: Collection[str], *, unified: bool, injects: bool
) -> Means:
    """What is to be tried.

    ``wanted`` is a path, AUTO or OFF, and ``own`` is our group of version 2.  ``delegated`` says
    which groups are marked as left to who runs in them.  ``unified``: the path of ``wanted`` is of
    version 2.
    """
    if wanted == OFF:
        return Means("", "--cgroup off")
    if wanted != AUTO:
        group, why = wanted, "--cgroup names it"
    else:
        # The one above, where the manager started us in a group within the one that it left to us
        # (DelegateSubgroup= of systemd).
        near = [own, posixpath.dirname(own)] if own else []
        group = next((one for one in near if one in delegated), "")
        why = "the service manager has delegated it"
        if not group:
            return Means(
                "",
                "no control group is delegated to this process (Delegate=cpu in a unit of systemd,"
                " or --cgroup PATH)",
            )
    if injects and (unified or wanted == AUTO):
        return Means("", "with --inject workers are in a control group of another kind")
    return Means(group, why)
