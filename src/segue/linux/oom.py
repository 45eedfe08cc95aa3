"""Whom the kernel ends when memory runs out, and how many it has ended.

``oom_score_adj`` (proc_pid_oom_score_adj(5)) is inherited by children.  Whoever may write it may
raise it, and may lower it again to what it was: only below that CAP_SYS_RESOURCE is needed.
"""

from __future__ import annotations

import contextlib
import os

from segue.linux import cgroup

FIRST = 1000  # OOM_SCORE_ADJ_MAX: whatever its size
_SHORT = 4096


def adjustment(pid: int) -> int | None:
    """Its oom_score_adj; None when it is gone."""
    text = _read(f"/proc/{pid}/oom_score_adj")
    return int(text) if text else None


def adjust(pid: int, value: int) -> bool:
    """Set its oom_score_adj; whether that was permitted, and it is there."""
    try:
        with open(f"/proc/{pid}/oom_score_adj", "wb", buffering=0) as file:
            file.write(b"%d" % value)
    except OSError:
        return False
    return True


def counter(pid: int) -> str:
    """The file that counts kills in the cgroup that limits this process's memory; "" for none."""
    mounts = _read("/proc/self/mountinfo", 1 << 20)
    membership = _read(f"/proc/{pid}/cgroup", 1 << 16)
    old = cgroup.find(mounts, membership, "memory")
    if old is not None and os.path.exists(f"{old}/memory.oom_control"):
        return f"{old}/memory.oom_control"
    where = cgroup.find(mounts, membership) or "/"
    while where not in {"/", ""}:  # one that has no memory controller is limited by those above it
        if os.path.exists(f"{where}/memory.events"):
            return f"{where}/memory.events"
        where = os.path.dirname(where)
    return ""


def kills(path: str) -> int:
    """How many processes this file counts; 0 when it is gone."""
    for line in _read(path).splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


def _read(path: str, most: int = _SHORT) -> str:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read(most)
    return ""
