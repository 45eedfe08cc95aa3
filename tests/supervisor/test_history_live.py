"""The history of a real instance: over a restart, a failure, a crash, a stall and its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.supervisor.instance import SERVER, Instance
from tests.waiting import wait_until

from segue.supervisor.control.history import read
from segue.supervisor.control.paths import Paths
from segue.supervisor.lifecycle.chronicle import Event

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]


def shown(one: Instance, *more: str) -> list[dict[str, Any]]:
    """``segue history --json``."""
    command = [sys.executable, "-m", "segue", "history", "--json", *more]
    found: list[dict[str, Any]] = json.loads(subprocess.check_output(command, env=one.env))
    return found


def test_a_history_outlives_its_supervisors(netns: int, tmp_path: Path) -> None:
    """Who asked, how long each stage took, what failed and why; also after kill -9 and a stop."""
    broken = tmp_path / "broken"
    command = ("sh", "-c", f"[ -e {broken} ] && exit 7; exec {' '.join(SERVER)}")
    with Instance(tmp_path, "--workers", "1", command=command) as one:
        one.wait_serving(1, 1)
        restart = [sys.executable, "-m", "segue", "restart", "--control", one.control]
        subprocess.run(restart, check=True, env=one.env, capture_output=True)
        one.wait_serving(2, 1)
        broken.touch()
        assert subprocess.run(restart, check=False, env=one.env, capture_output=True).returncode
        assert "restart to generation 3 failed" in one.status()["failure"]
        broken.unlink()
        one.process.kill()
        one.process.wait()
        one.again()
        one.wait_serving(2, 1)
        assert "restart to generation 3 failed" in one.status()["failure"]
        os.kill(one.workers("serving")[0]["pid"], signal.SIGKILL)
        wait_until(lambda: "while serving" in one.said(), "the supervisor to hear of its end")
        one.wait_serving(2, 1)
        one.ask("scale", workers=2)
        one.wait_serving(2, 2)
        one.process.send_signal(signal.SIGTERM)
        assert one.wait() == 0
        events = shown(one)
        kinds = [event["kind"] for event in events]
        assert kinds == [
            *("start", "restart", "restart", "crash", "take-over", "crash", "scale", "stop")
        ]
        first, second = (event for event in events if event["kind"] == "restart")
        assert (first["what"], first["result"]) == ("restart to generation 2", "served")
        assert list(first["stages"])[-2:] == ["starting", "draining"]
        assert "root" in first["by"]
        assert "segue restart" in first["by"]
        assert second["result"] == "failed"
        assert "exited with 7" in second["why"]
        assert "while serving" in events[5]["what"]
        assert events[-1]["by"] == "signal SIGTERM"
        assert len(shown(one, "--name", "t", "--kind", "crash", "--last", "1")) == 1


def test_a_reexec_goes_on_with_the_restart_that_is_under_way(netns: int, tmp_path: Path) -> None:
    """The event is one, whose end the new code has seen."""
    gate = tmp_path / "go"
    wait = f"while [ $SEGUE_GENERATION != 1 ] && [ ! -e {gate} ]; do sleep 0.02; done"
    command = ("sh", "-c", f"{wait}; exec {' '.join(SERVER)}")
    with Instance(tmp_path, "--workers", "1", command=command) as one:
        one.wait_serving(1, 1)
        one.ask("restart", wait=False)
        wait_until(lambda: len(one.workers("starting")) == 1, "the newcomer")
        assert one.ask("reexec")["exit"] == 0
        gate.touch()
        one.wait_serving(2, 1)
        paths = Paths(str(tmp_path / "run" / "t"))

        def ended() -> list[Event]:
            return [it for it in read(paths) if it.kind == "restart" and it.result]

        wait_until(ended, "the end of the restart in the history")
        (restart,) = ended()
        assert restart.result == "served"
        assert [it.kind for it in read(paths)] == ["start", "restart", "reexec"]
