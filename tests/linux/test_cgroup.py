"""Where a process's cgroup is, and why one cannot be made."""

from __future__ import annotations

import os

import pytest
from tests.linux.unprivileged import as_nobody

from segue.errors import KernelError, NotSupported
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


@pytest.mark.root
def test_what_a_manager_delegates_is_marked() -> None:
    """By systemd, in an attribute of the directory."""
    path = f"{cgroup.mine()}/segue.test.marked.{os.getpid()}"
    cgroup.make(path)
    try:
        assert not cgroup.delegated(path)
        os.setxattr(path, "user.delegate", b"1")
        assert cgroup.delegated(path)
    finally:
        assert cgroup.remove_empty(path)
    assert cgroup.remove_empty(path)
    assert not cgroup.delegated(path)


@pytest.mark.root
def test_one_beside_processes_can_be_entered() -> None:
    """In version 2 with any controller: it is threaded, and whole processes enter it."""
    above = f"{cgroup.mine()}/segue.test.above.{os.getpid()}"
    path = f"{above}/below"
    cgroup.make(above)
    try:
        for _ in range(2):
            cgroup.make_beside_processes(path)
        with open(f"{path}/cgroup.type", encoding="utf-8") as file:
            assert file.read() == "threaded\n"
        for place in (above, path):
            door = cgroup.open_door(place)
            cgroup.try_door(door, place)
            os.close(door)
        assert "below" not in cgroup.names(os.getpid())
    finally:
        assert cgroup.remove_empty(path)
        assert cgroup.remove_empty(above)


@pytest.mark.root
def test_who_may_not_enter_is_told_why() -> None:
    """The group is of the other kind than the one above it has room for."""
    above = f"{cgroup.mine()}/segue.test.mixed.{os.getpid()}"
    threaded, other = f"{above}/threaded", f"{above}/other"
    for path in (above, other):
        cgroup.make(path)
    cgroup.make_beside_processes(threaded)
    door = cgroup.open_door(other)
    try:
        with pytest.raises(KernelError, match=r"entering the cgroup .*/other.*ENOTSUP"):
            cgroup.try_door(door, other)
    finally:
        os.close(door)
        for path in (threaded, other, above):
            assert cgroup.remove_empty(path)


@pytest.mark.root
def test_processors_need_their_controller() -> None:
    """And in version 1, where there is such a group, it is there."""
    old, new = cgroup.of(os.getpid(), "cpu"), cgroup.mine()
    if old is None:
        pytest.skip("the controller cpu is not in version 1 here")
    cgroup.share_processors(old)
    with pytest.raises(NotSupported, match="the controller cpu in"):
        cgroup.share_processors(new)
    path = f"{old}/segue.test.idle.{os.getpid()}"
    cgroup.make(path)
    try:
        for idle in (True, False):
            cgroup.set_idle(path, idle=idle)
            assert cgroup.is_idle(path) is idle
    finally:
        assert cgroup.remove_empty(path)
    assert not cgroup.is_idle(path)
    with pytest.raises(KernelError, match=r"writing 1 into .*/cpu\.idle.*ENOENT"):
        cgroup.set_idle(path, idle=True)
