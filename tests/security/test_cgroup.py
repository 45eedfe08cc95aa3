"""The cgroup of ``--inject``: left over, another user's, or left by a worker."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from tests.supervisor.instance import Instance
from tests.waiting import wait_until

from segue.linux import cgroup
from segue.supervisor.workers.injection import directory_of

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]

FLAGS = ("--bind-by", "worker", "--inject")
SERVER = """
import os, socket, sys
if len(sys.argv) > 3:
    with open(sys.argv[3] + "/cgroup.procs", "w") as file:
        file.write("0")
one = socket.socket()
one.bind((sys.argv[1], int(sys.argv[2])))
one.listen(8)
while True:
    one.accept()[0].close()
"""
COMMAND = (sys.executable, "-S", "-E", "-c", SERVER, "{host}", "{port}")


def test_a_killed_run_leaves_no_cgroup_to_one_with_another_port(netns: int, tmp_path: Path) -> None:
    """The program that is attached there knows only the port of the first."""
    before = directory_of(f"{tmp_path}/run/t", [8080])
    with Instance(tmp_path, *FLAGS, command=COMMAND) as one:
        pid = one.wait_serving().workers("serving")[0]["pid"]
        one.process.kill()
        one.process.wait()
        os.kill(pid, 9)
        wait_until(lambda: not cgroup.members(before), "the cgroup is empty")
        assert os.path.isdir(before)
        one.argv[one.argv.index("127.0.0.1:8080")] = "127.0.0.1:8081"
        one.again()
        one.wait_serving()
        assert not os.path.exists(before)
        assert one.ask("restart")["exit"] == 0
        assert one.ask("stop")["exit"] == 0
        assert one.wait() == 0
    assert not os.path.exists(directory_of(f"{tmp_path}/run/t", [8081]))


def test_a_cgroup_that_another_user_made_is_refused(netns: int, tmp_path: Path) -> None:
    """Its owner could freeze, kill and move whoever is in it."""
    path = directory_of(f"{tmp_path}/run/t", [8080])
    cgroup.make(path)
    try:
        os.chown(path, 61001, 61001)
        with Instance(tmp_path, *FLAGS, command=COMMAND) as one:
            assert one.wait() == 2
            assert "was made by another user, uid 61001" in one.said()
            assert "Traceback" not in one.said()
    finally:
        cgroup.remove(path, 10)


def test_a_worker_that_leaves_its_cgroup_is_told_from_others(netns: int, tmp_path: Path) -> None:
    """As root it may; it binds without the option, which is said, and no cgroup is left."""
    path = directory_of(f"{tmp_path}/run/t", [8080])
    with Instance(tmp_path, *FLAGS, command=(*COMMAND, os.path.dirname(path))) as one:
        assert one.wait() == 3
        assert "without SO_REUSEPORT" in one.said()
    assert not os.path.exists(path)
