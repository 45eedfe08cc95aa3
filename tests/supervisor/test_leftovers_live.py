"""What workers leave running when they end: named, and ended or kept."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from tests.supervisor.instance import ADDRESS, Instance, wait_until

from segue.linux import pidfd, proc

pytestmark = pytest.mark.root

# Each worker starts a script with a session of its own and a direct child, then serves.  The
# script ignores SIGTERM.
SERVER = """
import os, socket, subprocess, sys
script, pids = sys.argv[1:]
one = subprocess.Popen([script], start_new_session=True, stdout=subprocess.DEVNULL)
two = subprocess.Popen(["sleep", "600"])
with open(pids, "a") as file:
    file.write(f"{one.pid}\\n{two.pid}\\n")
listener = socket.socket(fileno=3)
while True:
    listener.accept()[0].close()
"""


def started(directory: Path, *flags: str) -> Instance:
    """An instance whose workers run ``deploy.sh`` beside them."""
    script = directory / "deploy.sh"
    script.write_text("#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n")
    script.chmod(0o755)
    command = (sys.executable, "-S", "-E", "-c", SERVER, str(script), str(directory / "pids"))
    return Instance(directory, "--bind", ADDRESS, *flags, command=command)


def left(directory: Path) -> list[int]:
    """The processes that workers have started, in this order."""
    return [int(line) for line in (directory / "pids").read_text().split()]


def test_it_is_named_and_ended(netns: int, tmp_path: Path) -> None:
    """Whom it is told to stop is said, and who has to be killed."""
    with started(tmp_path, "--stop-timeout", "0.5") as one:
        one.wait_serving()
        script, child = left(tmp_path)
        wait_until(lambda: proc.command(script) == "deploy.sh", "the script runs")
        assert one.ask("restart")["exit"] == 0
        wait_until(lambda: proc.start_time(script) is None, one.said())
        assert proc.start_time(child) is None
        named = f"left pid {script} (deploy.sh) and pid {child} (sleep) running: told to stop"
        assert named in one.said()
        assert f"pid {script} (deploy.sh) did not end in time: killed" in one.said()


def test_it_is_kept(netns: int, tmp_path: Path) -> None:
    """Also over new code, and over the end of the instance."""
    with started(tmp_path, "--leftovers", "keep") as one:
        one.wait_serving()
        first = left(tmp_path)
        try:
            wait_until(lambda: proc.command(first[0]) == "deploy.sh", "the script runs")
            assert one.ask("restart")["exit"] == 0
            one.wait_serving(2)
            assert f"left pid {first[0]} (deploy.sh) and pid {first[1]} (sleep) running: left" in (
                one.said()
            )
            assert one.ask("reexec")["exit"] == 0
            assert one.status()["leftovers"] == "keep"
            assert one.ask("stop")["exit"] == 0
            assert one.wait() == 0
            assert one.said().count(f"pid {first[0]} ") == 1, "said once, of the worker whose it is"
            assert all(proc.start_time(pid) is not None for pid in left(tmp_path))
        finally:
            for pid in left(tmp_path):
                with pidfd.opened(pid):
                    os.kill(pid, signal.SIGKILL)
