"""Where a process's cgroup is, and why one cannot be made."""

from __future__ import annotations

import os

import pytest
from tests.linux.unprivileged import as_nobody

from segue.errors import KernelError
from segue.linux import cgroup

UNIFIED = "30 24 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = (
    "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)
BOUND = "50 24 0:27 /pods/a /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("mounts", "membership", "found"),
    [
        (UNIFIED, "0::/\n", "/sys/fs/cgroup"),
        (UNIFIED, "0::/system.slice/x.service\n", "/sys/fs/cgroup/system.slice/x.service"),
        (HYBRID, "4:memory:/m\n0::/y\n", "/sys/fs/cgroup/unified/y"),
        (HYBRID, "4:memory:/m\n", "/sys/fs/cgroup/unified"),
        (HYBRID.splitlines()[0], "0::/y\n", None),
        ("", "", None),
        (BOUND, "0::/pods/a/b\n", "/sys/fs/cgroup/b"),
        (BOUND, "0::/pods/a\n", "/sys/fs/cgroup"),
        (BOUND, "0::/pods/ab\n", "/sys/fs/cgroup"),
        (UNIFIED, "0::/../other\n", "/sys/fs/cgroup"),
        ("1 2 0:3 / /a\\040b rw - cgroup2 none rw", "0::/", "/a b"),
    ],
)
def test_where_a_cgroup_is(mounts: str, membership: str, found: str | None) -> None:
    """Below its mount, as far as it can be named from here."""
    assert cgroup.find(mounts, membership) == found


@pytest.mark.root
def test_one_is_made_and_removed() -> None:
    """Making it twice is no error, nor is removing it twice."""
    path = f"{cgroup.mine()}/segue.test.made.{os.getpid()}"
    for _ in range(2):
        cgroup.make(path)
    assert cgroup.members(path) == ()
    for _ in range(2):
        cgroup.remove(path, 0)
    assert cgroup.members(path) == ()


@pytest.mark.root
def test_without_the_right_it_is_said() -> None:
    """With what would give it."""

    def work() -> str:
        try:
            cgroup.make(f"{cgroup.mine()}/segue.test.refused")
        except KernelError as error:
            return str(error)
        return "made"

    said = as_nobody(work)
    assert "making the cgroup" in said
    assert "Delegate=" in said


@pytest.mark.root
def test_a_door_to_nowhere_is_said() -> None:
    """A cgroup that is gone, by its path."""
    path = f"{cgroup.mine()}/segue.test.none"
    for use in (cgroup.open_door, cgroup.open_directory):
        with pytest.raises(KernelError, match=r"segue\.test\.none.*ENOENT"):
            use(path)
