"""The order in which the kernel ends processes for want of memory, and what it counts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from segue.linux import cgroup, oom


def test_an_adjustment_is_set_and_taken_back() -> None:
    """Of a child; one that is gone has none, and cannot be given one."""
    with subprocess.Popen(["sleep", "60"]) as child:
        usual = oom.adjustment(child.pid)
        assert usual == oom.adjustment(os.getpid())
        assert usual is not None
        assert oom.adjust(child.pid, oom.FIRST)
        assert oom.adjustment(child.pid) == oom.FIRST
        assert oom.adjust(child.pid, usual)
        assert oom.adjustment(child.pid) == usual
        child.kill()
    assert oom.adjustment(child.pid) is None
    assert not oom.adjust(child.pid, oom.FIRST)


def test_kills_are_read_in_both_versions(tmp_path: Path) -> None:
    """From memory.events and from memory.oom_control; a file that is gone counts none."""
    events = tmp_path / "events"
    events.write_text("low 0\nhigh 0\nmax 12\noom 2\noom_kill 3\noom_group_kill 0\n")
    assert oom.kills(str(events)) == 3
    events.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n")
    assert oom.kills(str(events)) == 4
    assert oom.kills(str(tmp_path / "gone")) == 0


def test_the_memory_hierarchy_of_version_1_is_found() -> None:
    """Beside other controllers of the same mount, and beside cgroup2."""
    mounts = (
        "30 24 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        "31 24 0:27 / /sys/fs/cgroup/cpu,memory rw - cgroup cgroup rw,cpu,memory\n"
    )
    membership = "4:cpu,memory:/shop\n0::/shop.service\n"
    assert cgroup.find(mounts, membership, "memory") == "/sys/fs/cgroup/cpu,memory/shop"
    assert cgroup.find(mounts, membership) == "/sys/fs/cgroup/unified/shop.service"
    assert cgroup.find(mounts, membership, "pids") is None
