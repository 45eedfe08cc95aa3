"""The memory of a process, by itself and with its part of what it shares."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.waiting import wait_until

from segue.linux import memory, proc

_MIB = 1 << 20
# Holds 64 MiB, which a child of it shares.
HOLDS = """
import os
held = bytearray(b"x") * (64 << 20)
if not os.fork():
    os.read(0, 1)
    os._exit(0)
print("held", flush=True)
os.read(0, 1)
"""


@pytest.fixture
def pair() -> Iterator[tuple[int, ...]]:
    """A process and its child."""
    with subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        wait_until(lambda: len(proc.tree(process.pid)) == 2, "the child")
        yield proc.tree(process.pid)
        process.communicate(b"xx")


def test_shared_pages_count_for_both_or_in_part(pair: tuple[int, ...]) -> None:
    """RSS has them twice, PSS once."""
    resident = sum(map(memory.resident, pair))
    proportional = sum(memory.proportional(pid) or 0 for pid in pair)
    assert all(memory.resident(pid) > 64 * _MIB for pid in pair)
    assert 64 * _MIB < proportional < resident - 60 * _MIB


def test_resident_is_what_status_shows(pair: tuple[int, ...]) -> None:
    """The kernel may round the two differently."""
    line = next(
        one
        for one in Path(f"/proc/{pair[0]}/status").read_text().splitlines()
        if one.startswith("VmRSS:")
    )
    assert abs(memory.resident(pair[0]) - int(line.split()[1]) * 1024) < 4 * _MIB


def test_a_process_that_is_gone_has_none() -> None:
    """Nor does one that waits to be reaped."""
    child = os.posix_spawn("/bin/true", ["true"], {})
    wait_until(lambda: proc.run_state(child) == "Z", "its end")
    assert memory.resident(child) == 0
    assert not memory.proportional(child)
    os.waitpid(child, 0)
    assert memory.resident(child) == 0
    assert memory.proportional(child) is None
