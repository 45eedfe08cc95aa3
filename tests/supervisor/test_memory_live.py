"""A restart that does not fit into the memory: newcomers go first, and the cause is named."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.supervisor.instance import SERVER, Instance
from tests.waiting import wait_until

from segue.linux import cgroup, oom, proc

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]

_MIB = 1 << 20
# Holds 40 MiB, and serves.
HOLDS = """
import socket
held = bytearray(b"x") * (40 << 20)
listener = socket.socket(fileno=3)
while True:
    listener.accept()[0].close()
"""


@pytest.fixture
def limited() -> Iterator[str]:
    """A cgroup of this test's own whose members may have 170 MiB together."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = file.read()
    old = cgroup.find(mounts, "1:memory:/\n", "memory")
    new = cgroup.find(mounts, "0::/\n")
    if old is not None:
        parent, limits = old, {"memory.limit_in_bytes": 170 * _MIB}
        more = {"memory.memsw.limit_in_bytes": 170 * _MIB}
    elif new is not None and "memory" in Path(f"{new}/cgroup.subtree_control").read_text():
        parent, limits, more = new, {"memory.max": 170 * _MIB}, {"memory.swap.max": 0}
    else:
        pytest.skip("no cgroup limits memory here")
    path = Path(f"{parent}/segue-test-{os.getpid()}")
    path.mkdir()
    for name, value in limits.items():
        (path / name).write_text(str(value))
    for name, value in more.items():
        with contextlib.suppress(OSError):  # without swap, or without its accounting
            (path / name).write_text(str(value))
    yield str(path)
    wait_until(lambda: not cgroup.members(str(path)), "the processes gone")
    path.rmdir()


def test_newcomers_are_ended_first_and_the_cause_is_named(
    netns: int, tmp_path: Path, limited: str
) -> None:
    """The workers that serve are the same ones after the restart that did not fit."""
    into = ("sh", "-c", f'echo $$ > {limited}/cgroup.procs; exec "$@"', "sh")
    command = (sys.executable, "-S", "-E", "-c", HOLDS)
    with Instance(tmp_path, "--workers", "2", before=into, command=command) as one:
        one.wait_serving(1, 2)
        served = [worker["pid"] for worker in one.workers("serving")]
        answer = one.ask("restart")
        assert answer["exit"] == 3
        assert re.search(
            r"killed by SIGKILL, probably for want of memory \(oom_kill \d+ -> \d+\)",
            answer["error"],
        )
        one.wait_serving(1, 2)
        assert [worker["pid"] for worker in one.workers("serving")] == served


def test_a_restart_in_steps_fits_where_a_whole_generation_does_not(
    netns: int, tmp_path: Path, limited: str
) -> None:
    """One worker more than serve is all that there is room for."""
    into = ("sh", "-c", f'echo $$ > {limited}/cgroup.procs; exec "$@"', "sh")
    command = (sys.executable, "-S", "-E", "-c", HOLDS)
    with Instance(tmp_path, "--workers", "2", before=into, command=command) as one:
        one.wait_serving(1, 2)
        assert one.ask("restart", step=1)["exit"] == 0
        one.wait_serving(2, 2)
        assert "SIGKILL" not in one.said()


def adjustments(pid: int) -> set[int | None]:
    """Of a process and all below it."""
    return {oom.adjustment(each) for each in proc.tree(pid)}


def test_a_worker_is_first_until_it_serves(netns: int, tmp_path: Path) -> None:
    """So are processes that it starts meanwhile; when it serves all have the usual value again."""
    go = tmp_path / "go"
    usual = oom.adjustment(os.getpid())
    script = f"sleep 60 & while [ ! -e {go} ]; do sleep 0.02; done; exec {shlex.join(SERVER)}"
    with Instance(tmp_path, command=("sh", "-c", script)) as one:
        wait_until(lambda: one.workers("starting"), "the worker")
        pid = one.workers("starting")[0]["pid"]
        wait_until(lambda: oom.adjustment(pid) == oom.FIRST, "the worker's value")
        wait_until(lambda: len(proc.tree(pid)) > 1, "its child")
        go.touch()
        one.wait_serving()
        wait_until(lambda: adjustments(pid) == {usual}, "the usual values")
