"""The memory of processes: /proc/PID/statm and smaps_rollup (proc_pid_statm(5), proc_pid_smaps(5)).

The first costs some microseconds.  For the second the kernel walks every page: 15 ms for a GB.
"""

from __future__ import annotations

import contextlib
import os

_PAGE = os.sysconf("SC_PAGE_SIZE")
_SHORT = 4096


def resident(pid: int) -> int:
    """Bytes of memory that it uses (RSS), shared pages included; 0 when it is gone."""
    fields = _read(f"/proc/{pid}/statm").split()
    return int(fields[1]) * _PAGE if len(fields) > 1 else 0


def proportional(pid: int) -> int | None:
    """The same with its part of each shared page only (PSS); None when it is gone, when this user
    may not see it, and before Linux 4.14.
    """
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) << 10
    return None


def _read(path: str) -> bytes:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(_SHORT)
    return b""
