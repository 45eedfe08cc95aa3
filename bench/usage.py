"""What a process has used, as /proc shows it (proc(5)); nothing when it is gone."""

from __future__ import annotations

import contextlib
import os

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int) -> int:
    """Resident memory."""
    fields = _read(pid, "statm").split()
    return int(fields[1]) * _PAGE if fields else 0


def cpu_seconds(pid: int) -> float:
    """User and system time so far."""
    # Its name, in parentheses, may hold spaces and parentheses itself.
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS if fields else 0.0


def _read(pid: int, name: str) -> str:
    # ProcessLookupError: the process ended between open and read.
    with (
        contextlib.suppress(FileNotFoundError, ProcessLookupError),
        open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file,
    ):
        return file.read()
    return ""
