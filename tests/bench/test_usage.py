"""What a process has used."""

from __future__ import annotations

import os
import subprocess

from bench.usage import cpu_seconds, resident_bytes
from tests.waiting import PATIENCE


def test_what_a_process_has_used() -> None:
    """This one has some memory, and its processor time lies between two looks of times(2)."""
    assert 1 << 20 < resident_bytes(os.getpid()) < 1 << 40
    before, used, after = os.times(), cpu_seconds(os.getpid()), os.times()
    tick = 1 / os.sysconf("SC_CLK_TCK")
    assert before.user + before.system - 2 * tick <= used <= after.user + after.system + 2 * tick


def test_a_process_that_is_gone_has_used_nothing() -> None:
    """Nothing is raised: it may end between any two reads."""
    with subprocess.Popen(["true"]) as process:
        process.wait(PATIENCE)
    assert (resident_bytes(process.pid), cpu_seconds(process.pid)) == (0, 0)
